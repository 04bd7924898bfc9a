"""``scamtap-train promote`` and ``rollback``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inference.errors import ConfigError
from inference.intent.install import INTENT_MODEL, intent_models

stdout = Console(highlight=False, soft_wrap=True)


def promote(
    candidate: Annotated[Path, typer.Argument(help="Candidate of a retraining: retrain/<hash>/models/scam_intent/1.")],
    models: Annotated[
        Path | None, typer.Option(help="Model repository.", show_default="models/, or SCAMTAP_MODELS")
    ] = None,
) -> None:
    """Make a candidate that passed its gates the version that serves: the next number under models/scam_intent.

    It must have been made from the version that serves now: another one may have learnt what it has not. It is copied
    beside, held against its digests, and moved into place in one step. A running `scamtap serve` takes it up within
    renewal.every_s seconds: new calls begin with it, calls that are on end with the version they began with. Back
    again: scamtap-train rollback
    """
    from inference.engine.onnx import OnnxEngine
    from inference.intent.install import model_of
    from inference.intent.versions import check_record
    from inference.intent.versions import promote as put
    from inference.service.models import default_models_dir
    from inference.speech.graph import ENCODER
    from training.retrain.run import refuse_ungated, refuse_unless_parent_serves

    models_dir = models or default_models_dir()
    record, model = refuse_ungated(candidate), model_of(candidate)
    refuse_unless_parent_serves(candidate, record, models_dir, model)
    engine = OnnxEngine(models_dir)
    try:
        speech = engine.spec(ENCODER).metadata
    finally:
        engine.close()
    check_record(candidate, {"head_sha256": record.head_sha256, "precision": record.precision}, speech)
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
