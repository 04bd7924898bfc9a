"""Audio that is written, not received: placed by the rules that packets obey."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import CapacityError
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig

SIGNAL = np.random.default_rng(7).integers(-9000, 9000, 24000).astype(np.int16)
CHUNK = 160


@pytest.fixture(params=["numba", "numpy"])
def plane(request) -> PacketPlane:
    return PacketPlane(PlaneConfig(max_legs=2), backend=request.param)


def write(plane: PacketPlane, leg: int, numbers: list[int], begin_s: float, origin: int = 5000) -> None:
    """Chunks of the signal, one every 20 ms."""
    for i, number in enumerate(numbers):
        chunk = SIGNAL[CHUNK * number : CHUNK * (number + 1)]
        plane.write(leg, chunk, origin + CHUNK * number, arrived_s=begin_s + 0.02 * (i + 1))


def heard(plane: PacketPlane, leg: int, now_s: float) -> tuple[np.ndarray, np.ndarray]:
    batches = [plane.read([leg], now_s=now_s) for _ in range(5)]
    samples = np.concatenate([b.samples[0, : b.num_samples[0]] for b in batches])
    return samples, np.concatenate([b.present[0, : b.num_samples[0]] for b in batches])


@given(
    st.lists(st.integers(1, 430), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
    st.integers(-(2**60), 2**60),  # beyond, a timestamp wraps, as no sender of ours does
)
@settings(deadline=None, max_examples=60)
def test_any_split_in_mild_disorder_reads_back_the_same(sizes: list[int], dice, origin: int) -> None:
    plane = PacketPlane(PlaneConfig(max_legs=1, playout_delay_ms=60))
    leg = plane.open_stream(now_s=1.0)
    edges = np.concatenate([[0], np.cumsum(sizes)])
    chunks = [(int(a), SIGNAL[a % 20000 : a % 20000 + b - a]) for a, b in pairwise(edges)]
    # A chunk's first sample is at most 55 ms old when it arrives: within what the reader waits. The first is in order.
    due = [1.0 + a / 8000 + (dice.uniform(len(c) / 8000, 0.055) if a else len(c) / 8000) for a, c in chunks]
    if origin < 0 <= origin + int(edges[-1]):
        origin = 0  # "never wraps"
    got, now_s = [], 1.0
    for i in sorted(range(len(chunks)), key=lambda i: due[i]):
        now_s = max(now_s, due[i])
        plane.write(leg, chunks[i][1], origin + chunks[i][0], arrived_s=now_s)
        batch = plane.read([leg], now_s=now_s)
        got.append(batch.samples[0])
    rest, _ = heard(plane, leg, now_s + 1)
    whole = np.concatenate([*got, rest])
    spoken = np.concatenate([c for _, c in chunks])
    assert np.array_equal(whole[: len(spoken)], spoken)
    counters = plane.counters(leg)
    assert (counters.late, counters.reanchors, counters.overrun) == (0, 0, 0)
    assert (counters.received, counters.num_bytes) == (len(chunks), 2 * len(spoken))


def test_the_same_audio_written_and_as_packets_lies_in_the_same_place(plane: PacketPlane) -> None:
    """One rule for both, but that a connection that hung may bring audio further ahead than packets may lie."""
    source = ("192.0.2.7", 30000)
    packets, stream = plane.register(40000, source, now_s=1.0), plane.open_stream(now_s=1.0)
    script = [0, 1, 3, 2, 4, 9, 10, 5, 30, 31]  # out of order, lost, late, silence
    for i, number in enumerate(script):
        now_s = 1.02 + 0.02 * i
        data = bytes(
            RtpPacket(payload_type=0, sequence_number=number, timestamp=160 * number, ssrc=1, payload=b"\x10" * 160)
        )
        plane.feed([Datagram(data, source, 40000, now_s)])
        plane.write(stream, np.full(160, -31612, np.int16), 160 * number, arrived_s=now_s)
        if i == 6:
            plane.read([packets, stream], now_s=now_s + 0.03)
    batch = plane.read([packets, stream], now_s=2.5)
    assert np.array_equal(batch.present[0], batch.present[1])
    first, second = plane.counters(packets), plane.counters(stream)
    assert (first.late, first.reanchors, first.gap_s) == (second.late, second.reanchors, second.gap_s)


def test_late_gaps_overrun_and_stalls(plane: PacketPlane) -> None:
    leg = plane.open_stream(now_s=1.0)
    write(plane, leg, [0, 1, 5], 1.0)  # 2, 3 and 4 are missing
    samples, present = heard(plane, leg, 1.2)
    assert np.array_equal(samples[:320], SIGNAL[:320])
    assert present[: 6 * CHUNK].reshape(6, CHUNK)[:, 0].tolist() == [True, True, False, False, False, True]
    write(plane, leg, [3], 1.2)
    assert plane.counters(leg).late == 1
    write(plane, leg, [6], 3.0)  # the connection stalled: anchored on its arrival
    samples, present = heard(plane, leg, 3.2)
    assert plane.counters(leg).reanchors == 1
    assert np.array_equal(samples[present], SIGNAL[6 * CHUNK : 7 * CHUNK])
    for i in range(300):  # nobody reads: the ring holds 4.1 s
        plane.write(leg, SIGNAL[:CHUNK], 5000 + CHUNK * (7 + i), arrived_s=3.2 + 0.02 * (i + 1))
    assert plane.counters(leg).overrun > 0
    assert plane.counters(leg).gap_s > 0


def test_a_clock_that_ran_ahead_or_started_over_is_anchored_anew(plane: PacketPlane) -> None:
    leg = plane.open_stream(now_s=1.0)
    write(plane, leg, [0, 1], 1.0, origin=100_000)
    write(plane, leg, [2, 3], 1.04, origin=900_000)  # a jump of 100 s
    write(plane, leg, [4, 5], 1.08, origin=0)  # the sender started over
    samples, present = heard(plane, leg, 1.3)
    assert np.array_equal(samples[present], SIGNAL[: 6 * CHUNK])
    assert plane.counters(leg).reanchors == 2


def test_what_it_is_handed_need_not_be_tidy(plane: PacketPlane) -> None:
    """Every other sample of a stereo frame, read-only bytes, nothing at all."""
    leg = plane.open_stream(now_s=1.0)
    stereo = np.stack([SIGNAL[:160], SIGNAL[:160]], axis=1)
    plane.write(leg, stereo[:, 0], 0, arrived_s=1.02)
    plane.write(leg, np.frombuffer(SIGNAL[160:320].tobytes(), np.int16), 160, arrived_s=1.04)
    plane.write(leg, SIGNAL[:0], 320, arrived_s=1.05)
    samples, present = heard(plane, leg, 1.2)
    assert np.array_equal(samples[present], SIGNAL[:320])


def test_streams_share_the_bound_on_legs_and_end_like_legs(plane: PacketPlane) -> None:
    legs = [plane.open_stream(now_s=1.0) for _ in range(2)]
    with pytest.raises(CapacityError, match="all 2 legs"):
        plane.open_stream(now_s=1.0)
    write(plane, legs[0], [0, 1], 1.0)
    assert plane.release(legs[0], now_s=1.1).received == 2
    with pytest.raises(KeyError, match="released"):
        plane.write(legs[0], SIGNAL[:160], 0)
    again = plane.open_stream(now_s=1.1)
    assert not plane.read([again], now_s=2.0).present.any()


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = None  # as if it were not installed
import numpy as np
from inference.rtp.plane import PacketPlane, PlaneConfig
plane = PacketPlane(PlaneConfig(max_legs=1))
leg = plane.open_stream(now_s=1)
signal = np.arange(1, 641, dtype=np.int16)
for i, number in enumerate((0, 1, 3, 2)):
    plane.write(leg, signal[160 * number : 160 * number + 160], 160 * number, arrived_s=1.02 + i / 50)
batch = plane.read([leg], now_s=2)
print(plane.backend, np.array_equal(batch.samples[batch.present], signal))
"""


def test_without_numba() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("numpy True\n", "")
