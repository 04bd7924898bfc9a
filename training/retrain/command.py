"""``scamtap-train retrain``, ``promote`` and ``rollback``."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inference.errors import ConfigError
from training.evaluation.command import ModelOption, newest_model

# Heavy imports wait until a command runs: `scamtap-train --help` answers at once.

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)

INTERRUPTED_EXIT_CODE = 130
DIGITS = 8


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
    rehearse: Annotated[int, typer.Option(min=0, help="Old training calls beside the new ones.")] = 400,
    gold: Annotated[
        int | None, typer.Option(min=1, help="At most so many gold calls per label.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same data, same seed, same machine: same candidate.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Cores to use.")] = 2,
    promote_it: Annotated[bool, typer.Option("--promote", help="Promote the candidate if it passes.")] = False,
) -> None:
    """Learn new calls, measure the result beside the model that serves, and keep it only if nothing got worse.

    \b
    validate -> leave out near copies -> deal into train, dev, test -> fit from the
    model that serves -> calibrate -> measure both on the frozen gold calls and on
    further new calls -> gates -> a candidate that `scamtap-train promote` takes.

    \b
    Fifty labelled calls of a new script:
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
    try:
        _retrain(
            new, scripts, history or [], known, data, recognised, model or newest_model(), work, speaker, epochs,
            rehearse, gold, seed, threads, promote_it,
        )  # fmt: skip
    except KeyboardInterrupt:
        stderr.print("stopped; the same command goes on where it was")
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None


def _retrain(
    new: Path | None,
    scripts: Path | None,
    history: list[Path],
    known: Path,
    data: Path | None,
    recognised: Path,
    champion: Path,
    work: Path | None,
    speaker: str,
    epochs: int,
    rehearse: int,
    gold: int | None,
    seed: int,
    threads: int,
    promote_it: bool,
) -> None:
    from training.evaluation.labelled import from_scripts
    from training.evaluation.outcome import What
    from training.intent.pipeline import Sources
    from training.retrain.incoming import as_known, read_new, refuse_without_provenance
    from training.retrain.run import GateError, Plan, retrain
    from training.retrain.trainer import WarmStart, WarmTrainer
    from training.retrain.voiced import Hearing, read_new_scripts

    if speaker not in ("kokoro", "espeak"):
        raise ConfigError(f"--speaker {speaker!r} is unknown; give kokoro or espeak")
    given = new or scripts
    assert given is not None  # noqa: S101 -- one of them was given
    sha256 = _sha256(given)
    folder = work or Path("retrain") / sha256[:DIGITS]
    sources = Sources(known, data, recognised)
    if scripts is not None:
        written = read_new_scripts(scripts, folder)
        labelled = from_scripts(written, scripts.name)
        hear = Hearing(written, folder, "espeak" if speaker == "espeak" else "kokoro", seed, stderr)
    else:
        labelled, hear = read_new(given), None
        refuse_without_provenance(given, labelled)
    earlier = tuple(as_known(call) for path in history for call in read_new(path))
    _use_threads(threads)
    config = WarmStart(epochs=epochs, num_rehearsed=rehearse, seed=seed)
    trainer = WarmTrainer(config, stderr, folder / "fit.safetensors")
    what: What = (
        "written words, synthetic voice"
        if scripts
        else "real text"
        if all(c.real for c in labelled)
        else "written text"
    )
    plan = Plan(champion, folder, sources, what, gold, earlier)

    def say(text: str) -> None:
        stdout.print(text, markup=False)

    done = retrain(plan, labelled, sha256, trainer, stderr, say, *([hear] if hear else []))
    for call_id, why in done.left_out.items():
        say(f"left out: {call_id}: {why}")
    table = Table("", f"champion {champion.resolve().name}", "candidate")
    for row in done.table:
        table.add_row(row.what, row.champion, row.candidate)
    stdout.print(table)
    for gate in done.gates:
        say(gate.line())
    if not done.is_passed:
        failed = ", ".join(gate.name for gate in done.gates if not gate.is_passed)
        raise GateError(f"refused by {failed}; {done.candidate} stays for a look and cannot be promoted")
    say(f"passed in {done.minutes:.1f} min; next: scamtap-train promote {done.candidate}")
    if promote_it:
        promote(done.candidate)


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


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


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
    number = put(candidate, models_dir)
    stdout.print(f"version {number} serves; back again: scamtap-train rollback", markup=False)


def rollback(
    models: Annotated[
        Path | None, typer.Option(help="Model repository.", show_default="models/, or SCAMTAP_MODELS")
    ] = None,
) -> None:
    """Go back to the version before the one that serves. Nothing is deleted: the newest is kept as <number>.retired."""
    from inference.intent.versions import rollback as roll_back
    from inference.service.models import default_models_dir

    left, now = roll_back(models or default_models_dir())
    stdout.print(f"version {now} serves; {left} is kept as {left}.retired", markup=False)
