"""A spoken line as a subscriber hears it: the beep, a breath, the voice in the telephone band at one loudness."""

import hashlib
import json

import numpy as np
import soxr

from inference.alerts.announcements import Lines
from inference.alerts.tone import warning_tone
from inference.audio import SAMPLE_RATE_HZ
from inference.rtp.g711 import decode_ulaw, encode_ulaw
from inference.verdict.verdict import Level
from training.voice.channel import Signal, band_limit, speech_level_db
from training.voice.speaker import PCM, SPEECH_RATE_HZ, Speaker

LEVEL_DBFS = -19.0
"""RMS of the voice while it speaks: that of the beep, and a little above a caller's, over whom it has to be heard."""

PEAK_DBFS, KNEE_DBFS = -1.5, -8.0
"""No sample is louder than the peak; what is above the knee is bent below it, so that lines with a sharp consonant are
not softer than the others."""

PAUSE_S = 0.15
BAND_HZ = (300.0, 3400.0)
_VERSION = 1  # raise it when the same line comes to sound different


def soft_limit(signal: Signal) -> Signal:
    """``signal`` with its peaks bent: straight up to the knee, then ever closer to the peak (tanh)."""
    knee, peak = 10 ** (KNEE_DBFS / 20), 10 ** (PEAK_DBFS / 20)
    beyond = np.maximum(np.abs(signal) - knee, 0.0) / (peak - knee)
    bent: Signal = np.where(beyond > 0, np.sign(signal) * (knee + (peak - knee) * np.tanh(beyond)), signal)
    return bent


def compose(speech: PCM, level: Level = "danger") -> PCM:
    """Beep, pause, line; on the grid of G.711 µ-law, so that it is stored without loss.

    Args:
        speech: int16 ``[num_samples]`` at 24 kHz, silence trimmed.
        level: whose beep.

    Returns:
        int16 ``[num_samples]`` at 8 kHz.
    """
    narrow = soxr.resample(speech.astype(np.float64) / 32768, SPEECH_RATE_HZ, SAMPLE_RATE_HZ, quality="HQ")
    line = band_limit(narrow, *BAND_HZ)
    line *= 10 ** ((LEVEL_DBFS - speech_level_db(line)) / 20)
    line = soft_limit(line)
    pause = np.zeros(round(PAUSE_S * SAMPLE_RATE_HZ), np.int16)
    whole = np.concatenate([warning_tone(level), pause, np.round(line * 32767).astype(np.int16)])
    return decode_ulaw(encode_ulaw(whole))


def beep() -> PCM:
    """The beep of ``suspect``, on the same grid."""
    return decode_ulaw(encode_ulaw(warning_tone("suspect")))


def line_key(lines: Lines, name: str, fingerprint: str) -> str:
    """Digest of everything that the sound of that name depends on; equal keys, equal sounds."""
    level, text = lines.spoken[name]
    parts = [text, lines.voice, lines.speed, fingerprint, _VERSION]
    parts += [
        LEVEL_DBFS,
        PEAK_DBFS,
        KNEE_DBFS,
        PAUSE_S,
        BAND_HZ,
        hashlib.sha256(warning_tone(level).tobytes()).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def speak(lines: Lines, name: str, speaker: Speaker) -> PCM:
    """The sound of that name.

    Raises:
        ConfigError: the voice is reserved or unknown.
        ScamTapError: the synthesiser is missing, or cannot say it.
    """
    level, text = lines.spoken[name]
    return compose(speaker.speak(text, lines.voice, lines.speed), level)
