"""New labelled calls made fit to learn from: provenance, near copies of what is known, and a side for each."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference.errors import ConfigError
from training.data.shingles import near_copies, shingles
from training.evaluation.labelled import LabelledText, from_recording, read_labelled
from training.evaluation.sets import is_manifest
from training.intent.data import Call
from training.manifest import load_manifest
from training.retrain.sides import ALIKE, ANY_SIDE, Dealt, deal
from training.scripts import Split

SOURCE = "new"
MAX_CALLS = 5000
MIN_CALLS = 6
"""Fewer cannot be dealt to train and test with both something to learn and something to measure."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What is left of a delivery.

    Attributes:
        calls: with their sides, in the order given.
        left_out: id -> why.
        sha256: of the delivery's bytes.
        words: id -> text of ``calls``.
    """

    calls: list[Call]
    left_out: dict[str, str]
    sha256: str
    words: dict[str, str]

    def of(self, split: Split) -> list[Call]:
        """The calls of one side."""
        return [call for call in self.calls if call.split == split]


def read_new(path: Path) -> list[LabelledText]:
    """Labelled texts, or a manifest of transcribed recordings.

    Raises:
        ConfigError: names file, line, field and remedy.
    """
    labelled = [from_recording(c) for c in load_manifest(path)] if is_manifest(path) else read_labelled(path)
    if len(labelled) > MAX_CALLS:
        raise ConfigError(
            f"{path}: {len(labelled)} calls are more than {MAX_CALLS}: train anew with scamtap-train intent"
        )
    return labelled


def refuse_without_provenance(path: Path, labelled: Sequence[LabelledText]) -> None:
    """Nothing is learnt from a call of which nobody says why it may be.

    Raises:
        ConfigError: the first call that lacks something, and how many do.
    """
    lacking = [call for call in labelled if call.lacks]
    if lacking:
        raise ConfigError(
            f"{path}: {lacking[0].id}: provenance is missing ({', '.join(lacking[0].lacks)}), in {len(lacking)} calls: "
            "say for each call why it may be learnt from"
        )


def admit(
    labelled: Sequence[LabelledText], known: Mapping[str, str], sha256: str, sides: Mapping[str, Split] = ANY_SIDE
) -> Incoming:
    """Leave out near copies, and give every call left its side.

    A near copy of a known call is left out: learnt already, or (a gold call) it would be measured on what was learnt.
    Sides and copies among the new calls: :func:`training.retrain.sides.deal`.

    Args:
        labelled: the delivery.
        known: id -> words of the calls that were learnt from before, and of the gold calls.
        sha256: of the delivery.
        sides: of the known scripts, by id and pair.

    Raises:
        ConfigError: too few are left, or none to learn from.
    """
    dealt = deal(labelled, sides)
    left_out = {**dealt.left_out, **_known_already(labelled, dealt, known)}
    kept = [call for call in labelled if call.id not in left_out]
    if len(kept) < MIN_CALLS or not any(call.label == "scam" for call in kept):
        raise ConfigError(
            f"{len(kept)} of {len(labelled)} new calls are left, {MIN_CALLS} with a scam call among "
            "them are needed: collect more"
        )
    calls = [replace(dealt.call(call), source=SOURCE) for call in kept]
    if not any(call.split == "train" for call in calls):
        raise ConfigError(
            f"none of {len(calls)} new calls may be learnt from: all stand with known scripts of development or test; "
            "collect others"
        )
    return Incoming(calls, left_out, sha256, {call.id: call.words for call in kept})


def as_known(
    labelled: Sequence[LabelledText], known: Mapping[str, str], name: str, sides: Mapping[str, Split] = ANY_SIDE
) -> list[Call]:
    """The calls of an earlier delivery, rehearsed with the weight of our own scripts.

    They come in by the same door as when they were new (:func:`admit`): near copies of gold calls stay out, and every
    call is on the side that it was on then, unless it is paired with a script that came to be known since.

    Args:
        labelled: that delivery.
        known: as in :func:`admit`.
        name: of the delivery; ids begin with it, since two deliveries may use the same ones.
        sides: as in :func:`admit`.
    """
    dealt = deal(labelled, sides)
    left_out = {*dealt.left_out, *_known_already(labelled, dealt, known)}
    calls = [dealt.call(call) for call in labelled if call.id not in left_out]
    return [
        replace(
            call,
            id=f"{name}:{call.id}",
            group=f"{name}:{call.group}",
            source="scripts" if call.language == "en" else f"scripts-{call.language}",
        )
        for call in calls
    ]


def _known_already(labelled: Sequence[LabelledText], dealt: Dealt, known: Mapping[str, str]) -> dict[str, str]:
    """Id -> why, of calls that are near copies of ``known``; those left out for another reason are passed over."""
    words = {f"new {call.id}": call.words for call in labelled if call.id not in dealt.left_out}
    fresh = {shingle for text in words.values() for shingle in shingles(text)}
    near = {f"old {key}": text for key, text in known.items() if not fresh.isdisjoint(shingles(text))}
    left_out: dict[str, str] = {}
    for pair in near_copies({**near, **words}, ALIKE):
        if pair.first in near and pair.second in words:
            why = f"{pair.similarity:.0%} the words of {pair.first.removeprefix('old ')}, which is known"
            left_out.setdefault(pair.second.removeprefix("new "), why)
    return left_out


def words_of(calls: Iterable[Call]) -> dict[str, str]:
    """Id -> text."""
    return {call.id: " ".join(piece.text for piece in call.pieces) for call in calls}


def gold_sha256(calls: Iterable[Call]) -> str:
    """Digest of frozen calls: ids, labels and words. Two models measured under one digest are comparable."""
    digest = hashlib.sha256()
    for call in sorted(calls, key=lambda c: c.id):
        digest.update(f"{call.id}\0{call.is_scam}\0".encode())
        for piece in call.pieces:
            digest.update(f"{piece.leg}\0{piece.text}\0".encode())
    return digest.hexdigest()
