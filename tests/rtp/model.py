"""A slow packet plane: one object per packet, one dictionary entry per sample. The oracle of the kernels.

Written from the rules (RFC 3550 A.1, RFC 4733, the docstrings of inference/rtp), not from the kernels; no arrays, no
wrapping positions, no bit masks.
"""

from dataclasses import dataclass, field

from inference.errors import PacketError
from inference.rtp.g711 import ALAW_TO_PCM, ULAW_TO_PCM
from inference.rtp.packet import EventPayload, RtpPacket, is_rtcp

PCM = {0: ULAW_TO_PCM.tolist(), 8: ALAW_TO_PCM.tolist()}
LEG_COUNTERS = (
    *("received", "late", "duplicate", "stray", "unknown_payload", "comfort_noise"),
    *("telephone_events", "ssrc_changes", "reanchors", "overrun"),
)


def distance(new: int, old: int, bits: int) -> int:
    """How far ``new`` is ahead of ``old`` on a counter that wraps, between -half and half."""
    half = 1 << (bits - 1)
    return (new - old + half) % (1 << bits) - half


@dataclass
class ModelLeg:
    read: int
    ring: int
    max_ahead: int
    codecs: dict[int, str]
    samples: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LEG_COUNTERS, 0))
    num_bytes: int = 0
    silence: int = 0
    gap: int = 0
    first: int | None = None
    last_arrival: int | None = None
    ssrc: int | None = None
    newest: int = 0
    seen: set[int] = field(default_factory=set)
    lost_before: int = 0
    expected_restart: int | None = None
    anchor: tuple[int, int] | None = None  # timestamp, position of the newest audio
    end: int = 0
    event: dict[str, int] | None = None
    events: list[tuple[int, int, int, bool]] = field(default_factory=list)

    @property
    def lost(self) -> int:
        if self.ssrc is None:
            return self.lost_before
        return self.lost_before + self.newest - min(self.seen) + 1 - len(self.seen)

    def begin(self, packet: RtpPacket) -> None:
        self.lost_before = self.lost
        if self.event is not None and not self.event["done"]:
            self.log_event(is_complete=False)
        self.event = self.anchor = self.expected_restart = None
        self.ssrc, self.newest = packet.ssrc, 65536 + packet.sequence_number
        self.seen = {self.newest}

    def accept(self, packet: RtpPacket, size: int, arrival: int) -> None:
        self.counts["received"] += 1
        self.num_bytes += size
        self.last_arrival = arrival
        step = 1
        if self.ssrc != packet.ssrc:
            self.counts["ssrc_changes"] += self.ssrc is not None
            self.begin(packet)
        else:
            step = distance(packet.sequence_number, self.newest, 16)
            number = self.newest + step
            if 0 < step <= 3000:
                self.newest = number
                self.seen.add(number)
                self.expected_restart = None
            elif -64 < step <= 0:
                if number in self.seen:
                    self.counts["duplicate"] += 1
                    return
                self.seen.add(number)
            elif -100 <= step <= 0:
                self.counts["late"] += 1
                return
            elif packet.sequence_number == self.expected_restart:
                self.begin(packet)
                self.counts["reanchors"] += 1
                step = 1
            else:
                self.expected_restart = (packet.sequence_number + 1) % 65536
                self.counts["stray"] += 1
                return
        codec = self.codecs.get(packet.payload_type)
        if codec == "audio":
            self.audio(packet, step, arrival)
        elif codec == "event":
            self.key(packet, is_newest=step > 0)
        else:
            self.counts["comfort_noise" if codec == "noise" else "unknown_payload"] += 1

    def audio(self, packet: RtpPacket, step: int, arrival: int) -> None:
        num = len(packet.payload)
        if not num:
            return
        on_arrival = max(arrival - num, self.read)
        if self.anchor is None:
            at = on_arrival
        else:
            at = self.anchor[1] + distance(packet.timestamp, self.anchor[0], 32)
            if step > 0 and not (self.read <= at and at + num <= arrival + self.max_ahead):
                at = on_arrival
                self.counts["reanchors"] += 1
            elif step > 0:
                self.silence += max(0, at - self.end) if step == 1 else 0
            elif at < self.read:
                self.counts["late"] += 1
                return
            elif at + num > self.end:
                self.counts["stray"] += 1
                return
        if step > 0 or self.anchor is None:
            self.anchor, self.end = (packet.timestamp, at), at + num
        if at + num > self.read + self.ring:
            self.counts["overrun"] += 1
            return
        self.first = at if self.first is None else min(self.first, at)
        table = PCM[packet.payload_type]
        for i, code in enumerate(packet.payload):
            self.samples[at + i] = table[code]

    def key(self, packet: RtpPacket, *, is_newest: bool) -> None:
        try:
            update = EventPayload.parse(packet.payload)
        except PacketError:
            self.counts["unknown_payload"] += 1
            return
        if self.event is None or self.event["timestamp"] != packet.timestamp:
            if self.event is not None and not is_newest:
                return
            if self.event is not None and not self.event["done"]:
                self.log_event(is_complete=False)
            self.event = {"timestamp": packet.timestamp, "code": update.event, "duration": 0, "done": 0}
        if not self.event["done"]:
            self.event["duration"] = max(self.event["duration"], update.duration)
            if update.is_end:
                self.log_event(is_complete=True)

    def log_event(self, *, is_complete: bool) -> None:
        assert self.event is not None
        assert self.last_arrival is not None
        at = self.last_arrival
        if self.anchor is not None:
            by_timestamp = self.anchor[1] + distance(self.event["timestamp"], self.anchor[0], 32)
            at = by_timestamp if abs(by_timestamp - at) < self.ring else at
        self.event["done"] = 1
        self.counts["telephone_events"] += 1
        self.events.append((self.event["code"], at, self.event["duration"], is_complete))

    def take(self, until: int) -> tuple[int, list[int], list[bool]]:
        """Position, samples and presence from the reader up to ``until``."""
        start, num = self.read, max(0, until - self.read)
        present = [start + i in self.samples for i in range(num)]
        samples = [self.samples.pop(start + i, 0) for i in range(num)]
        if self.first is not None:
            self.gap += sum(not there for i, there in enumerate(present) if start + i >= self.first)
        self.read += num
        return start, samples, present


@dataclass
class ModelPlane:
    """Legs by source, and what no leg can be charged with."""

    legs: dict[tuple[str, int], ModelLeg]
    datagrams: int = 0
    oversized: int = 0
    malformed: int = 0
    rtcp: int = 0
    unregistered: int = 0

    def take(self, data: bytes, source: tuple[str, int], arrival: int) -> None:
        self.datagrams += 1
        if len(data) > 1600:
            self.oversized += 1
        elif is_rtcp(data) and len(data) >= 8:
            self.rtcp += 1
        else:
            try:
                packet = RtpPacket.parse(data)
            except PacketError:
                self.malformed += 1
                return
            if source in self.legs:
                self.legs[source].accept(packet, len(data), arrival)
            else:
                self.unregistered += 1
