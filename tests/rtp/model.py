"""A slow packet plane: one object per packet, one dictionary entry per sample. The oracle of the kernels.

Written from the rules (RFC 3550 A.1, RFC 4733, the docstrings of inference/rtp), not from the kernels; no arrays, no
wrapping positions, no bit masks.
"""

import dataclasses
from dataclasses import dataclass, field

from inference.errors import PacketError
from inference.rtp.codecs.decoding import LegDecoder, Packet
from inference.rtp.codecs.formats import codec_of
from inference.rtp.g711 import ALAW_TO_PCM, ULAW_TO_PCM
from inference.rtp.packet import EventPayload, RtpPacket, is_rtcp

CLOCKS = {"opus": 6, "AMR-WB": 2}
OPUS_FRAMES_MS = [10, 20, 40, 60] * 3 + [10, 20] * 2 + [2.5, 5, 10, 20] * 4  # RFC 6716 table 2
PCM = {0: ULAW_TO_PCM.tolist(), 8: ALAW_TO_PCM.tolist()}
LEG_COUNTERS = (
    *("received", "late", "duplicate", "stray", "unknown_payload", "undecoded", "comfort_noise"),
    *("telephone_events", "ssrc_changes", "reanchors", "overrun"),
)


def distance(new: int, old: int, bits: int) -> int:
    """How far ``new`` is ahead of ``old`` on a counter that wraps, between -half and half."""
    half = 1 << (bits - 1)
    return (new - old + half) % (1 << bits) - half


def red_blocks(payload: bytes) -> list[tuple[int, int, bytes]]:
    """Payload type, age in ticks and bytes of each payload in a redundant one, the newest last; none if malformed."""
    heads, at = [], 0
    while at + 4 <= len(payload) and payload[at] & 0x80:
        word = int.from_bytes(payload[at : at + 4])
        heads.append((word >> 24 & 127, word >> 10 & 0x3FFF, word & 0x3FF))
        at += 4
    if at >= len(payload) or payload[at] & 0x80 or len(heads) > 8:
        return []
    newest, at, blocks = payload[at], at + 1, []
    for payload_type, older, size in heads:
        blocks.append((payload_type, older, payload[at : at + size]))
        at += size
    return [*blocks, (newest, 0, payload[at:])] if at <= len(payload) else []


def duration(name: str, payload: bytes) -> tuple[int, bool]:
    """Samples that a compressed payload covers, 0 for none; and whether all of it is comfort noise."""
    num, bits = len(payload), "".join(f"{byte:08b}" for byte in payload)
    if name == "G722":
        return num, False
    if name == "GSM":
        return (0 if num % 33 else num // 33 * 160), False
    if name == "iLBC":
        return (num // 38 * 160 if num % 38 == 0 else num // 50 * 240 if num % 50 == 0 else 0), False
    if name == "G729":
        return (0 if num % 10 not in (0, 2) else (num + 8) // 10 * 80), num == 2
    if not payload:
        return 0, False
    if name == "opus":
        frames = [1, 2, 2, int(bits[10:16] or "0", 2)][int(bits[6:8], 2)]
        ms = OPUS_FRAMES_MS[int(bits[:5], 2)] * frames
        return (int(ms * 8) if ms <= 120 else 0), num <= 2
    bits, types = bits[4:], []
    while True:  # bandwidth-efficient AMR
        if len(bits) < 6:
            return 0, False
        entry, bits = bits[:6], bits[6:]
        types.append(int(entry[1:5], 2))
        if entry[0] == "0":
            return 160 * len(types), min(types) >= (9 if name == "AMR-WB" else 8)


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
    anchor: tuple[int, int, int] | None = None  # timestamp, position, clock of the newest audio
    delay: int = 0
    decoder: LegDecoder = field(default_factory=lambda: LegDecoder(0))
    to_decode: list[Packet] = field(default_factory=list)
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
        if codec == "red":
            blocks = red_blocks(packet.payload)
            if not blocks:
                self.counts["unknown_payload"] += 1
                return
            last_end = self.end
            *copies, (payload_type, _, payload) = blocks
            packet = dataclasses.replace(packet, payload_type=payload_type, payload=payload)
            codec = self.codecs.get(payload_type)
            codec = "unknown" if codec == "red" else codec
            self.recover(packet, codec, copies, last_end, step, arrival)
        if codec == "audio":
            at = self.place(packet, len(packet.payload), 1, step, arrival)
            for i, code in enumerate(packet.payload if at is not None else b""):
                self.samples[at + i] = PCM[packet.payload_type][code]
        elif codec in ("G722", "GSM", "iLBC", "G729", "opus", "AMR", "AMR-WB"):
            self.compressed(codec, packet, step, arrival)
        elif codec == "event":
            self.key(packet, is_newest=step > 0)
        else:
            self.counts["comfort_noise" if codec == "noise" else "unknown_payload"] += 1

    def compressed(self, name: str, packet: RtpPacket, step: int, arrival: int) -> None:
        num, is_noise = duration(name, packet.payload)
        if not num:
            self.counts["unknown_payload"] += 1
            return
        self.counts["comfort_noise"] += is_noise
        clock = CLOCKS.get(name, 1)
        is_fresh = self.anchor is None or self.anchor[2] != clock
        first = self.first
        at = self.place(packet, num, clock, step, arrival)
        if at is not None:
            self.first = first if is_noise else self.first
            seq = self.newest + min(step, 0)
            self.to_decode.append(Packet(codec_of(name), packet.payload, at, num, seq, is_fresh, arrival))

    def recover(self, packet: RtpPacket, codec: str, copies: list, last_end: int, step: int, arrival: int) -> None:
        """Copies of what was lost just before a redundant packet."""
        clock = CLOCKS.get(codec, 1)
        if step < 2 or self.anchor is None or self.anchor[2] != clock:
            return
        newest = self.anchor[1] + distance(packet.timestamp, self.anchor[0], 32) // clock
        if newest > arrival + self.max_ahead:
            return
        for back, (payload_type, older, payload) in zip(range(len(copies), 0, -1), copies, strict=True):
            if back >= step or self.codecs.get(payload_type) != codec or codec in ("event", "noise", "unknown", None):
                continue
            if codec == "audio" and payload_type != packet.payload_type:
                continue
            num = len(payload) if codec == "audio" else duration(codec, payload)[0]
            at = newest - older // clock
            if not num or at < max(last_end, self.read) or at + num > min(newest, self.read + self.ring):
                continue
            last_end = at + num
            if codec == "audio":
                for i, code in enumerate(payload):
                    self.samples[at + i] = PCM[payload_type][code]
            else:
                self.to_decode.append(Packet(codec_of(codec), payload, at, num, self.newest - back, False, arrival))

    def decode(self, now: int) -> None:
        """What the batch brought, then what has waited until ``now``."""
        for packet in self.to_decode:
            self.decoder.push(packet)
        self.to_decode.clear()
        self.decoder.advance(now)
        for at, pcm in self.decoder.pieces:
            kept = [i for i in range(len(pcm)) if self.read <= at + i < self.read + self.ring]
            self.counts["undecoded"] += not kept
            for i in kept:
                self.samples[at + i] = int(pcm[i])
        self.counts["undecoded"] += self.decoder.num_failed
        self.decoder.pieces, self.decoder.num_failed = [], 0

    def place(self, packet: RtpPacket, num: int, clock: int, step: int, arrival: int) -> int | None:
        """Where the audio goes; None if nowhere."""
        if not num:
            return None
        on_arrival = max(arrival - num, self.read)
        if self.anchor is None:
            at = on_arrival
        elif self.anchor[2] != clock:
            if step <= 0:
                self.counts["stray"] += 1
                return None
            at = on_arrival
            self.counts["reanchors"] += 1
        else:
            at = self.anchor[1] + distance(packet.timestamp, self.anchor[0], 32) // clock
            if step > 0 and not (self.read <= at and at + num <= arrival + self.max_ahead):
                at = on_arrival
                self.counts["reanchors"] += 1
            elif step > 0:
                self.silence += max(0, at - self.end) if step == 1 else 0
            elif at < self.read:
                self.counts["late"] += 1
                return None
            elif at + num > self.end:
                self.counts["stray"] += 1
                return None
        if step > 0 or self.anchor is None:
            self.anchor, self.end = (packet.timestamp, at, clock), at + num
        if at + num > self.read + self.ring:
            self.counts["overrun"] += 1
            return None
        self.first = at if self.first is None else min(self.first, at)
        return at

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
        at, clock = self.last_arrival, 1
        if self.anchor is not None:
            clock = self.anchor[2]
            by_timestamp = self.anchor[1] + distance(self.event["timestamp"], self.anchor[0], 32) // clock
            at = by_timestamp if abs(by_timestamp - at) < self.ring else at
        self.event["done"] = 1
        self.counts["telephone_events"] += 1
        self.events.append((self.event["code"], at, self.event["duration"] // clock, is_complete))

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

    def take_batch(self, batch: list[tuple[bytes, tuple[str, int], int]]) -> None:
        for data, source, arrival in batch:
            self.take(data, source, arrival)
        arrivals = [packet.arrival for leg in self.legs.values() for packet in leg.to_decode]
        if arrivals:
            for leg in self.legs.values():
                leg.decode(max(arrivals))

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
