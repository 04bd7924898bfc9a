"""Kept transcripts, the ones whose label would teach most first.

Four reasons, each worth between 0 and its weight:

    said wrong       the subscriber pressed 'not a scam' after a warning
    alarm after it   and the call was warned of again, or had risen further, afterwards
    near threshold   the highest risk stood close to where an alert begins (uncertainty sampling: Lewis and Gale 1994)
    novel            unlike everything that the model learnt from, by its words
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sklearn.feature_extraction.text import TfidfVectorizer

from inference.audio import Leg
from inference.errors import ConfigError
from inference.intent.text import normalise
from inference.verdict.verdict import VerdictConfig
from training.data.shingles import shingles
from training.manifest import MAX_LINE_BYTES, read_lines

WEIGHTS = {"said wrong": 3.0, "alarm after feedback": 2.0, "near threshold": 1.5, "novel": 1.0}
WIDTH_NATS = 1.0
"""So far from the threshold a call is still half as telling."""

MAX_CALLS = 50_000
MAX_FEATURES = 60_000
ALIKE = 0.7
"""Of near copies (one robocall, a hundred times) one is enough to label."""


class KeptUtterance(BaseModel):
    """One utterance of a kept transcript."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    leg: Leg
    start_s: float = 0.0
    text: str = Field(max_length=20_000)


class KeptCall(BaseModel):
    """One line that a worker kept (:mod:`inference.service.kept`)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[str, Field(min_length=1, max_length=300)]
    language: str = "en"
    level: str = "none"
    family: str | None = None
    model: str = ""
    peak_risk: float = Field(ge=0, le=1)
    utterances: tuple[KeptUtterance, ...] = Field(min_length=1)
    alerts: tuple[tuple[str, float, int], ...] = ()
    feedback: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """All of it as the model reads it."""
        return normalise(" ".join(u.text for u in self.utterances))


@dataclass(frozen=True, slots=True)
class Ranked:
    """A call, what a label of it is worth, and why."""

    call: KeptCall
    worth: float
    reasons: dict[str, float]


def read_kept(folder: Path) -> Iterator[KeptCall]:
    """Every kept call, the newest file first.

    Raises:
        ConfigError: there is none, or a line is damaged; names file and line.
    """
    paths = sorted(folder.glob("*.jsonl"), reverse=True)
    if not paths:
        raise ConfigError(f"{folder}: no transcripts there yet; workers write them as calls end")
    for path in paths:
        for number, line in read_lines(path):
            try:
                yield KeptCall.model_validate(json.loads(line[:MAX_LINE_BYTES]))
            except (ValidationError, ValueError, RecursionError):
                raise ConfigError(f"{path}:{number}: is no kept call; take the line out") from None


def rank(calls: Iterable[KeptCall], known: Sequence[str], verdict: VerdictConfig, limit: int) -> list[Ranked]:
    """The ``limit`` calls most worth a label, no two near copies of one another.

    Args:
        calls: kept ones; at most :data:`MAX_CALLS` are looked at.
        known: texts that the model learnt from.
        verdict: its prior and thresholds.
        limit: how many.
    """
    pool = [call for call, _ in zip(calls, range(MAX_CALLS), strict=False)]
    strange = novelty([call.words for call in pool], [normalise(text) for text in known])
    prior = math.log(verdict.prior / (1 - verdict.prior))
    ranked = [
        _ranked(call, novel, prior + verdict.thresholds(call.language)[0])
        for call, novel in zip(pool, strange, strict=True)
    ]
    ranked.sort(key=lambda r: (-r.worth, r.call.id))
    chosen: list[Ranked] = []
    shown: list[frozenset[str]] = []
    for candidate in ranked:
        its = shingles(candidate.call.words)
        if len(chosen) == limit:
            break
        if all(len(its & other) < ALIKE * len(its | other) for other in shown):
            chosen.append(candidate)
            shown.append(its)
    return chosen


def _ranked(call: KeptCall, novel: float, threshold: float) -> Ranked:
    risk = min(1 - 1e-6, max(1e-6, call.peak_risk))
    distance = abs(math.log(risk / (1 - risk)) - threshold)
    found = {
        "said wrong": float("not_a_scam" in call.feedback),
        "alarm after feedback": float(any(before > 0 for _, _, before in call.alerts)),
        "near threshold": 2.0 ** -(distance / WIDTH_NATS),
        "novel": novel,
    }
    reasons = {name: round(WEIGHTS[name] * value, 3) for name, value in found.items() if value >= 0.05}
    return Ranked(call, round(sum(reasons.values()), 3), reasons)


def novelty(texts: Sequence[str], known: Sequence[str]) -> list[float]:
    """How unlike everything ``known`` each text is: 1 - the best cosine of character n-grams, 0 to 1.

    Of words, not of the encoder's states: those are not kept, and a new script shows in its words first.
    """
    if not texts:
        return []
    if not known:
        return [1.0] * len(texts)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), max_features=MAX_FEATURES, sublinear_tf=True)
    reference = vectorizer.fit_transform([text or " " for text in known])
    best: list[Any] = []
    for at in range(0, len(texts), 256):
        alike = vectorizer.transform(texts[at : at + 256]) @ reference.T
        best += np.asarray(alike.max(axis=1).todense()).ravel().tolist()
    return [float(min(1.0, max(0.0, 1.0 - value))) for value in best]
