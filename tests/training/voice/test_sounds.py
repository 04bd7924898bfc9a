"""Music, ringing and babble; and that the voice activity detector tells the first two from speech."""

import functools
import itertools
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile as sf

from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig, push_all
from inference.audio.vad import NeuralVad
from training.voice.coding import code, hops
from training.voice.placing import place_sounds
from training.voice.sounds import BABBLE, RINGBACK, Sound, make_babble, make_music, make_ringback, make_sound

ROOT = Path(__file__).parents[3]
SIZE = 30 * 8000
CHAINS = ("pcmu", "amr>pcma", "opus>pcmu")


def rms(signal):
    return float(np.sqrt(np.mean(np.asarray(signal, float) ** 2)))


@pytest.mark.parametrize("kind", ["music", "ringback"])
def test_a_sound_is_the_same_for_the_same_numbers_and_no_click_at_either_end(kind):
    one, same, other = (make_sound(kind, SIZE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert abs(one[0]) < 0.02
    assert abs(one[-1]) < 0.02
    assert make_sound(kind, 0, np.random.default_rng(1)).size == 0
    assert np.isfinite(make_sound(kind, 7, np.random.default_rng(1))).all()


def test_music_is_of_unit_level_and_moves():
    for seed in range(5):
        music = make_music(SIZE, np.random.default_rng(seed))
        assert rms(music) == pytest.approx(1, abs=1e-6)
        seconds = [np.abs(np.fft.rfft(second)) for second in music.reshape(-1, 8000)]
        likeness = [np.corrcoef(one, other)[0, 1] for one, other in itertools.pairwise(seconds)]
        assert min(likeness) < 0.7, "one chord for ever"


def test_ringing_keeps_the_cadence_of_one_country():
    countries = set()
    for seed in range(12):
        ring = make_ringback(SIZE, np.random.default_rng(seed))
        on = np.abs(ring).reshape(-1, 800).max(axis=1) > 0.1  # every 100 ms
        countries.add(round(float(on.mean()), 2))
        assert rms(ring[:3000]) == pytest.approx(1, abs=0.1)
    assert len(countries) == len(RINGBACK)


def test_babble_is_several_voices_at_once(hummer):
    babble = make_babble(hummer, ("af_nova", "am_eric"), SIZE, np.random.default_rng(1))
    assert babble.shape == (SIZE,)
    assert rms(babble) == pytest.approx(1, abs=1e-6)
    assert {(text, voice) for text, voice, _ in hummer.said} == {(t, v) for t in BABBLE for v in ("af_nova", "am_eric")}
    spectrum = np.abs(np.fft.rfft(babble[:8000]))
    peaks = np.flatnonzero(spectrum > spectrum.max() / 4)
    assert np.ptp(peaks) > 20, "two pitches"
    with pytest.raises(ValueError, match="at least one voice"):
        make_babble(hummer, (), SIZE, np.random.default_rng(1))


def test_turns_make_room_for_sounds_and_keep_their_pauses():
    starts, durations = [0.5, 3.0, 4.6, 8.0], [2.0, 2.0, 3.0, 1.0]  # the third turn interrupts the second
    sounds = (Sound("ringback", 0, 5.0, 0.0), Sound("music", 2, 10.0, 0.0))
    placed, heard = place_sounds(starts, durations, sounds)
    assert [(sound.start_s, sound.end_s) for sound in heard] == [(0.4, 5.4), (10.7, 20.7)]
    assert placed == [5.8, 8.3, 21.1, 24.5]
    assert placed[3] - placed[2] == pytest.approx(starts[3] - starts[2])
    assert place_sounds(starts, durations, ()) == (starts, [])


@functools.cache
def network():
    """The detector of live calls."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(ROOT / "models/vad/1/model.onnx", options, ["CPUExecutionProvider"])
    return lambda frames, state: tuple(session.run(None, {"frames": frames, "state": state}))


def covered(*legs):
    """Seconds inside segments, per second of each leg, by the detector and settings of live calls."""
    bank = SegmenterBank(SegmenterConfig(), NeuralVad(network()))
    segmenters = [Segmenter("far", bank) for _ in legs]
    found = push_all([(one, leg, 0, None) for one, leg in zip(segmenters, legs, strict=True)])
    for one, leg, segments in zip(segmenters, legs, found, strict=True):
        yield sum(s.end_s - s.start_s for s in segments + one.flush()) / (leg.size / 8000)


def over(signal, chain, level=0.1):
    samples = np.clip(np.round(signal * level * 32768), -32768, 32767).astype(np.int16)
    for codec in hops(chain):
        samples = code(samples, codec, bit_rate=7400 if codec == "amr" else 16_000)
    return samples


@functools.cache
def covered_of_speech(chain):
    samples, _ = sf.read(ROOT / "datasets/tiny/demo-scam.wav", dtype="int16")
    (share,) = covered(over(samples[: SIZE // 160 * 160, 0] / 3277, chain))
    return share


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("kind", ["music", "ringback"])
def test_music_and_ringing_are_rarely_taken_for_speech(kind, chain):
    sounds = [over(make_sound(kind, SIZE // 2, np.random.default_rng(seed)), chain) for seed in range(6)]
    heard = list(covered(*sounds))
    assert np.mean(heard) < 0.1
    assert np.mean(heard) < covered_of_speech(chain) / 3
