"""The ``scamtap-train`` command: from call scripts and texts to the models under ``models/``."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inference.errors import ConfigError, ScamTapError
from training.announce.command import announce
from training.data.command import app as data_app
from training.evaluation.command import evaluate, unseen
from training.gate.command import gate
from training.mine.command import labelled, mine
from training.parallel import DEFAULT_CORES, use_cores
from training.retrain.command import promote, retrain, rollback
from training.screening.command import reputation, screening
from training.voice.command import voice
from training.voice.sheet import voice_sheet

# torch and onnxruntime are imported by the commands that need them: `scamtap-train --help` answers at once.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Trains and measures ScamTap's models. Begin with: scamtap models pull, then scamtap-train intent.",
)
stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

app.add_typer(data_app, name="data")

ScriptsOption = Annotated[Path, typer.Option("--scripts", help="Call scripts (YAML), see datasets/scripts/README.md.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Folder with outside call texts (*.jsonl), see datasets/README.md.", show_default="none"
    ),
]
RecognisedOption = Annotated[
    Path,
    typer.Option("--recognised", help="Folder of voiced scripts as recognised (*.jsonl), see scamtap-train recognise."),
]
ModelOption = Annotated[Path, typer.Option("--model", help="Version folder of the intent model.")]


@app.command()
def intent(
    scripts: ScriptsOption = Path("datasets/scripts"),
    data: DataOption = None,
    recognised: RecognisedOption = Path("datasets/recognised"),
    out: Annotated[Path, typer.Option(help="Version folder to write: head, calibration, report.")] = Path(
        "models/scam_intent/1"
    ),
    settings: Annotated[
        Path | None,
        typer.Option(help="Encoder and recipe (YAML); options below win.", show_default="the built-in ones"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="A locked encoder, 'scratch', a folder, or a hub repository.", show_default=False),
    ] = None,
    go_on_from: Annotated[
        Path | None,
        typer.Option(
            help="A version whose weights are trained further, e.g. models/scam_intent_en/1.", show_default=False
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.01, max=10, help="Factor on the learning rates.", show_default=False)
    ] = None,
    use_layers: Annotated[
        int | None, typer.Option(min=1, max=48, help="Lowest layers used.", show_default=False)
    ] = None,
    layers: Annotated[
        int | None, typer.Option(min=0, max=48, help="Upper ones of these that are tuned.", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=50, show_default=False)] = None,
    seed: Annotated[
        int | None, typer.Option(help="Same data, same seed, same machine: same model.", show_default=False)
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(help="Of calls to read: en, zh. Left out: the settings', English for another encoder."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = DEFAULT_CORES,
    test: Annotated[bool, typer.Option(help="Measure on test calls; --no-test while variants are compared.")] = True,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave a family or topic out, to see how an unknown kind fares.", show_default=False),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Save to this file now and then, and go on from it.", show_default=False)
    ] = None,
    runs: Annotated[Path, typer.Option(help="A folder per run is written there: tensorboard --logdir runs.")] = Path(
        "runs"
    ),
    log: Annotated[bool, typer.Option(help="Whether it is.")] = True,
) -> None:
    """Train the scam-intent head, calibrate it, measure it, and write all of it to --out.

    Our scripts alone suffice to run it; with --data the outside texts that may train shipped weights are added.
    Three quarters of an hour on two free cores that multiply bfloat16 themselves, hours on others; a GPU is used where
    there is one, several processes under torchrun.
    """
    # Threads that wait for one another spin by default: on a machine that others use too, that cost six times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    from inference.intent.install import HEAD_FILE
    from inference.service.sealed import seal_intent
    from inference.weights.safetensors import read_safetensors
    from training.evaluation.run import judge_all, languages_of, report_of
    from training.evaluation.sets import standing_sets
    from training.intent.encoders import SCRATCH, open_encoder, open_version, scratch_encoder
    from training.intent.pipeline import train
    from training.intent.report import REPORT_FILE, gone_on_from, write_report
    from training.intent.settings import load_training
    from training.intent.sources import Sources, read_sources

    use_cores(threads, is_training=True)
    given = {"epochs": epochs, "num_tuned": layers, "seed": seed}
    recipe = {key: value for key, value in given.items() if value is not None}
    chosen = load_training(settings).changed(encoder, use_layers, language, recipe)
    fit = chosen.fit if rate is None else chosen.fit.slowed(rate)
    has_acts = fit.act_weight > 0
    sources = Sources(scripts, data, recognised, chosen.languages, tuple(without or ()), is_marked=has_acts)
    before = None if go_on_from is None else gone_on_from(go_on_from)
    if go_on_from is not None:
        base = open_version(go_on_from)
        chosen.refuse_other(base.shape, go_on_from)
        fit = fit.as_tuned(base.shape, read_safetensors(go_on_from / HEAD_FILE))
        if layers not in (None, fit.num_tuned):
            raise ConfigError(f"--layers {layers}: {go_on_from} has {fit.num_tuned} tuned, and they are tuned again")
    elif chosen.encoder == SCRATCH:
        base = scratch_encoder((c for c in read_sources(sources) if c.split == "train"), out, fit.seed)
    else:
        base = open_encoder(chosen.encoder, chosen.num_layers).read_as(chosen.reading)
    started = time.monotonic()
    # One that goes on writes where it wrote before.
    name = time.strftime("%Y%m%d-%H%M%S") if resume is None else resume.stem
    folder = runs / f"{name}-{Path(chosen.encoder).name}" if log else None
    report = train(sources, out, base, fit, "int8", stderr, resume, folder)
    if before is not None:
        report["training"]["gone_on_from"] = before
    report["training"]["minutes"] = round((time.monotonic() - started) / 60, 1)
    write_report(out / REPORT_FILE, report)
    seal_intent(out)
    if test:
        sets = standing_sets(replace(sources, languages=languages_of(out)), 40)
        judged = judge_all(out, sets, stderr, lambda text: stdout.print(text, markup=False))
        report["test"] = report_of([out], judged).sets
        write_report(out / REPORT_FILE, report)
    stdout.print(f"wrote {out}")


@app.command()
def calibrate(
    scripts: ScriptsOption = Path("datasets/scripts"),
    data: DataOption = None,
    recognised: RecognisedOption = Path("datasets/recognised"),
    model: ModelOption = Path("models/scam_intent/1"),
    seed: Annotated[int, typer.Option(help="Which development calls are drawn.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = DEFAULT_CORES,
) -> None:
    """Fit the calibration of a trained head anew, on development calls: weights, stage thresholds, operating point.

    A few minutes, no torch. Updates calibration.json, report.json and the built model.
    """
    from inference.intent.calibration import CALIBRATION_FILE, load_calibration
    from inference.service.sealed import seal_intent
    from training.intent.pipeline import recalibrate
    from training.intent.report import REPORT_FILE, read_report, write_report
    from training.intent.sources import Sources

    use_cores(threads)
    report = read_report(model / REPORT_FILE)
    languages = load_calibration(model / CALIBRATION_FILE).languages
    report["calibration"] = recalibrate(Sources(scripts, data, recognised, languages), model, "int8", seed, stderr)
    report.pop("test", None)
    write_report(model / REPORT_FILE, report)
    seal_intent(model)
    stdout.print(f"wrote {model}; measure it with: scamtap-train evaluate --update", markup=False)


app.command()(gate)
app.command()(evaluate)
app.command()(unseen)
app.command()(retrain)
app.command()(promote)
app.command()(rollback)
app.command()(mine)
app.command()(labelled)
app.command()(voice)
app.command("voice-sheet")(voice_sheet)
app.command()(announce)
app.command()(screening)
app.command()(reputation)


@app.command()
def recordings(
    folders: Annotated[list[Path], typer.Argument(help="Folders of <name>.wav with <name>.json.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Replay labelled recordings through the stages live calls go through, and hold them against their labels.

    Prints, per call and over all: word errors, CPU seconds per second of speech, warnings and their lead on the ask,
    false alarms, and whether the voices are synthetic.
    """
    from inference.config import load_settings
    from inference.service.models import build_parts, build_stages
    from training.recordings import fare_all, fared_line, summary, summary_lines

    settings = load_settings()
    stages = build_stages(settings)
    try:
        fared = fare_all(
            folders,
            build_parts(settings, stages),
            stages,
            lambda call: stderr.print(fared_line(call), markup=False, highlight=False),
        )
    finally:
        stages.close()
    figures = summary(fared)
    if as_json:
        stdout.print_json(data=figures)
    else:
        for line in summary_lines(figures):
            stdout.print(line, markup=False)


@app.command()
def recognise(
    folders: Annotated[list[Path], typer.Argument(help="Folders of <name>.wav with <name>.json.", show_default=False)],
    out: Annotated[Path, typer.Option(help="JSON Lines to write, or to go on with.")],
) -> None:
    """Write down what our own recogniser makes of voiced scripts, for `scamtap-train intent --recognised`.

    The recordings go through the segmenter and recogniser of live calls; each utterance is joined by its time to the
    turn of the script that was being said. Prints the word error rate per synthesiser. About 2 CPU minutes per hour of
    recordings; run it again to go on after an interruption.
    """
    from inference.config import load_settings
    from inference.service.models import build_parts, build_stages
    from training.intent.heard import HeardCall, word_error_rates
    from training.progress import progress_bar
    from training.recognise import recognise_all

    settings = load_settings()
    stages = build_stages(settings)
    try:
        with progress_bar(stderr) as bar:
            task = bar.add_task("recognising", total=None)

            def on_call(_call: HeardCall | None, total: int) -> None:
                bar.update(task, total=total, advance=1)

            heard = recognise_all(folders, out, build_parts(settings, stages), stages, on_call)
    finally:
        stages.close()
    for name, rate in word_error_rates(heard).items():
        stdout.print(f"{name}: word error rate {rate} (synthetic speech)", markup=False)
    stdout.print(f"{len(heard)} calls in {out}", markup=False)


def main() -> None:
    """Console entry point: one line per error, never a traceback for what we raise on purpose."""
    try:
        app(standalone_mode=True)
    except ScamTapError as error:
        stderr.print(f"scamtap-train: {error}", style="red", markup=False)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
