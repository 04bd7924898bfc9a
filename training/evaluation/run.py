"""Runs an evaluation: opens the model version that is asked for, judges every set, writes the report."""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from inference.config import Settings, load_settings
from inference.engine.repository import write_atomically
from inference.errors import ConfigError
from inference.intent.calibration import CALIBRATION_FILE, load_calibration
from inference.intent.install import HEAD_FILE, INTENT_MODEL, model_of, own_models
from inference.intent.versions import read_record
from inference.service.models import build_parts, build_scorer, build_stages, default_models_dir
from training.evaluation.figures import line, of_set
from training.evaluation.outcome import Outcome
from training.evaluation.page import page
from training.evaluation.recordings import judge_recordings
from training.evaluation.sets import RecordingSet, TextSet
from training.evaluation.texts import judge_texts
from training.parallel import cores
from training.progress import progress_bar

REPORT_FILE, PAGE_FILE = "report.json", "index.html"


@contextlib.contextmanager
def settings_of(version: Path) -> Iterator[Settings]:
    """Settings under which ``version`` is the intent model, whatever else its repository holds.

    Everything beside it is taken from its own repository or, for a candidate that has none, from that of this machine;
    but for models of a language, which would judge calls in place of a version for all languages: only those of its own
    repository count then.

    Raises:
        ConfigError: there is no version.
    """
    if not (version / HEAD_FILE).is_file():
        raise ConfigError(f"{version}: holds no {HEAD_FILE}; give a version, e.g. models/{INTENT_MODEL}/1")
    model, here = model_of(version), version.resolve().parent.parent
    with tempfile.TemporaryDirectory(prefix="scamtap-") as name:
        root = Path(name)
        (root / model).mkdir()
        (root / model / "1").symlink_to(version.resolve())
        for models_dir in (here, default_models_dir()):
            others = own_models(models_dir).values() if model == INTENT_MODEL and models_dir != here else ()
            for folder in models_dir.iterdir():
                if folder.is_dir() and not (root / folder.name).exists() and folder.name not in others:
                    (root / folder.name).symlink_to(folder.resolve())
        yield load_settings().model_copy(update={"models_dir": root})


def languages_of(version: Path) -> tuple[str, ...]:
    """Languages of the calls that ``version`` judges: all it was trained on, without those with a model of their own.

    Raises:
        WeightsError: it has no calibration.
    """
    model, here = model_of(version), version.resolve().parent.parent
    if model != INTENT_MODEL:
        return (model.rpartition("_")[2],)
    known = load_calibration(version / CALIBRATION_FILE).languages
    return tuple(language for language in known if language not in own_models(here))


def judge_all(
    version: Path,
    sets: Sequence[TextSet | RecordingSet],
    console: Console,
    on_set: Callable[[str], None],
) -> dict[str, list[Outcome]]:
    """Judge every call of every set by the model in ``version``; texts on all cores we may use.

    Args:
        version: ``<models>/<intent model>/<number>``, or a candidate.
        sets: texts go through the door of ``scamtap score``, recordings through that of ``scamtap replay``.
        console: where the progress bar goes.
        on_set: told a line as each set is done.

    Raises:
        ScamTapError: a model is missing or damaged, a recording cannot be read.
    """
    outcomes: dict[str, list[Outcome]] = {}
    with settings_of(version) as settings, progress_bar(console) as bar:
        stages = build_stages(settings) if any(isinstance(s, RecordingSet) for s in sets) else None
        scorers = [build_scorer(settings) for _ in range(cores() if stages is None else 1)]
        verdict = settings.verdict.calibrated(scorers[0].calibration)
        parts = None if stages is None else build_parts(settings, stages)
        task = bar.add_task("judging", total=sum(len(s.calls) for s in sets))

        def advance() -> None:
            bar.advance(task)

        try:
            for of_name in sets:
                bar.update(task, description=f"judging {of_name.name}")
                if isinstance(of_name, TextSet):
                    judged = judge_texts(scorers, verdict, of_name.calls, of_name.what, advance)
                elif stages is not None and parts is not None:
                    judged = list(judge_recordings(of_name.manifest, of_name.calls, parts, stages, advance))
                outcomes[of_name.name] = judged
                on_set(line(of_name.name, of_set(judged, settings.verdict.prior)))
        finally:
            if stages is not None:
                stages.close()
    return outcomes


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation: which models judged, each the languages that it knows, and the figures of every set."""

    models: list[dict[str, Any]]
    sets: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """As report.json has it."""
        return {"models": self.models, "sets": self.sets}


def report_of(versions: Sequence[Path], outcomes: Mapping[str, Sequence[Outcome]]) -> Report:
    """Figures of everything that ``versions`` judged."""
    prior = load_settings().verdict.prior
    models = [_described(version, prior) for version in versions]
    return Report(models, {name: of_set(judged, prior) for name, judged in outcomes.items()})


def _described(version: Path, prior: float) -> dict[str, Any]:
    record = read_record(version)
    calibration = hashlib.sha256((version / CALIBRATION_FILE).read_bytes()).hexdigest()
    return {
        "name": f"{model_of(version)}/{version.resolve().name}",
        "languages": list(languages_of(version)),
        "head_sha256": record.head_sha256,
        "calibration_sha256": calibration,
        "precision": record.precision,
        "speech": [used.model_dump() for used in record.speech],
        "prior": prior,
    }


def write_report(folder: Path, report: Report) -> list[Path]:
    """Write report.json, index.html and the pictures; returns what was written.

    Raises:
        WeightsError: the folder cannot be written.
    """
    # matplotlib takes a second to import.
    from training.evaluation.plots import plots

    pictures = plots(report.sets)
    models = [
        model
        | {"languages": ", ".join(model["languages"])}
        | {"speech": " and ".join(used["precision"] for used in model["speech"]) or None}
        for model in report.models
    ]
    text = page({"models": models, "sets": report.sets}, pictures)
    contents = {
        REPORT_FILE: (json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n").encode(),
        PAGE_FILE: text.encode(),
        **pictures,
    }
    for name, content in contents.items():
        write_atomically(folder / name, partial(_write, content))
    return [folder / name for name in contents]
