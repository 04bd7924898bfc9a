"""Codec round trips: what comes out is the speech that went in, on time; what is lost is missed or filled in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.voice.coding import CODECS, code, hops

BIT_RATES = {"amr": 12_200, "opus": 16_000}
CHAINS = [(codec,) for codec in CODECS] + [("amr", "pcma"), ("amr", "pcmu", "amr"), ("opus", "pcmu")]


def voice(seconds=2.0, pause=False, seed=1):
    """Something like a voice: harmonics of a gliding pitch under a slow envelope."""
    t_s = np.arange(int(seconds * 8000)) / 8000
    pitch_hz = 120 + 40 * np.sin(2 * np.pi * 0.7 * t_s + seed)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / 8000
    out = sum(np.sin(k * phase) / k for k in range(2, 20)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t_s))
    if pause:
        out[out.size // 3 : 2 * out.size // 3] = 0
    return np.round(3000 * out).astype(np.int16)


def through(samples, chain, **kwargs):
    for codec in chain:
        samples = code(samples, codec, bit_rate=BIT_RATES.get(codec, 0), **kwargs)
    return samples


def likeness(one, other):
    """Correlation of the two magnitude spectrograms' logarithms: waveforms differ, what is heard does not."""

    def spectra(samples):
        frames = samples[: samples.size // 256 * 256].reshape(-1, 256) * np.hanning(256)
        return np.log(np.abs(np.fft.rfft(frames, axis=1))[:, 8:100] + 100).ravel()

    return float(np.corrcoef(spectra(one), spectra(other))[0, 1])


@pytest.mark.parametrize("chain", CHAINS, ids=">".join)
def test_a_round_trip_keeps_what_is_heard_and_when(chain):
    said = voice()
    heard = through(said, chain)
    assert heard.dtype == np.int16
    assert heard.size == said.size
    assert likeness(said[1600:-1600], heard[1600:-1600]) > 0.85
    lags = range(-80, 81)
    products = [np.dot(said[1000:-1000].astype(float), np.roll(heard, -lag)[1000:-1000].astype(float)) for lag in lags]
    assert abs(lags[int(np.argmax(products))]) <= 8 * len(chain), "more than 1 ms a hop early or late"


@pytest.mark.parametrize("codec", CODECS)
def test_a_round_trip_changes_something_and_always_the_same(codec):
    said = voice()
    once, again = through(said, (codec,)), through(said, (codec,))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, said)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("run", [1, 3, 9])
def test_what_is_lost_is_silent_unless_it_is_filled_in(codec, run):
    said = voice()
    lost = np.zeros(100, np.bool_)
    lost[40 : 40 + run] = True
    missed = through(said, (codec,), lost=lost, concealed=False)
    filled = through(said, (codec,), lost=lost, concealed=True)
    inner = slice(40 * 160, (40 + run) * 160 - 60)  # a codec's delay is 52 samples at most
    assert not missed[inner].any()
    assert filled[inner].any()
    before = slice(800, 40 * 160 - 60)
    assert np.array_equal(missed[before], filled[before])
    assert likeness(said[-6400:], filled[-6400:]) > 0.7, "it recovers"


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "g722", "opus"])
def test_pauses_that_are_not_sent_are_silent(codec):
    pauses = np.zeros(100, np.bool_)
    pauses[50:60] = True
    heard = through(voice(), (codec,), pauses=pauses)
    assert not heard[50 * 160 : 60 * 160 - 60].any()
    assert heard[60 * 160 + 60 :].any()


def test_amr_fills_pauses_with_comfort_noise_of_its_own():
    said = voice(6.0, pause=True) + np.random.default_rng(1).integers(-60, 60, 48_000).astype(np.int16)
    sent, dtx = through(said, ("amr",)), through(said, ("amr",), pauses=np.zeros(300, np.bool_))
    middle = slice(22_000, 31_000)
    assert not np.array_equal(sent[middle], dtx[middle])
    assert 5 < np.abs(dtx[middle].astype(float)).mean() < 200
    assert likeness(said[:15_000], dtx[:15_000]) > 0.85


@given(
    codec=st.sampled_from(CODECS),
    num_packets=st.integers(0, 12),
    seed=st.integers(0, 99),
    concealed=st.booleans(),
    dtx=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_samples_losses_and_pauses_come_out_as_long_as_they_went_in(codec, num_packets, seed, concealed, dtx):
    rng = np.random.default_rng(seed)
    samples = rng.integers(-32768, 32768, num_packets * 160).astype(np.int16)
    lost, pauses = (rng.random(num_packets) < share for share in (0.5, 0.3))
    out = through(samples, (codec,), lost=lost, pauses=pauses if dtx else None, concealed=concealed)
    assert out.shape == samples.shape


def test_what_is_no_whole_packet_and_what_is_no_codec_is_refused():
    with pytest.raises(ValueError, match="161 samples are no whole packets"):
        code(np.zeros(161, np.int16), "pcmu")
    assert hops("amr>pcma>amr") == ("amr", "pcma", "amr")
    with pytest.raises(ValueError, match="'mp3' is none of pcmu"):
        hops("amr>mp3")
