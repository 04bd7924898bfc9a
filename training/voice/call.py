"""One script -> one two-leg recording and its labels."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.errors import ScamTapError
from inference.rtp.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from training.scripts import Script, Turn
from training.voice.channel import Channel, Signal, transmit
from training.voice.line import Line, carry, leg_facts
from training.voice.placing import place_sounds, place_turns
from training.voice.recipe import Recipe, generator
from training.voice.sounds import HeardSound, make_babble, make_sound
from training.voice.speaker import SPEECH_RATE_HZ, Speaker, write_audio

PCM = npt.NDArray[np.int16]

_VERSION = 1  # raise it when the same recipe comes to sound different: recordings on disk then no longer count
_TAIL_S = 0.6  # from the last word to hanging up


@dataclass(frozen=True, slots=True)
class VoicedTurn:
    """A turn and when it is heard, seconds from the start of the recording."""

    turn: Turn
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class VoicedCall:
    """A script as a recording.

    Attributes:
        script: what was read.
        recipe: how.
        samples: int16 ``[num_samples, 2]`` at 8 kHz, far leg first.
        turns: in the order of the script.
        source: who spoke.
        key: digest of everything the samples depend on; equal keys, equal recordings.
        sounds: music on hold and ringing.
        losses: per leg, share of packets lost; empty for the presets that have a :class:`Channel`.
    """

    script: Script
    recipe: Recipe
    samples: PCM
    turns: tuple[VoicedTurn, ...]
    source: str
    key: str
    sounds: tuple[HeardSound, ...] = ()
    losses: Mapping[Leg, float] = field(default_factory=dict)

    @property
    def ask_s(self) -> float | None:
        """When the far party's first ask begins, seconds; None in a genuine call, which may ask too."""
        index = self.script.ask_turn
        return self.turns[index].start_s if self.script.label == "scam" and index is not None else None

    @property
    def duration_s(self) -> float:
        """Length, seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    def labels(self) -> dict[str, Any]:
        """What ``<name>.json`` holds."""
        return {
            "id": self.script.id,
            "lang": self.script.lang,
            "label": self.script.label,
            "family": self.script.family,
            "topic": self.script.topic,
            "source": self.source,
            "voices": dict(self.recipe.voices),
            **self._line_labels(),
            "duration_s": round(self.duration_s, 3),
            "ask_s": self.ask_s,
            "turns": [
                {
                    "leg": voiced.turn.leg,
                    "start_s": voiced.start_s,
                    "end_s": voiced.end_s,
                    "text": voiced.turn.text,
                    "stages": list(voiced.turn.stages),
                }
                for voiced in self.turns
            ],
            "seed": self.recipe.seed,
            "recipe": self.recipe.as_labels(),
            "script_sha256": script_hash(self.script),
            "key": self.key,
        }

    def _line_labels(self) -> dict[str, Any]:
        """``legs`` and ``sounds``; of the older presets :func:`leg_facts` reads ``legs`` out of the recipe."""
        if not self.losses:
            return {}
        legs = leg_facts(self.recipe.voices, self.recipe.as_labels()["channels"], self.losses)
        sounds = [
            {"kind": heard.sound.kind, "leg": heard.leg, "start_s": heard.start_s, "end_s": heard.end_s}
            for heard in self.sounds
        ]
        return {"legs": legs, "sounds": sounds}


def script_hash(script: Script) -> str:
    """Digest of what is said; the marks (stages, family) may be corrected without voicing again."""
    said = [[turn.leg, turn.text] for turn in script.turns]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def call_key(script: Script, recipe: Recipe, speaker: Speaker) -> str:
    """Digest of script, recipe and synthesiser; stages included since a recording's labels hold them, acts not."""
    said = script.model_dump(exclude={"of": True, "pair": True, "turns": {"__all__": {"acts"}}})
    parts = [said, recipe.as_labels(), speaker.fingerprint, speaker.source, _VERSION]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def voice_call(
    script: Script, recipe: Recipe, speaker: Speaker, on_turn: Callable[[], None] | None = None
) -> VoicedCall:
    """Speak every turn, lay the turns out in time, and send each leg through its line.

    ``on_turn`` is called after each turn is spoken.

    Raises:
        ScamTapError: as ``speaker`` raises.
    """
    spoken = []
    for turn in script.turns:
        wide = speaker.speak(turn.text, recipe.voices[turn.leg], recipe.speeds[turn.leg])
        spoken.append(soxr.resample(wide.astype(np.float64) / 32768, SPEECH_RATE_HZ, SAMPLE_RATE_HZ, quality="HQ"))
        if on_turn is not None:
            on_turn()
    durations_s = [speech.size / SAMPLE_RATE_HZ for speech in spoken]
    starts_s = place_turns(script.turns, durations_s, recipe, generator(script.id, recipe.seed, "pauses"))
    starts_s, sounds = place_sounds(starts_s, durations_s, recipe.sounds)
    ends_s = [start + duration for start, duration in zip(starts_s, durations_s, strict=True)]
    # Whole 20 ms packets: the recording can be sent as RTP without a remainder.
    num_packets = int(np.ceil((max(ends_s) + _TAIL_S) * 50))
    legs = {leg: np.zeros(num_packets * SAMPLE_RATE_HZ // 50) for leg in LEGS}
    for turn, start_s, speech in zip(script.turns, starts_s, spoken, strict=True):
        start = round(start_s * SAMPLE_RATE_HZ)
        legs[turn.leg][start : start + speech.size] += speech
    heard, losses = _over_lines(legs, sounds, script, recipe, speaker)
    turns = tuple(
        VoicedTurn(turn, start_s, round(end_s, 3))
        for turn, start_s, end_s in zip(script.turns, starts_s, ends_s, strict=True)
    )
    key = call_key(script, recipe, speaker)
    samples = np.stack([heard[leg] for leg in LEGS], axis=1)
    return VoicedCall(script, recipe, samples, turns, speaker.source, key, tuple(sounds), losses)


def _over_lines(
    speech: Mapping[Leg, Signal], sounds: Sequence[HeardSound], script: Script, recipe: Recipe, speaker: Speaker
) -> tuple[dict[Leg, PCM], dict[Leg, float]]:
    """What arrives per leg, and what share of its packets was lost (nothing of that for the older presets)."""
    rngs = {leg: generator(script.id, recipe.seed, f"{leg} channel") for leg in LEGS}
    channels = {leg: channel for leg, channel in recipe.channels.items() if isinstance(channel, Channel)}
    if channels:
        return {leg: transmit(speech[leg], channels[leg], rngs[leg]) for leg in LEGS}, {}
    lines = {leg: line for leg, line in recipe.channels.items() if isinstance(line, Line)}
    besides = {leg: np.zeros(speech[leg].size) for leg in LEGS}
    rng = generator(script.id, recipe.seed, "sounds made")
    for heard in sounds:
        start, end = (round(at_s * SAMPLE_RATE_HZ) for at_s in (heard.start_s, heard.end_s))
        made = make_sound(heard.sound.kind, end - start, rng) * 10 ** (heard.sound.level_db / 20)
        besides[heard.leg][start:end] += made
    carried = carry(speech, besides, lines, rngs, partial(make_babble, speaker))
    return {leg: carried[leg].samples for leg in LEGS}, {leg: carried[leg].loss for leg in LEGS}


def save_call(call: VoicedCall, folder: Path, name: str) -> Path:
    """Write ``<name>.wav`` and ``<name>.json`` (last: who finds the labels finds the whole recording).

    The WAV holds G.711 bytes where that loses nothing (half the size), else 16-bit samples.

    Raises:
        ScamTapError: the folder cannot be written.
    """
    path = folder / f"{name}.wav"
    flat = np.ascontiguousarray(call.samples).reshape(-1)
    subtype = "PCM_16"
    if np.array_equal(decode_ulaw(encode_ulaw(flat)), flat):
        subtype = "ULAW"
    elif np.array_equal(decode_alaw(encode_alaw(flat)), flat):
        subtype = "ALAW"
    write_audio(path, call.samples, SAMPLE_RATE_HZ, "WAV", subtype)
    labels, part = path.with_suffix(".json"), path.with_suffix(".json.tmp")
    try:
        part.write_text(json.dumps(call.labels(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        part.replace(labels)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ScamTapError(
            f"cannot write {labels}: {error.strerror}; free some space or give another folder"
        ) from error
    return path


def is_voiced(folder: Path, name: str, key: str) -> bool:
    """Whether ``folder`` already holds that very recording."""
    try:
        labels = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(labels, dict) and labels.get("key") == key and (folder / f"{name}.wav").is_file()
