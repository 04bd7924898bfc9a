"""How one call is voiced: who speaks, how fast, with which pauses, over which lines. All of it follows from a seed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inference.audio import LEGS, Leg
from inference.errors import ConfigError
from training.scripts import Script
from training.voice.channel import Channel, draw_channel, worsen
from training.voice.voices import ACCENTS_OF, MANDARIN, Synthesiser, draw_voices, language_of, the_synthesiser

Preset = Literal["telephone", "bad", "clean"]
"""``telephone``: lines drawn by seed, fair to bad. ``bad``: the same lines, noisier and with more packets lost.
``clean``: one good line a leg, for a call people will listen to."""

_CLEAN: dict[Leg, Channel] = {"far": Channel(level_dbfs=-20.0), "near": Channel(level_dbfs=-22.0)}
_ALONE = {name for names in MANDARIN.values() if len(names) == 1 for name in names}
"""Voices that have no other beside them in their split: they may speak both legs."""

_LONG_CALL_NUM_TURNS = 10  # people start to talk into one another once the call has warmed up


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides how a script sounds.

    Attributes:
        preset: where the rest was drawn from.
        seed: of every draw, together with the script's id.
        voices: per leg, as :mod:`training.voice.voices` names them.
        speeds: per leg, 1 = the voice's own.
        channels: per leg.
        min_gap_s, max_gap_s: silence between turns.
        barge_in: probability that a turn starts before the other party is done; 0 in short calls.
        max_overlap_s: by how much at most.
    """

    preset: Preset
    seed: int
    voices: Mapping[Leg, str]
    speeds: Mapping[Leg, float]
    channels: Mapping[Leg, Channel]
    min_gap_s: float = 0.2
    max_gap_s: float = 0.9
    barge_in: float = 0.0
    max_overlap_s: float = 0.3


def generator(script_id: str, seed: int, purpose: str) -> np.random.Generator:
    """Random numbers of their own for each call and purpose: adding a call, or a draw, moves no other."""
    digest = hashlib.sha256(f"{script_id}/{purpose}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def draw_recipe(
    script: Script,
    seed: int,
    preset: Preset = "telephone",
    *,
    synthesiser: Synthesiser = "kokoro",
    voices: Mapping[Leg, str] | None = None,
    speeds: Mapping[Leg, float] | None = None,
) -> Recipe:
    """The recipe of ``script`` under ``seed``; ``voices`` and ``speeds`` pin what would be drawn.

    Drawn voices are those of ``synthesiser`` for the script's own split, two different ones.

    Raises:
        ConfigError: a language without voices yet, a reserved or unknown voice, voices of two
            synthesisers, or one voice for both legs.
    """
    if script.lang not in ACCENTS_OF:
        raise ConfigError(
            f"script {script.id}: no voices for language {script.lang!r}; {', '.join(ACCENTS_OF)} have some"
        )
    rng = generator(script.id, seed, "recipe")
    if voices is not None:
        synthesiser = the_synthesiser(voices)
    far, near = draw_voices(synthesiser, script.split, rng, script.lang)
    drawn_voices: dict[Leg, str] = {"far": far, "near": near}
    drawn_speeds: dict[Leg, float] = {leg: round(float(rng.uniform(0.92, 1.12)), 2) for leg in LEGS}
    channels = {leg: draw_channel(rng) for leg in LEGS}
    if preset == "bad":
        channels = {leg: worsen(channel, rng) for leg, channel in channels.items()}
    chosen = dict(voices or drawn_voices)
    the_synthesiser(chosen)
    for voice in chosen.values():
        if language_of(voice) != script.lang:
            raise ConfigError(f"script {script.id}: the voice {voice} does not speak {script.lang}; give one that does")
    if chosen["far"] == chosen["near"] and chosen["far"] not in _ALONE:
        raise ConfigError(f"script {script.id}: both legs have the voice {chosen['far']}; give two different ones")
    return Recipe(
        preset=preset,
        seed=seed,
        voices=chosen,
        speeds=dict(speeds or drawn_speeds),
        channels=_CLEAN if preset == "clean" else channels,
        barge_in=0.12 if preset != "clean" and len(script.turns) >= _LONG_CALL_NUM_TURNS else 0.0,
    )
