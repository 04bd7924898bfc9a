"""Redundant audio (RFC 2198): copies bring back what was lost, and a malformed packet brings nothing."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inference.rtp import g711
from inference.rtp.jit import plain
from inference.rtp.packet import EventPayload, RtpPacket
from inference.rtp.plane import PacketPlane, PlaneConfig
from inference.rtp.red import MAX_BLOCKS, find_block
from tests.rtp.model import red_blocks
from tests.rtp.voices import PORT, SOURCE, as_datagrams, payloads
from tests.thorough import cases

VOICE = (np.sin(np.arange(16000) * 0.2) * 9000).astype(np.int16)
RED = 121
find = plain(find_block)


def redundant(items: list[tuple[int, int, bytes]]) -> bytes:
    """``(payload type, ticks older, payload)``, the newest last."""
    heads = b"".join((1 << 31 | pt << 24 | older << 10 | len(data)).to_bytes(4) for pt, older, data in items[:-1])
    return heads + bytes([items[-1][0]]) + b"".join(data for _, _, data in items)


def packet(number: int, payload: bytes, step: int) -> tuple[float, bytes]:
    fields = {"payload_type": RED, "sequence_number": number, "timestamp": step * number, "ssrc": 9}
    return 1.02 + 0.02 * number, bytes(RtpPacket(**fields, payload=payload))


ITEM = st.tuples(st.integers(0, 127), st.integers(0, 0x3FFF), st.binary(max_size=80))
# Whole ones of few or too many blocks, and such that end a few bytes early.
NEARLY = st.builds(
    lambda items, cut: redundant(items)[: -cut or None],
    st.lists(ITEM, min_size=1, max_size=MAX_BLOCKS + 4),
    st.integers(0, 3),
).filter(len)


@given(st.lists(ITEM, min_size=1, max_size=9))
@settings(max_examples=300, deadline=None)
def test_every_block_is_found(items: list[tuple[int, int, bytes]]) -> None:
    items[-1] = (items[-1][0], 0, items[-1][2])
    data = redundant(items)
    row = np.frombuffer(data, np.uint8)[None]
    for back, (payload_type, older, payload) in enumerate(reversed(items)):
        found = find(row, 0, 0, len(data), back)
        assert (found[0], found[1], data[found[2] : found[3]]) == (payload_type, older, payload)
    assert find(row, 0, 0, len(data), len(items))[0] == -1


@given(st.binary(min_size=1, max_size=120) | NEARLY, st.integers(0, MAX_BLOCKS + 1))
@example(redundant([(0, 0, b"")] * (MAX_BLOCKS + 2)), 0)  # a copy too many
@settings(max_examples=cases(600, 10_000), deadline=None)
def test_any_bytes_stay_within_the_packet(data: bytes, back: int) -> None:
    row = np.frombuffer(data, np.uint8)[None]
    payload_type, older, begin, end = find(row, 0, 0, len(data), back)
    blocks = red_blocks(data)
    if back >= len(blocks):
        assert payload_type == -1
    else:
        assert (payload_type, older, data[begin:end]) == blocks[-1 - back]
        assert 0 <= begin <= end <= len(data)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("codec", ["PCMU", "opus"])
def test_copies_bring_back_what_was_lost(codec: str, backend: str) -> None:
    plane = PacketPlane(PlaneConfig(max_legs=1), backend=backend)  # type: ignore[arg-type]
    names = {RED: "red", 111: "opus", 101: "telephone-event"}
    leg = plane.register(PORT, SOURCE, names, now_s=1.0)
    if codec == "PCMU":
        code, step, payload_type = g711.encode_ulaw(VOICE), 160, 0
        said = [code[160 * i : 160 * i + 160] for i in range(60)]
    else:
        said, step, payload_type = [payload for _, payload in payloads("opus")[:60]], 960, 111
    sent = []
    for i in range(60):
        items = [(payload_type, step * (i - k), said[k]) for k in range(max(i - 2, 0), i + 1)]
        if i not in (10, 11, 20, 30, 31, 32):  # two copies bring back one or two in a row, not three
            sent.append(packet(i, redundant(items), step))
    plane.feed(as_datagrams(sent))
    batches = [plane.read([leg], now_s=now_s) for now_s in (1.9, 2.6)]
    samples = np.concatenate([b.samples[0, : b.num_samples[0]] for b in batches])[: 60 * 160]
    there = np.concatenate([b.present[0, : b.num_samples[0]] for b in batches])[: 60 * 160]
    missing = [i for i in range(60) if not there[160 * i : 160 * i + 160].all()]
    assert missing == ([30] if codec == "PCMU" else [])  # Opus holds a copy of its own, of the packet before
    counters = plane.counters(leg)
    assert (counters.lost, counters.unknown_payload, counters.undecoded) == (6, 0, 0)
    if codec == "PCMU":
        heard = g711.decode_ulaw(b"".join(said))
        assert np.array_equal(samples[there], heard[there])


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_gap_is_counted_from_a_copy_on_where_that_is_the_first_audio(backend: str) -> None:
    plane = PacketPlane(PlaneConfig(max_legs=1), backend=backend)  # type: ignore[arg-type]
    leg = plane.register(PORT, SOURCE, {RED: "red", 18: "G729"}, now_s=1.0)
    noise = RtpPacket(payload_type=18, sequence_number=0, timestamp=0, ssrc=9, payload=b"\0\0")
    sent = [(1.02, bytes(noise)), packet(3, redundant([(0, 320, bytes(160)), (0, 0, bytes(160))]), 160)]
    plane.feed(as_datagrams(sent))
    batch = plane.read([leg], now_s=1.5)
    there = batch.present[0, : batch.num_samples[0]]
    assert there.sum() == 320
    assert plane.counters(leg).gap_s == (~there[there.argmax() :]).sum() / 8000


def test_keys_in_redundant_packets_and_nonsense() -> None:
    plane = PacketPlane(PlaneConfig(max_legs=1))
    leg = plane.register(PORT, SOURCE, {RED: "red", 101: "telephone-event"}, now_s=1.0)
    key = bytes(EventPayload(7, is_end=True, volume=10, duration=800))
    sent = [
        packet(0, redundant([(0, 0, b"\x10" * 160)]), 160),
        packet(1, redundant([(101, 160, key), (101, 0, key)]), 160),
    ]
    sent += [packet(2, b"", 160), packet(3, b"\x80\0\0\1", 160), packet(4, redundant([(RED, 0, b"\0")]), 160)]
    plane.feed(as_datagrams(sent))
    assert [event.digit for event in plane.telephone_events()] == ["7"]
    assert plane.counters(leg).unknown_payload == 3
