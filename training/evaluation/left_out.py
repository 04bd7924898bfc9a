"""How a scam family fares that the model never met: trained without it, measured on all of its calls.

Thresholds are those that calibration finds without the family, so nothing of it has leaked into them. Genuine calls
whose topic has the family's name are left out of training as well: scam and subject are both new.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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
from training.intent.pipeline import Sources, write_report
from training.metrics import share

Train = Callable[[Sources, Path], dict[str, Any]]
"""Trains on what sources say and writes a version folder; returns its report."""

RESULT_FILE = "left_out.json"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One family, unseen.

    Attributes:
        family: which.
        hits, num_scam: its calls warned of, and how many there are.
        false, num_genuine: genuine test calls alarmed of by that model.
    """

    family: str
    hits: int
    num_scam: int
    false: int
    num_genuine: int

    def line(self) -> str:
        """For the terminal."""
        found = share(self.hits, self.num_scam)
        low, high = (round(100 * bound) for bound in found["ci95"])
        return (
            f"{self.family} (written text): {self.hits}/{self.num_scam} warned of unseen ({low}-{high} %); "
            f"false alarms {self.false}/{self.num_genuine}"
        )


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


def leave_out(
    families: Iterable[str],
    sources: Sources,
    work: Path,
    train: Train,
    console: Console,
    say: Callable[[LeftOut], None],
) -> list[LeftOut]:
    """Train and measure once per family. What ``work`` holds already is not done again.

    Args:
        families: to leave out in turn.
        sources: what is learnt from otherwise.
        work: a folder per family.
        train: fits and calibrates.
        console: where progress goes.
        say: told each result.
    """
    results = []
    for family in families:
        path = work / family / RESULT_FILE
        if path.is_file():
            result = LeftOut(**json.loads(path.read_text(encoding="utf-8")))
        else:
            result = _one(family, sources, work / family / "models" / INTENT_MODEL / "1", train, console)
            text = json.dumps({name: getattr(result, name) for name in LeftOut.__slots__}) + "\n"
            _write(path, text)
        results.append(result)
        say(result)
    return results


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _one(family: str, sources: Sources, version: Path, train: Train, console: Console) -> LeftOut:
    written = read_scripts(sources.scripts, sources.languages)
    write_report(version / "report.json", train(without_scams_of(sources, family), version))
    seal_intent(version)
    sets = [
        TextSet("unseen", "written text", [c for c in written if c.family == family]),
        TextSet("genuine", "written text", [c for c in written if not c.is_scam and c.split == "test"]),
    ]
    outcomes = judge_all(version, sets, console, lambda _line: None)
    return LeftOut(family, *_alarmed(outcomes["unseen"]), *_alarmed(outcomes["genuine"]))


def without_scams_of(sources: Sources, family: str) -> Sources:
    """The same sources, of which no scam call of ``family`` is read."""
    return replace(sources, without=(*sources.without, family))


def _alarmed(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    return sum(bool(o.alarms) for o in outcomes), len(outcomes)


def total(results: Sequence[LeftOut]) -> dict[str, Any]:
    """Recall over all unseen families together, and false alarms of all those models."""
    return {
        "recall": share(sum(r.hits for r in results), sum(r.num_scam for r in results)),
        "false_alarms": share(sum(r.false for r in results), sum(r.num_genuine for r in results)),
    }
