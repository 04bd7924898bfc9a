"""Wider audio to the 8 kHz that the models take: once, as it comes, and the same however it is cut into chunks.

A polyphase FIR filter in integers. soxr's streams were tried first: they hand out 16 kHz audio in blocks of 100 ms and
48 kHz audio in blocks of 145 ms, which a warning would come later; this holds back 4 ms, at about the same cost.
"""

import functools
import math

import numpy as np
import numpy.typing as npt

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import PCM
from inference.errors import CodecError
from inference.rtp.jit import HAS_NUMBA, jit

RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 96000, 192000)

_HALF_WIDTH = 32  # of the filter, periods of 8 kHz: 4 ms
_CUTOFF_HZ = 3690.0  # passes 3.4 kHz whole; what would fold back, above 4 kHz, is 75 dB down
_KAISER_BETA = 7.9
_ONE = 1 << 14  # taps are in Q14

Taps = npt.NDArray[np.int16]


@functools.cache
def _design(rate_hz: int) -> tuple[Taps, int, int]:
    """Taps ``[num_phases, num_taps]`` newest sample last, and by how many phases of an input sample an output steps."""
    common = math.gcd(rate_hz, SAMPLE_RATE_HZ)
    num_phases, step = SAMPLE_RATE_HZ // common, rate_hz // common
    half = _HALF_WIDTH * rate_hz / SAMPLE_RATE_HZ  # input samples
    num_taps = 2 * math.ceil(half)
    # An output lies between two inputs: phase p is p / num_phases of the way to the next one.
    offsets = np.arange(num_taps)[None, :] - num_taps / 2 + 1 - np.arange(num_phases)[:, None] / num_phases
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offsets / half) ** 2, 0, 1))) * (np.abs(offsets) <= half)
    taps = window * np.sinc(offsets * 2 * _CUTOFF_HZ / rate_hz)
    taps /= taps.sum(axis=1, keepdims=True)
    return np.rint(taps * _ONE).astype(np.int16), num_phases, step


@jit
def _filter(source: PCM, taps: Taps, first: int, phase: int, step: int, out: PCM) -> None:
    """Fill ``out``; its first sample's window begins at ``source[first]``."""
    num_phases, num_taps = taps.shape
    at = first
    for n in range(out.shape[0]):
        window, row = source[at : at + num_taps], taps[phase]  # views: the sum then compiles to vector instructions
        total = _ONE // 2
        for t in range(num_taps):
            total += int(window[t]) * int(row[t])
        value = total >> 14
        out[n] = -32768 if value < -32768 else 32767 if value > 32767 else value
        phase += step
        at += phase // num_phases
        phase %= num_phases


def filter_numpy(source: PCM, taps: Taps, first: int, phase: int, step: int, out: PCM) -> None:
    """The same where numba is missing: its twin, to the bit."""
    phases = phase + step * np.arange(len(out))
    starts = first + phases // len(taps)
    windows = np.lib.stride_tricks.sliding_window_view(source, taps.shape[1])[starts]
    totals = (windows * taps[phases % len(taps)].astype(np.int64)).sum(axis=1) + _ONE // 2
    out[:] = np.clip(totals >> 14, -32768, 32767)


def warm() -> None:
    """Compile the filter now, and not in the first call; takes seconds the first time on a machine."""
    Narrower(16000).take(np.zeros(320, np.int16))


class Narrower:
    """One channel's audio, narrowed as it comes.

    Args:
        rate_hz: of what comes, one of :data:`RATES_HZ`.

    Raises:
        CodecError: another rate.
    """

    def __init__(self, rate_hz: int) -> None:
        if rate_hz not in RATES_HZ:
            raise CodecError(f"a sampling rate that is not narrowed here: send {RATES_HZ[0]} or 16000 Hz")
        self._taps, self._num_phases, self._step = _design(rate_hz)
        self._is_wider = rate_hz > SAMPLE_RATE_HZ
        self._left = np.zeros(self._taps.shape[1] - 1, np.int16)  # before the first sample is silence
        self._first = 0  # where the next output's window begins in what is left
        self._phase = 0

    def take(self, samples: PCM) -> PCM:
        """int16 ``[num_samples]`` -> what is complete of it at 8 kHz, int16."""
        if not self._is_wider:
            return samples
        source = np.concatenate((self._left, samples))
        last = len(source) - self._taps.shape[1] - self._first  # how far windows may move on, input samples
        num = 0 if last < 0 else (last * self._num_phases + self._num_phases - 1 - self._phase) // self._step + 1
        out = np.empty(num, np.int16)
        run = _filter if HAS_NUMBA else filter_numpy
        run(source, self._taps, self._first, self._phase, self._step, out)
        moved = self._phase + self._step * num
        self._phase = moved % self._num_phases
        at = self._first + moved // self._num_phases
        gone = min(at, len(source))
        self._left, self._first = source[gone:], at - gone
        return out
