"""Random but call-like traffic: senders that lose, reorder, repeat, pause, jump and babble."""

import random
from dataclasses import dataclass, field

from hypothesis import strategies as st

from inference.rtp.packet import ComfortNoise, EventPayload, RtpExtension, RtpPacket
from inference.rtp.plane import Datagram
from tests.rtp.voices import VOICES, payloads

LOCAL_PORT = 40000
SOURCES = (("192.0.2.7", 30000), ("2001:db8::7", 30001), ("192.0.2.99", 666))
"""Two legs, and one that nobody registered."""

CODED = {3: "GSM", 9: "G722", 18: "G729", 110: "iLBC 20", 111: "opus", 112: "AMR", 113: "AMR-WB"}
"""Payload types of compressed speech, by the golden voice that is spoken."""

RED = 121


def red(payload_type: int, said: list[bytes], step: int, dice: random.Random, *, is_clean: bool) -> bytes:
    """A redundant payload (RFC 2198), the newest last; or one that somebody tampered with."""
    heads, newest = b"", len(said) - 1
    for i, payload in enumerate(said[:-1]):
        heads += ((1 << 31) | payload_type << 24 | (step * (newest - i) & 0x3FFF) << 10 | len(payload)).to_bytes(4)
    whole = bytearray(heads + bytes([payload_type]) + b"".join(said))
    if not is_clean:
        whole[dice.randrange(min(len(whole), 12))] = dice.randrange(256)
    return bytes(whole)


ACTIONS = {
    "audio": st.tuples(st.sampled_from([80, 160, 240, 320, 0, 1]), st.sampled_from([0, 8])),
    "run": st.tuples(st.integers(1, 40)),
    "burst": st.tuples(st.integers(1, 12)),
    "lose": st.tuples(st.sampled_from([1, 2, 70, 99, 2999, 3001])),
    "repeat": st.tuples(st.integers(1, 110)),
    "delay": st.tuples(st.sampled_from([1, 30, 60, 130])),
    "silence": st.tuples(st.sampled_from([160, 4000, 90000])),
    "pause": st.tuples(st.sampled_from([10, 60, 700, 6000])),
    "jump_timestamp": st.tuples(st.sampled_from([-1, 1, -160, 5000, -40000, 2**31])),
    "jump_sequence": st.tuples(st.sampled_from([-1, -70, -200, 3000, 30000, 32768])),
    "new_ssrc": st.tuples(st.integers(0, 3)),
    "key": st.tuples(st.integers(0, 20), st.integers(0, 5), st.booleans()),
    "noise": st.tuples(),
    "unknown": st.tuples(st.sampled_from([3, 18, 96, 127])),
    "garbage": st.tuples(st.binary(max_size=40)),
    "mangle": st.tuples(st.integers(0, 255), st.integers(0, 40)),
    "big": st.tuples(st.sampled_from([1588, 1589, 3000])),
    "read": st.tuples(st.sampled_from([-2000, 0, 300])),
    "speak": st.tuples(st.sampled_from(sorted(CODED)), st.integers(1, 12), st.sampled_from([0, 0, 1, 25, 60])),
    "redundant": st.tuples(st.sampled_from([0, 8, 9, 111, 112]), st.integers(1, 9), st.integers(0, 3), st.booleans()),
    "babble": st.tuples(st.sampled_from(sorted(CODED)), st.binary(max_size=60)),
}
actions = st.sampled_from(sorted(ACTIONS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from([0, 0, 0, 1, 1, 2]), ACTIONS[name])
)
scripts = st.lists(actions, min_size=1, max_size=25)


@dataclass
class Sender:
    """One RTP source; ``sent`` holds what goes out with its delay in ms."""

    source: tuple[str, int]
    ssrc: int
    sequence_number: int
    timestamp: int
    dice: random.Random
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    history: list[bytes] = field(default_factory=list)
    spoken: int = 118  # shortly before the voice pauses
    spoken_until: int = 0

    def packet(self, payload_type: int, payload: bytes, delay_ms: float = 0, **fields: object) -> None:
        data = bytes(
            RtpPacket(
                payload_type=payload_type,
                sequence_number=self.sequence_number % 65536,
                timestamp=self.timestamp % 2**32,
                ssrc=self.ssrc,
                payload=payload,
                **fields,  # type: ignore[arg-type]
            )
        )
        self.sequence_number += 1
        self.history.append(data)
        self.sent.append((delay_ms, data))

    def audio(self, num: int = 160, payload_type: int = 0, delay_ms: float = 0) -> None:
        extra: dict[str, object] = {}
        if self.dice.random() < 0.2:
            extra = {"csrc": (1, 2), "extension": RtpExtension(0xBEDE, b"1234"), "padding": b"\0\0\3"}
        self.packet(payload_type, self.dice.randbytes(num), delay_ms, **extra)
        self.timestamp += num


def play(script: list[tuple[str, int, tuple]], seed: int) -> list[tuple[str, list[Datagram] | float]]:
    """Act a script out: ``("feed", datagrams)`` and ``("read", now_s)`` in order of time."""
    dice = random.Random(seed)
    senders = [
        Sender(source, 7, dice.choice([0, 100, 65530]), dice.choice([0, 2**32 - 700]), dice) for source in SOURCES
    ]
    now_ms, queue, steps = 1000.0, [], []
    for name, who, values in script:
        sender = senders[who]
        repeat = values[0] if name in ("run", "burst") else 1
        for _ in range(repeat):
            now_ms += act(sender, name, values)
            queue += [(now_ms + delay, sender.source, data) for delay, data in sender.sent]
            sender.sent.clear()
        if name == "read":
            due = sorted((item for item in queue if item[0] <= now_ms), key=lambda item: item[0])
            queue = [item for item in queue if item[0] > now_ms]
            steps.append(("feed", datagrams(due)))
            steps.append(("read", now_ms / 1000 + values[0] / 8000))
    steps.append(("feed", datagrams(sorted(queue, key=lambda item: item[0]))))
    steps.append(("read", now_ms / 1000 + 0.5))
    return steps


def datagrams(items: list[tuple[float, tuple[str, int], bytes]]) -> list[Datagram]:
    return [Datagram(data, source, LOCAL_PORT, at_ms / 1000) for at_ms, source, data in items]


def act(sender: Sender, name: str, values: tuple) -> float:
    """Let a sender do one thing; returns the milliseconds that it takes."""
    if name == "audio":
        sender.audio(*values)
        return values[0] / 8
    if name in ("run", "burst"):
        sender.audio(delay_ms=sender.dice.choice([0, 0, 0, 1, 25]) if name == "run" else 0)
        return 20 if name == "run" else 0
    if name == "lose":
        sender.sequence_number += values[0]
        sender.timestamp += 160 * values[0]
        return 20 * values[0] if values[0] < 100 else 0
    if name == "repeat" and sender.history:
        sender.sent.append((sender.dice.choice([0, 5]), sender.history[-min(values[0], len(sender.history))]))
    if name == "delay":
        sender.audio(delay_ms=values[0])
        return 20
    if name == "silence":
        sender.timestamp += values[0]
        return values[0] / 8
    if name == "pause":
        return values[0]
    if name == "jump_timestamp":
        sender.timestamp += values[0]
    if name == "jump_sequence":
        sender.sequence_number += values[0]
    if name == "new_ssrc":
        sender.ssrc = values[0]
    if name == "key":
        code, num_updates, has_end = values
        for i in range(num_updates):
            sender.packet(101, bytes(EventPayload(code, False, 10, 160 * (i + 1))), marker=i == 0)
        for _ in range(3 * has_end):
            sender.packet(101, bytes(EventPayload(code, True, 10, 160 * (num_updates + 1))))
        sender.timestamp += 160 * (num_updates + 1)
        return 20 * num_updates
    if name == "noise":
        sender.packet(13, bytes(ComfortNoise(60)))
    if name == "unknown":
        sender.packet(values[0], b"\1\2\3")
    if name == "speak":
        payload_type, num, delay_ms = values
        clock = VOICES[CODED[payload_type]].clock
        voice = payloads(CODED[payload_type])
        begin = sender.spoken % (len(voice) - num)
        spoken = voice[begin : begin + num]
        sender.spoken += num
        for at, payload in spoken:
            later = at - sender.spoken_until if sender.spoken_until < at else 160 * clock
            sender.timestamp += later if len(sender.history) else 0
            sender.spoken_until = at
            sender.packet(payload_type, payload, sender.dice.choice([0, 0, delay_ms]))
        return 20 * len(spoken)
    if name == "redundant":
        payload_type, num, copies, is_clean = values
        step = 160 if payload_type in (0, 8) else 160 * VOICES[CODED[payload_type]].clock
        said: list[bytes] = []
        for i in range(num):
            said.append(
                sender.dice.randbytes(160)
                if payload_type in (0, 8)
                else payloads(CODED[payload_type])[sender.spoken % 100 + i][1]
            )
            if sender.dice.random() < 0.4:  # lost
                sender.sequence_number += 1
            else:
                sender.packet(RED, red(payload_type, said[-1 - copies :], step, sender.dice, is_clean=is_clean))
            sender.timestamp += step
        return 20 * num
    if name == "babble":
        sender.packet(values[0], values[1])
    if name == "garbage":
        sender.sent.append((0, values[0]))
    if name == "mangle" and sender.history:
        data = bytearray(sender.history[-1])
        data[min(values[1], len(data) - 1)] = values[0]
        sender.sent.append((0, bytes(data)))
    if name == "big":
        sender.audio(num=values[0])
    return 0
