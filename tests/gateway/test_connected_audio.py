"""Bytes to samples and samples to time: the same however a connection cuts them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import CodecError, SignallingError
from inference.gateway import narrow
from inference.gateway.narrow import RATES_HZ, Narrower
from inference.gateway.pcm import Sound, encode
from inference.gateway.timeline import MAX_AHEAD, Timeline
from inference.rtp.g711 import decode_alaw, decode_ulaw


def cut(data, sizes):
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return [*parts, data[at:]]


def sine(hz, rate_hz, seconds=1.0, amplitude=10000):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)).astype(np.int16)


@settings(deadline=None)  # the first filter of a rate is designed, or compiled
@given(
    st.binary(max_size=3000),
    st.lists(st.integers(0, 400), max_size=20),
    st.sampled_from(["PCMU", "PCMA", "L16"]),
    st.sampled_from(RATES_HZ),
    st.sampled_from([1, 2]),
)
def test_any_chunking_of_the_bytes_gives_the_same_audio(data, sizes, encoding, rate_hz, num_channels):
    whole = Sound(encoding, rate_hz, num_channels).take(data)
    sound = Sound(encoding, rate_hz, num_channels)
    pieces = [sound.take(part) for part in cut(data, sizes)]
    for channel in range(num_channels):
        assert np.array_equal(np.concatenate([piece[channel] for piece in pieces]), whole[channel])


@pytest.mark.parametrize("rate_hz", RATES_HZ[1:])
def test_speech_passes_and_what_would_fold_back_does_not(rate_hz):
    for hz in (300, 1000, 3300):
        out = Narrower(rate_hz).take(sine(hz, rate_hz)).astype(float)
        assert len(out) == pytest.approx(8000, abs=40)
        power = np.abs(np.fft.rfft(out[400:7600] * np.hanning(7200)))
        assert np.argmax(power) * 8000 / 7200 == pytest.approx(hz, abs=2)
        assert out[400:7600].std() == pytest.approx(10000 / np.sqrt(2), rel=0.01)
    beyond_hz = min(4500, rate_hz / 2 - 200)
    assert Narrower(rate_hz).take(sine(beyond_hz, rate_hz))[400:].std() < 10000 * 10 ** (-55 / 20)


@pytest.mark.parametrize("rate_hz", RATES_HZ[1:])
def test_the_filter_and_its_numpy_twin_agree_to_the_bit(rate_hz, monkeypatch):
    noise = np.random.default_rng(1).integers(-32768, 32767, rate_hz // 4, dtype=np.int16)
    compiled = Narrower(rate_hz).take(noise)
    monkeypatch.setattr(narrow, "HAS_NUMBA", False)
    assert np.array_equal(Narrower(rate_hz).take(noise), compiled)


def test_the_filter_holds_back_four_milliseconds():
    click = np.zeros(1600, np.int16)
    click[160] = 30000  # 10 ms
    out = Narrower(16000).take(click)
    assert int(np.argmax(np.abs(out))) == 80 + 32 - 1 or int(np.argmax(np.abs(out))) == 80 + 32


@pytest.mark.parametrize("rate_hz", [0, 1, 7999, 8001, 10**9])
def test_other_rates_are_refused(rate_hz):
    with pytest.raises(CodecError):
        Sound("L16", rate_hz)
    with pytest.raises(CodecError):
        Sound("L16", 8000, 3)


def test_what_is_played_is_what_is_heard():
    samples = sine(400, 8000, 0.1)
    assert np.array_equal(decode_ulaw(encode(samples, "PCMU")), Sound("PCMU").take(encode(samples, "PCMU"))[0])
    assert np.array_equal(decode_alaw(encode(samples, "PCMA")), Sound("PCMA").take(encode(samples, "PCMA"))[0])
    assert np.array_equal(np.frombuffer(encode(samples, "L16"), "<i2"), samples)
    assert len(encode(samples, "L16", 16000)) == 4 * len(samples)
    with pytest.raises(CodecError):
        encode(samples, "L16", 44100)


def test_audio_that_follows_itself_is_placed_without_gaps():
    timeline = Timeline()
    assert [timeline.place(160, 10 + 0.02 * i) for i in range(5)] == [0, 160, 320, 480, 640]


def test_jitter_of_timestamps_makes_no_gaps():
    timeline = Timeline()
    stamps = [5, 26, 44, 66, 85, 104]  # ms, of 20 ms chunks
    placed = [timeline.place(160, 10 + 0.02 * i, ms * 8) for i, ms in enumerate(stamps)]
    assert placed == [160 * i for i in range(6)]


def test_order_comes_from_timestamps_not_from_arrival():
    timeline = Timeline()
    placed = [timeline.place(160, 10 + 0.02 * i, 8 * 20 * n) for i, n in enumerate([0, 2, 1, 3, 6])]
    assert placed == [0, 320, 160, 480, 960]


def test_a_clock_that_is_set_anew_goes_on_now():
    timeline = Timeline()
    timeline.place(160, 10.0, 0)
    assert timeline.place(160, 10.02, 8 * 3_600_000) == 160, "an hour ahead"
    assert timeline.place(160, 10.04, 8 * 20) == 320, "and back"


def test_a_backlog_is_bounded_and_ends():
    timeline = Timeline()
    timeline.place(160, 10.0)
    placed = [timeline.place(160, 15.0) for _ in range(250)]  # 5 s at once
    kept = [at for at in placed if at is not None]
    assert kept == list(range(160, 160 + 160 * len(kept), 160))
    assert len(kept) * 160 == pytest.approx(MAX_AHEAD + 160, abs=160)
    assert timeline.place(160, 15.02) == kept[-1] + 160, "what follows is taken again, as fast as it is spoken"
    assert timeline.place(160, 15.02) is None


def test_a_minute_too_much_is_no_call():
    timeline = Timeline()
    for _ in range(61):  # one is due, one waits
        timeline.place(8000, 10.0)
    timeline.place(8000, 10.0)
    with pytest.raises(SignallingError, match="faster than it can be spoken"):
        timeline.place(8000, 10.0)


@given(st.lists(st.tuples(st.integers(1, 8000), st.integers(0, 10**12) | st.none(), st.floats(0, 3)), max_size=50))
def test_whatever_comes_time_stays_near_the_clock(chunks):
    timeline, now_s = Timeline(), 100.0
    for num, timestamp, passed_s in chunks:
        now_s += passed_s
        at = timeline.place(num, now_s, timestamp)
        if at is not None:
            elapsed = round((now_s - 100.0) * 8000)
            assert at + num <= elapsed + MAX_AHEAD + 8000
