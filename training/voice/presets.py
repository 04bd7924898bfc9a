"""Lines by name: what a mobile, an internet telephone, a noisy room or a call centre's queue does to a call."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np

from inference.audio import LEGS, Leg
from training.scripts import Script
from training.voice.line import Line, LineNoise
from training.voice.sounds import Sound, SoundKind

OldPreset = Literal["telephone", "bad", "clean"]
LinePreset = Literal["mobile", "voip", "noisy", "hold"]
FixedPreset = Literal["plain", "loss5", "noise10"]
Preset: TypeAlias = Literal[OldPreset, LinePreset, FixedPreset]
"""``telephone``: lines drawn by seed, fair to bad, one G.711 pass. ``bad``: the same, noisier, more packets lost.
``clean``: one good line a leg, for a call people will listen to. ``mobile``: AMR at one or both ends, noise of a room
or other people at 10 … 25 dB. ``voip``: Opus, G.722 or G.711 over the internet, up to 10 % of the packets lost.
``noisy``: other people, a room, hum or hiss at 0 … 15 dB. ``hold``: music or ringback before the call or within it.
``plain``, ``loss5``, ``noise10``: the same line for every call, :data:`FIXED`, to compare one thing alone."""

PRESETS: tuple[Preset, ...] = get_args(Preset)
LINE_PRESETS: tuple[LinePreset, ...] = get_args(LinePreset)
MIXED: tuple[Preset, ...] = ("telephone", "bad", *LINE_PRESETS)
"""What ``--preset mixed`` draws from, each as often."""

_PLAIN = Line(noise="room")
FIXED: dict[FixedPreset, Line] = {
    "plain": _PLAIN,
    "loss5": replace(_PLAIN, loss=0.05, concealed=False),
    "noise10": replace(_PLAIN, snr_db=10.0),
}
"""One line for both legs of every call: a good one, the same with 5 % of its packets lost and not filled in, the same
with the noise of a room at 10 dB."""

_MOBILE = ("amr>pcma", "amr>pcmu", "amr>pcma>amr", "amr>pcmu>amr", "amr")
_INTERNET = ("opus", "opus>pcmu", "opus>pcma", "g722", "g722>pcma", "pcmu", "pcma")
_ORDINARY = ("pcmu", "pcma", "amr>pcma", "opus>pcmu")
_AMR_BIT_RATES = (5900, 7400, 12200)
_OPUS_BIT_RATES = (12_000, 16_000, 24_000)
_NUM_BABBLERS = (2, 4)


@dataclass(frozen=True, slots=True)
class _Ranges:
    """What a preset draws from: codec chains, noises, SNR in dB, share of lines that lose packets, and how many."""

    chains: tuple[str, ...]
    noises: tuple[LineNoise, ...]
    snr_db: tuple[float, float]
    share_lossy: float
    max_loss: float


_RANGES: dict[LinePreset, _Ranges] = {
    "mobile": _Ranges(_MOBILE, ("room", "babble"), (10, 25), 0.7, 0.06),
    "voip": _Ranges(_INTERNET, ("line", "room", "hum"), (15, 25), 0.8, 0.10),
    "noisy": _Ranges(_ORDINARY, ("line", "room", "hum", "babble"), (0, 15), 0.3, 0.02),
    "hold": _Ranges((*_ORDINARY, *_MOBILE), ("line", "room"), (15, 25), 0.3, 0.03),
}


def draw_lines(preset: LinePreset, babblers: Sequence[str], rng: np.random.Generator) -> dict[Leg, Line]:
    """One line a leg, independent of each other.

    Args:
        preset: what they are like.
        babblers: voices that may talk in the background: none of the call's own.
        rng: where the draws come from.
    """
    return {leg: _draw_line(preset, babblers, rng) for leg in LEGS}


def draw_sounds(script: Script, rng: np.random.Generator) -> tuple[Sound, ...]:
    """One or two times on hold or ringing: before the first word, before a later turn of the far party, or both."""
    later = [i for i in range(2, len(script.turns)) if script.turns[i].leg == "far" != script.turns[i - 1].leg]
    when = int(rng.integers(3)) if later else 0  # 0 before, 1 within, 2 both
    places = ([0] if when != 1 else []) + ([int(rng.choice(later))] if when else [])
    return tuple(_draw_sound(place, rng) for place in places)


def _draw_sound(before_turn: int, rng: np.random.Generator) -> Sound:
    kind: SoundKind = "music" if rng.random() < 0.7 else "ringback"
    duration_s = round(float(rng.uniform(6, 20) if kind == "music" else rng.uniform(4, 12)), 1)
    return Sound(kind, before_turn, duration_s, level_db=round(float(rng.uniform(-8, 2)), 1))


def _draw_line(preset: LinePreset, babblers: Sequence[str], rng: np.random.Generator) -> Line:
    ranges = _RANGES[preset]
    codec = ranges.chains[rng.integers(len(ranges.chains))]
    # Every draw is made whatever comes of it: one line's fate moves no later draw.
    noise = ranges.noises[rng.integers(len(ranges.noises))]
    num_talking = min(int(rng.integers(*_NUM_BABBLERS, endpoint=True)), len(babblers))
    talking = tuple(str(name) for name in rng.permutation(np.array(babblers, dtype=str))[:num_talking])
    echo_kind, echo_draws = rng.random(), rng.random(2).tolist()
    bit_rates = _AMR_BIT_RATES if "amr" in codec else _OPUS_BIT_RATES
    bit_rate = bit_rates[rng.integers(3)]
    dtx, lossy, loss = rng.random() < 0.4, rng.random() < ranges.share_lossy, rng.uniform(0.002, ranges.max_loss)
    echo_db, echo_ms = None, 0.0
    if echo_kind < 0.2:  # sidetone
        echo_db, echo_ms = round(15 + 15 * echo_draws[0], 1), round(2 + 8 * echo_draws[1], 1)
    elif echo_kind < 0.4:
        echo_db, echo_ms = round(25 + 20 * echo_draws[0], 1), round(40 + 210 * echo_draws[1], 1)
    return Line(
        low_hz=round(rng.uniform(150, 350)),
        high_hz=round(rng.uniform(3200, 3700)),
        level_dbfs=round(float(rng.triangular(-32, -22, -12)), 1),
        noise=noise,
        snr_db=round(float(rng.uniform(*ranges.snr_db)), 1),
        babblers=talking if noise == "babble" else (),
        echo_db=echo_db,
        echo_ms=echo_ms,
        codec=codec,
        bit_rate=bit_rate if {"amr", "opus"} & set(codec.split(">")) else 0,
        dtx=bool(dtx),
        loss=round(float(loss), 4) if lossy else 0.0,
        burst=round(float(rng.uniform(1, 3)), 2),
        concealed=bool(rng.random() < 0.7),
    )
