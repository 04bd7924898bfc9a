"""The sound a subscriber hears: short, soft, and unlike any network tone.

Two frequencies a fourth apart, beeped in pairs. Older ears lose the top of the band first, so both lie where hearing
and telephone lines are best (0.5–2 kHz); raised-cosine edges keep it from startling.
"""

import numpy as np

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import PCM
from inference.verdict.verdict import Level

BEEP_HZ = (784.0, 1046.5)  # G5, C6: not 350/440 (dial), 425 (busy) or 950/1400/1800 Hz (special information tones)
BEEP_MS = 140
GAP_MS = 70
PAUSE_MS = 180
EDGE_MS = 12
LEVEL_DBFS = -16.0  # 8–12 dB above usual speech on the line, far from clipping
PAIRS: dict[Level, int] = {"none": 0, "suspect": 1, "danger": 2}


def _samples(duration_ms: float) -> int:
    return round(SAMPLE_RATE_HZ * duration_ms / 1000)


def _beep(frequency_hz: float) -> np.ndarray:
    time_s = np.arange(_samples(BEEP_MS)) / SAMPLE_RATE_HZ
    edge = 0.5 - 0.5 * np.cos(np.pi * np.arange(_samples(EDGE_MS)) / _samples(EDGE_MS))
    envelope = np.ones_like(time_s)
    envelope[: edge.size], envelope[-edge.size :] = edge, edge[::-1]
    return np.sin(2 * np.pi * frequency_hz * time_s) * envelope


def warning_tone(level: Level) -> PCM:
    """One rising beep pair for ``suspect``, two for ``danger``; empty for ``none``.

    Returns:
        int16 ``[num_samples]`` at 8 kHz, at most 0.9 s long.
    """
    pair = np.concatenate([_beep(BEEP_HZ[0]), np.zeros(_samples(GAP_MS)), _beep(BEEP_HZ[1])])
    pause = np.zeros(_samples(PAUSE_MS))
    parts: list[np.ndarray] = []
    for number in range(PAIRS[level]):
        parts += [pause, pair] if number else [pair]
    if not parts:
        return np.zeros(0, np.int16)
    peak = 10 ** (LEVEL_DBFS / 20) * 32767
    return np.round(np.concatenate(parts) * peak).astype(np.int16)


def mix_tone(audio: PCM, tone: PCM, at_s: float) -> PCM:
    """What the warned ear hears: ``audio`` with ``tone`` added from ``at_s`` on, clipped, longer if it must be.

    Args:
        audio: int16 ``[num_samples]`` at 8 kHz, what the other party says.
        tone: int16 ``[num_samples]`` at 8 kHz.
        at_s: where the tone begins, seconds from the start of ``audio``; must not be negative.
    """
    start = round(at_s * SAMPLE_RATE_HZ)
    if start < 0:
        raise ValueError(f"at_s must not be negative: {at_s}")
    mixed = np.zeros(max(audio.size, start + tone.size), np.int32)
    mixed[: audio.size] = audio
    mixed[start : start + tone.size] += tone
    return np.clip(mixed, -32768, 32767).astype(np.int16)
