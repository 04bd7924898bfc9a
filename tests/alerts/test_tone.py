import numpy as np
import pytest

from inference.alerts.tone import mix_tone, warning_tone
from inference.audio import SAMPLE_RATE_HZ


def test_danger_says_more_than_suspect_and_none_says_nothing():
    assert warning_tone("none").size == 0
    assert 0 < warning_tone("suspect").size < warning_tone("danger").size <= SAMPLE_RATE_HZ


def test_tone_is_neither_clipped_nor_startling():
    tone = warning_tone("danger").astype(float)
    assert 0.1 < np.abs(tone).max() / 32768 < 0.2
    assert np.abs(np.diff(tone[:20])).max() < 600  # the edge rises slowly


def test_tone_lies_in_the_telephone_band():
    tone = warning_tone("suspect").astype(float)
    power = np.abs(np.fft.rfft(tone)) ** 2
    hertz = np.fft.rfftfreq(tone.size, 1 / SAMPLE_RATE_HZ)
    assert power[(hertz > 300) & (hertz < 3400)].sum() / power.sum() > 0.99


def test_mixing_adds_the_tone_at_its_time_and_clips():
    audio = np.full(16000, 32000, np.int16)
    tone = warning_tone("suspect")
    mixed = mix_tone(audio, tone, 0.5)
    assert np.array_equal(mixed[:4000], audio[:4000])
    assert mixed.max() == 32767
    assert np.array_equal(mixed[4000 + tone.size :], audio[4000 + tone.size :])


def test_a_tone_after_the_end_is_heard_too():
    tone = warning_tone("suspect")
    assert mix_tone(np.zeros(8000, np.int16), tone, 2.0).size == 16000 + tone.size


def test_a_tone_before_the_call_is_refused():
    with pytest.raises(ValueError, match="negative"):
        mix_tone(np.zeros(8, np.int16), warning_tone("suspect"), -1)
