"""RTP streams in a capture without its signalling, and which two of them are a call.

RTP cannot be told from its bytes alone (RFC 3550 appendix A.1): a source is on probation until its sequence numbers
follow each other. Probation and streams are bounded tables, so a flood of spoofed sources leaves no trace but a count.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from inference.errors import PacketError
from inference.gateway.pcap import Address, Datagram
from inference.rtp.packet import RTP_HEADER_BYTES, RTP_VERSION, RtpPacket, is_rtcp

MIN_IN_ROW = 4
"""Packets in sequence that end the probation."""

MIN_PACKETS = 10
"""A stream of fewer is no call: 200 ms."""

MAX_ON_PROBATION = 4096
"""The least recently heard is forgotten first, and one heard 50 times a second is not."""

MAX_STREAMS = 1024
MAX_STEP = 8
"""Sequence numbers that loss may swallow between two packets on probation."""

PAIR_WITHIN_S = 2.0
"""Two legs of a forked call start this close to each other."""


@dataclass(slots=True)
class Stream:
    """One SSRC between two addresses.

    Attributes:
        ssrc, source, destination: its identity.
        first_s, last_s: capture time of its first and last packet.
        num_packets: on and after probation.
        payload_types: how many packets carried which.
    """

    ssrc: int
    source: Address
    destination: Address
    first_s: float
    last_s: float
    num_packets: int = 0
    payload_types: Counter[int] = field(default_factory=Counter)
    _sequence_number: int = -1
    _in_row: int = 0

    def overlaps(self, other: "Stream") -> float:
        """Seconds both were sending."""
        return min(self.last_s, other.last_s) - max(self.first_s, other.first_s)

    def add(self, packet: RtpPacket, arrival_s: float) -> None:
        """Count a packet."""
        step = (packet.sequence_number - self._sequence_number) & 0xFFFF
        in_row = self._sequence_number >= 0 and 1 <= step <= MAX_STEP
        self._in_row = self._in_row + 1 if in_row else 1
        self._sequence_number = packet.sequence_number
        self.num_packets += 1
        self.payload_types[packet.payload_type] += 1
        self.last_s = max(self.last_s, arrival_s)

    @property
    def is_proven(self) -> bool:
        """Whether the newest packets were in sequence."""
        return self._in_row >= MIN_IN_ROW


@dataclass(slots=True)
class Found:
    """What a capture holds.

    Attributes:
        streams: in order of their first packet.
        num_refused: packets that looked like RTP and belonged to no stream.
    """

    streams: list[Stream]
    num_refused: int


def rtp_packet(payload: bytes) -> RtpPacket | None:
    """Parse a datagram that may be RTP; None where it is not."""
    if len(payload) < RTP_HEADER_BYTES or payload[0] >> 6 != RTP_VERSION or is_rtcp(payload):
        return None
    try:
        return RtpPacket.parse(payload)
    except PacketError:
        return None


def find_streams(datagrams: Iterable[Datagram]) -> Found:
    """Read datagrams to the end and return the RTP streams among them."""
    probation: OrderedDict[tuple[Address, Address, int], Stream] = OrderedDict()
    streams: dict[tuple[Address, Address, int], Stream] = {}
    num_seen = 0
    for datagram in datagrams:
        packet = rtp_packet(datagram.payload)
        if packet is None:
            continue
        num_seen += 1
        key = (datagram.source, datagram.destination, packet.ssrc)
        stream = streams.get(key)
        if stream is not None:
            stream.add(packet, datagram.arrival_s)
            continue
        stream = probation.pop(key, None)
        if stream is None:
            stream = Stream(packet.ssrc, *key[:2], datagram.arrival_s, datagram.arrival_s)
        stream.add(packet, datagram.arrival_s)
        if stream.is_proven and len(streams) < MAX_STREAMS:
            streams[key] = stream
            continue
        probation[key] = stream
        if len(probation) > MAX_ON_PROBATION:
            probation.popitem(last=False)
    found = [stream for stream in streams.values() if stream.num_packets >= MIN_PACKETS]
    found.sort(key=lambda stream: stream.first_s)
    return Found(found, num_seen - sum(stream.num_packets for stream in found))


@dataclass(slots=True)
class CapturedLeg:
    """One direction of a call: streams that followed each other between the same addresses.

    Attributes:
        streams: in time order; a new SSRC is a new epoch of the leg.
    """

    streams: list[Stream]

    @property
    def source(self) -> Address:
        """Who sends it."""
        return self.streams[0].source

    @property
    def destination(self) -> Address:
        """Who receives it."""
        return self.streams[0].destination

    @property
    def first_s(self) -> float:
        """Capture time of its first packet."""
        return self.streams[0].first_s

    @property
    def last_s(self) -> float:
        """Capture time of its last packet."""
        return max(stream.last_s for stream in self.streams)

    @property
    def payload_types(self) -> Counter[int]:
        """How many packets carried which payload type."""
        return sum((stream.payload_types for stream in self.streams), Counter())


def legs_of(streams: Iterable[Stream]) -> list[CapturedLeg]:
    """Join streams between the same addresses that do not sound at the same time."""
    legs: list[CapturedLeg] = []
    for stream in streams:
        for leg in legs:
            newest = leg.streams[-1]
            same_path = (newest.source, newest.destination) == (stream.source, stream.destination)
            if same_path and newest.overlaps(stream) < 0.5:
                leg.streams.append(stream)
                break
        else:
            legs.append(CapturedLeg([stream]))
    return legs


def pair(legs: list[CapturedLeg]) -> list[list[CapturedLeg]]:
    """Group legs into calls of one or two, in order of their start.

    Looked for in turn: the very opposite direction (A→B and B→A); opposite directions between the same hosts, other
    ports; two streams from one host to one host that start together (a gateway forking both legs to us).
    """
    left = sorted(legs, key=lambda leg: leg.first_s)
    calls: list[list[CapturedLeg]] = []

    def mirrored(a: CapturedLeg, b: CapturedLeg) -> bool:
        return (a.source, a.destination) == (b.destination, b.source)

    def opposite(a: CapturedLeg, b: CapturedLeg) -> bool:
        return (a.source.ip, a.destination.ip) == (b.destination.ip, b.source.ip)

    def forked(a: CapturedLeg, b: CapturedLeg) -> bool:
        same = (a.source.ip, a.destination.ip) == (b.source.ip, b.destination.ip)
        return same and abs(a.first_s - b.first_s) <= PAIR_WITHIN_S

    for rule in (mirrored, opposite, forked):
        rest: list[CapturedLeg] = []
        while left:
            leg = left.pop(0)
            together = [other for other in left if rule(leg, other) and _overlap(leg, other)]
            if not together:
                rest.append(leg)
                continue
            mate = min(together, key=lambda other: (abs(other.first_s - leg.first_s), _port_distance(leg, other)))
            left.remove(mate)
            calls.append([leg, mate])
        left = rest
    calls += [[leg] for leg in left]
    return sorted(calls, key=lambda call: call[0].first_s)


def _overlap(a: CapturedLeg, b: CapturedLeg) -> bool:
    """Whether they sound together for at least half of the shorter one."""
    shorter = min(a.last_s - a.first_s, b.last_s - b.first_s)
    return min(a.last_s, b.last_s) - max(a.first_s, b.first_s) >= shorter / 2


def _port_distance(a: CapturedLeg, b: CapturedLeg) -> int:
    return abs(a.source.port - b.source.port) + abs(a.destination.port - b.destination.port)
