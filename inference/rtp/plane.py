"""The packet plane: a few sockets, one thread, all legs.

    with PacketPlane(PlaneConfig(ports=(40000,))) as plane:
        leg = plane.register(40000, ("192.0.2.7", 30000))
        batch = plane.read([leg])          # every tick, all legs at once
        plane.release(leg)

A thread gathers datagrams for a tick, takes them with ``recvmmsg`` and runs the kernel over the batch; both without
the GIL. Readers get audio on one time axis for all legs, a playout delay behind now, so that reordering has healed.
"""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import numpy.typing as npt

from inference.errors import ConfigError
from inference.rtp import kernel_numpy, layout, reader, streamed
from inference.rtp.codecs.formats import codec_row, is_decoded
from inference.rtp.counters import LegCounters, PlaneCounters, leg_counters, plane_counters, total_counters
from inference.rtp.foreign import ForeignPackets
from inference.rtp.jit import HAS_NUMBA
from inference.rtp.layout import SAMPLE_RATE_HZ, Int64s
from inference.rtp.legs import DEFAULT_PAYLOAD_TYPES, LegTable, source_words
from inference.rtp.listener import Listener
from inference.rtp.reception import Reception
from inference.rtp.settings import PlaneConfig
from inference.rtp.sockets import PlainReceiver, Receiver
from inference.rtp.srtp import Keyed, SrtpSession
from inference.rtp.values import AudioBatch, Datagram, TelephoneEvent

if TYPE_CHECKING:
    from inference.rtp.codecs.messages import Decoded

__all__ = ["AudioBatch", "Datagram", "PacketPlane", "PlaneConfig", "TelephoneEvent"]

MAX_READ_SAMPLES = SAMPLE_RATE_HZ  # per leg and read: a reader that fell behind catches up a second at a time
PCM = npt.NDArray[np.int16]
DIGITS = "0123456789*#ABCD"
_TIMESTAMP_BITS = (1 << 62) - 1  # a gateway may claim any number: it has to fit the kernel's


class PacketPlane:
    """Receives for all legs of a worker. Every method may be called from any thread."""

    def __init__(self, config: PlaneConfig, *, backend: Literal["auto", "numba", "numpy"] = "auto") -> None:
        """Reserve memory and load the kernels (compiling them takes seconds, the first time on a machine).

        Raises:
            ConfigError: numba was asked for and is not installed.
        """
        if backend == "numba" and not HAS_NUMBA:
            raise ConfigError("the numba backend was asked for but numba is not installed: install it or use 'auto'")
        self.config = config
        self.backend = "numba" if backend == "numba" or (backend == "auto" and HAS_NUMBA) else "numpy"
        self._read = reader.read if self.backend == "numba" else kernel_numpy.read
        self._legs = LegTable(config.max_legs, config.ring_samples, config.batch_packets)
        self._reception = Reception(config, self._legs, is_compiled=self.backend == "numba", settle=self._settle)
        self._listener = Listener(config, self._received)
        self._lock = threading.Lock()
        self._fed = PlainReceiver(config.batch_packets)
        self._max_ahead = _samples(config.max_ahead_ms / 1000)
        self._delay_s = config.playout_delay_ms / 1000
        self._events_read = 0
        self._events_dropped = 0
        for rows in (self._listener.receiver, self._fed):
            self._reception.warm_up(rows)
        streamed.write(self._legs.tables, 0, np.zeros(0, np.int16), 0, 0, self._max_ahead)
        self.read([])

    def start(self) -> None:
        """Bind the sockets and start receiving.

        Raises:
            ConfigError: it runs already, a port is in use, or the address is not of this machine.
        """
        self._listener.start()

    def stop(self) -> None:
        """Stop receiving, join the thread and close the sockets; legs and counters stay readable."""
        self._listener.stop()
        self._reception.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def ports(self) -> tuple[int, ...]:
        """Shared local ports bound, in the order of the configuration; empty while stopped."""
        return self._listener.ports

    @property
    def granted_buffer_bytes(self) -> int:
        """The smallest receive buffer that the system gave to a shared socket, bytes; 0 while stopped."""
        return self._listener.granted_buffer_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes reserved for all legs and batches."""
        rows = sum(array.nbytes for array in (*self._listener.receiver.arrived, *self._fed.arrived))
        return self._legs.memory_bytes + rows + self._reception.memory_bytes

    def register(
        self,
        local_port: int,
        source: tuple[str, int] | None,
        payload_types: Mapping[int, str] = DEFAULT_PAYLOAD_TYPES,
        *,
        formats: Mapping[int, str] | None = None,
        srtp: Keyed | None = None,
        now_s: float | None = None,
    ) -> int:
        """Admit a leg; its audio begins now. Register both legs of a call with one ``now_s``.

        Args:
            local_port: port the gateway sends to.
            source: numeric address and port it sends from; None if not known beforehand: then the port is this
                leg's alone, and the first source with a valid packet becomes its only one.
            payload_types: codec names (``opus``, ``AMR-WB``, ``telephone-event`` ...) of negotiated payload types. 0, 8
                and 13 need no entry.
            formats: their format parameters (``a=fmtp``), where they have some.
            srtp: the key, where packets are encrypted: then nothing is accepted that does not verify.
            now_s: default: the monotonic clock.

        Returns:
            The leg's handle. Never valid again after :meth:`release`.

        Raises:
            CapacityError: ``max_legs`` are in use.
            CodecError: a codec that is not decoded here, or a key that opens nothing here.
            ConfigError: a port we do not have, a source that is taken, or no address.
        """
        family = self._listener.family(local_port)
        words = None if source is None else source_words(*source, family)
        codecs, session = codec_row(payload_types, formats or {}), None if srtp is None else SrtpSession(srtp)
        needs_decoder = any(map(is_decoded, codecs.tolist()))
        if needs_decoder and self._listener.ports:
            self._reception.prepare()
        with self._lock:
            leg = self._legs.add(local_port, words, codecs, self._position(now_s))
            slot = self._legs.slot(leg)
            self._reception.admit(slot, session, is_decoded=needs_decoder)
            return leg

    def open_stream(self, *, now_s: float | None = None) -> int:
        """Admit a leg whose audio does not come as packets but is written; returns its handle.

        Raises:
            CapacityError: ``max_legs`` are in use.
        """
        with self._lock:
            return self._legs.add_streamed(self._position(now_s))

    def write(
        self, leg: int, samples: npt.NDArray[np.int16], timestamp: int, *, arrived_s: float | None = None
    ) -> None:
        """Take audio of a leg from :meth:`open_stream`, placed by its timestamp as packets are.

        Args:
            leg: its handle.
            samples: int16 ``[num_samples]`` at 8 kHz.
            timestamp: number of the first sample in the sender's own time; never wraps.
            arrived_s: default: the monotonic clock.

        Raises:
            KeyError: it was released.
        """
        with self._lock:
            slot = self._legs.slot(leg)
            # A copy: arrays of every other layout, read-only ones too, would have the kernel compiled anew.
            chunk, arrival = np.array(samples, np.int16), self._position(arrived_s)
            # A connection that hung brings what waited all at once: the ring holds it until it is due.
            max_ahead = self.config.ring_samples // 2
            streamed.write(self._legs.tables, slot, chunk, timestamp & _TIMESTAMP_BITS, arrival, max_ahead)

    def release(self, leg: int, *, now_s: float | None = None, goes_on: bool = False) -> LegCounters:
        """Give the leg's row back and return its last counters.

        Args:
            leg: its handle.
            now_s: default: the monotonic clock.
            goes_on: the call goes on from this source, and is to be registered anew: its SSRC stays welcome.

        Raises:
            KeyError: it was released before.
        """
        with self._lock:
            slot = self._legs.slot(leg)
            state = self._legs.tables.state[slot]
            counters = leg_counters(state)
            self._reception.dismiss(slot, int(state[layout.GENERATION]), goes_on=goes_on)
            guard_s = 0 if goes_on else self.config.reuse_guard_s
            self._legs.remove(leg, self._position(now_s) + _samples(guard_s))
            return counters

    def read(self, legs: Sequence[int] | Int64s, *, now_s: float | None = None) -> AudioBatch:
        """Take the audio of many legs, up to the playout delay before now, at most one second per call and leg.

        Args:
            legs: handles ``[K]``; each once.
            now_s: default: the monotonic clock. After the last packet of a capture, a later time drains the rings.
        """
        handles = np.asarray(legs, np.int64)
        until = self._position(now_s) - _samples(self._delay_s)
        starts, nums = np.zeros(len(handles), np.int64), np.zeros(len(handles), np.int64)
        with self._lock:
            slots = self._legs.slots(handles)
            self._reception.finish(self._position(now_s))
            self._reception.wait_for_decoders(slots)
            state, used = self._legs.tables.state, slots[slots >= 0]
            waiting = until - state[used, layout.READ] - state[used, layout.DELAY]
            width = int(min(max(waiting.max(initial=0), 0), MAX_READ_SAMPLES))
            samples = np.empty((len(handles), width), np.int16)
            present = np.empty((len(handles), width), np.bool_)
            self._read(self._legs.tables, slots, until, starts, nums, samples, present)
        return AudioBatch(starts, nums, samples, present)

    def counters(self, leg: int) -> LegCounters:
        """What a leg has received so far.

        Raises:
            KeyError: it was released.
        """
        with self._lock:
            return leg_counters(self._legs.tables.state[self._legs.slot(leg)])

    def total_counters(self, legs: Sequence[int] | Int64s) -> LegCounters:
        """What many legs have received so far, summed; those released do not count."""
        with self._lock:
            slots = self._legs.slots(np.asarray(legs, np.int64))
            return total_counters(self._legs.tables.state[slots[slots >= 0]])

    def last_arrivals_s(self, legs: Sequence[int] | Int64s) -> npt.NDArray[np.float64]:
        """When each leg's newest packet came, ``[K]`` seconds of the plane's clock; NaN for none or a released leg."""
        with self._lock:
            slots = self._legs.slots(np.asarray(legs, np.int64))
            state = self._legs.tables.state[slots]
        is_known = (slots >= 0) & (state[:, layout.RECEIVED] > 0)
        return np.where(is_known, state[:, layout.LAST_ARRIVAL] / SAMPLE_RATE_HZ, np.nan)

    def plane_counters(self) -> PlaneCounters:
        """What no leg can be charged with, summed over the plane's life."""
        with self._lock:
            drops, errors = self._listener.queue_drops(), self._listener.num_errors
            return plane_counters(
                self._legs.tables.plane,
                legs=len(self._legs),
                queue_drops=drops,
                events_dropped=self._events_dropped,
                socket_errors=errors,
                decoder_restarts=self._reception.num_restarts,
            )

    def foreign_packets(self) -> ForeignPackets:
        """What came from where nobody should send, or did not verify, over the plane's life."""
        with self._lock:
            cells = self._legs.tables.plane
            return ForeignPackets(
                unregistered=int(cells[layout.UNREGISTERED]),
                foreign=int(cells[layout.FOREIGN_EVER]),
                unverified=int(cells[layout.UNVERIFIED_EVER]),
            )

    def telephone_events(self) -> list[TelephoneEvent]:
        """Keys pressed since the last call, oldest first."""
        tables = self._legs.tables
        with self._lock:
            head, room = int(tables.plane[layout.EVENT_HEAD]), len(tables.events)
            first = max(self._events_read, head - room)
            self._events_dropped += first - self._events_read
            self._events_read = head
            rows = [tables.events[at & (room - 1)].tolist() for at in range(first, head)]
        return [
            TelephoneEvent(
                leg=self._legs.handle(slot, generation),
                digit=DIGITS[code] if code < len(DIGITS) else "?",
                code=code,
                at_s=position / SAMPLE_RATE_HZ,
                duration_s=num / SAMPLE_RATE_HZ,
                is_complete=bool(is_complete),
            )
            for slot, generation, code, num, position, is_complete in rows
        ]

    def feed(self, datagrams: Iterable[Datagram]) -> None:
        """Put datagrams through the kernel as if they had come over the network, at the times they carry.

        Feed in order of arrival, and read between: a ring holds ``ring_samples``.

        Raises:
            ConfigError: a source is not a numeric address and port, or a port not ours.
        """
        num, port, fed = 0, -1, self._fed
        with self._lock:
            for datagram in datagrams:
                if num == fed.capacity or (num and datagram.local_port != port):
                    self._reception.take(fed, port, num, is_live=False)
                    num = 0
                port = datagram.local_port
                fed.put(num, datagram.data, source_words(*datagram.source, self._listener.family(port)))
                fed.arrived.arrivals[num] = self._position(datagram.arrived_s)
                num += 1
            if num:
                self._reception.take(fed, port, num, is_live=False)

    def _received(self, rows: Receiver, port: int, num: int) -> None:
        rows.arrived.arrivals[:num] = self._position(None)
        with self._lock:
            self._reception.take(rows, port, num, is_live=True)

    def _settle(self, decoded: "Decoded") -> None:
        with self._lock:
            self._reception.store(decoded)

    def _position(self, now_s: float | None) -> int:
        return _samples(time.monotonic() if now_s is None else now_s)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)
