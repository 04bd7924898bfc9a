"""``scamtap-train intent`` from end to end: read, draw, fit, ship, calibrate."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from inference.engine.graph import Precision
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_atomically
from inference.errors import ConfigError
from inference.intent.calibration import CALIBRATION_FILE, Calibration
from inference.intent.encoder import ENCODER_FILE, EncoderShape, load_encoder
from inference.intent.install import HEAD_FILE, TOKENIZER_FILE, install_intent, model_of
from inference.intent.versions import unseal
from inference.weights import file as weights_file
from inference.weights import open_tensors
from training.intent.calibrate import calibrate
from training.intent.corrupt import Corruptor
from training.intent.data import Call
from training.intent.heard import SOURCE as RECOGNISED
from training.intent.raw import raw_calls
from training.intent.recipe import DEV, TRAIN, Share, draw, long_chats, weights
from training.intent.sources import Sources, counts, provenance, read_sources, recognised_calls
from training.intent.version import models_dir_of, window_tokenizer, write_version
from training.progress import progress_bar

if TYPE_CHECKING:
    from training.intent.encoders import Encoder
    from training.intent.fit import FitConfig
    from training.intent.journal import Journal


def train(
    sources: Sources,
    out: Path,
    encoder: "Encoder",
    recipe: "FitConfig",
    precision: Precision,
    console: Console,
    checkpoint: Path | None = None,
    log: Path | None = None,
) -> dict[str, Any]:
    """Fit a head and write ``out``: encoder.json, head.safetensors, calibration.json, and the model built from them.

    Args:
        sources: the data.
        out: ``<models>/<intent model>/<version>``.
        encoder: the published encoder that is tuned.
        recipe: how.
        precision: of the served graph that is calibrated.
        console: where progress goes.
        checkpoint: file to go on from and to save to while fitting.
        log: folder of this run for TensorBoard.

    Returns:
        The ``training`` and ``calibration`` parts of report.json.

    Raises:
        ConfigError: ``out`` is no such folder, or there is no script.
    """
    models_dir_of(out)  # a folder that no model can be built in is to be said before an hour's work, too
    # torch is imported by these alone, so that `evaluate` works where it is not installed.
    from training.intent.journal import Journal

    # Opened before any work: a folder that cannot be written is to be said now.
    with contextlib.nullcontext() if log is None else Journal(log) as journal:
        hashes = provenance(sources)  # of what is read now: files may change while the fit runs
        calls = read_sources(sources)
        drawn = draw(calls, TRAIN, "train", recipe.seed)
        corruptor = Corruptor(c for c in calls if c.split == "train")
        fitted = fit_version(out, drawn, TRAIN, corruptor, encoder, recipe, console, checkpoint, journal)
        report = {
            "model": {"base": encoder.name, "head_sha256": fitted.head_sha256, "precision": precision}
            | encoder.shape.model_dump(),
            "num_trained": fitted.num_trained,
            "recipe": dataclasses.asdict(recipe) | {"train": shares_json(TRAIN), "dev": shares_json(DEV)},
            "data": hashes,
            "languages": sources.languages,
            "train_calls": fitted.num_calls,
            "recognised_left_out": recognised_calls(sources)[1],
            "left_out": sources.without,
        }
        calibration = calibrate_head(out, calls, fitted.head_sha256, precision, recipe.seed, console)
        if journal is not None:
            journal.conclude({"log_loss": calibration["dev_log_loss"]})
    return {"training": report, "calibration": calibration}


@dataclasses.dataclass(frozen=True, slots=True)
class Fitted:
    """What came of a fit.

    Attributes:
        head_sha256: of the head.safetensors that was written.
        num_trained: parameters that were trained.
        num_calls: per source and label, in the first pass.
    """

    head_sha256: str
    num_trained: int
    num_calls: dict[str, int]


def fit_version(
    out: Path,
    calls: Sequence[Call],
    shares: Mapping[tuple[str, bool], Share],
    corruptor: Corruptor,
    encoder: "Encoder",
    recipe: "FitConfig",
    console: Console,
    checkpoint: Path | None = None,
    journal: "Journal | None" = None,
    holds: Callable[[Call], bool] | None = None,
) -> Fitted:
    """Fit ``encoder`` on ``calls`` and write the head, encoder.json and tokenizer.json to ``out``.

    ``holds``: calls that the head gone on from teaches (:func:`training.intent.fit.fit`).
    Until it is fitted nothing is written there: a fault or Ctrl-C leaves what was there as it was.
    """
    from training.intent.device import best_device
    from training.intent.fit import fit
    from training.intent.layers import LowerLayers
    from training.intent.network import count_parameters
    from training.intent.passes import Passes

    shape = encoder.shape
    lower = None
    if not recipe.is_whole:
        lower = LowerLayers(encoder.tensors, shape, shape.num_layers - recipe.num_tuned).to(best_device())
    tokenizer = window_tokenizer(encoder.tokenizer, shape.reading)
    with progress_bar(console) as bar:
        fitting = bar.add_task("fitting", total=100)
        frozen = bar.add_task("frozen layers")

        def through(done: int, total: int) -> None:
            bar.update(frozen, completed=done, total=total)

        def progress(text: str, done: float) -> None:
            bar.update(fitting, completed=int(100 * done), description=text)

        passes = Passes(calls, shares, corruptor, recipe.seed, lower, tokenizer, through)
        network = fit(encoder.tensors, shape, passes, recipe, progress, checkpoint, journal, holds)
    tensors = encoder.frozen(recipe.num_tuned, recipe.is_whole) | network.shipped()
    digest = write_version(out, shape, tensors, encoder.tokenizer)
    return Fitted(digest, count_parameters(network), counts(passes.calls_of(0)))


def build_head(out: Path, precision: Precision) -> tuple[EncoderShape, Path]:
    """Build the served graph of the head in ``out``, and unseal it; returns its encoder and that one's tokenizer."""
    shape = load_encoder(out / ENCODER_FILE)
    unseal(out)  # its files are about to change
    tokenizer_file = weights_file(shape.artefact, "tokenizer.json") if shape.artefact else out / TOKENIZER_FILE
    base = open_tensors(shape.artefact) if shape.artefact else {}
    install_intent(models_dir_of(out), base, tokenizer_file, precision, model_of(out))
    return shape, tokenizer_file


def write_calibration(out: Path, calibration: Calibration) -> None:
    """Write calibration.json of the version ``out``."""
    text = calibration.model_dump_json(indent=2) + "\n"
    write_atomically(out / CALIBRATION_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def calibrate_head(
    out: Path,
    calls: Sequence[Call],
    head_sha256: str,
    precision: Precision,
    seed: int,
    console: Console,
) -> dict[str, Any]:
    """Build the served graph of ``out``'s head, fit calibration.json on development calls, install all of it.

    ``out`` is ``<models>/<intent model>/<version>``, with head, encoder.json and tokenizer.json.
    """
    shape, tokenizer_file = build_head(out, precision)
    models_dir, model = models_dir_of(out), model_of(out)
    dev_calls = draw(calls, DEV, "dev", seed)
    corruptor = Corruptor(calls)
    rng = np.random.default_rng(seed)
    scripts = [call for call in dev_calls if call.source.startswith("scripts")]
    dev = dev_calls + [corruptor.call(call, rng, rate=0.15, mono=0.0) for call in scripts]
    dev += long_chats([c for c in dev_calls if c.source != RECOGNISED], seed)
    engine = OnnxEngine(models_dir)
    try:
        with progress_bar(console) as bar:
            task = bar.add_task("calibrating", total=len(dev))
            tokenizer = window_tokenizer(tokenizer_file, shape.reading)
            raws = raw_calls(engine, model, tokenizer, dev, lambda: bar.advance(task))
    finally:
        engine.close()
    calibration, loss = calibrate(raws, weights(dev, DEV), head_sha256)
    write_calibration(out, calibration)
    return {"head_sha256": head_sha256, "dev_log_loss": round(loss, 4), "dev_calls": counts(dev), "seed": seed}


def recalibrate(sources: Sources, out: Path, precision: Precision, seed: int, console: Console) -> dict[str, Any]:
    """Fit calibration.json of the head in ``out`` anew; returns the ``calibration`` part of report.json.

    Raises:
        ConfigError: there is no head.
    """
    head = out / HEAD_FILE
    if not head.is_file():
        raise ConfigError(f"{head}: is not there; run: scamtap-train intent")
    digest = hashlib.sha256(head.read_bytes()).hexdigest()
    part = calibrate_head(out, read_sources(sources), digest, precision, seed, console)
    return part | {"data": provenance(sources)}


def shares_json(shares: Mapping[tuple[str, bool], Any]) -> dict[str, Any]:
    """The recipe's shares as JSON."""
    return {f"{source} {'scam' if scam else 'genuine'}": dataclasses.asdict(s) for (source, scam), s in shares.items()}
