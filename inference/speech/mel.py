"""Whisper's log-mel spectrogram from 8 kHz audio, as part of the speech graph.

Whisper was trained on 400-point spectra of 16 kHz audio: bins 40 Hz apart, every 10 ms. A 200-point spectrum of 8 kHz
audio has the same bins up to 4 kHz, and telephone audio has nothing above: so nothing is resampled. Resampling by 2
would only have doubled the amplitude sums, hence :data:`POWER_GAIN`.
"""

import numpy as np
import numpy.typing as npt

from inference.audio import SAMPLE_RATE_HZ
from inference.engine.graph import GraphBuilder

MODEL_RATE_HZ = 16000  # what Whisper was trained on
MODEL_DFT = 400  # its spectrum, samples
DFT = MODEL_DFT * SAMPLE_RATE_HZ // MODEL_RATE_HZ  # 200 samples: the same 40 Hz bins
BINS = DFT // 2 + 1  # 0..4000 Hz
HOP = SAMPLE_RATE_HZ // 100  # 80 samples: one frame every 10 ms
NUM_MELS = 80
POWER_GAIN = (MODEL_RATE_HZ / SAMPLE_RATE_HZ) ** 2
FULL_SCALE = 32768.0
FLOOR = 1e-10
DYNAMIC_RANGE = 8.0  # in log10 of power: 80 dB below the window's loudest mel

_MEL_KNEE_HZ = 1000.0
_MEL_PER_HZ = 3 / 200
_MEL_KNEE = _MEL_KNEE_HZ * _MEL_PER_HZ
_MEL_LOG_STEP = np.log(6.4) / 27


def mel_filters() -> npt.NDArray[np.float64]:
    """Slaney's triangular filters ``[NUM_MELS, BINS]`` over 0..8 kHz, cut at 4 kHz.

    Source: M. Slaney, Auditory Toolbox (1998): linear below 1 kHz, logarithmic above, each of unit area; the form that
    ``librosa.filters.mel`` has by default and that Whisper was trained with.
    """
    top_hz = MODEL_RATE_HZ / 2
    top = _MEL_KNEE + np.log(top_hz / _MEL_KNEE_HZ) / _MEL_LOG_STEP
    mels = np.linspace(0, top, NUM_MELS + 2)
    edges_hz = np.where(mels < _MEL_KNEE, mels / _MEL_PER_HZ, _MEL_KNEE_HZ * np.exp(_MEL_LOG_STEP * (mels - _MEL_KNEE)))
    bins_hz = np.arange(BINS) * (MODEL_RATE_HZ / MODEL_DFT)
    widths_hz = np.diff(edges_hz)
    rising = (bins_hz - edges_hz[:-2, None]) / widths_hz[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / widths_hz[1:, None]
    area = 2 / (edges_hz[2:] - edges_hz[:-2])
    filters: npt.NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling)) * area[:, None]
    return filters


def fourier_kernel() -> npt.NDArray[np.float64]:
    """Hann-windowed real Fourier transform as ``[2 * BINS, DFT]``: cosines, then sines."""
    n = np.arange(DFT)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / DFT)
    angle = 2 * np.pi / DFT * np.arange(BINS)[:, None] * n
    return np.concatenate([np.cos(angle), -np.sin(angle)]) * window


def add_log_mel(graph: GraphBuilder, audio: str) -> str:
    """Append int16 ``audio [batch, samples]`` -> log-mel ``[batch, NUM_MELS, samples / HOP]`` in fp32.

    ``samples`` is a multiple of ``2 * HOP``. Always fp32: power spectra leave the range of fp16.
    """

    def floats(array: npt.ArrayLike) -> str:
        return graph.constant(array, np.float32)

    wave = graph.op("Mul", graph.cast(audio, np.float32), floats(1 / FULL_SCALE))
    # Frames are centred. One frame fewer than a full DFT / 2 on the right would give: Whisper drops its last one.
    wave = graph.op("Pad", wave, graph.ints(0, DFT // 2, 0, DFT // 2 - HOP), mode="reflect")
    wave = graph.op("Unsqueeze", wave, graph.ints(1))
    spectrum = graph.op("Conv", wave, floats(fourier_kernel()[:, None, :]), strides=[HOP])
    real, imaginary = graph.split(spectrum, 2, axis=1)
    power = graph.op("Add", graph.op("Mul", real, real), graph.op("Mul", imaginary, imaginary))
    mels = graph.op("MatMul", floats(mel_filters() * POWER_GAIN), power)
    logs = graph.op("Mul", graph.op("Log", graph.op("Max", mels, floats(FLOOR))), floats(1 / np.log(10)))
    loudest = graph.op("ReduceMax", logs, graph.ints(1, 2), keepdims=1)
    logs = graph.op("Max", logs, graph.op("Sub", loudest, floats(DYNAMIC_RANGE)))
    return graph.op("Add", graph.op("Mul", logs, floats(0.25)), floats(1))
