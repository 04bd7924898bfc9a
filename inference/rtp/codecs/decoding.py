"""Packets of many legs into samples: order restored, losses bridged, wide bands narrowed.

Works on what the kernel set aside (rows of ``Tables.side``), in the media thread or in a process of its own.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.errors import CodecError, PacketError
from inference.rtp import layout
from inference.rtp.codecs.decoders import PCM, Decoder, make_decoder
from inference.rtp.codecs.messages import NUM_DECODED_COLUMNS, Decoded
from inference.rtp.codecs.narrow import DELAY, Narrower
from inference.rtp.layout import SAMPLE_RATE_HZ, Int64s

REORDER_SAMPLES = SAMPLE_RATE_HZ * 40 // 1000  # how long a packet waits for those before it
MAX_HELD = 8  # packets that wait, per leg
MAX_CONCEAL_SAMPLES = SAMPLE_RATE_HZ * 120 // 1000  # a longer loss is not bridged: the decoder goes on after it


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of one leg as the kernel set it aside: fields as in ``Tables.side``."""

    codec: int
    payload: bytes
    position: int
    num_samples: int
    seq: int
    is_fresh: bool
    arrival: int


class LegDecoder:
    """One leg's decoder; ``pieces`` and ``num_failed`` are taken from it after each batch."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.pieces: list[tuple[int, PCM]] = []
        self.num_failed = 0
        self._codec = -1
        self._decoder: Decoder | None = None
        self._narrower: Narrower | None = None
        self._held: dict[int, Packet] = {}
        self._next_seq = self._next_pos = 0
        self._was_present = False
        self._present_from = 0

    @property
    def is_waiting(self) -> bool:
        """Whether packets wait for those before them."""
        return bool(self._held)

    def push(self, packet: Packet) -> None:
        """Take a packet; it is decoded when its turn comes."""
        if packet.is_fresh or self._decoder is None:
            while self._held:
                self._decode(self._held.pop(min(self._held)))
            self._end_run()
            self._decoder, self._next_seq, self._next_pos = None, packet.seq, packet.position
        if packet.seq < self._next_seq:
            self.num_failed += 1  # its turn has passed
            return
        if packet.seq == self._next_seq and not self._held:
            self._decode(packet)
            return
        self._held[packet.seq] = packet
        self.advance(packet.arrival)

    def advance(self, now: int) -> None:
        """Decode what is in order, and what has waited long enough for packets that are missing."""
        while self._held:
            first = min(self._held)
            oldest = min(packet.arrival for packet in self._held.values())
            if first != self._next_seq and len(self._held) <= MAX_HELD and now - oldest < REORDER_SAMPLES:
                return
            self._decode(self._held.pop(first))

    def _decode(self, packet: Packet) -> None:
        if packet.codec != self._codec or self._decoder is None:
            self._end_run()
            self._codec, self._decoder = packet.codec, make_decoder(packet.codec)
            self._narrower = Narrower() if self._decoder.is_wide else None
        gap = packet.position - self._next_pos
        try:
            if packet.seq > self._next_seq and 0 < gap <= MAX_CONCEAL_SAMPLES:
                self._take(self._decoder.conceal(gap, packet.payload), self._next_pos, gap)
            elif gap:
                self._end_run()
            self._take(self._decoder.decode(packet.payload), packet.position, packet.num_samples)
        except PacketError:
            self.num_failed += 1
            self._end_run()
        self._next_seq, self._next_pos = packet.seq + 1, packet.position + packet.num_samples

    def _take(self, pieces: list[tuple[PCM, bool]], position: int, room: int) -> None:
        """Put pieces one after the other from ``position`` on, ``room`` samples at most."""
        for native, is_present in pieces:
            pcm = native if self._narrower is None else self._narrower(native)
            pcm = pcm[:room]
            room -= len(pcm)
            # The filter is late: what it gives first belongs to the piece before, if that was present too.
            late = 0 if self._narrower is None else DELAY
            if is_present and not self._was_present:
                self._present_from = position
            begin = max(0, self._present_from - (position - late))
            end = len(pcm) if is_present else late * self._was_present
            if begin < end:
                self.pieces.append((position - late + begin, pcm[begin:end]))
            self._was_present = is_present
            position += len(pcm)

    def _end_run(self) -> None:
        """What comes next does not follow what came before; the last 2 ms before a pause stay in the filter."""
        if self._narrower is not None:
            self._narrower = Narrower()
        self._was_present = False


class Decoding:
    """All legs of one process, by their row in the plane's table."""

    def __init__(self) -> None:
        self._legs: dict[int, LegDecoder] = {}
        self._waiting: set[int] = set()

    def take(self, side: Int64s, payloads: npt.NDArray[np.uint8], now: int) -> Decoded:
        """Decode a batch.

        Args:
            side: int64 ``[K, NUM_SIDE_COLUMNS]``, in order of arrival; ``SIDE_OFFSET`` and ``SIDE_END`` are of
                ``payloads``. A row of ``CODEC_UNKNOWN`` says that its leg was released.
            payloads: uint8.
            now: position; packets that waited long enough by then are not kept waiting.
        """
        failed: list[tuple[int, int]] = []
        touched: dict[int, LegDecoder] = {}
        for row in side.tolist():
            slot, generation = row[layout.SIDE_SLOT], row[layout.SIDE_GENERATION]
            leg = self._legs.get(slot)
            if row[layout.SIDE_CODEC] == layout.CODEC_UNKNOWN:
                if leg is not None and leg.generation == generation:
                    del self._legs[slot]
                continue
            if leg is None or leg.generation != generation:
                leg = self._legs[slot] = LegDecoder(generation)
            touched[slot] = leg
            try:
                leg.push(_packet(row, payloads))
            except CodecError:
                failed.append((slot, generation))
            if leg.is_waiting:
                self._waiting.add(slot)
        for slot in list(self._waiting):
            leg = self._legs.get(slot)
            if leg is not None:
                leg.advance(now)
                touched[slot] = leg
            if leg is None or not leg.is_waiting:
                self._waiting.discard(slot)
        return _gather(touched, failed)


def _packet(row: list[int], payloads: npt.NDArray[np.uint8]) -> Packet:
    return Packet(
        codec=row[layout.SIDE_CODEC],
        payload=payloads[row[layout.SIDE_OFFSET] : row[layout.SIDE_END]].tobytes(),
        position=row[layout.SIDE_POS],
        num_samples=row[layout.SIDE_NUM_SAMPLES],
        seq=row[layout.SIDE_SEQ],
        is_fresh=bool(row[layout.SIDE_IS_FRESH]),
        arrival=row[layout.SIDE_ARRIVAL],
    )


def _gather(legs: dict[int, LegDecoder], failed: list[tuple[int, int]]) -> Decoded:
    pieces: list[tuple[int, int, int, int]] = []
    samples: list[PCM] = []
    for slot, leg in legs.items():
        for position, pcm in leg.pieces:
            pieces.append((slot, leg.generation, position, len(pcm)))
            samples.append(pcm)
        failed += [(slot, leg.generation)] * leg.num_failed
        leg.pieces, leg.num_failed = [], 0
    return Decoded(
        np.array(pieces, np.int64).reshape(-1, NUM_DECODED_COLUMNS),
        np.concatenate(samples) if samples else np.zeros(0, np.int16),
        np.array(failed, np.int64).reshape(-1, 2),
    )
