"""One retraining from end to end: read, fit, measure both, gate, seal the candidate."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from inference.config import load_settings
from inference.engine.repository import newest_version, version_dir, write_atomically
from inference.errors import ConfigError, ScamTapError
from inference.intent.install import model_of
from inference.intent.versions import RECORD_FILE, VersionRecord, read_record, unseal
from inference.service.models import build_scorer
from inference.service.sealed import seal_intent
from training.evaluation.labelled import LabelledText
from training.evaluation.outcome import Outcome, What
from training.evaluation.run import judge_all, settings_of
from training.evaluation.sets import VOICED, TextSet, gold_sets
from training.evaluation.texts import judge_texts
from training.intent.data import Call
from training.intent.sources import Sources, read_sources
from training.retrain.canaries import Judge, canaries, canary_gate
from training.retrain.compare import GOLD, NEW, Gate, Row, gates, rows
from training.retrain.incoming import Incoming, admit, as_known, gold_sha256, words_of
from training.retrain.sides import known_sides
from training.retrain.trainer import Trainer

GATES_FILE = "gates.json"


class GateError(ScamTapError):
    """A candidate did not pass; the reasons were printed."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """What came of it.

    Attributes:
        candidate: folder of the candidate; sealed, with its gates, only where all were passed on all gold calls.
        table: candidate beside champion.
        gates: every condition.
        left_out: id -> why, of new calls that were not learnt from.
        minutes: from beginning to end.
    """

    candidate: Path
    table: list[Row]
    gates: list[Gate]
    left_out: dict[str, str]
    minutes: float

    @property
    def is_passed(self) -> bool:
        """Whether every gate holds."""
        return all(gate.is_passed for gate in self.gates)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a retraining is to use.

    Attributes:
        champion: version folder that serves.
        work: folder of this run; a run that was stopped goes on there.
        sources: what was learnt from before; its test scripts are the gold calls.
        what: what the new calls are.
        max_gold: at most so many gold calls per label, to see how it goes: such a candidate is never promoted, as a
            dozen calls let one scam in twelve be forgotten. None: all.
        earlier: name -> calls of earlier deliveries: rehearsed, and no call is learnt from twice.
    """

    champion: Path
    work: Path
    sources: Sources
    what: What = "written text"
    max_gold: int | None = None
    earlier: Mapping[str, Sequence[LabelledText]] = field(default_factory=dict)

    @property
    def candidate(self) -> Path:
        """Where the candidate is made."""
        return self.work / "models" / model_of(self.champion) / "1"


def gold_calls(plan: Plan) -> list[Call]:
    """The frozen calls: test scripts, clean and as recognised; chosen by stable hashes, never trained on."""
    calls = [call for of_name in gold_sets(plan.sources) for call in of_name.calls]
    if plan.max_gold is not None:
        calls = [c for kind in (True, False) for c in [c for c in calls if c.is_scam == kind][: plan.max_gold]]
    if not any(c.is_scam for c in calls) or all(c.is_scam for c in calls):
        raise ConfigError(
            f"{plan.sources.scripts}: its test side lacks scam or genuine calls; give --scripts datasets/scripts"
        )
    return calls


def retrain(
    plan: Plan,
    labelled: Sequence[LabelledText],
    sha256: str,
    trainer: Trainer,
    console: Console,
    say: Callable[[str], None],
    hear: Callable[[Incoming], list[Call]] = lambda _incoming: [],
) -> Retrained:
    """Make a candidate of new calls and find out whether it may take the champion's place.

    Args:
        plan: what to use.
        labelled: the new calls, with their provenance.
        sha256: of their file.
        trainer: makes the candidate.
        console: where progress goes.
        say: told a line as each step is done.
        hear: more copies of the calls that were admitted, as our recogniser hears them, with the sides of those.

    Raises:
        ConfigError: the calls were learnt from before, or too few are left.
        ScamTapError: a model is missing, training failed.
    """
    began_s = time.monotonic()
    record = read_record(plan.champion)
    if sha256 in record.data_sha256.values():
        raise ConfigError("these very calls were learnt from already, in the version that serves: collect others")
    known, gold, sides = read_sources(plan.sources), gold_calls(plan), known_sides(plan.sources)
    for name, delivered in plan.earlier.items():
        rehearsed = as_known(delivered, words_of([*gold, *known]), name, sides)
        say(f"{name}: {len(rehearsed)} of {len(delivered)} earlier calls count as known; the others are left out")
        known += rehearsed
    incoming = admit(labelled, words_of([*gold, *known]), sha256, sides)
    say(_admitted(incoming))
    new = [*incoming.calls, *hear(incoming)]
    notes = trainer(plan.champion, _emptied(plan.candidate), [c for c in known if c.split != "test"], new)
    _write_report(plan, notes)
    unseal(plan.candidate)
    seal_intent(plan.candidate)
    say(f"fitted in {(time.monotonic() - began_s) / 60:.1f} min")
    tested = [c for c in new if c.split == "test"]
    sets = [TextSet(GOLD, _what_of(gold), gold), TextSet(NEW, plan.what, tested)]
    before, after = (
        judge_all(version, sets, console, lambda _line: None) for version in (plan.champion, plan.candidate)
    )
    prior = load_settings().verdict.prior
    found = gates(before, after, prior)
    phrases = canaries(incoming.of("train"), words_of(known))
    with settings_of(plan.champion) as old, settings_of(plan.candidate) as fresh:
        found.append(canary_gate(phrases, gold, after[GOLD], _judge(old), _judge(fresh)))
    done = Retrained(
        plan.candidate,
        rows(before, after, prior),
        found,
        incoming.left_out,
        round((time.monotonic() - began_s) / 60, 2),
    )
    _write_gates(plan, done)
    if done.is_passed and plan.max_gold is None:
        _seal(plan, record, incoming, gold, found)
    else:
        unseal(plan.candidate)  # what did not pass, or was measured on few calls, cannot be promoted
    return done


def _admitted(incoming: Incoming) -> str:
    counts = ", ".join(f"{len(incoming.of(split))} {split}" for split in ("train", "dev", "test"))
    return f"{len(incoming.calls)} new calls ({counts}); {len(incoming.left_out)} left out"


def _emptied(candidate: Path) -> Path:
    """The candidate's folder, empty; beside it no model may lie, as it would be judged with that one."""
    models = candidate.parent.parent
    others = (
        [folder.name for folder in models.iterdir() if folder.name != candidate.parent.name] if models.is_dir() else []
    )
    if others:
        raise ConfigError(f"{models}: holds {min(others)} of another retraining; give another --work, or remove it")
    if candidate.is_dir():
        shutil.rmtree(candidate)
    candidate.mkdir(parents=True)
    return candidate


def _what_of(gold: Sequence[Call]) -> What:
    return VOICED if all(call.source == "recognised" for call in gold) else "written text"


def _judge(settings: Any) -> Judge:
    scorer = build_scorer(settings)
    verdict = settings.verdict.calibrated(scorer.calibration)

    def judge(calls: Sequence[Call]) -> list[Outcome]:
        return judge_texts([scorer], verdict, calls, "written text", lambda: None)

    return judge


def _write_report(plan: Plan, notes: dict[str, Any]) -> None:
    """report.json of the candidate: the champion's training, and this one's on top of it."""
    try:
        report = json.loads((plan.champion / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = {}
    report.pop("test", None)
    report["retraining"] = [*report.get("retraining", []), notes]
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(plan.candidate / "report.json", lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _write_gates(plan: Plan, done: Retrained) -> None:
    content = {
        "gates": {gate.name: {"passed": gate.is_passed, "found": gate.found} for gate in done.gates},
        "table": [[row.what, row.champion, row.candidate] for row in done.table],
        "left_out": done.left_out,
        "minutes": done.minutes,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomically(plan.work / GATES_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _seal(plan: Plan, record: VersionRecord, incoming: Incoming, gold: Sequence[Call], found: Sequence[Gate]) -> None:
    name = plan.champion.resolve().name
    fresh = VersionRecord(
        head_sha256=record.head_sha256,
        speech=record.speech,
        parent=int(name) if name.isdecimal() else None,
        parent_sha256=record.head_sha256,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        data_sha256={**record.data_sha256, f"new-{incoming.sha256[:8]}": incoming.sha256},
        gold_sha256=gold_sha256(gold),
        gates={gate.name: gate.found for gate in found},
    )
    seal_intent(plan.candidate, fresh)


def refuse_ungated(candidate: Path) -> VersionRecord:
    """A candidate is promoted only where it passed its gates.

    Raises:
        GateError: no gates are recorded.
        WeightsError: it is not sealed.
    """
    if not (candidate / RECORD_FILE).is_file():
        raise GateError(
            f"{candidate}: did not pass its gates on all gold calls, or is no candidate; see {GATES_FILE} of its run"
        )
    record = read_record(candidate)
    if not record.gates:
        raise GateError(f"{candidate}: passed no gates; make it with scamtap-train retrain")
    return record


def refuse_unless_parent_serves(candidate: Path, record: VersionRecord, models_dir: Path, model: str) -> None:
    """A candidate follows the version that it was made from: after another, what that one learnt would be dropped.

    Raises:
        GateError: another version of ``model`` serves now.
        WeightsError: the one that serves is not sealed.
    """
    serving = version_dir(models_dir, model)
    if not serving.is_dir():
        return  # the first version drops nothing
    number = newest_version(models_dir, model)
    served = read_record(serving)
    is_parent = record.parent == number and record.parent_sha256 in (None, served.head_sha256)
    if not is_parent or not served.data_sha256.items() <= record.data_sha256.items():
        made_from = "another" if record.parent in (None, number) else f"version {record.parent}"
        raise GateError(
            f"{candidate}: was made from {made_from}, and version {number} of {model} serves now: retrain from that "
            "(scamtap-train retrain, without --model)"
        )
