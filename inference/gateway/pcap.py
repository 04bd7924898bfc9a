"""UDP datagrams out of pcap and pcapng files, one at a time.

The framing is read here and not by dpkt: its pcapng reader knows one interface and one section only, and takes a
block's length on trust (a length below 8 reads the whole file into memory). dpkt is the tests' oracle instead.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, tcpdump.org/linktypes.html; RFC 791, RFC 8200, RFC 768.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from struct import Struct
from typing import BinaryIO, NamedTuple

from inference.errors import MediaError

MAX_FRAME_BYTES = 256 * 1024
"""Wireshark's largest snapshot length; a longer record means a damaged file."""

MAX_ARRIVAL_S = 2.0**33
"""Year 2242. Damaged clocks beyond it would not count in samples."""

MAX_BLOCK_BYTES = 1 << 24
MAX_INTERFACES = 256

_PCAP_MAGICS = {  # first four bytes -> byte order, seconds per tick
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
_PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
_BLOCK_INTERFACE, _BLOCK_PACKET, _BLOCK_ENHANCED = 1, 2, 6

_ETHERTYPES = {0x0800: 4, 0x86DD: 6}
_VLAN_TYPES = {0x8100, 0x88A8, 0x9100}
_NULL, _ETHERNET, _RAW, _RAW_BSD, _LOOP, _SLL, _IPV4, _IPV6, _SLL2 = 0, 1, 101, 12, 108, 113, 228, 229, 276
LINK_TYPES = {_NULL, _ETHERNET, _RAW, _RAW_BSD, _LOOP, _SLL, _IPV4, _IPV6, _SLL2}
_IPV6_EXTENSIONS = {0, 43, 60, 135}
_UDP = 17


class Address(NamedTuple):
    """Who sends or receives: packed IP address and UDP port."""

    ip: bytes
    port: int

    def __str__(self) -> str:
        text = str(ip_address(self.ip))
        return f"[{text}]:{self.port}" if len(self.ip) == 16 else f"{text}:{self.port}"


def packed(host: str) -> bytes:
    """A numeric IP address as an :class:`Address` holds it."""
    return ip_address(host).packed


class Datagram(NamedTuple):
    """A UDP datagram and when it was captured (seconds since the epoch)."""

    arrival_s: float
    source: Address
    destination: Address
    payload: bytes


@dataclass(slots=True)
class CaptureCounters:
    """What was passed over while reading a capture.

    Attributes:
        frames: records read.
        other: not UDP over IP, or damaged headers.
        fragments: IP fragments; RTP never needs them, they are not put together.
        cut_short: frames longer than what the capture kept of them.
        is_truncated: the file ends inside a record.
        unknown_link: frames of link types not read here.
    """

    frames: int = 0
    other: int = 0
    fragments: int = 0
    cut_short: int = 0
    is_truncated: bool = False
    unknown_link: int = 0


def is_capture(magic: bytes) -> bool:
    """Tell from its first four bytes whether a file is pcap or pcapng."""
    return magic in _PCAP_MAGICS or magic == _PCAPNG_MAGIC


class Capture:
    """A pcap or pcapng file.

    Attributes:
        counters: of the newest reading.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counters = CaptureCounters()

    def datagrams(self) -> Iterator[Datagram]:
        """Yield UDP datagrams in file order; memory does not grow with the file.

        Raises:
            MediaError: it is not a capture, or is damaged before its first packet.
        """
        self.counters = counters = CaptureCounters()
        try:
            with self.path.open("rb") as file:
                for arrival_s, link, frame, was_cut in self._frames(file):
                    counters.frames += 1
                    counters.cut_short += was_cut
                    if link not in LINK_TYPES:
                        counters.unknown_link += 1
                        continue
                    try:
                        found = _udp(link, frame, counters)
                    except (struct.error, IndexError):  # shorter than its headers say
                        found = None
                    if found is None or not 0 <= arrival_s < MAX_ARRIVAL_S:
                        counters.other += 1
                    else:
                        yield Datagram(arrival_s, *found)
        except OSError as error:
            raise MediaError(f"{self.path}: cannot be read ({error.strerror}): check the path") from error

    def _frames(self, file: BinaryIO) -> Iterator[tuple[float, int, bytes, bool]]:
        magic = file.read(4)
        if magic in _PCAP_MAGICS:
            return self._pcap_frames(file, *_PCAP_MAGICS[magic])
        if magic == _PCAPNG_MAGIC:
            file.seek(0)
            return self._pcapng_frames(file)
        raise MediaError(f"{self.path}: neither pcap nor pcapng: save the capture in one of them")

    def _pcap_frames(self, file: BinaryIO, order: str, tick_s: float) -> Iterator[tuple[float, int, bytes, bool]]:
        header = file.read(20)
        if len(header) < 20:
            raise MediaError(f"{self.path}: the file ends inside the pcap header: capture again")
        link = Struct(order + "HHiIII").unpack(header)[5] & 0xFFFF  # upper bits: FCS length
        record = Struct(order + "IIII")
        while len(head := file.read(record.size)) == record.size:
            seconds, ticks, kept, sent = record.unpack(head)
            if kept > MAX_FRAME_BYTES:
                self._stop("a record is impossibly long")
                return
            frame = file.read(kept)
            if len(frame) < kept:
                self.counters.is_truncated = True
                return
            yield seconds + ticks * tick_s, link, frame, sent > kept
        self.counters.is_truncated = bool(head)

    def _pcapng_frames(self, file: BinaryIO) -> Iterator[tuple[float, int, bytes, bool]]:
        order = "<"
        interfaces: list[tuple[int, float, int]] = []  # link type, seconds per tick, offset in seconds
        while len(head := file.read(8)) == 8:
            if head[:4] == _PCAPNG_MAGIC:  # a section begins and brings its own byte order and interfaces
                magic = file.read(4)
                order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(magic, "")
                if not order:
                    self._stop("a section has no byte order")
                    return
                interfaces, already = [], 12
            else:
                already = 8
            kind, length = Struct(order + "II").unpack(head)
            if not already + 4 <= length <= MAX_BLOCK_BYTES or length % 4:
                self._stop("a block has an impossible length")
                return
            body = file.read(length - already)
            if len(body) < length - already:
                self.counters.is_truncated = True
                return
            if kind == _BLOCK_INTERFACE and already == 8 and len(interfaces) < MAX_INTERFACES and len(body) >= 12:
                interfaces.append((Struct(order + "H").unpack_from(body)[0], *_clock(order, body[8:-4])))
            elif kind in (_BLOCK_ENHANCED, _BLOCK_PACKET) and len(body) >= 24:
                number, high, low, kept, sent = Struct(order + "IIIII").unpack_from(body)
                if kind == _BLOCK_PACKET:
                    number = Struct(order + "H").unpack_from(body)[0]
                if number >= len(interfaces) or kept > len(body) - 24:
                    self.counters.other += 1
                    continue
                link, tick_s, offset_s = interfaces[number]
                yield (high << 32 | low) * tick_s + offset_s, link, body[20 : 20 + kept], sent > kept
        self.counters.is_truncated = bool(head)

    def _stop(self, why: str) -> None:
        """End the reading at damage: an error if it is all there is, else a counter."""
        if not self.counters.frames:
            raise MediaError(f"{self.path}: damaged capture, {why}: capture again")
        self.counters.is_truncated = True


def _clock(order: str, options: bytes) -> tuple[float, int]:
    """Return seconds per tick and offset in seconds from an interface's options (pcapng section 4.2)."""
    tick_s, offset_s, at = 1e-6, 0, 0
    while at + 4 <= len(options):
        code, length = Struct(order + "HH").unpack_from(options, at)
        value = options[at + 4 : at + 4 + length]
        if code == 9 and length == 1 and value:
            tick_s = 2.0 ** -(value[0] & 0x7F) if value[0] & 0x80 else 10.0 ** -(value[0] & 0x7F)
        elif code == 14 and len(value) == 8:
            offset_s = Struct(order + "q").unpack(value)[0]
        elif code == 0:
            break
        at += 4 + (length + 3) // 4 * 4
    return tick_s, offset_s


_Found = tuple[Address, Address, bytes]


def _udp(link: int, frame: bytes, counters: CaptureCounters) -> _Found | None:
    """Find the UDP datagram of a link-layer frame; None where there is none.

    Raises:
        struct.error, IndexError: the frame is shorter than its headers say.
    """
    if link in (_NULL, _LOOP):
        start = 4
    elif link in (_RAW, _RAW_BSD, _IPV4, _IPV6):
        start = 0
    else:
        at = {_ETHERNET: 12, _SLL: 14, _SLL2: 0}[link]
        ethertype = int.from_bytes(frame[at : at + 2])
        start = 20 if link == _SLL2 else at + 2
        while ethertype in _VLAN_TYPES:
            ethertype = int.from_bytes(frame[start + 2 : start + 4])
            start += 4
        if ethertype not in _ETHERTYPES:
            return None
    version = frame[start] >> 4
    if version == 4:
        return _udp4(frame, start, counters)
    if version == 6:
        return _udp6(frame, start, counters)
    return None


_IP4 = Struct("!BBHHHBBH4s4s")
_IP6 = Struct("!IHBB16s16s")
_PORTS = Struct("!HHHH")


def _udp4(frame: bytes, start: int, counters: CaptureCounters) -> _Found | None:
    first, _, total, _, fragment, _, protocol, _, source, destination = _IP4.unpack_from(frame, start)
    if protocol != _UDP or first & 0x0F < 5:
        return None
    if fragment & 0x3FFF:  # more to come, or not the first
        counters.fragments += 1
        return None
    end = start + total if total else len(frame)  # 0: segmentation offload left it to the card
    return _ports(frame, start + 4 * (first & 0x0F), end, source, destination)


def _udp6(frame: bytes, start: int, counters: CaptureCounters) -> _Found | None:
    _, length, following, _, source, destination = _IP6.unpack_from(frame, start)
    at = start + _IP6.size
    end = at + length if length else len(frame)
    while following in _IPV6_EXTENSIONS:
        following, size = frame[at], 8 * (frame[at + 1] + 1)
        at += size
    if following == 44:
        counters.fragments += 1
    if following != _UDP:
        return None
    return _ports(frame, at, end, source, destination)


def _ports(frame: bytes, at: int, end: int, source: bytes, destination: bytes) -> _Found | None:
    source_port, destination_port, length, _ = _PORTS.unpack_from(frame, at)
    if length >= 8:
        end = min(end, at + length)
    return Address(source, source_port), Address(destination, destination_port), frame[at + 8 : end]
