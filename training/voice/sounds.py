"""What is on a line besides speech: music on hold, ringback, and other people in the room. Generated, never copied."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import soxr

from inference.audio import SAMPLE_RATE_HZ, Leg
from training.voice.channel import Signal, speech_level_db
from training.voice.speaker import SPEECH_RATE_HZ

SoundKind = Literal["music", "ringback"]

RINGBACK: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((440.0, 480.0), (2.0, 4.0)),
    ((400.0, 450.0), (0.4, 0.2, 0.4, 2.0)),
    ((425.0,), (1.0, 4.0)),
)
"""Frequencies in Hz, and seconds on and off in turn: North America, Britain, most of Europe and China (ITU-T E.180)."""

BABBLE = (
    "Did you manage to get the tickets for Saturday, or were they all gone by then?",
    "She said the kitchen would be done in March, and now it is the end of May.",
    "I'll have the soup, please, and could we get some more bread for the table?",
    "No, the other one, the blue folder on the second shelf by the window.",
    "We drove up on the Friday night and it rained the whole way there and back.",
    "He plays on Thursdays now, down at the sports hall behind the library.",
    "That is what I told them, but nobody ever reads the notice on the door.",
    "If you go past the baker's you will see it on the left, you can't miss it.",
)
"""What is said around a telephone; several voices at once say it, so nobody follows."""

_PROGRESSIONS = ((0, 7, 9, 5), (0, 9, 5, 7), (9, 5, 0, 7), (0, 5, 0, 7))  # roots of the chords, semitones above the key
_MINOR = {2, 4, 9}  # chords on these steps of a major key are minor
_PENTATONIC = np.array([0, 2, 4, 7, 9, 12, 14, 16])
_FADE = SAMPLE_RATE_HZ // 20  # 50 ms in and out: no click


@dataclass(frozen=True, slots=True)
class Sound:
    """Something heard on the far leg while nobody speaks.

    Attributes:
        kind: ``music`` on hold, or ``ringback``.
        before_turn: index of the turn that it comes before; 0 is before anybody has spoken.
        duration_s: how long.
        level_db: its mean level against that leg's speech.
    """

    kind: SoundKind
    before_turn: int
    duration_s: float
    level_db: float


class Says(Protocol):
    """The part of a speaker that is needed here."""

    def speak(self, text: str, voice: str, speed: float) -> npt.NDArray[np.int16]:
        """``text`` as int16 at 24 kHz."""
        ...


def make_sound(kind: SoundKind, num_samples: int, rng: np.random.Generator) -> Signal:
    """Music or ringback, RMS 1 while it sounds, ``[num_samples]`` at 8 kHz."""
    signal = make_music(num_samples, rng) if kind == "music" else make_ringback(num_samples, rng)
    fade = min(_FADE, num_samples // 2)
    if fade:
        ramp = np.linspace(0, 1, fade)
        signal[:fade] *= ramp
        signal[-fade:] *= ramp[::-1]
    return signal


def make_ringback(num_samples: int, rng: np.random.Generator) -> Signal:
    """The ringing that a caller hears, of one country."""
    frequencies_hz, cadence_s = RINGBACK[rng.integers(len(RINGBACK))]
    t_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    phase = np.searchsorted(np.cumsum(cadence_s), t_s % sum(cadence_s), side="right")
    tones = np.zeros(num_samples)
    for hz in frequencies_hz:
        tones += np.sin(2 * np.pi * hz * t_s)
    tones *= np.sqrt(2 / len(frequencies_hz))
    return np.where(phase % 2 == 0, tones, 0.0)


def make_music(num_samples: int, rng: np.random.Generator) -> Signal:
    """A tune over broken chords and a bass, of plucked notes with decaying harmonics; key, pace and tune are drawn."""
    beat = int(SAMPLE_RATE_HZ * 60 / rng.uniform(80, 132))
    key_hz = 110 * 2 ** (rng.integers(12) / 12)
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    brightness = rng.uniform(0.4, 0.9)  # level of each harmonic against the one below
    out = np.zeros(num_samples + 8 * beat)
    for at in range(0, num_samples, beat // 2):
        half_beats = at // (beat // 2)
        root = progression[half_beats // 8 % 4]
        chord = (0, 3 if root in _MINOR else 4, 7, 12)
        _pluck(out, at, key_hz * 2 ** ((root + chord[half_beats % 4]) / 12), 0.5, 2 * beat, brightness)
        if half_beats % 4 == 0:
            _pluck(out, at, key_hz / 2 * 2 ** (root / 12), 0.9, 4 * beat, brightness)
        if rng.random() < (0.8 if half_beats % 2 == 0 else 0.3):
            step = _PENTATONIC[rng.integers(len(_PENTATONIC))]
            _pluck(out, at, 4 * key_hz * 2 ** (step / 12), 0.8, 3 * beat, brightness)
    out = out[:num_samples]
    return out / max(float(np.sqrt(np.mean(out**2))) if num_samples else 0.0, 1e-12)


def _pluck(out: Signal, at: int, hz: float, level: float, size: int, brightness: float) -> None:
    """Add one note at ``at``: harmonics below 3.8 kHz, the higher the sooner gone."""
    t_s = np.arange(min(size, out.size - at)) / SAMPLE_RATE_HZ
    note = np.zeros(t_s.size)
    for harmonic in range(1, 9):
        if hz * harmonic > 3800:
            break
        decay = np.exp(-(2.0 + 1.5 * harmonic) * t_s)
        note += brightness ** (harmonic - 1) * decay * np.sin(2 * np.pi * hz * harmonic * t_s)
    note *= np.minimum(t_s / 0.005, 1)  # 5 ms of attack
    out[at : at + t_s.size] += level * note


def make_babble(speaker: Says, voices: tuple[str, ...], num_samples: int, rng: np.random.Generator) -> Signal:
    """Each of ``voices`` saying :data:`BABBLE` in an order of its own, all at once, RMS 1, ``[num_samples]``.

    Raises:
        ScamTapError: as ``speaker`` raises.
        ValueError: there is no voice.
    """
    if not voices:
        raise ValueError("babble wants at least one voice")
    out = np.zeros(num_samples)
    for voice in voices:
        pieces = [_at_telephone_rate(speaker.speak(text, voice, 1.0)) for text in BABBLE]
        order = rng.permutation(len(pieces))
        stream = np.concatenate([pieces[i] for i in order])
        start = int(rng.integers(stream.size))
        level = 10 ** (rng.uniform(-6, 0) / 20)  # some stand nearer
        out += level * np.resize(np.roll(stream, -start), num_samples)
    return out / max(float(np.sqrt(np.mean(out**2))) if num_samples else 0.0, 1e-12)


def _at_telephone_rate(wide: npt.NDArray[np.int16]) -> Signal:
    narrow: Signal = soxr.resample(wide.astype(np.float64) / 32768, SPEECH_RATE_HZ, SAMPLE_RATE_HZ, quality="HQ")
    return narrow * 10 ** (-speech_level_db(narrow) / 20)


@dataclass(frozen=True, slots=True)
class HeardSound:
    """A sound and when it is heard, seconds from the start of the recording."""

    sound: Sound
    start_s: float
    end_s: float
    leg: Leg = "far"
