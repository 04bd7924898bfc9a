"""``scamtap-train retrain``, ``promote`` and ``rollback``."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from inference.errors import ConfigError
from inference.intent.install import INTENT_MODEL, intent_models
from training.evaluation.command import ModelOption, newest_model
from training.parallel import DEFAULT_CORES, use_cores

if TYPE_CHECKING:
    from training.retrain.run import Retrained
    from training.voice.voices import Synthesiser

# Heavy imports wait until a command runs: `scamtap-train --help` answers at once.

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED_EXIT_CODE = 130
DIGITS = 8
NUM_DEV = 5000  # all there are
QUICK_CALLS, QUICK_GOLD = 40, 12


def retrain(
    new: Annotated[
        Path | None,
        typer.Argument(help="Labelled calls (JSON Lines): texts, or a manifest of transcribed recordings."),
    ] = None,
    scripts: Annotated[
        Path | None, typer.Option(help="New call scripts (YAML) instead: they are voiced and heard first.")
    ] = None,
    history: Annotated[
        list[Path] | None, typer.Option(help="Earlier deliveries: rehearsed, and not learnt from twice.")
    ] = None,
    known: Annotated[Path, typer.Option(help="Scripts known already; their test side is gold.")] = Path(
        "datasets/scripts"
    ),
    data: Annotated[Path | None, typer.Option(help="Outside texts, rehearsed, see datasets/README.md.")] = None,
    recognised: Annotated[Path, typer.Option(help="Known scripts as recognised.")] = Path("datasets/recognised"),
    model: ModelOption = None,
    work: Annotated[Path | None, typer.Option(help="Folder of this run.", show_default="retrain/<hash of NEW>")] = None,
    speaker: Annotated[str, typer.Option(help="Voices of --scripts: kokoro, or espeak (cheap).")] = "kokoro",
    epochs: Annotated[int, typer.Option(min=1, max=50)] = 2,
    rehearse: Annotated[int, typer.Option(min=0, help="Old training calls beside the new ones.")] = 1000,
    gold: Annotated[
        int | None, typer.Option(min=1, help="At most so many gold calls per label.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same data, same seed, same machine: same candidate.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = DEFAULT_CORES,
    voice: Annotated[bool, typer.Option(help="Voice --scripts and hear them; else learn them as written.")] = True,
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes instead of an hour: few old calls, one pass.")
    ] = False,
    promote_it: Annotated[bool, typer.Option("--promote", help="Promote the candidate if it passes.")] = False,
) -> None:
    """Learn new calls, measure the result beside the model that serves, and keep it only if nothing got worse.

    \b
    validate -> leave out near copies -> deal into train, dev, test -> fit from the
    model that serves -> calibrate -> measure both on the frozen gold calls and on
    further new calls -> gates -> a candidate that `scamtap-train promote` takes.

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
    rise, the calibration is off, a phrase switches the alarm off (poisoning), or a
    call's provenance is missing. Ctrl-C is fine: the same command goes on.
    """  # noqa: D301 -- typer wants its \b as it stands
    if (new is None) == (scripts is None):
        raise ConfigError("give NEW.jsonl, or --scripts new_scripts.yaml")
    if speaker not in ("kokoro", "espeak"):
        raise ConfigError(f"--speaker {speaker!r} is unknown; give kokoro or espeak")
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
        epochs=1 if quick else epochs,
        num_rehearsed=QUICK_CALLS if quick else rehearse,
        num_dev=QUICK_CALLS if quick else NUM_DEV,
        max_gold=QUICK_GOLD if quick else gold,
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
    epochs: int
    num_rehearsed: int
    num_dev: int
    max_gold: int | None
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
    from training.retrain.incoming import as_known, read_new, refuse_without_provenance
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
    # Imports torch, so only now: what is wrong with the calls is said on machines without it, too.
    use_cores(threads, is_training=True)
    earlier = tuple(as_known(call) for path in order.history for call in read_new(path))
    champion = _champion(order.model, {call.lang for call in labelled})
    sources = Sources(order.known, order.data, order.recognised, languages_of(champion))
    plan = Plan(champion, folder, sources, what, order.max_gold, earlier)
    warm = WarmStart(order.epochs, order.num_rehearsed, order.num_dev, seed=order.seed)

    def say(text: str) -> None:
        stdout.print(text, markup=False)

    trainer = WarmTrainer(warm, stderr, folder)
    done = retrain(plan, labelled, sha256, trainer, stderr, say, *([hear] if hear else []))
    _show(done, champion.resolve().name, say)
    say(f"passed in {done.minutes:.1f} min; next: scamtap-train promote {done.candidate}")
    return done.candidate


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


def promote(
    candidate: Annotated[Path, typer.Argument(help="Candidate of a retraining: retrain/<hash>/models/scam_intent/1.")],
    models: Annotated[
        Path | None, typer.Option(help="Model repository.", show_default="models/, or SCAMTAP_MODELS")
    ] = None,
) -> None:
    """Make a candidate that passed its gates the version that serves: the next number under models/scam_intent.

    It is copied beside, held against its digests, and moved into place in one step. A running `scamtap serve` takes it
    up within renewal.every_s seconds: new calls begin with it, calls that are on end with the version they began with.
    Back again: scamtap-train rollback
    """
    from inference.engine.onnx import OnnxEngine
    from inference.intent.install import model_of
    from inference.intent.versions import check_record
    from inference.intent.versions import promote as put
    from inference.service.models import default_models_dir
    from inference.speech.graph import ENCODER
    from training.retrain.run import refuse_ungated

    models_dir = models or default_models_dir()
    record = refuse_ungated(candidate)
    engine = OnnxEngine(models_dir)
    try:
        speech = engine.spec(ENCODER).metadata
    finally:
        engine.close()
    check_record(candidate, {"head_sha256": record.head_sha256, "precision": record.precision}, speech)
    model = model_of(candidate)
    number = put(candidate, models_dir, model)
    again = "" if model == INTENT_MODEL else f" --model {model}"
    stdout.print(f"version {number} of {model} serves; back again: scamtap-train rollback{again}", markup=False)


def rollback(
    models: Annotated[
        Path | None, typer.Option(help="Model repository.", show_default="models/, or SCAMTAP_MODELS")
    ] = None,
    model: Annotated[str, typer.Option(help="Which: scam_intent, or a language's own, as scam_intent_en.")] = (
        INTENT_MODEL
    ),
) -> None:
    """Go back to the version before the one that serves. Nothing is deleted: the newest is kept as <number>.retired."""
    from inference.intent.versions import rollback as roll_back
    from inference.service.models import default_models_dir

    models_dir = models or default_models_dir()
    if model not in (there := intent_models(models_dir)):
        raise ConfigError(f"--model {model!r} is no intent model in {models_dir}; there are {', '.join(there)}")
    left, now = roll_back(models_dir, model)
    stdout.print(f"version {now} of {model} serves; {left} is kept as {left}.retired", markup=False)
