"""RTCP, as far as a listener needs it: is it whole, what is it, from whom, does it say goodbye (RFC 3550 section 6)."""

from dataclasses import dataclass
from struct import Struct
from typing import Self

from inference.errors import PacketError
from inference.rtp.packet import RTCP_TYPES, RTP_VERSION

SENDER_REPORT = 200
RECEIVER_REPORT = 201
SOURCE_DESCRIPTION = 202
BYE = 203
APP = 204

_HEADER = Struct("!BBH")
_REPORT_BLOCK_BYTES = 24
_SENDER_INFO_BYTES = 20
_NAMES = {
    SENDER_REPORT: "sender report",
    RECEIVER_REPORT: "receiver report",
    SOURCE_DESCRIPTION: "source description",
    BYE: "BYE",
    APP: "APP",
}


@dataclass(frozen=True, slots=True)
class RtcpPacket:
    """One packet of a compound; kinds we have no use for (feedback, XR) pass through as they are.

    Attributes:
        packet_type: 192-223.
        count: the 5 bits after the padding bit: report blocks, chunks, sources or subtype.
        body: what follows the first word, without padding; a multiple of 4 bytes before padding.
        padding: as sent, its last byte being its length.
    """

    packet_type: int
    count: int
    body: bytes
    padding: bytes = b""

    @property
    def ssrc(self) -> int | None:
        """Who sent it; None for an SDES or BYE that names nobody."""
        return int.from_bytes(self.body[:4]) if len(self.body) >= 4 else None

    @property
    def sources(self) -> tuple[int, ...]:
        """For a BYE, all sources that leave; else the sender alone."""
        if self.packet_type == BYE:
            return tuple(int.from_bytes(self.body[4 * i : 4 * i + 4]) for i in range(self.count))
        return () if self.ssrc is None else (self.ssrc,)

    @classmethod
    def parse_compound(cls, data: bytes) -> tuple[Self, ...]:
        """Read all packets of one datagram; reduced-size RTCP (RFC 5506) is welcome too.

        Raises:
            PacketError: with the exact field that is wrong.
        """
        packets: list[Self] = []
        offset = 0
        while offset < len(data):
            if len(data) - offset < _HEADER.size:
                raise PacketError("RTCP packet has truncated header")
            first, packet_type, num_words = _HEADER.unpack_from(data, offset)
            if first >> 6 != RTP_VERSION:
                raise PacketError(f"RTCP packet has version {first >> 6}, not {RTP_VERSION}")
            if packet_type not in RTCP_TYPES:
                raise PacketError(f"RTCP packet type {packet_type} is not within 192-223")
            start, offset = offset + _HEADER.size, offset + _HEADER.size + 4 * num_words
            if len(data) < offset:
                raise PacketError("RTCP packet is shorter than its length field says")
            end = offset
            if first & 0x20:
                if offset != len(data):
                    raise PacketError("RTCP padding is only allowed on the last packet")
                if end == start or not 1 <= data[end - 1] <= end - start or data[end - 1] % 4:
                    raise PacketError("RTCP packet has invalid padding length")
                end -= data[end - 1]
            packet = cls(packet_type, first & 0x1F, data[start:end], data[end:offset])
            _check_body(packet)
            packets.append(packet)
        if not packets:
            raise PacketError("RTCP datagram is empty")
        return tuple(packets)

    def __bytes__(self) -> bytes:
        size = len(self.body) + len(self.padding)
        if size % 4:
            raise PacketError("RTCP packet is not a multiple of 4 bytes")
        first = RTP_VERSION << 6 | bool(self.padding) << 5 | self.count
        return _HEADER.pack(first, self.packet_type, size // 4) + self.body + self.padding


def _check_body(packet: RtcpPacket) -> None:
    """Check that what the count promises is there (RFC 3550 sections 6.4-6.7)."""
    blocks = packet.count * _REPORT_BLOCK_BYTES
    needed = {
        SENDER_REPORT: 4 + _SENDER_INFO_BYTES + blocks,
        RECEIVER_REPORT: 4 + blocks,
        BYE: 4 * packet.count,
        APP: 8,
    }.get(packet.packet_type, 0)
    if len(packet.body) < needed:
        raise PacketError(f"RTCP {_NAMES[packet.packet_type]} is truncated")
    if packet.packet_type == BYE and len(packet.body) > needed and len(packet.body) < needed + 1 + packet.body[needed]:
        raise PacketError("RTCP BYE has truncated reason")
    if packet.packet_type == SOURCE_DESCRIPTION:
        _check_chunks(packet)


def _check_chunks(packet: RtcpPacket) -> None:
    """Walk the chunks of a source description: SSRC, items, a zero, then zeros to the next word."""
    body, at = packet.body, 0
    for _ in range(packet.count):
        at += 4
        while at < len(body) and body[at]:
            if at + 2 > len(body):
                break
            at += 2 + body[at + 1]
        if at >= len(body):
            raise PacketError("RTCP source description is truncated")
        at = (at // 4 + 1) * 4
    if at > len(body):
        raise PacketError("RTCP source description is truncated")
