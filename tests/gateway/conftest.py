"""Small captures and recordings, made here; dpkt writes the files, so it is the oracle of our reader.

And a watch in virtual time, for gateways that bring audio over connections.
"""

import asyncio
import contextlib
import struct
from ipaddress import ip_address
from types import SimpleNamespace

import dpkt
import numpy as np
import pytest

from inference.alerts.dispatcher import Dispatcher
from inference.alerts.outbox import Outbox
from inference.rtp.g711 import encode_alaw, encode_ulaw
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import PacketPlane, PlaneConfig
from inference.service.bus import EventBus
from inference.service.publisher import Publisher
from inference.service.telemetry import Telemetry
from inference.service.watch import Watch, WatchConfig

RATE = 8000
GATEWAY, SUBSCRIBER = "10.0.0.1", "10.0.0.2"


def voice(seconds, hz, amplitude=8000):
    return (amplitude * np.sin(np.arange(round(seconds * RATE)) * 2 * np.pi * hz / RATE)).astype(np.int16)


def ethernet(source, destination, payload, vlan=None):
    """An Ethernet frame; addresses are (ip, port)."""
    udp = dpkt.udp.UDP(sport=source[1], dport=destination[1], data=payload, ulen=8 + len(payload))
    if ":" in source[0]:
        ip = dpkt.ip6.IP6(
            src=ip_address(source[0]).packed, dst=ip_address(destination[0]).packed, nxt=17, plen=len(udp), data=udp
        )
        kind = 0x86DD
    else:
        packed = [bytes(map(int, address[0].split("."))) for address in (source, destination)]
        ip = dpkt.ip.IP(src=packed[0], dst=packed[1], p=17, ttl=9, data=udp, len=20 + len(udp))
        kind = 0x0800
    head = b"\x02" * 12
    if vlan:
        head += struct.pack("!HH", 0x8100, vlan)
    return head + struct.pack("!H", kind) + bytes(ip)


def rtp_frames(source, destination, samples, *, ssrc, began_s=0.0, payload_type=0, first=100, ts=5000, vlan=None):
    """``[(arrival_s, frame)]``: 20 ms packets of the samples."""
    encode = encode_alaw if payload_type == 8 else encode_ulaw
    out = []
    for i in range(len(samples) // 160):
        packet = RtpPacket(
            payload_type=payload_type,
            sequence_number=(first + i) & 0xFFFF,
            timestamp=(ts + 160 * i) & 0xFFFFFFFF,
            ssrc=ssrc,
            payload=encode(samples[160 * i : 160 * (i + 1)]),
        )
        out.append((began_s + 0.02 * i, ethernet(source, destination, bytes(packet), vlan)))
    return out


def write_pcap(path, frames, *, linktype=1, ng=False, strip=0, prefix=b""):
    """Write frames in order of arrival; ``strip`` bytes of each are replaced by ``prefix``."""
    with path.open("wb") as file:
        writer = dpkt.pcapng.Writer(file, linktype=linktype) if ng else dpkt.pcap.Writer(file, linktype=linktype)
        for arrival_s, frame in sorted(frames, key=lambda frame: frame[0]):
            writer.writepkt(prefix + frame[strip:], ts=1_700_000_000 + arrival_s)
    return path


def heard(call):
    """``{leg: (samples, present)}`` of a whole call, checking that blocks come in time order."""
    out = {leg: ([], []) for leg in call.legs}
    position = dict.fromkeys(call.legs, 0)
    newest = 0
    for block in call.blocks():
        assert block.start_sample == position[block.leg], "blocks of a leg must follow each other"
        assert block.start_sample >= newest - 320, "legs must stay in step"
        newest = max(newest, block.start_sample)
        position[block.leg] += len(block.samples)
        present = np.ones(len(block.samples), np.bool_) if block.present is None else block.present
        out[block.leg][0].append(block.samples)
        out[block.leg][1].append(present)
    return {leg: tuple(map(np.concatenate, parts)) for leg, parts in out.items() if parts[0]}


@pytest.fixture
def wire():
    """The makers above; test modules cannot import each other (import-mode=importlib)."""
    return SimpleNamespace(ethernet=ethernet, rtp_frames=rtp_frames, write_pcap=write_pcap, heard=heard, voice=voice)


@pytest.fixture
def two_way(tmp_path):
    """A call of 2 s: the caller (440 Hz, µ-law) speaks first, the subscriber (300 Hz, A-law) .5 s later."""
    frames = rtp_frames((GATEWAY, 4000), (SUBSCRIBER, 6000), voice(2, 440), ssrc=0xAAAA)
    frames += rtp_frames((SUBSCRIBER, 6000), (GATEWAY, 4000), voice(1.5, 300), ssrc=0xBBBB, began_s=0.5, payload_type=8)
    return write_pcap(tmp_path / "call.pcap", frames)


class Served:
    """The watch, its events, and a gateway that it was given; time passes when a test says so."""

    def __init__(self, doubles, make_gateway, **config) -> None:
        self.doubles = doubles
        self.now_s = 1000.0
        self.plane = PacketPlane(PlaneConfig(max_legs=64))
        self.stages = doubles.stages(self.clock)
        self.bus = EventBus()
        self.follower = self.bus.follow()
        self.outbox = Outbox(None)
        self.keys = []
        publisher = Publisher(Telemetry(), self.bus, Dispatcher(self.outbox, []))
        publisher.key_pressed = lambda call, leg, digit: self.keys.append((call, leg, digit))
        self.watch = Watch(
            self.plane, doubles.parts(), self.stages, WatchConfig(**config), publisher=publisher, clock=self.clock
        )
        self.gateway = make_gateway(self.watch, self.clock)
        self._events = []

    def clock(self) -> float:
        return self.now_s

    @property
    def events(self) -> list[dict]:
        while self.follower._waiting:
            self._events.append(self.follower._waiting.popleft().to_json())
        return self._events

    def said(self) -> set[tuple[str, str, str]]:
        return {(e["call"], e["leg"], e["text"]) for e in self.events if e["type"] == "utterance"}

    def received(self, call, leg="far") -> int:
        return self.watch.describe(call)["packets"][leg]["received"] if call in self.watch.call_ids else 0

    async def until(self, condition) -> None:
        await self.doubles.until(condition)

    async def pass_time(self, seconds: float = 0.02) -> None:
        self.now_s += seconds
        self.watch.tick()
        await asyncio.sleep(0.001)  # what the tick began gets its turn
        await self.until(lambda: not self.watch.num_waiting)

    async def verdict(self, call) -> dict:
        def found():
            return [e for e in self.events if e["type"] == "verdict" and e["call"] == call]

        await self.until(found)
        return found()[-1]

    async def play(self, sockets, rounds, call, legs=("far", "near")) -> None:
        """Send ``rounds`` of (socket number, message), 20 ms each, and let them be heard as they come."""
        sent = dict.fromkeys(legs, 0)
        for number, messages in enumerate(rounds):
            for which, message in messages:
                await sockets[which].send(message)
            for leg in legs:
                sent[leg] += 1
            await self.until(lambda: all(self.received(call, leg) >= sent[leg] for leg in legs))
            self.now_s += 0.02
            if number % 3 == 2:
                await self.pass_time(0)


@pytest.fixture
def serving(doubles):
    """``async with serving(make_gateway) as served``."""

    @contextlib.asynccontextmanager
    async def make(make_gateway, **config):
        served = Served(doubles, make_gateway, **config)
        await served.gateway.start()
        try:
            yield served
        finally:
            await served.gateway.aclose()
            await served.watch.drain()
            served.outbox.close()

    return make
