"""How a scam family fares that the model never met: trained without it, measured on all of its calls.

Thresholds are those that calibration finds without the family, so nothing of it has leaked into them. Genuine calls
whose topic has the family's name are left out of training as well, and all of them are judged beside the genuine test
calls: scam and subject are both new, and the two are ranked against each other. Several families may be left out at
once: fewer trainings, and a harder question, as less is left to learn from.
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
from training.metrics import auc, recall_at, share

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
        hits: how many alarmed.
        risks: the highest risk that each call reached.
    """

    kind: str
    language: str
    hits: int
    risks: tuple[float, ...]

    @property
    def num_calls(self) -> int:
        """Of how many."""
        return len(self.risks)


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well unseen scams are told from genuine calls at any threshold, in one language.

    Attributes:
        language: ISO 639-1 code.
        num_unseen, num_genuine: calls.
        auc: area under the ROC curve.
        at_1_percent, at_3_percent: share of the scams above the threshold that so many genuine calls pass.
    """

    language: str
    num_unseen: int
    num_genuine: int
    auc: float
    at_1_percent: float
    at_3_percent: float

    def text(self) -> str:
        """For the terminal."""
        return (
            f"{self.num_unseen} unseen scams against {self.num_genuine} genuine calls: AUC {self.auc:.3f}, "
            f"{100 * self.at_3_percent:.0f} % at 3 % false alarms, {100 * self.at_1_percent:.0f} % at 1 %"
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a model made of families that it never met.

    Attributes:
        families: those that it was trained without.
        unseen: all of their scam calls, per family and language.
        genuine: genuine test calls and all on the subjects left out, per language.
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
        out += [f"{without} [{g.language}]: false alarms {g.hits}/{g.num_calls}" for g in self.genuine]
        return out + [f"{without} [{r.language}]: {r.text()}" for g in self.genuine if (r := self.ranking(g.language))]

    def ranking(self, language: str) -> Ranking | None:
        """The unseen scams of all families together against the genuine calls; None without both."""
        unseen, genuine = (
            [risk for a in side if a.language == language for risk in a.risks] for side in (self.unseen, self.genuine)
        )
        area, at_1, at_3 = auc(unseen, genuine), recall_at(unseen, genuine, 0.01), recall_at(unseen, genuine, 0.03)
        if area is None or at_1 is None or at_3 is None:
            return None
        return Ranking(language, len(unseen), len(genuine), area, at_1, at_3)


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
    recipe: str,
    console: Console,
    say: Callable[[LeftOut], None],
) -> list[LeftOut]:
    """Train and measure once per group of families. What ``work`` holds already is not done again.

    Args:
        groups: families to leave out together, in turn.
        sources: what is learnt from otherwise.
        work: a folder per group.
        train: fits and calibrates.
        recipe: how; what was done by another is done again.
        console: where progress goes.
        say: told each result.
    """
    results = []
    for families in groups:
        folder = work / "+".join(families)[:NAME_LENGTH]
        path = folder / RESULT_FILE
        result = _read(path, families, recipe) if path.is_file() else None
        if result is None:
            result = _one(families, sources, folder / "models" / INTENT_MODEL / "1", train, console)
            _write(path, json.dumps(asdict(result) | {"recipe": recipe}) + "\n")
        results.append(result)
        say(result)
    return results


def _read(path: Path, families: Sequence[str], recipe: str) -> LeftOut | None:
    """The result of an earlier run; None if it is of other families, another recipe, or a release that said less."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    rows = [row for name in ("unseen", "genuine") for row in kept[name]]
    if (kept["families"], kept.get("recipe")) != (list(families), recipe) or not all("risks" in row for row in rows):
        return None
    unseen, genuine = (
        tuple(Alarmed(row["kind"], row["language"], row["hits"], tuple(row["risks"])) for row in kept[name])
        for name in ("unseen", "genuine")
    )
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
            calls = [c for c in written if c.language == language and not c.is_scam]
            calls = [c for c in calls if c.split == "test" or c.topic in families]
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
    return Alarmed(kind, language, sum(bool(o.alarms) for o in outcomes), tuple(round(o.risk, 5) for o in outcomes))


def total(results: Sequence[LeftOut], language: str) -> dict[str, Any]:
    """Recall over all unseen families together, and false alarms of all those models, in one language.

    ``ranking`` is the mean over the models, each of which ranks by its own evidence, by how many scams it had not met;
    None where none could be ranked.
    """
    unseen = [a for r in results for a in r.unseen if a.language == language]
    genuine = [a for r in results for a in r.genuine if a.language == language]
    found: dict[str, Any] = {
        name: share(sum(a.hits for a in chosen), sum(a.num_calls for a in chosen))
        for name, chosen in (("recall", unseen), ("false_alarms", genuine))
    }
    return found | {"ranking": _mean([r for result in results if (r := result.ranking(language))], language)}


def _mean(rankings: Sequence[Ranking], language: str) -> Ranking | None:
    num_unseen = sum(r.num_unseen for r in rankings)
    if not num_unseen:
        return None
    auc_, at_1, at_3 = (
        sum(getattr(r, name) * r.num_unseen for r in rankings) / num_unseen
        for name in ("auc", "at_1_percent", "at_3_percent")
    )
    return Ranking(language, num_unseen, sum(r.num_genuine for r in rankings), auc_, at_1, at_3)
