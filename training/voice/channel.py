"""A telephone line in numbers: band, level, noise, G.711, lost packets.

Modest: one narrow-band codec pair, generated noise, no echo, no music, no transcoding. The presets ``telephone``,
``bad`` and ``clean`` go through it, and it stays as it is: their recordings have to come out the same. Everything newer
is in :mod:`training.voice.line`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from inference.audio import SAMPLE_RATE_HZ
from inference.rtp.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw

PCM = npt.NDArray[np.int16]
Signal = npt.NDArray[np.float64]

Law = Literal["ulaw", "alaw"]
NoiseKind = Literal["line", "room", "hum"]
Conceal = Literal["repeat", "zeros"]

PACKET_NUM_SAMPLES = SAMPLE_RATE_HZ * 20 // 1000
_BAND_TAPS = 255  # transition about 100 Hz wide at 8 kHz: steep enough to take 50/60 Hz hum and 4 kHz edges away
_REPEAT_DECAY = 0.5  # each further lost packet in a row at half the level, as G.711 Appendix I fades out
_ACTIVE_BELOW_DB = -25.0  # a frame this far below the loudest is a pause


@dataclass(frozen=True, slots=True)
class Channel:
    """What one leg goes through, in this order.

    Attributes:
        low_hz, high_hz: band limits.
        level_dbfs: speech level (RMS over the frames that hold speech), dB below full scale; peaks beyond are clipped.
        noise: ``line`` white, made behind the telephone; ``room`` falling with frequency and swelling slowly; ``hum``
            mains harmonics with a little hiss.
        snr_db: speech level above noise level, in the band.
        law: G.711 law.
        loss: share of 20 ms packets lost.
        burst: mean number of packets lost in a row, at least 1.
        conceal: what is heard instead: the packet before, fading, or nothing.
    """

    low_hz: float = 300.0
    high_hz: float = 3400.0
    level_dbfs: float = -20.0
    noise: NoiseKind = "line"
    snr_db: float = 35.0
    law: Law = "ulaw"
    loss: float = 0.0
    burst: float = 1.5
    conceal: Conceal = "repeat"


def draw_channel(rng: np.random.Generator) -> Channel:
    """An ordinary to bad line: −32 … −12 dBFS, 10 … 30 dB SNR, half of the lines losing up to 5 % of their packets."""
    return Channel(
        low_hz=round(rng.uniform(200, 350)),
        high_hz=round(rng.uniform(3200, 3600)),
        level_dbfs=round(rng.triangular(-32, -22, -12), 1),
        noise=("line", "room", "hum")[rng.integers(3)],
        snr_db=round(rng.uniform(10, 30), 1),
        law=("ulaw", "alaw")[rng.integers(2)],
        loss=round(rng.uniform(0, 0.05), 4) if rng.random() < 0.5 else 0.0,
        burst=round(rng.uniform(1, 2.5), 2),
        conceal=("repeat", "zeros")[rng.integers(2)],
    )


def worsen(channel: Channel, rng: np.random.Generator) -> Channel:
    """``channel`` with 4 … 12 dB SNR and 2 … 8 % of the packets lost: words are lost and mistaken as on bad calls."""
    return dataclasses.replace(
        channel,
        snr_db=round(rng.uniform(4, 12), 1),
        loss=round(rng.uniform(0.02, 0.08), 4),
        burst=round(rng.uniform(1, 2.5), 2),
    )


def band_limit(signal: Signal, low_hz: float, high_hz: float) -> Signal:
    """Linear-phase band pass (windowed sinc), its delay taken out: times in the labels stay true."""
    n = np.arange(_BAND_TAPS) - _BAND_TAPS // 2
    high, low = (2 * hz / SAMPLE_RATE_HZ * np.sinc(2 * hz / SAMPLE_RATE_HZ * n) for hz in (high_hz, low_hz))
    taps = (high - low) * np.hamming(_BAND_TAPS)
    size = 1 << int(np.ceil(np.log2(signal.size + _BAND_TAPS)))  # one FFT: ten times cheaper than convolving
    out = np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(taps, size), size)
    return out[_BAND_TAPS // 2 :][: signal.size]


def speech_level_db(signal: Signal) -> float:
    """RMS of the 20 ms frames that hold speech, dB against full scale 1.0; −inf for silence."""
    num_frames = signal.size // PACKET_NUM_SAMPLES
    power = np.mean(signal[: num_frames * PACKET_NUM_SAMPLES].reshape(num_frames, -1) ** 2, axis=1)
    if num_frames == 0 or power.max() == 0:
        return -np.inf
    return float(10 * np.log10(np.mean(power[power > power.max() * 10 ** (_ACTIVE_BELOW_DB / 10)])))


def make_noise(kind: NoiseKind, num_samples: int, rng: np.random.Generator) -> Signal:
    """Noise of ``kind``, RMS 1, ``[num_samples]``."""
    white = rng.standard_normal(num_samples)
    if kind == "line":
        noise = white
    elif kind == "room":
        hz = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE_HZ)
        noise = np.fft.irfft(np.fft.rfft(white) / np.maximum(hz, 50.0) ** 0.75, num_samples)
        t_s = np.arange(num_samples) / SAMPLE_RATE_HZ
        swell_db = 4 * np.sin(2 * np.pi * (rng.uniform(0.1, 0.5) * t_s + rng.random()))
        noise *= 10 ** (swell_db / 20)
    else:
        mains_hz = (50, 60)[rng.integers(2)]
        t_s = np.arange(num_samples) / SAMPLE_RATE_HZ
        noise = 0.2 * white
        for harmonic in range(1, 16):
            noise += np.sin(2 * np.pi * (mains_hz * harmonic * t_s + rng.random())) / harmonic**0.5
    return noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)


def lost_packets(num_packets: int, loss: float, burst: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which packets are lost: two-state Markov chain (Gilbert 1960) of mean ``loss`` and mean run ``burst``."""
    if loss <= 0:
        return np.zeros(num_packets, bool)
    leave = 1 / max(burst, 1.0)
    enter = min(leave * loss / (1 - loss), 1.0) if loss < 1 else 1.0
    draws, lost, state = rng.random(num_packets), np.zeros(num_packets, bool), False
    for i in range(num_packets):
        state = draws[i] >= leave if state else draws[i] < enter
        lost[i] = state
    return lost


def conceal(samples: PCM, lost: npt.NDArray[np.bool_], how: Conceal) -> PCM:
    """``samples`` with the ``lost`` 20 ms packets filled in by the packet before them, fading, or by zeros."""
    out = samples.copy()
    for i in range(lost.size):
        here = slice(i * PACKET_NUM_SAMPLES, (i + 1) * PACKET_NUM_SAMPLES)
        if lost[i]:
            before = out[(i - 1) * PACKET_NUM_SAMPLES : i * PACKET_NUM_SAMPLES] if i and how == "repeat" else None
            size = out[here].size
            # The packet before is itself faded where it was lost: halving it once a step gives the whole fade.
            out[here] = 0 if before is None else (before[:size] * _REPEAT_DECAY).astype(np.int16)
    return out


def transmit(speech: Signal, channel: Channel, rng: np.random.Generator) -> PCM:
    """One leg's clean speech (full scale 1.0, 8 kHz, ``[num_samples]``) as it leaves the far end of ``channel``.

    Noise lasts as long as the leg does; a leg without any speech gets the noise alone.
    """
    signal = band_limit(speech, channel.low_hz, channel.high_hz)
    level_db = speech_level_db(signal)
    if np.isfinite(level_db):
        signal = signal * 10 ** ((channel.level_dbfs - level_db) / 20)
    noise = make_noise(channel.noise, speech.size, rng)
    if channel.noise != "line":  # heard by the telephone, so it goes through the band too
        noise = band_limit(noise, channel.low_hz, channel.high_hz)
        noise /= max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    signal = signal + noise * 10 ** ((channel.level_dbfs - channel.snr_db) / 20)
    samples = np.clip(np.round(signal * 32768), -32768, 32767).astype(np.int16)
    samples = decode_ulaw(encode_ulaw(samples)) if channel.law == "ulaw" else decode_alaw(encode_alaw(samples))
    num_packets = -(-samples.size // PACKET_NUM_SAMPLES)
    return conceal(samples, lost_packets(num_packets, channel.loss, channel.burst, rng), channel.conceal)
