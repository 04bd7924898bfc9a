"""How a scam family fares that the model never met: trained without it, measured on all of its calls.

Thresholds are those that calibration finds without the family, so nothing of it has leaked into them. Genuine calls
whose topic has the family's name are left out of training as well: scam and subject are both new. Several families may
be left out at once: fewer trainings, and a harder question, as less is left to learn from.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from inference.engine.repository import write_atomically
from inference.errors import ConfigError
from inference.intent.install import INTENT_MODEL
from inference.service.sealed import seal_intent
from training.evaluation.outcome import Outcome
from training.evaluation.run import judge_all
from training.evaluation.sets import TextSet
from training.intent.data import read_scripts
from training.intent.report import write_report
from training.intent.sources import Sources
from training.metrics import share

Train = Callable[[Sources, Path], dict[str, Any]]
"""Trains on what sources say and writes a version folder; returns its report."""

RESULT_FILE = "left_out.json"
NAME_LENGTH = 80
"""Characters of a folder's name: a file system has a limit, and eighteen families are long."""


@dataclass(frozen=True, slots=True)
class Alarmed:
    """Calls of one kind and language that a model alarmed of.

    Attributes:
        kind: scam family, or ``genuine``.
        language: ISO 639-1 code.
        hits, num_calls: how many alarmed, of how many.
    """

    kind: str
    language: str
    hits: int
    num_calls: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a model made of families that it never met.

    Attributes:
        families: those that it was trained without.
        unseen: all of their scam calls, per family and language.
        genuine: genuine test calls, per language.
    """

    families: tuple[str, ...]
    unseen: tuple[Alarmed, ...]
    genuine: tuple[Alarmed, ...]

    def lines(self) -> list[str]:
        """For the terminal."""
        out = []
        for found in self.unseen:
            shared = share(found.hits, found.num_calls)
            low, high = (round(100 * bound) for bound in shared["ci95"])
            out.append(
                f"{found.kind} [{found.language}] (written text): {found.hits}/{found.num_calls} warned of unseen "
                f"({low}-{high} %)"
            )
        without = "without " + ", ".join(self.families)
        return out + [f"{without} [{g.language}]: false alarms {g.hits}/{g.num_calls}" for g in self.genuine]


def families_of(sources: Sources, wanted: Sequence[str]) -> list[str]:
    """The families to leave out in turn: those asked for, else all that have scripts.

    Raises:
        ConfigError: one asked for has no script.
    """
    there = sorted(
        {call.family for call in read_scripts(sources.scripts, sources.languages) if call.family is not None}
    )
    if unknown := set(wanted) - set(there):
        raise ConfigError(f"--family {min(unknown)}: no script is of it; there are {', '.join(there)}")
    return list(wanted) or there


def grouped(families: Sequence[str], together: int) -> list[tuple[str, ...]]:
    """Families dealt into groups of at most ``together``, in the order given: the first, every n-th after it, ..."""
    count = -(-len(families) // together)
    return [tuple(families[first::count]) for first in range(count)]


def leave_out(
    groups: Sequence[Sequence[str]],
    sources: Sources,
    work: Path,
    train: Train,
    console: Console,
    say: Callable[[LeftOut], None],
) -> list[LeftOut]:
    """Train and measure once per group of families. What ``work`` holds already is not done again.

    Args:
        groups: families to leave out together, in turn.
        sources: what is learnt from otherwise.
        work: a folder per group.
        train: fits and calibrates.
        console: where progress goes.
        say: told each result.
    """
    results = []
    for families in groups:
        folder = work / "+".join(families)[:NAME_LENGTH]
        path = folder / RESULT_FILE
        result = _read(path, families) if path.is_file() else None
        if result is None:
            result = _one(families, sources, folder / "models" / INTENT_MODEL / "1", train, console)
            _write(path, json.dumps(asdict(result)) + "\n")
        results.append(result)
        say(result)
    return results


def _read(path: Path, families: Sequence[str]) -> LeftOut | None:
    """The result of an earlier run; None if it is of other families."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    if tuple(kept["families"]) != tuple(families):
        return None
    unseen, genuine = (tuple(Alarmed(**row) for row in kept[name]) for name in ("unseen", "genuine"))
    return LeftOut(tuple(families), unseen, genuine)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _one(families: Sequence[str], sources: Sources, version: Path, train: Train, console: Console) -> LeftOut:
    written = read_scripts(sources.scripts, sources.languages)
    write_report(version / "report.json", train(without_scams_of(sources, families), version))
    seal_intent(version)
    kinds = [("genuine", language) for language in sources.languages]
    kinds += [(family, language) for family in families for language in sources.languages]
    sets, names = [], {}
    for kind, language in kinds:
        calls = [c for c in written if c.language == language and c.family == kind]
        if kind == "genuine":
            calls = [c for c in written if c.language == language and not c.is_scam and c.split == "test"]
        if calls:
            names[f"{kind} {language}"] = (kind, language)
            sets.append(TextSet(f"{kind} {language}", "written text", calls))
    outcomes = judge_all(version, sets, console, lambda _line: None)
    found = [_alarmed(kind, language, outcomes[name]) for name, (kind, language) in names.items()]
    unseen = tuple(a for a in found if a.kind != "genuine")
    return LeftOut(tuple(families), unseen, tuple(a for a in found if a.kind == "genuine"))


def without_scams_of(sources: Sources, families: Sequence[str]) -> Sources:
    """The same sources, of which no scam call of ``families`` is read."""
    return replace(sources, without=(*sources.without, *families))


def _alarmed(kind: str, language: str, outcomes: Sequence[Outcome]) -> Alarmed:
    return Alarmed(kind, language, sum(bool(o.alarms) for o in outcomes), len(outcomes))


def total(results: Sequence[LeftOut], language: str) -> dict[str, Any]:
    """Recall over all unseen families together, and false alarms of all those models, in one language."""
    unseen = [a for r in results for a in r.unseen if a.language == language]
    genuine = [a for r in results for a in r.genuine if a.language == language]
    return {
        name: share(sum(a.hits for a in chosen), sum(a.num_calls for a in chosen))
        for name, chosen in (("recall", unseen), ("false_alarms", genuine))
    }
