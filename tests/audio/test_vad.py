import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from inference.audio.frames import FRAME_NUM_SAMPLES
from inference.audio.vad import NeuralVad
from tests.audio.doubles import open_alone

ROOT = Path(__file__).parents[2]
SPEECH = ROOT.parent / "shared" / "audio" / "speech"


def vowels(seconds=3.0, amplitude=6000):
    """A made voice: a pulse train of gliding pitch through three formants, in syllables of 200 ms."""
    rate = 8000
    t = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 25 * np.sin(2 * np.pi * 0.9 * t)
    pulses = np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0)
    out = np.zeros(len(t))
    for hz, width in ((650, 80), (1150, 100), (2500, 140)):
        k = np.arange(400) / rate
        out += np.convolve(pulses, np.exp(-np.pi * width * k) * np.sin(2 * np.pi * hz * k))[: len(t)]
    out *= np.clip(np.sin(2 * np.pi * 2.5 * t) + 0.5, 0, 1)
    return (out / np.abs(out).max() * amplitude).astype(np.int16)


def scores(vad, audio):
    state = vad.open(1)
    frames = audio[: len(audio) // FRAME_NUM_SAMPLES * FRAME_NUM_SAMPLES].reshape(-1, 1, FRAME_NUM_SAMPLES)
    return np.concatenate([vad.score(frame, state) for frame in frames])


def speech_s(vad, audio):
    segmenter = open_alone(vad=vad)
    return sum(s.end_s - s.start_s for s in segmenter.push(audio, 0) + segmenter.flush())


def test_the_model_is_the_one_its_readme_describes():
    digest = hashlib.sha256((ROOT / "models/vad/1/model.onnx").read_bytes()).hexdigest()
    assert digest in (ROOT / "models/vad/README.md").read_text()


def test_network_tells_a_voice_from_noise_and_tones(network):
    rng = np.random.default_rng(0)
    t = np.arange(24000) / 8000
    ringback = (3000 * (np.sin(2 * np.pi * 440 * t) + np.sin(2 * np.pi * 480 * t))).astype(np.int16)
    assert scores(NeuralVad(network), vowels()).max() > 0.8
    assert scores(NeuralVad(network), (rng.standard_normal(24000) * 1000).astype(np.int16)).mean() < 0.15
    assert scores(NeuralVad(network), ringback)[10:].max() < 0.3


def test_rows_of_a_batch_do_not_mix(network):
    vad = NeuralVad(network)
    voices = [vowels(), vowels(amplitude=500), np.zeros(24000, np.int16)]
    states = vad.open(len(voices))
    together = [
        vad.score(np.stack([voice[at : at + FRAME_NUM_SAMPLES] for voice in voices]), states)
        for at in range(0, 24000 - 255, FRAME_NUM_SAMPLES)
    ]
    for row, voice in zip(np.array(together).T, voices, strict=True):
        assert np.array_equal(row, scores(vad, voice))


@pytest.mark.parametrize("dbfs", [-42, -35, -20, -12])  # above, the made voice is all clipping
def test_default_detector_hears_a_voice_at_any_telephone_level(network, dbfs):
    voice = vowels().astype(float)
    level = voice * 32768 * 10 ** (dbfs / 20) / np.sqrt(np.square(voice).mean())
    audio = np.clip(level, -32768, 32767).astype(np.int16)
    quiet = np.zeros(8000, np.int16)
    assert speech_s(NeuralVad(network), np.concatenate([quiet, audio, quiet])) > 2.5


def test_default_detector_makes_no_speech_of_noise_or_ringback(network):
    rng = np.random.default_rng(1)
    t = np.arange(80_000) / 8000
    ringback = 4000 * (np.sin(2 * np.pi * 400 * t) + np.sin(2 * np.pi * 450 * t)) * (t % 3 < 1)
    for sound in (rng.standard_normal(80_000) * 1500, ringback, rng.standard_normal(80_000) * 20):
        assert speech_s(NeuralVad(network), sound.astype(np.int16)) == 0


def test_a_voice_after_a_long_pause_is_judged_as_at_the_beginning_and_after_a_short_one_as_going_on(network):
    vad = NeuralVad(network)
    voice = vowels()[: 20 * FRAME_NUM_SAMPLES].reshape(-1, 1, FRAME_NUM_SAMPLES)
    fresh = vad.open(1)
    first = [float(vad.score(frame, fresh)[0]) for frame in voice]
    states = np.concatenate([fresh, fresh])
    vad.skip(states, np.array([3, 24]))
    again = np.array([vad.score(np.concatenate([frame, frame]), states) for frame in voice])
    assert again[:, 1].tolist() == first
    assert again[0, 0] > first[0]


@pytest.mark.skipif(not SPEECH.is_dir(), reason="real recordings (../shared/audio/speech) are not here")
def test_real_speech_is_kept(network):
    for path in sorted(SPEECH.glob("*.wav")):
        wave, rate = soundfile.read(path, dtype="float32")
        audio = (soxr.resample(wave, rate, 8000) * 32767).astype(np.int16)
        assert speech_s(NeuralVad(network), audio) > 0.5 * len(audio) / 8000, path.name
