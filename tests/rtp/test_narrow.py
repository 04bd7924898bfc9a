"""16 kHz to 8 kHz: what is speech passes, what would fold back does not, nothing moves in time, chunks do not show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.rtp.codecs.narrow import DELAY, Narrower


def tone(frequency_hz: float, rate_hz: int, num: int, amplitude: float = 10000) -> np.ndarray:
    return (np.sin(2 * np.pi * frequency_hz * np.arange(num) / rate_hz) * amplitude).astype(np.int16)


def level_db(samples: np.ndarray, amplitude: float = 10000) -> float:
    return 20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2)) / (amplitude / np.sqrt(2)) + 1e-9)


@pytest.mark.parametrize("frequency_hz", [0.0001, 300, 1000, 2500, 3300])
def test_speech_passes_in_its_place(frequency_hz: float) -> None:
    narrow = Narrower()(tone(frequency_hz, 16000, 6400))[DELAY:]
    wanted = tone(frequency_hz, 8000, len(narrow))
    error = narrow.astype(float)[100:] - wanted[100:]
    assert np.abs(error).max() < 60  # of 10,000


@pytest.mark.parametrize("frequency_hz", [4700, 5500, 7000, 7900])
def test_what_would_fold_back_is_gone(frequency_hz: float) -> None:
    assert level_db(Narrower()(tone(frequency_hz, 16000, 6400))[100:]) < -60


def test_full_scale_does_not_wrap() -> None:
    square = np.where(np.arange(3200) // 20 % 2, 32767, -32768).astype(np.int16)
    narrow = Narrower()(square)[DELAY:]
    assert np.array_equal(np.sign(narrow[50:-50][2:8]), np.sign(square[100:-100:2][2:8]))
    assert narrow.max() == 32767


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
@settings(deadline=None)
def test_chunks_do_not_show(halves: list[int]) -> None:
    signal = np.random.default_rng(1).integers(-20000, 20000, 2 * sum(halves)).astype(np.int16)
    narrower, at, parts = Narrower(), 0, []
    for half in halves:
        parts.append(narrower(signal[at : at + 2 * half]))
        at += 2 * half
    assert np.abs(np.concatenate(parts).astype(int) - Narrower()(signal)).max() <= 1
