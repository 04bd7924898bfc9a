"""A captured call's packets through the packet plane in virtual time: replay keeps no rules of its own.

The plane has no sockets here. Each leg is registered as live ones are, its packets are fed with the time they were
captured, and audio is read behind the newest of them, 40 ms at a time.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from inference.audio import SAMPLE_RATE_HZ, Leg
from inference.gateway.recorded import BLOCK_NUM_SAMPLES, LegBlock
from inference.rtp.counters import LegCounters, sum_counters
from inference.rtp.legs import DEFAULT_PAYLOAD_TYPES
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig

DELAY_MS = 400.0
"""How long a place is kept open for packets that come late. No one waits, so it may be longer than live."""

IDLE_S = 10.0
"""Longer than this without a packet on any leg is skipped and not read out as zeros. Sequence numbers missing across
it are not counted as lost."""

_BATCH_PACKETS = 64  # far more than two legs bring in 40 ms; a capture with a stopped clock is fed in batches of these
_PORT = 1  # all legs share it ...
_HOST = "127.0.0.1"  # ... and differ in their source's port


class Playout:
    """The legs of one captured call.

    Args:
        legs: which there are; blocks come for all of them in step.
        payload_types: codec names of dynamic payload types, as signalling told them.
    """

    def __init__(self, legs: Sequence[Leg], payload_types: Mapping[int, str] | None = None) -> None:
        self._payload_types = {**DEFAULT_PAYLOAD_TYPES, **(payload_types or {})}
        self._plane = PacketPlane(
            PlaneConfig(max_legs=len(legs), playout_delay_ms=DELAY_MS, reuse_guard_s=0.0, batch_packets=_BATCH_PACKETS)
        )
        self._sources = {leg: (_HOST, number) for number, leg in enumerate(legs, 1)}
        self._gathered: list[Datagram] = []
        self._foreign = dict.fromkeys(legs, 0)
        self._settled: dict[Leg, LegCounters] = {}  # of registrations that ended
        self._newest_s = 0.0
        self._register(0)

    def put(self, leg: Leg, data: bytes, arrived_s: float) -> Iterator[LegBlock]:
        """Take one RTP packet, in the order of the file, and yield what is due before it.

        Args:
            leg: whose.
            data: the UDP payload.
            arrived_s: in call time, not below 0. It may go back a little; reading only moves forward.
        """
        if arrived_s - self._newest_s > IDLE_S:  # hold, or a damaged clock
            yield from self.finish()
            self._register(math.floor((arrived_s - DELAY_MS / 1000) * SAMPLE_RATE_HZ / BLOCK_NUM_SAMPLES))
        due = (arrived_s - DELAY_MS / 1000) * SAMPLE_RATE_HZ
        if self._position + BLOCK_NUM_SAMPLES <= due:
            self._feed()
            while self._position + BLOCK_NUM_SAMPLES <= due:
                yield from self._read()
        self._gathered.append(Datagram(data, self._sources[leg], _PORT, arrived_s))
        if len(self._gathered) == _BATCH_PACKETS:
            self._feed()
        self._newest_s = max(self._newest_s, arrived_s)

    def put_foreign(self, leg: Leg) -> None:
        """Count a packet that came the leg's way and is of no stream of the call."""
        self._foreign[leg] += 1

    def finish(self) -> Iterator[LegBlock]:
        """Yield what still waits, up to the last block with audio, and settle the counters."""
        self._feed()
        beyond_s = self._plane.config.max_ahead_ms / 1000  # no packet's audio lies further ahead of its arrival
        end = (self._newest_s + beyond_s) * SAMPLE_RATE_HZ
        counters, blocks = self._registered(), list[LegBlock]()
        while self._position < end:
            blocks += self._read()
            if any(block.present is not None and block.present.any() for block in blocks):
                yield from blocks
                counters, blocks = self._registered(), []  # emptiness read after it is no gap of the call
        for leg, handle in self._handles.items():
            self._plane.release(handle, now_s=self._position / SAMPLE_RATE_HZ)
            self._settled[leg] = sum_counters(self._settled.get(leg), counters[leg])

    @property
    def counters(self) -> dict[Leg, LegCounters]:
        """What became of each leg's packets; after :meth:`finish`."""
        return {leg: replace(of_leg, foreign=self._foreign[leg]) for leg, of_leg in self._settled.items()}

    def _register(self, block: int) -> None:
        """Admit the legs; reading begins with this block of the call's time line."""
        self._position = block * BLOCK_NUM_SAMPLES
        self._handles = {
            leg: self._plane.register(_PORT, source, self._payload_types, now_s=self._position / SAMPLE_RATE_HZ)
            for leg, source in self._sources.items()
        }

    def _registered(self) -> dict[Leg, LegCounters]:
        return {leg: self._plane.counters(handle) for leg, handle in self._handles.items()}

    def _feed(self) -> None:
        self._plane.feed(self._gathered)
        self._gathered.clear()

    def _read(self) -> list[LegBlock]:
        """Take the next block of every leg."""
        self._position += BLOCK_NUM_SAMPLES
        now_s = self._position / SAMPLE_RATE_HZ + DELAY_MS / 1000
        batch = self._plane.read(list(self._handles.values()), now_s=now_s)
        return [
            LegBlock(leg, int(batch.start_samples[row]), batch.samples[row].copy(), batch.present[row].copy())
            for row, leg in enumerate(self._handles)
        ]
