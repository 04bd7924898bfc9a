"""The ``scamtap`` command. Each subcommand is a few lines over :mod:`inference.service`."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from inference import __version__, cli_lists, cli_simulate
from inference import cli_alerts as alerts
from inference import cli_screening as screening
from inference.errors import ConfigError, ScamTapError

if TYPE_CHECKING:
    from inference.config import Settings

# Heavy imports (numba, onnxruntime) wait until a command needs them: `scamtap --help` answers at once.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Listens to forked phone calls, recognises scam scripts by what is said, and warns the subscriber mid-call.",
    epilog="Begin with: scamtap models pull, then scamtap demo.",
)
models_app = typer.Typer(no_args_is_help=True, help="Fetch, build and check the models.")
app.add_typer(models_app, name="models")
app.command()(screening.screen)
app.command()(screening.report)
app.add_typer(cli_lists.lists, name="lists")
app.add_typer(cli_simulate.simulate, name="simulate")
app.add_typer(alerts.alerts, name="alerts")

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class Language(StrEnum):
    """Languages the recogniser is asked for."""

    en = "en"
    zh = "zh"
    auto = "auto"


class Part(StrEnum):
    """What a worker may do alone."""

    screening = "screening"


Precision = Literal["int8", "fp16", "fp32"]  # inference.engine.graph's, whose import takes a while
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML settings; see configs/scamtap.yaml.", show_default="built in"),
]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="triton://HOST:PORT, or onnx: in this process.", show_default="engine.url"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output, for programs.")]


def _print_json(value: Any) -> None:
    # UTF-8 whatever the locale. Half a surrogate pair (a file name that is no text) comes out as JSON's own escape.
    line = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.flush()


def _complain(error: ScamTapError) -> None:
    from inference.service.terminal import printable

    stderr.print(f"scamtap: {printable(str(error))}", style="red", markup=False)


def _settings(config: Path | None, engine: str | None) -> "Settings":
    """Settings of a command that is no service; what it logs of its servers must not come among its results."""
    from inference.config import load_settings
    from inference.service.logs import set_up_logs

    settings = load_settings(config, engine=engine)
    if settings.engine.url is not None:
        set_up_logs(settings.log)
    return settings


def _each_file(files: list[Path], run: Callable[[Path], None]) -> None:
    """Run every file; a bad one is reported and does not cost the others."""
    failed: ScamTapError | None = None
    for path in files:
        try:
            run(path)
        except ScamTapError as error:
            _complain(error)
            failed = error
    if failed is not None:
        raise typer.Exit(failed.exit_code)


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(help="WAV, FLAC, pcap or pcapng.", show_default=False)],
    language: Annotated[Language | None, typer.Option(help="Language spoken.", show_default="speech.language")] = None,
    far_channel: Annotated[int, typer.Option(min=0, max=1, help="Stereo: the channel with the other party.")] = 0,
    far: Annotated[
        str | None, typer.Option(help="Captures: the other party's stream, as SSRC (0x...) or ip:port it comes from.")
    ] = None,
    near: Annotated[
        str | None, typer.Option(help="Captures with SIP: how the subscriber's number begins (else: the called party).")
    ] = None,
    realtime: Annotated[bool, typer.Option(help="As fast as it was spoken, not as fast as possible.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    engine: EngineOption = None,
) -> None:
    """Run recordings through the very stages live calls go through.

    Mono is the other party. In stereo, channel 0 is the other party unless --far-channel says else. RTP streams of a
    capture are paired into calls; the calls' SIP in the same capture says who is who, else --far does.
    """
    from inference.gateway.recording import open_recording
    from inference.service.asked import asked
    from inference.service.models import build_parts, build_stages, default_language
    from inference.service.progress import replay_progress
    from inference.service.replay import replay as replay_call
    from inference.service.terminal import event_line, printable

    settings = _settings(config, engine)
    spoken = default_language(settings) if language is None else None if language == "auto" else str(language)
    stages = build_stages(settings)
    parts = build_parts(settings, stages)

    def run(path: Path) -> None:
        for recorded in open_recording(path, far_channel=far_channel, far=far, near=near):
            if not as_json:
                for notice in recorded.notices:
                    stderr.print(printable(notice), style="dim", markup=False)
            bar = None if as_json else stderr
            with replay_progress(bar, printable(recorded.id), recorded.duration_s) as on_progress:
                follow = partial(replay_call, recorded, parts, stages, language=spoken, realtime=realtime)
                for event in follow(on_progress=on_progress, opinions=opinions):
                    if as_json:
                        _print_json(event.to_json())
                    else:
                        stdout.print(event_line(event))

    try:
        with asked(settings.opinion, stderr) as opinions:
            _each_file(files, run)
    finally:
        stages.close()


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help="JSON Lines of call texts.", show_default=False)],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    engine: EngineOption = None,
) -> None:
    """Score call texts through intent and verdict, as if they were heard.

    One call a line: {"id", "lang", "turns": [{"leg": "far", "text"}]} or {"id", "lang", "text"} (all of it the other
    party). Prints the risk after each turn, the turn of the first alert, the family and the stage.
    """
    from inference.service.asked import asked
    from inference.service.models import build_scorer
    from inference.service.score import read_texts, score_line, score_text

    settings = _settings(config, engine)
    scorer = build_scorer(settings)
    verdict = settings.verdict.calibrated(scorer.calibration)

    def run(path: Path) -> None:
        for call in read_texts(path):
            scored = score_text(scorer, verdict, call, opinions)
            if as_json:
                _print_json(scored)
            else:
                stdout.print(score_line(scored))

    with asked(settings.opinion, stderr) as opinions:
        _each_file(files, run)


@app.command()
def serve(
    config: ConfigOption = None,
    only: Annotated[
        Part | None, typer.Option(help="screening: a worker that screens, without models or media.")
    ] = None,
    engine: EngineOption = None,
) -> None:
    """Follow live calls: RTP in, alerts out, until SIGTERM (drains) or Ctrl-C. Screens call attempts where enabled."""
    from inference.config import load_settings
    from inference.service.logs import set_up_logs

    settings = load_settings(config, engine=engine)
    set_up_logs(settings.log)
    if only is Part.screening:
        from inference.service.screening_worker import run_screening

        run_screening(settings)
        return
    from inference.service.worker import serve_until_signal

    asyncio.run(serve_until_signal(settings))


@app.command()
def top(
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="One look, not one a second.")] = False,
    as_json: JsonOption = False,
) -> None:
    """How a running worker copes: overload, lag, what speech was shed, its riskiest calls. Ctrl-C ends it."""
    from rich.live import Live

    from inference.config import load_settings
    from inference.service.top import looks, open_api, view

    with open_api(load_settings(config).api) as api:
        seen = looks(api, every_s=1.0)
        if once or as_json:
            for load, calls in seen:
                if as_json:
                    _print_json({"load": load, "calls": calls})
                else:
                    stdout.print(view(load, calls))
                if once:
                    return
        with Live(console=stdout, auto_refresh=False) as live:
            for load, calls in seen:
                live.update(view(load, calls), refresh=True)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where what the subscriber heard is written.")] = Path("demo-warning.wav"),
    plain: Annotated[bool, typer.Option(help="Lines instead of a live picture (as when piped).")] = False,
    engine: EngineOption = None,
) -> None:
    """Two live calls over RTP on this machine: a scam, and the real bank. Takes as long as the calls do (~80 s).

    Exits 0 only if the scam call was warned of before its ask and the bank call was left alone. The voices are
    synthetic.
    """
    from inference.config import LogConfig
    from inference.service.demo_view import show_demo
    from inference.service.logs import set_up_logs

    set_up_logs(LogConfig(level="error"))  # the picture says the rest
    if not show_demo(stdout, out, plain=plain, engine=engine):
        raise typer.Exit(1)


@app.command()
def doctor(config: ConfigOption = None, engine: EngineOption = None) -> None:
    """What is missing or slow on this machine, one line each with the remedy."""
    from inference.config import load_settings
    from inference.service.doctor import examine
    from inference.service.logs import silent_logs

    is_fit = True
    with silent_logs():  # each finding says what there is to say
        for finding in examine(load_settings(config, engine=engine)):
            is_fit &= finding.is_ok or not finding.is_needed
            stdout.print(finding.line())
    if not is_fit:
        raise typer.Exit(1)


@models_app.command()
def pull(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which weights; all that a worker needs if none is named.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="A folder that has the weights already; else the sources of the lock.")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Only errors.")] = False,
    precision: Annotated[
        Precision | None,
        typer.Option(help="int8 for CPU, fp16 for GPU.", show_default="what is there, else int8"),
    ] = None,
) -> None:
    """Fetch the published weights once, verify them, and build the ONNX models (about 650 MB, resumable)."""
    from inference.service.models import pull_models

    pull_models(names or (), source, console=None if quiet else stderr, precision=precision)


@models_app.command(name="config")
def configure_models() -> None:
    """Write each model's config.pbtxt, what a Triton server must know of it, from its graph (models pull does too)."""
    from inference.engine.pbtxt import write_configs
    from inference.service.models import default_models_dir

    for path in write_configs(default_models_dir()):
        stdout.print(f"written: {path}", markup=False)


@models_app.command(name="list")
def list_models() -> None:
    """The weights and models here: version, precision, source, licence, whether built. `models verify` proves them."""
    from inference.service.models import model_lines

    for line in model_lines():
        stdout.print(line)


@models_app.command()
def verify() -> None:
    """Hold every model against its digests. Exit 1 where one bit differs: a worker refuses such a model."""
    from inference.service.models import default_models_dir
    from inference.service.sealed import verify_models

    for line in verify_models(default_models_dir()):
        stdout.print(line, markup=False)


IntentModelOption = Annotated[
    str, typer.Option("--model", help="Which intent model: scam_intent, or a language's own, as scam_intent_en.")
]


def _intent_model(name: str) -> Path:
    from inference.intent.install import intent_models
    from inference.service.models import default_models_dir

    models_dir = default_models_dir()
    if name not in (there := intent_models(models_dir)):
        raise ConfigError(f"--model {name!r} is no intent model here; there are {', '.join(there)}")
    return models_dir


@models_app.command()
def seal(model: IntentModelOption = "scam_intent") -> None:
    """Accept the newest version of an intent model as it is: record what it was evaluated with, list its digests.

    For a model that you trained or corrected by hand; training, retraining and promoting seal by themselves.
    """
    from inference.engine.repository import version_dir
    from inference.service.sealed import seal_intent

    stdout.print(f"sealed {seal_intent(version_dir(_intent_model(model), model))}", markup=False)


@models_app.command()
def rollback(model: IntentModelOption = "scam_intent") -> None:
    """Go back to the version before an intent model's newest. A running worker follows within renewal.every_s s."""
    from inference.intent.versions import rollback as roll_back

    left, now = roll_back(_intent_model(model), model)
    stdout.print(f"version {now} of {model} serves; {left} is kept as {left}.retired", markup=False)


def _version(wanted: bool) -> None:
    if wanted:
        stdout.print(f"scamtap {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Console entry point: one line per error, never a traceback for what we raise on purpose.

    Typer sees to Ctrl-C (exit code 130) and to a reader that left (head, less: exit code 1, silently).
    """
    try:
        app(standalone_mode=True)
    except ScamTapError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except OSError as error:  # of our output; what we read has errors of its own
        _complain(ScamTapError(f"output cannot be written ({error.strerror}): free some disk or write elsewhere"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it leaves
        sys.exit(ScamTapError.exit_code)
