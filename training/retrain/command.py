"""``scamtap-train retrain``; with it :mod:`training.retrain.promotion`, of which what it made is promoted."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from inference.errors import ConfigError
from training.evaluation.command import ModelOption
from training.evaluation.serving import newest_model
from training.parallel import DEFAULT_CORES, use_cores
from training.retrain.promotion import promote, rollback

if TYPE_CHECKING:
    from training.evaluation.labelled import LabelledText
    from training.retrain.run import Retrained
    from training.voice.voices import Synthesiser

# Heavy imports wait until a command runs: `scamtap-train --help` answers at once.

__all__ = ["promote", "retrain", "rollback"]

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED_EXIT_CODE = 130
DIGITS = 8


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a retraining does where the command line does not say; ``max_gold`` None: all gold calls."""

    epochs: int
    num_rehearsed: int
    num_dev: int
    max_gold: int | None


WHOLE = Extent(epochs=2, num_rehearsed=1000, num_dev=5000, max_gold=None)  # 5,000: all the development calls there are
QUICK = Extent(epochs=1, num_rehearsed=40, num_dev=40, max_gold=12)
DEFAULT_RATE = 0.25  # of WarmStart, which is not imported until calls are read


def retrain(
    new: Annotated[
        Path | None,
        typer.Argument(help="Labelled calls (JSON Lines): texts, or a manifest of transcribed recordings."),
    ] = None,
    scripts: Annotated[
        Path | None, typer.Option(help="New call scripts (YAML) instead: they are voiced and heard first.")
    ] = None,
    history: Annotated[
        list[Path] | None,
        typer.Option(help="Earlier deliveries (JSON Lines, or scripts): rehearsed, and not learnt from twice."),
    ] = None,
    known: Annotated[Path, typer.Option(help="Scripts known already; their test side is gold.")] = Path(
        "datasets/scripts"
    ),
    data: Annotated[Path | None, typer.Option(help="Outside texts, rehearsed, see datasets/README.md.")] = None,
    recognised: Annotated[Path, typer.Option(help="Known scripts as recognised.")] = Path("datasets/recognised"),
    model: ModelOption = None,
    work: Annotated[Path | None, typer.Option(help="Folder of this run.", show_default="retrain/<hash of NEW>")] = None,
    speaker: Annotated[str, typer.Option(help="Voices of --scripts: kokoro, or espeak (cheap).")] = "kokoro",
    epochs: Annotated[int | None, typer.Option(min=1, max=50, show_default="2, with --quick 1")] = None,
    rate: Annotated[
        float,
        typer.Option(min=0.01, max=10, help="Factor on the champion's learning rates: more is learnt, and forgotten."),
    ] = DEFAULT_RATE,
    rehearse: Annotated[
        int | None,
        typer.Option(min=0, help="Old training calls beside the new ones.", show_default="1000, with --quick 40"),
    ] = None,
    gold: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most so many gold calls per label: a trial, whose candidate cannot be promoted.",
            show_default="all, with --quick 12",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same data, same seed, same machine: same candidate.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = DEFAULT_CORES,
    voice: Annotated[bool, typer.Option(help="Voice --scripts and hear them; else learn them as written.")] = True,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A trial, minutes instead of an hour: few old calls, few gold calls, one pass."),
    ] = False,
    promote_it: Annotated[bool, typer.Option("--promote", help="Promote the candidate if it passes.")] = False,
) -> None:
    """Learn new calls, measure the result beside the model that serves, and keep it only if nothing got worse.

    \b
    validate -> leave out near copies -> deal into train and test -> fit from the model
    that serves, old calls held to what it says of them -> does its calibration still
    hold on old development calls? else go less far -> measure both on the frozen gold
    calls and on further new calls -> gates -> a candidate that `scamtap-train promote`
    takes.

    \b
    Fifty labelled calls of a new script (the same with --quick in minutes, to see how it goes):
      scamtap-train retrain calls.jsonl
    A new script that nobody has recorded:
      scamtap-train retrain --scripts new_scripts.yaml
    A line of calls.jsonl (all of these fields; see training/evaluation/labelled.py):
      {"id": "n-1", "label": "scam", "family": "refund", "topic": "refund",
       "turns": [{"leg": "far", "text": "..."}], "consent": "...",
       "legal_basis": "...", "source": "...", "licence": "..."}

    \b
    It refuses (exit code 1) with reasons where old scams are missed, false alarms
    rise, the calibration is off, a phrase switches the alarm off (poisoning), no new
    scam was left to measure on, or a call's provenance is missing. Ctrl-C is fine:
    the same command goes on.
    """  # noqa: D301 -- typer wants its \b as it stands
    if (new is None) == (scripts is None):
        raise ConfigError("give NEW.jsonl, or --scripts new_scripts.yaml")
    if speaker not in ("kokoro", "espeak"):
        raise ConfigError(f"--speaker {speaker!r} is unknown; give kokoro or espeak")
    if promote_it and (quick or gold is not None):
        raise ConfigError("--promote is decided on all gold calls: leave out --quick and --gold")
    usual = QUICK if quick else WHOLE
    order = Order(
        new=new,
        scripts=scripts,
        history=tuple(history or ()),
        known=known,
        data=data,
        recognised=recognised,
        model=model,
        work=work,
        synthesiser=None if not voice else "espeak" if speaker == "espeak" else "kokoro",
        extent=Extent(
            epochs=usual.epochs if epochs is None else epochs,
            num_rehearsed=usual.num_rehearsed if rehearse is None else rehearse,
            num_dev=usual.num_dev,
            max_gold=usual.max_gold if gold is None else gold,
        ),
        rate=rate,
        seed=seed,
    )
    try:
        done = _carry_out(order, threads)
    except KeyboardInterrupt:
        stderr.print("stopped; the same command goes on where it was")
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    if promote_it:
        promote(done)


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for on the command line."""

    new: Path | None
    scripts: Path | None
    history: tuple[Path, ...]
    known: Path
    data: Path | None
    recognised: Path
    model: Path | None
    work: Path | None
    synthesiser: "Synthesiser | None"
    extent: Extent
    rate: float
    seed: int


def _carry_out(order: Order, threads: int) -> Path:
    """Retrain, print the table and the gates; returns the candidate.

    Raises:
        GateError: it did not pass.
    """
    from training.evaluation.labelled import from_scripts
    from training.evaluation.outcome import What
    from training.evaluation.run import languages_of
    from training.evaluation.sets import VOICED
    from training.intent.sources import Sources
    from training.retrain.incoming import read_new, refuse_without_provenance
    from training.retrain.run import Plan, retrain
    from training.retrain.trainer import WarmStart, WarmTrainer
    from training.retrain.voiced import Hearing, read_new_scripts

    given = order.new or order.scripts or Path()
    sha256 = _sha256(given)
    folder = order.work or Path("retrain") / sha256[:DIGITS]
    hear = None
    what: What = "written text"
    if order.scripts is not None:
        written = read_new_scripts(order.scripts)
        labelled = from_scripts(written, order.scripts.name)
        if order.synthesiser is not None:
            hear, what = Hearing(written, folder, order.synthesiser, order.seed, stderr), VOICED
    else:
        labelled = read_new(given)
        refuse_without_provenance(given, labelled)
        what = "real text" if all(call.real for call in labelled) else what
    earlier = {str(path): _earlier(path) for path in order.history}
    # Imports torch, so only now: what is wrong with the calls is said on machines without it, too.
    use_cores(threads, is_training=True)
    champion = _champion(order.model, {call.lang for call in labelled})
    sources = Sources(order.known, order.data, order.recognised, languages_of(champion))
    extent = order.extent
    plan = Plan(champion, folder, sources, what, extent.max_gold, earlier)
    warm = WarmStart(extent.epochs, extent.num_rehearsed, extent.num_dev, order.rate, seed=order.seed)

    def say(text: str) -> None:
        stdout.print(text, markup=False)

    trainer = WarmTrainer(warm, stderr, folder)
    done = retrain(plan, labelled, sha256, trainer, stderr, say, *([hear] if hear else []))
    _show(done, champion.resolve().name, say)
    is_trial = extent.max_gold is not None
    then = (
        "to promote it, leave out --quick and --gold" if is_trial else f"next: scamtap-train promote {done.candidate}"
    )
    say(f"passed in {done.minutes:.1f} min; {then}")
    return done.candidate


def _earlier(path: Path) -> "list[LabelledText]":
    """An earlier delivery, as it was read when it was new.

    Raises:
        ConfigError: it cannot be read, or lacks provenance.
    """
    from training.evaluation.labelled import from_scripts
    from training.retrain.incoming import read_new, refuse_without_provenance
    from training.retrain.voiced import read_new_scripts

    if path.is_dir() or path.suffix == ".yaml":
        return from_scripts(read_new_scripts(path), path.name)
    labelled = read_new(path)
    refuse_without_provenance(path, labelled)
    return labelled


def _champion(model: Path | None, languages: set[str]) -> Path:
    """The version to start from: that which judges calls in ``languages``.

    Raises:
        ConfigError: they are judged by several models, or not by the one that was asked for.
    """
    from training.evaluation.run import languages_of

    found = {model} if model is not None else {newest_model(language) for language in languages}
    if len(found) > 1:
        spoken = ", ".join(sorted(languages))
        raise ConfigError(f"the calls are in {spoken}, each judged by a model of its own: give one language at a time")
    champion = found.pop()
    if unknown := languages - set(languages_of(champion)):
        raise ConfigError(f"{champion}: does not judge calls in {min(unknown)}; leave --model out, or those calls")
    return champion


def _show(done: "Retrained", champion: str, say: Callable[[str], None]) -> None:
    from training.retrain.run import GateError

    for call_id, why in done.left_out.items():
        say(f"left out: {call_id}: {why}")
    table = Table("", f"champion {champion}", "candidate")
    for row in done.table:
        table.add_row(row.what, row.champion, row.candidate)
    stdout.print(table)
    for gate in done.gates:
        say(gate.line())
    if not done.is_passed:
        failed = ", ".join(gate.name for gate in done.gates if not gate.is_passed)
        raise GateError(f"refused by {failed}; {done.candidate} stays for a look and cannot be promoted")


def _sha256(path: Path) -> str:
    files = [path] if path.is_file() else sorted(path.rglob("*.yaml")) if path.is_dir() else []
    if not files:
        raise ConfigError(f"{path}: is not there; give labelled calls (JSON Lines), or --scripts with YAML")
    digest = hashlib.sha256()
    for file in files:
        try:
            digest.update(file.read_bytes())
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    return digest.hexdigest()
