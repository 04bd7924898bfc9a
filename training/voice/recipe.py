"""How one call is voiced: who speaks, how fast, with which pauses, over which lines. All of it follows from a seed."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from inference.audio import LEGS, Leg
from inference.errors import ConfigError
from training.scripts import Script
from training.voice.channel import Channel, draw_channel, worsen
from training.voice.line import Line
from training.voice.presets import FIXED, LINE_PRESETS, MIXED, FixedPreset, LinePreset, Preset, draw_lines, draw_sounds
from training.voice.sounds import Sound
from training.voice.voices import (
    ACCENTS_OF,
    MANDARIN,
    Synthesiser,
    babblers_of,
    draw_voices,
    language_of,
    the_synthesiser,
)

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
        channels: per leg; the older presets have a :class:`Channel`, the others a :class:`Line`.
        min_gap_s, max_gap_s: silence between turns.
        barge_in: probability that a turn starts before the other party is done; 0 in short calls.
        max_overlap_s: by how much at most.
        sounds: music on hold and ringing, in order of time.
    """

    preset: Preset
    seed: int
    voices: Mapping[Leg, str]
    speeds: Mapping[Leg, float]
    channels: Mapping[Leg, Channel] | Mapping[Leg, Line]
    min_gap_s: float = 0.2
    max_gap_s: float = 0.9
    barge_in: float = 0.0
    max_overlap_s: float = 0.3
    sounds: tuple[Sound, ...] = ()

    def as_labels(self) -> dict[str, Any]:
        """The recipe as labels and keys hold it: without ``sounds`` where there are none, as before there were any."""
        said = asdict(self)
        if not self.sounds:
            del said["sounds"]
        return said


def generator(script_id: str, seed: int, purpose: str) -> np.random.Generator:
    """Random numbers of their own for each call and purpose: adding a call, or a draw, moves no other."""
    digest = hashlib.sha256(f"{script_id}/{purpose}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def draw_preset(script: Script, seed: int) -> Preset:
    """One of :data:`MIXED` for ``script``, each as likely; the manifest then holds the one that was drawn."""
    return MIXED[generator(script.id, seed, "mixed").integers(len(MIXED))]


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

    Drawn voices are those of ``synthesiser`` for the script's own language and split, and the same whatever the
    preset: another line costs no new speech.

    Raises:
        ConfigError: a language without voices, a reserved or unknown voice, one of another language, voices of two
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
    _check_voices(script, chosen)
    lines: dict[Leg, Line] | None = None
    sounds: tuple[Sound, ...] = ()
    if preset in LINE_PRESETS:
        named: LinePreset = preset
        babblers = babblers_of(the_synthesiser(chosen), script.split, chosen.values())
        lines = draw_lines(named, babblers, generator(script.id, seed, f"{preset} lines"))
        if preset == "hold":
            sounds = draw_sounds(script, generator(script.id, seed, "sounds"))
    elif preset in FIXED:
        fixed: FixedPreset = preset
        lines = dict.fromkeys(LEGS, FIXED[fixed])
    return Recipe(
        preset=preset,
        seed=seed,
        voices=chosen,
        speeds=dict(speeds or drawn_speeds),
        channels=lines or (_CLEAN if preset == "clean" else channels),
        barge_in=0.12 if preset != "clean" and len(script.turns) >= _LONG_CALL_NUM_TURNS else 0.0,
        sounds=sounds,
    )


def _check_voices(script: Script, voices: Mapping[Leg, str]) -> None:
    the_synthesiser(voices)
    for voice in voices.values():
        if language_of(voice) != script.lang:
            raise ConfigError(f"script {script.id}: the voice {voice} does not speak {script.lang}; give one that does")
    if voices["far"] == voices["near"] and voices["far"] not in _ALONE:
        raise ConfigError(f"script {script.id}: both legs have the voice {voices['far']}; give two different ones")
