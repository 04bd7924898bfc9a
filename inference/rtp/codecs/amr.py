"""AMR and AMR-WB payloads into frames (RFC 4867), both packings, one channel.

A payload is a mode request, a table of contents with an entry per frame, and the speech bits: each field on bytes of
its own where ``octet-align=1`` was negotiated, else one bit after the other. Frames come out as decoders take them:
a header byte (frame type, quality) and the speech bits from the first bit of the next byte on (section 5.3).
"""

from dataclasses import dataclass

from inference.errors import PacketError

SPEECH_BITS = (95, 103, 118, 134, 148, 159, 204, 244, 39, 43, 38, 37)
"""Bits of AMR frames 0-11: eight speech modes, then comfort noise of AMR, GSM-EFR, TDMA-EFR, PDC-EFR (TS 26.101)."""
WIDE_SPEECH_BITS = (132, 177, 253, 285, 317, 365, 397, 461, 477, 40)
"""Bits of AMR-WB frames 0-9: nine speech modes, then comfort noise (TS 26.201)."""
SPEECH_LOST, NO_DATA = 14, 15
MAX_FRAMES = 50  # a second; no packet of a call has more


@dataclass(frozen=True, slots=True)
class AmrFrame:
    """20 ms of a payload.

    Attributes:
        frame_type: 0-15.
        is_good: the Q bit: false where the frame was damaged before it got into the packet.
        data: speech bits from the first bit on, the last byte filled with zeros; empty where there is nothing.
    """

    frame_type: int
    is_good: bool
    data: bytes

    def __bytes__(self) -> bytes:
        return bytes([self.frame_type << 3 | self.is_good << 2]) + self.data


@dataclass(frozen=True, slots=True)
class AmrPayload:
    """An RTP payload of AMR or AMR-WB.

    Attributes:
        mode_request: 0-15; 15 asks for nothing.
        frames: oldest first.
    """

    mode_request: int
    frames: tuple[AmrFrame, ...]

    @classmethod
    def parse(cls, payload: bytes, *, is_wide: bool, is_aligned: bool) -> "AmrPayload":
        """Read a payload.

        Raises:
            PacketError: with the exact field that is wrong.
        """
        sizes = WIDE_SPEECH_BITS if is_wide else SPEECH_BITS
        bits = _Bits(payload)
        mode_request = bits.take(4)
        if is_aligned:
            bits.take(4)
        entries: list[tuple[int, bool]] = []
        goes_on = True
        while goes_on:
            if len(entries) == MAX_FRAMES:
                raise PacketError(f"AMR payload has more than {MAX_FRAMES} frames")
            entry = bits.take(8) >> 2 if is_aligned else bits.take(6)
            goes_on = bool(entry & 0x20)
            frame_type = entry >> 1 & 0x0F
            if len(sizes) <= frame_type < (SPEECH_LOST if is_wide else NO_DATA):
                raise PacketError(f"AMR frame type {frame_type} is reserved")
            entries.append((frame_type, bool(entry & 1)))
        frames = []
        for frame_type, is_good in entries:
            num_bits = sizes[frame_type] if frame_type < len(sizes) else 0
            frames.append(AmrFrame(frame_type, is_good, bits.take_bytes(num_bits)))
            if is_aligned:
                bits.align()
        return cls(mode_request, tuple(frames))

    def to_bytes(self, *, is_aligned: bool, is_wide: bool) -> bytes:
        """Write the payload; the inverse of :meth:`parse`."""
        sizes = WIDE_SPEECH_BITS if is_wide else SPEECH_BITS
        out = [f"{self.mode_request:04b}" + "0000" * is_aligned]
        for i, frame in enumerate(self.frames):
            entry = (i + 1 < len(self.frames)) << 5 | frame.frame_type << 1 | frame.is_good
            out.append(f"{entry:06b}" + "00" * is_aligned)
        for frame in self.frames:
            num_bits = sizes[frame.frame_type] if frame.frame_type < len(sizes) else 0
            speech = "".join(f"{byte:08b}" for byte in frame.data)
            out.append(speech if is_aligned else speech[:num_bits])
        text = "".join(out)
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8) if text else b""


class _Bits:
    """Takes fields off the front of a payload."""

    def __init__(self, payload: bytes) -> None:
        self._value, self._left = int.from_bytes(payload), 8 * len(payload)

    def take(self, num: int) -> int:
        if num > self._left:
            raise PacketError("AMR payload is truncated")
        self._left -= num
        return self._value >> self._left & ((1 << num) - 1)

    def take_bytes(self, num: int) -> bytes:
        num_bytes = (num + 7) // 8
        return (self.take(num) << (8 * num_bytes - num)).to_bytes(num_bytes)

    def align(self) -> None:
        self._left -= self._left % 8
