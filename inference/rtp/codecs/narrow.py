"""16 kHz to 8 kHz, once and well: a streaming half-band filter whose delay is known to the sample."""

import numpy as np
import numpy.typing as npt

PCM = npt.NDArray[np.int16]

DELAY = 16  # samples at 8 kHz (2 ms): how much later than its input a signal comes out
NUM_TAPS = 4 * DELAY + 1  # at 16 kHz; the middle one is tap 2 * DELAY
_ATTENUATION_DB = 70.0


def _half_band() -> npt.NDArray[np.float32]:
    """Low-pass at 4 kHz for 16 kHz, ``[NUM_TAPS]``: flat to 3.4 kHz, 70 dB down from 4.6 kHz (Kaiser's window)."""
    n = np.arange(NUM_TAPS) - 2 * DELAY
    window = np.kaiser(NUM_TAPS, 0.1102 * (_ATTENUATION_DB - 8.7))
    taps: npt.NDArray[np.float64] = 0.5 * np.sinc(n / 2) * window
    return np.asarray(taps / taps.sum(), np.float32)


_TAPS = _half_band()
_MIDDLE, _ODD = _TAPS[2 * DELAY], _TAPS[1::2].copy()  # the other even taps of a half-band filter are zero


class Narrower:
    """One leg's stream; every call takes an even number of samples and gives half as many, :data:`DELAY` late."""

    def __init__(self) -> None:
        self._before = np.zeros(NUM_TAPS - 1, np.float32)

    def __call__(self, samples: PCM) -> PCM:
        """int16 ``[2 n]`` at 16 kHz -> int16 ``[n]`` at 8 kHz."""
        joined = np.concatenate([self._before, samples])
        self._before = joined[len(joined) - (NUM_TAPS - 1) :]
        num = len(samples) // 2
        # Output n is centred on sample 2 n + 2 DELAY of ``joined``, an even one; the odd taps meet its odd neighbours.
        narrow = np.convolve(joined[1::2], _ODD, "valid")[:num]
        narrow += _MIDDLE * joined[2 * DELAY : 2 * (DELAY + num) : 2]
        np.rint(narrow, out=narrow)
        np.minimum(narrow, 32767, out=narrow)
        np.maximum(narrow, -32768, out=narrow)
        return narrow.astype(np.int16)
