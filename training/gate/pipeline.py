"""``scamtap-train gate`` from end to end: states, fit, ship, calibrate, measure."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from inference.config import Settings
from inference.engine.base import Engine
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_atomically
from inference.engine.sums import SUMS_FILE
from inference.errors import ConfigError
from inference.gate.calibration import (
    CALIBRATION_FILE,
    FLOOR_LLR,
    GateCalibration,
    OperatingPoint,
    load_gate_calibration,
)
from inference.gate.install import GATE_MODEL, HEAD_FILE, gate_calibration_path, install_gate, seal_gate
from inference.service.call import CallParts
from inference.service.models import build_parts
from inference.service.stages import Stages
from training.gate.ablate import NUM_FOLDS, fold_of, opening_auc, voice_auc
from training.gate.calibrate import Weighed, exact_low, fit_scale, passing_point, savings, served_llr
from training.gate.evaluate import ORDINARY_TOPICS
from training.gate.fit import GateFitConfig, fit, raw_llr
from training.gate.states import GateCall, born_with, read_calls
from training.intent.version import write_head
from training.metrics import auc
from training.progress import progress_bar

REPORT_FILE = "report.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Hearing:
    """How live calls hear: what the states depend on.

    Attributes:
        engine: serves the encoder.
        parts: cut a call's speech.
        window_samples: the recogniser's.
        lead_in_s: of a segment, before its speech.
        policy: the settings behind all that, as text.
    """

    engine: Engine
    parts: CallParts
    window_samples: Callable[[int], int]
    lead_in_s: float
    policy: str


def models_dir_of(version_dir: Path) -> Path:
    """The model repository of ``<models>/scam_gate/1``.

    Raises:
        ConfigError: the path does not end so.
    """
    if version_dir.parts[-2:] != (GATE_MODEL, "1"):
        raise ConfigError(f"{version_dir}: want a folder that ends in {GATE_MODEL}/1, as models/{GATE_MODEL}/1")
    return version_dir.parent.parent


def hearing_of(settings: Settings, stages: Stages) -> Hearing:
    """As calls are heard with these settings and models."""
    window = settings.speech.model_dump_json(include={"silence_s", "window_step_s"})
    return Hearing(
        engine=stages.engine,
        parts=build_parts(settings, stages),
        window_samples=stages.recogniser.window_samples,
        lead_in_s=settings.segmenter.lead_in_s,
        policy=settings.segmenter.model_dump_json() + window,
    )


def read_states(folders: Sequence[Path], cache: Path, hearing: Hearing, console: Console) -> list[GateCall]:
    """Every recording of ``folders``, with a progress bar.

    Raises:
        MediaError: a recording or its labels cannot be read.
    """
    with progress_bar(console) as bar:
        task = bar.add_task("encoding", total=None)
        return list(
            read_calls(
                folders, cache, hearing.engine, hearing.parts, hearing.window_samples, hearing.policy,
                lambda total: bar.update(task, total=total, advance=1),
            )
        )  # fmt: skip


def train(
    calls: Sequence[GateCall], out: Path, config: GateFitConfig, hearing: Hearing, console: Console
) -> dict[str, Any]:
    """Fit a head on training calls and write ``out``: head.safetensors, calibration.json, the model built of them.

    Test calls among ``calls`` are left alone.

    Returns:
        The report.

    Raises:
        ConfigError: a label is missing in training or development calls.
    """
    models_dir = models_dir_of(out)
    fitted = [call for call in calls if call.split == "train"]
    dev = [call for call in calls if call.split == "dev"]
    for name, some in (("training", fitted), ("development", dev)):
        if len({call.is_scam for call in some if call.states}) < 2:
            raise ConfigError(f"no {name} recordings of both labels; voice more scripts: scamtap-train voice --help")
    with progress_bar(console) as bar:
        task = bar.add_task("fitting", total=100)
        network = fit(fitted, config, lambda text, done: bar.update(task, completed=int(100 * done), description=text))
    (out / SUMS_FILE).unlink(missing_ok=True)  # of the head before
    digest = write_head(out / HEAD_FILE, network.shipped())
    calibration, weighed = calibrate(models_dir, dev, digest, born_with(hearing.engine))
    seal_gate(models_dir)
    return {
        "what": sorted({source_of(call) for call in [*fitted, *dev]}),
        "head_sha256": digest,
        **born_with(hearing.engine),
        "recipe": dataclasses.asdict(config),
        "data": provenance([*fitted, *dev]),
        "calls": counts([*fitted, *dev]),
        "dev": told_apart(weighed, calibration.operating_point),
        "operating_point": calibration.operating_point.model_dump(),
    }


def calibrate(
    models_dir: Path, dev: Sequence[GateCall], head_sha256: str, born: dict[str, str]
) -> tuple[GateCalibration, list[Weighed]]:
    """Build the head's graph, fit calibration.json on what it says of development calls, install both."""
    path = models_dir / GATE_MODEL / "1" / CALIBRATION_FILE

    def write(calibration: GateCalibration) -> None:
        text = calibration.model_dump_json(indent=2) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
        install_gate(models_dir)

    open_gate = OperatingPoint(pass_llr=-FLOOR_LLR, pass_share=1, pass_share_low=0, num_scam=0, num_genuine=0)
    first = GateCalibration(head_sha256=head_sha256, **born, scale=1.0, bias=0.0, operating_point=open_gate)
    write(first)  # what is not calibrated yet lets everything pass
    engine = OnnxEngine(models_dir)
    try:
        raw = [Weighed(call, served_llr(engine, call)) for call in dev]
    finally:
        engine.close()
    scale, bias = fit_scale(raw)
    weighed = [Weighed(one.call, one.llr * scale + bias) for one in raw]
    point = passing_point(weighed)
    calibration = first.model_copy(update={"scale": scale, "bias": bias, "operating_point": point})
    write(calibration)
    return calibration, weighed


def told_apart(calls: Sequence[Weighed], point: OperatingPoint) -> dict[str, Any]:
    """How well the evidence ranks scam calls above genuine ones, and what the operating point saves on these."""
    scams = [one for one in calls if one.call.is_scam]
    genuine = [one for one in calls if not one.call.is_scam]
    alike = [one for one in genuine if one.call.topic not in ORDINARY_TOPICS]
    ordinary = [one for one in genuine if one.call.topic in ORDINARY_TOPICS]
    passed = sum(one.at_ask() >= point.pass_llr for one in scams)
    return {
        "num_scam": len(scams),
        "num_genuine": len(genuine),
        "auc_call": _auc([one.llr.sum() for one in scams], [one.llr.sum() for one in genuine]),
        "auc_at_ask": _auc([one.at_ask() for one in scams], [one.at_ask() for one in genuine]),
        "auc_at_ask_alike": _auc([one.at_ask() for one in scams], [one.at_ask() for one in alike]),
        "auc_segment": _auc([v for one in scams for v in one.llr], [v for one in genuine for v in one.llr]),
        "passed_at_ask": passed,
        "passed_at_ask_low95": round(exact_low(passed, len(scams)), 4),
        "genuine": savings(genuine, point.pass_llr),
        "genuine_alike": savings(alike, point.pass_llr),
        "genuine_ordinary": savings(ordinary, point.pass_llr),
        "curve": [
            {"passed_at_ask": share, **{k: v for k, v in savings(genuine, at).items() if k != "calls"}}
            for share, at in ((s, passing_point(calls, s).pass_llr) for s in (1.0, 0.95, 0.9, 0.8, 0.7))
        ],
    }


def held_out_evidence(
    folders: Sequence[Path], models_dir: Path, cache: Path, hearing: Hearing, console: Console
) -> dict[str, Any]:
    """:func:`told_apart` for recordings of test scripts, by the gate of the engine, at its operating point."""
    calibration = load_gate_calibration(gate_calibration_path(models_dir))
    calls = read_states(folders, cache, hearing, console)
    weighed = [Weighed(call, served_llr(hearing.engine, call) * calibration.scale + calibration.bias) for call in calls]
    return {"what": sorted({source_of(call) for call in calls}), **told_apart(weighed, calibration.operating_point)}


def evidence_line(values: dict[str, Any]) -> str:
    """The same for people."""
    return (
        f"the gate's evidence on the far leg ({'; '.join(values['what'])}): {values['passed_at_ask']} of "
        f"{values['num_scam']} scam calls are read at their ask (95 % sure: at least "
        f"{values['passed_at_ask_low95']:.1%}), {values['genuine']['speech_saved_share']:.1%} of the speech of "
        f"{values['num_genuine']} genuine calls is never decoded; AUC {values['auc_at_ask']} at the ask"
    )


def crossed(calls: Sequence[GateCall], config: GateFitConfig, console: Console) -> dict[str, Any]:
    """Training calls judged by networks that never saw their scripts: more calls than development has.

    The operating point is that of the very scores; it says what could be saved at best, not what a threshold chosen
    elsewhere saves.
    """
    fitted = [call for call in calls if call.split == "train"]
    weighed: list[Weighed] = []
    with progress_bar(console) as bar:
        task = bar.add_task("cross-fitting", total=NUM_FOLDS)
        for fold in range(NUM_FOLDS):
            network = fit([call for call in fitted if fold_of(call) != fold], config)
            weighed += [Weighed(call, np.array(raw_llr(network, call))) for call in fitted if fold_of(call) == fold]
            bar.advance(task)
    scale, bias = fit_scale(weighed)
    weighed = [Weighed(one.call, one.llr * scale + bias) for one in weighed]
    point = passing_point(weighed)
    return {"operating_point": point.model_dump(), **told_apart(weighed, point)}


def ablations(calls: Sequence[GateCall], config: GateFitConfig, hearing: Hearing, console: Console) -> dict[str, Any]:
    """What voice and opening tell of the label, where words do not."""
    fitted = [call for call in calls if call.split == "train"]
    dev = [call for call in calls if call.split == "dev"]
    with progress_bar(console) as bar:
        task = bar.add_task("openings", total=len(fitted) + len(dev))
        told = opening_auc(
            fitted, dev, hearing.engine, hearing.window_samples, hearing.lead_in_s, config, lambda: bar.advance(task)
        )
    return {"auc_voice": voice_auc(fitted), "auc_first_half_second": told}


def source_of(call: GateCall) -> str:
    """What a figure is measured on."""
    return f"synthetic speech: {call.synthesiser} reading our scripts over a simulated telephone line"


def counts(calls: Sequence[GateCall]) -> dict[str, int]:
    """Calls by split, synthesiser and label."""
    counted = Counter(f"{c.split} {c.synthesiser} {'scam' if c.is_scam else 'genuine'}" for c in calls)
    return dict(sorted(counted.items()))


def provenance(calls: Sequence[GateCall]) -> dict[str, str]:
    """One hash over all recordings read, in any order."""
    hashes = sorted(hashlib.sha256(call.path.read_bytes()).hexdigest() for call in calls)
    return {"recordings_sha256": hashlib.sha256("".join(hashes).encode()).hexdigest()}


def write_report(out: Path, report: dict[str, Any]) -> None:
    """Write report.json."""
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(out / REPORT_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    value = auc(positive, negative)
    return None if value is None else round(value, 4)
