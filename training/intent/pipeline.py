"""``scamtap-train intent`` from end to end: read, draw, fit, ship, calibrate."""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tokenizers import Tokenizer

from inference.engine.graph import Precision
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_atomically
from inference.errors import ConfigError
from inference.intent.calibration import CALIBRATION_FILE, Calibration
from inference.intent.context import WindowTokenizer
from inference.intent.encoder import ENCODER_FILE, Reading, load_encoder
from inference.intent.install import (
    HEAD_FILE,
    INTENT_MODEL,
    TOKENIZER_FILE,
    install_intent,
    model_of,
)
from inference.intent.scorer import IntentConfig
from inference.intent.versions import unseal
from inference.weights import file as weights_file
from inference.weights import open_tensors
from inference.weights.safetensors import write_safetensors
from training.intent.calibrate import calibrate
from training.intent.corrupt import Corruptor
from training.intent.data import (
    LANGUAGES,
    TRAINABLE,
    Call,
    read_all,
    read_scripts,
    sha256_of,
)
from training.intent.heard import SOURCE as RECOGNISED
from training.intent.heard import read_recognised
from training.intent.marked import MARKS_FILE, read_marks, with_marks
from training.intent.raw import raw_calls
from training.intent.recipe import DEV, TRAIN, damage, draw, long_chats, weights
from training.scripts import load_scripts

if TYPE_CHECKING:
    from training.intent.encoders import Encoder
    from training.intent.fit import FitConfig
    from training.intent.journal import Journal

REPORT_FILE = "report.json"
Tensors = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class Sources:
    """Where the data lies, and what is done with it.

    Attributes:
        languages: of the calls that are read.
        is_marked: whether the marks of outside texts are learnt from (:mod:`training.intent.marked`). Acts need them;
            stages alone did no better with them.
        without: scam families and topics of which no call is read, scam or genuine: how does an unseen kind fare?
    """

    scripts: Path
    data: Path | None
    recognised: Path | None = None
    languages: tuple[str, ...] = LANGUAGES
    without: tuple[str, ...] = ()
    is_marked: bool = False

    @property
    def rewritten(self) -> Path:
        """Beside the scripts: some told anew (``of`` in :mod:`training.scripts`), each on the side of its original."""
        return self.scripts.parent / "rewritten"

    def is_left_out(self, call: Call) -> bool:
        """Whether :attr:`without` names the kind of this call."""
        return call.family in self.without or call.topic in self.without


def read_sources(sources: Sources) -> list[Call]:
    """All calls that may train, our own first.

    Raises:
        ConfigError: no script, or malformed data.
    """
    scripts = read_scripts(sources.scripts, sources.languages)
    if not scripts:
        raise ConfigError(f"{sources.scripts}: no call scripts there; give --scripts datasets/scripts")
    scripts += read_scripts(sources.rewritten, sources.languages)
    heard = [call for call in recognised_calls(sources)[0] if call.language in sources.languages]
    outside = read_all(sources.data, TRAINABLE, sources.languages)
    if sources.is_marked:
        outside = with_marks(outside, read_marks(sources.scripts.parent / MARKS_FILE))
    return [call for call in scripts + heard + outside if not sources.is_left_out(call)]


def recognised_calls(sources: Sources) -> tuple[list[Call], int]:
    """Our scripts as our recogniser heard them, and how many copies are left out as their script has changed since."""
    return read_recognised(sources.recognised, {script.id: script for script in load_scripts(sources.scripts)})


def models_dir_of(version_dir: Path) -> Path:
    """The model repository of ``<models>/<intent model>/1``.

    Raises:
        ConfigError: the path does not end so.
    """
    if version_dir.name != "1" or version_dir.parent.name != model_of(version_dir):
        raise ConfigError(f"{version_dir}: want a folder that ends in {INTENT_MODEL}/1, as models/{INTENT_MODEL}/1")
    return version_dir.parent.parent


def progress_bar(console: Console) -> Progress:
    """The progress bar of every long step."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )


def write_head(path: Path, tensors: Mapping[str, np.ndarray]) -> str:
    """Write head.safetensors; returns its sha256."""
    buffer = io.BytesIO()
    shapes = {name: tuple(int(n) for n in tensor.shape) for name, tensor in tensors.items()}
    write_safetensors(buffer, shapes, "float16", lambda name: tensors[name])
    content = buffer.getvalue()
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return hashlib.sha256(content).hexdigest()


def window_tokenizer(path: Path, reading: Reading = "utterances") -> WindowTokenizer:
    """The tokenizer of an encoder."""
    return WindowTokenizer(Tokenizer.from_file(str(path)), IntentConfig().max_tokens, reading=reading)


def calibrate_head(
    out: Path,
    calls: Sequence[Call],
    head_sha256: str,
    precision: Precision,
    seed: int,
    console: Console,
    champion: Calibration | None = None,
) -> dict[str, Any]:
    """Build the served graph of ``out``'s head, fit calibration.json on development calls, install all of it.

    ``out`` is ``<models>/<intent model>/<version>``, with head, encoder.json and tokenizer.json. ``champion``: of the
    model that the head was gone on from, see :func:`training.intent.calibrate.calibrate`.
    """
    models_dir, model = models_dir_of(out), model_of(out)
    shape = load_encoder(out / ENCODER_FILE)
    unseal(out)  # its files are about to change
    tokenizer_file = weights_file(shape.artefact, "tokenizer.json") if shape.artefact else out / TOKENIZER_FILE
    base = open_tensors(shape.artefact) if shape.artefact else {}
    install_intent(models_dir, base, tokenizer_file, precision, model)
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
    calibration, loss = calibrate(raws, weights(dev, DEV), head_sha256, champion)
    text = calibration.model_dump_json(indent=2) + "\n"
    write_atomically(out / CALIBRATION_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
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


def counts(calls: Sequence[Call]) -> dict[str, int]:
    """Calls per source and label, for the report."""
    counted = Counter(f"{c.source} {'scam' if c.is_scam else 'genuine'}" for c in calls)
    return dict(sorted(counted.items()))


def provenance(sources: Sources) -> dict[str, Any]:
    """Hashes of everything read."""
    scripts = sha256_of(path for root in (sources.scripts, sources.rewritten) for path in root.rglob("*.yaml"))
    data = sources.data
    outside = sha256_of(p for stem in TRAINABLE if data and (p := data / f"{stem}.jsonl").exists())
    recognised = sha256_of(sources.recognised.rglob("*.jsonl") if sources.recognised else ())
    return {"scripts": scripts, "recognised": recognised, "outside": outside}


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
        report = _train(sources, out, encoder, recipe, precision, console, checkpoint, journal)
        if journal is not None:
            journal.conclude({"log_loss": report["calibration"]["dev_log_loss"]})
    return report


def _train(
    sources: Sources,
    out: Path,
    encoder: "Encoder",
    recipe: "FitConfig",
    precision: Precision,
    console: Console,
    checkpoint: Path | None,
    journal: "Journal | None",
) -> dict[str, Any]:
    """:func:`train` with its journal open."""
    from training.intent.fit import fit
    from training.intent.layers import LowerLayers
    from training.intent.network import count_parameters
    from training.intent.prepare import prepare

    hashes = provenance(sources)  # of what is read now: files may change while the fit runs
    calls = read_sources(sources)
    corruptor = Corruptor(c for c in calls if c.split == "train")
    drawn = damage(draw(calls, TRAIN, "train", recipe.seed), TRAIN, corruptor, recipe.seed)
    shape = encoder.shape
    lower = None if recipe.is_whole else LowerLayers(encoder.tensors, shape, shape.num_layers - recipe.num_tuned)
    tokenizer = window_tokenizer(encoder.tokenizer, shape.reading)
    with progress_bar(console) as bar:
        task = bar.add_task("frozen layers", total=len(drawn))
        prepared = prepare(drawn, weights(drawn, TRAIN), lower, tokenizer, lambda n: bar.advance(task, n))
    with progress_bar(console) as bar:
        task = bar.add_task("fitting", total=100)

        def progress(text: str, done: float) -> None:
            bar.update(task, completed=int(100 * done), description=text)

        network = fit(encoder.tensors, shape, prepared, recipe, progress, checkpoint, journal)
    unseal(out)  # only now: until here a fault or Ctrl-C leaves what was there as it was
    digest = write_head(out / HEAD_FILE, encoder.frozen(recipe.num_tuned, recipe.is_whole) | network.shipped())
    write_atomically(out / ENCODER_FILE, lambda temporary: temporary.write_text(shape.model_dump_json(indent=2) + "\n"))
    if shape.artefact is None:
        write_atomically(out / TOKENIZER_FILE, lambda temporary: shutil.copyfile(encoder.tokenizer, temporary))
    report = {
        "model": {"base": encoder.name, "head_sha256": digest, "precision": precision} | shape.model_dump(),
        "num_trained": count_parameters(network),
        "recipe": dataclasses.asdict(recipe) | {"train": shares_json(TRAIN), "dev": shares_json(DEV)},
        "data": hashes,
        "languages": sources.languages,
        "train_calls": counts(drawn),
        "recognised_left_out": recognised_calls(sources)[1],
        "left_out": sources.without,
    }
    return {"training": report, "calibration": calibrate_head(out, calls, digest, precision, recipe.seed, console)}


def shares_json(shares: Mapping[tuple[str, bool], Any]) -> dict[str, Any]:
    """The recipe's shares as JSON."""
    return {f"{source} {'scam' if scam else 'genuine'}": dataclasses.asdict(s) for (source, scam), s in shares.items()}


def read_report(path: Path) -> dict[str, Any]:
    """The report.json that is there; empty for none.

    Raises:
        ConfigError: it is not JSON.
    """
    if not path.exists():
        return {}
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON; remove it") from error
    return dict(report)


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write report.json."""
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
