"""One RTP packet: bytes to fields and back, byte for byte.

Golden tests, replay, the demo's sender and the fuzzers use these classes. The packet plane checks the same rules
in :mod:`inference.rtp.kernel` without creating an object per packet.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Self

from inference.errors import PacketError

RTP_VERSION = 2
RTP_HEADER_BYTES = 12
RTCP_TYPES = range(192, 224)
"""Second bytes that mean RTCP on a port shared with RTP (RFC 5761 section 4)."""

PT_PCMU = 0
PT_PCMA = 8
PT_COMFORT_NOISE = 13
PT_TELEPHONE_EVENT = 101
"""Dynamic; 101 is only the custom where signalling says nothing."""

_HEADER = Struct("!BBHII")
_EXTENSION = Struct("!HH")
_EVENT = Struct("!BBH")


def is_rtcp(data: bytes) -> bool:
    """Tell RTCP from RTP on one port by its second byte (RFC 5761 section 4)."""
    return len(data) >= 2 and data[0] >> 6 == RTP_VERSION and data[1] in RTCP_TYPES


@dataclass(frozen=True, slots=True)
class RtpExtension:
    """A header extension (RFC 3550 section 5.3.1).

    Attributes:
        profile: 16 bits defined by the profile; 0xBEDE is RFC 8285's one-byte form.
        value: what follows the length word; a multiple of 4 bytes.
    """

    profile: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpPacket:
    """An RTP packet (RFC 3550 section 5.1).

    Attributes:
        payload_type: 7 bits.
        sequence_number: 16 bits, one more with every packet sent.
        timestamp: 32 bits, sampling instant of the first sample, in ticks of the payload's clock.
        ssrc: 32 bits, which source of the session.
        marker: start of a talkspurt, for audio.
        csrc: up to 15 contributing sources.
        extension: header extension, None where the X bit is clear.
        payload: what is carried, without padding.
        padding: the padding as sent, its last byte being its length; empty where the P bit is clear.
    """

    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    payload: bytes = b""
    marker: bool = False
    csrc: tuple[int, ...] = ()
    extension: RtpExtension | None = None
    padding: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read one packet.

        Raises:
            PacketError: with the exact field that is wrong.
        """
        if len(data) < RTP_HEADER_BYTES:
            raise PacketError(f"RTP packet length is {len(data)} bytes, less than {RTP_HEADER_BYTES}")
        first, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
        if first >> 6 != RTP_VERSION:
            raise PacketError(f"RTP packet has version {first >> 6}, not {RTP_VERSION}")
        offset = RTP_HEADER_BYTES + 4 * (first & 0x0F)
        if len(data) < offset:
            raise PacketError("RTP packet has truncated CSRC")
        csrc = tuple(int.from_bytes(data[at : at + 4]) for at in range(RTP_HEADER_BYTES, offset, 4))
        extension = None
        if first & 0x10:
            if len(data) < offset + _EXTENSION.size:
                raise PacketError("RTP packet has truncated extension header")
            profile, num_words = _EXTENSION.unpack_from(data, offset)
            offset += _EXTENSION.size
            if len(data) < offset + 4 * num_words:
                raise PacketError("RTP packet has truncated extension value")
            extension = RtpExtension(profile, data[offset : offset + 4 * num_words])
            offset += 4 * num_words
        end = len(data)
        if first & 0x20:
            if end == offset or not 1 <= data[-1] <= end - offset:
                raise PacketError("RTP packet has invalid padding length")
            end -= data[-1]
        return cls(
            payload_type=second & 0x7F,
            sequence_number=sequence_number,
            timestamp=timestamp,
            ssrc=ssrc,
            payload=data[offset:end],
            marker=bool(second & 0x80),
            csrc=csrc,
            extension=extension,
            padding=data[end:],
        )

    def __bytes__(self) -> bytes:
        """Write the packet; the inverse of :meth:`parse`.

        Raises:
            PacketError: a field does not fit its place.
        """
        if not 0 <= self.payload_type < 128:
            raise PacketError(f"RTP payload type {self.payload_type} is not within 0-127")
        if len(self.csrc) > 15:
            raise PacketError(f"RTP packet has {len(self.csrc)} CSRC, at most 15 fit")
        if self.padding and self.padding[-1] != len(self.padding):
            raise PacketError("RTP padding does not end with its own length")
        has_padding, has_extension = bool(self.padding), self.extension is not None
        first = RTP_VERSION << 6 | has_padding << 5 | has_extension << 4 | len(self.csrc)
        second = self.marker << 7 | self.payload_type
        header = _HEADER.pack(first, second, self.sequence_number & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc)
        parts = [header, *(source.to_bytes(4) for source in self.csrc)]
        if self.extension is not None:
            if len(self.extension.value) % 4:
                raise PacketError("RTP extension value is not a multiple of 4 bytes")
            parts += [_EXTENSION.pack(self.extension.profile, len(self.extension.value) // 4), self.extension.value]
        return b"".join([*parts, self.payload, self.padding])


@dataclass(frozen=True, slots=True)
class EventPayload:
    """A telephone-event (RFC 4733 section 2.3): one update of one key press.

    Attributes:
        event: 0-9 digits, 10 ``*``, 11 ``#``, 12-15 A-D.
        is_end: the key was released; sent three times.
        volume: 0-63, minus dBm0.
        duration: since the packet's timestamp, in timestamp ticks.
        reserved: the R bit as received.
    """

    event: int
    is_end: bool
    volume: int
    duration: int
    reserved: bool = False

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read the first event of a payload.

        Raises:
            PacketError: it is shorter than one event.
        """
        if len(payload) < _EVENT.size:
            raise PacketError(f"telephone-event payload length is {len(payload)} bytes, less than {_EVENT.size}")
        event, flags, duration = _EVENT.unpack_from(payload)
        return cls(event, bool(flags & 0x80), flags & 0x3F, duration, bool(flags & 0x40))

    def __bytes__(self) -> bytes:
        return _EVENT.pack(self.event, self.is_end << 7 | self.reserved << 6 | self.volume, self.duration)


@dataclass(frozen=True, slots=True)
class ComfortNoise:
    """What the silence sounds like (RFC 3389 section 3).

    Attributes:
        level: 0-127, minus dBov.
        coefficients: reflection coefficients, one byte each; often none.
    """

    level: int
    coefficients: bytes = b""

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Read a comfort noise payload.

        Raises:
            PacketError: it is empty or its first bit is set.
        """
        if not payload:
            raise PacketError("comfort noise payload is empty")
        if payload[0] & 0x80:
            raise PacketError("comfort noise level has its first bit set")
        return cls(payload[0], payload[1:])

    def __bytes__(self) -> bytes:
        return bytes([self.level]) + self.coefficients
