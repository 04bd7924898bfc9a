"""``scamtap-train gate``: labelled recordings in, a gate for the cascade out; and what it saves and costs."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from inference.errors import ConfigError
from inference.weights import cache_dir

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def gate(
    folders: Annotated[list[Path], typer.Argument(help="Folders of <name>.wav with <name>.json.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Version folder to write: head, calibration, report.")] = Path(
        "models/scam_gate/1"
    ),
    cache: Annotated[
        Path | None, typer.Option(help="Where encoder states are kept, 3 MB a minute.", show_default="user cache")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=100)] = 5,
    seed: Annotated[int, typer.Option(help="Same recordings, same seed, same machine: same gate.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = 1,
    cross: Annotated[
        bool, typer.Option("--cross", help="Also judge each training script by a gate that never heard it.")
    ] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure the gate in --out on recordings of test scripts instead.")
    ] = False,
    decode: Annotated[
        bool, typer.Option("--decode/--no-decode", help="With --evaluate: also what is said, for the cost in warnings.")
    ] = True,
) -> None:
    """Train the gate of the cascade on what the speech encoder makes of voiced scripts, or measure it.

    Each recording trains, or chooses the operating point, or does neither, as its script's split says. The encoder's
    states are those of the models in the repository, in their precision; another precision needs a gate of its own.
    About 10 minutes on a free core for five hours of recordings.

    With --evaluate, every recording is followed with everything decoded and with the gate deciding: printed are the
    scam calls that pass, the decoding that genuine calls are spared, and what it costs in warnings.
    """
    cache = cache or cache_dir() / "gate-states"
    if evaluate:
        report = _measured(folders, out, cache, decode=decode)
    else:
        report = _trained(folders, out, cache, epochs, seed, threads, cross)
    from training.gate.pipeline import REPORT_FILE, write_report
    from training.intent.report import read_report

    write_report(out, (read_report(out / REPORT_FILE) if evaluate else {}) | report)
    stdout.print(f"wrote {out}", markup=False)


def _trained(
    folders: list[Path], out: Path, cache: Path, epochs: int, seed: int, threads: int, cross: bool
) -> dict[str, Any]:
    import torch

    from inference.config import load_settings
    from inference.service.models import build_stages
    from training.gate.fit import GateFitConfig
    from training.gate.pipeline import ablations, crossed, hearing_of, read_states, train

    torch.set_num_threads(threads)
    settings = load_settings()
    config = GateFitConfig(seed=seed, epochs=epochs)
    started_s = time.monotonic()
    stages = build_stages(settings)
    try:
        hearing = hearing_of(settings, stages)
        calls = read_states(folders, cache, hearing, stderr)
        report = train(calls, out, config, hearing, stderr)
        report["ablations"] = ablations(calls, config, hearing, stderr)
    finally:
        stages.close()
    if cross:
        report["cross_fitted"] = crossed(calls, config, stderr)
    report["minutes"] = round((time.monotonic() - started_s) / 60, 1)
    report["command"] = f"scamtap-train gate DIR... --epochs {epochs} --seed {seed}" + (" --cross" if cross else "")
    for line in _trained_lines(report):
        stdout.print(line, markup=False)
    return report


def _trained_lines(report: dict[str, Any]) -> list[str]:
    point, dev, without = report["operating_point"], report["dev"], report["ablations"]
    return [
        "; ".join(report["what"]),
        f"operating point: {point['pass_llr']} nats; {point['pass_share']:.1%} of {point['num_scam']} development scam "
        f"calls are read at their ask (95 % sure: at least {point['pass_share_low']:.1%}), "
        f"{dev['genuine']['speech_saved_share']:.1%} of the far speech of {point['num_genuine']} genuine calls is "
        "never decoded",
        f"development: AUC {dev['auc_call']} per call, {dev['auc_at_ask']} at the ask, {dev['auc_segment']} per "
        f"segment; by the voice alone {without['auc_voice']}, by the first half second "
        f"{without['auc_first_half_second']}",
    ]


def _measured(folders: list[Path], out: Path, cache: Path, *, decode: bool) -> dict[str, Any]:
    from inference.config import load_settings
    from inference.gate.install import GATE_MODEL
    from inference.service.models import build_parts, build_stages
    from inference.speech.gate import CascadeConfig
    from training.gate.evaluate import cascade_all, figures, lines
    from training.gate.pipeline import evidence_line, hearing_of, held_out_evidence, models_dir_of
    from training.intent.data import split_of
    from training.progress import progress_bar
    from training.recordings import labelled

    for path, labels in labelled(folders):
        if split_of(labels["id"]) != "test":
            raise ConfigError(f"{path}: is of a {split_of(labels['id'])} script; --evaluate is for test scripts")
    settings = load_settings().model_copy(
        update={"models_dir": models_dir_of(out), "cascade": CascadeConfig(gate=GATE_MODEL, when="always")}
    )
    stages = build_stages(settings)
    report: dict[str, Any] = {}
    try:
        report["test_evidence"] = held_out_evidence(
            folders, models_dir_of(out), cache, hearing_of(settings, stages), stderr
        )
        stdout.print(evidence_line(report["test_evidence"]), markup=False)
        if decode:
            with progress_bar(stderr) as bar:
                task = bar.add_task("following", total=None)
                on_call = partial(_advance, bar, task)
                report["test"] = figures(cascade_all(folders, build_parts(settings, stages), stages, on_call))
            for line in lines(report["test"]):
                stdout.print(line, markup=False)
    finally:
        stages.close()
    return report


def _advance(bar: Progress, task: TaskID, total: int) -> None:
    bar.update(task, total=total, advance=1)
