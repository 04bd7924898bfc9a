"""The models of this installation: pulled, built into the repository, and joined into the stages that calls use."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from inference import intent, speech
from inference.audio import Leg
from inference.audio.segment import PCM
from inference.audio.segmenter import Segmenter
from inference.audio.vad import VAD_MODEL, Probabilities, default_vad
from inference.engine import graph
from inference.engine.base import Engine
from inference.engine.graph import Precision
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import BUILT_SUMS_FILE, MODEL_FILE, version_dir, write_atomically
from inference.engine.sums import read_sums, write_sums
from inference.errors import ConfigError, WeightsError
from inference.intent.encoder import load_encoder
from inference.intent.install import (
    HEAD_FILE,
    INTENT_MODEL,
    TOKENIZER_FILE,
    calibration_path,
    encoder_path,
    install_intent,
)
from inference.intent.install import tokenizer_path as intent_tokenizer_path
from inference.intent.scorer import IntentScorer
from inference.intent.versions import RECORD_FILE
from inference.service.call import CallParts
from inference.service.sealed import check_intent, check_speech, seal_intent
from inference.service.stages import Stages
from inference.speech.graph import DECODER, ENCODER
from inference.speech.install import install_speech
from inference.speech.install import tokenizer_path as speech_tokenizer_path
from inference.speech.recogniser import Recogniser
from inference.verdict.verdict import Verdict
from inference.weights import cache_dir, file, load_lock, open_tensors, pull, status
from inference.weights.bar import progress_bars

if TYPE_CHECKING:
    from inference.config import Settings

SPEECH_WEIGHTS = "whisper-base"
BUILD_KEY_FILE = "build.sha256"
PRECISION: Precision = "int8"
MODEL_HEX_DIGITS = 12
_BUILT_FILES = (MODEL_FILE, TOKENIZER_FILE)


@dataclass(frozen=True, slots=True)
class _Built:
    """A model made here of pulled weights; of no artefact where it ships all of its own."""

    artefact: str | None
    names: tuple[str, ...]
    sources: tuple[Path, ...]  # code and data that decide what comes out


def default_models_dir() -> Path:
    """``SCAMTAP_MODELS``, else the ``models`` folder of the clone that this package runs from.

    Raises:
        WeightsError: neither is there.
    """
    if configured := os.environ.get("SCAMTAP_MODELS"):
        return Path(configured)
    folder = Path(__file__).resolve().parents[2] / "models"
    if not (folder / VAD_MODEL).is_dir():
        raise WeightsError("no model repository here: install from a clone (pip install -e .) or set models_dir")
    return folder


def _builds(models_dir: Path) -> tuple[_Built, _Built]:
    shared = Path(graph.__file__)
    return (
        _Built(SPEECH_WEIGHTS, (ENCODER, DECODER), (shared, *sorted(Path(speech.__path__[0]).glob("[gmv]*.py")))),
        _Built(
            load_encoder(encoder_path(models_dir)).artefact,
            (INTENT_MODEL,),
            (
                shared,
                Path(intent.__path__[0]) / "graph.py",
                encoder_path(models_dir),
                version_dir(models_dir, INTENT_MODEL) / HEAD_FILE,
            ),
        ),
    )


def _build_key(built: _Built) -> str:
    """What the result depends on: a model built with the same key need not be built again."""
    locked = load_lock().artefact(built.artefact).model_dump_json() if built.artefact else ""
    digest = hashlib.sha256(locked.encode())
    for path in built.sources:
        digest.update(path.read_bytes())
    return f"{digest.hexdigest()} {PRECISION}\n"


def _is_current(models_dir: Path, built: _Built) -> bool:
    folders = [version_dir(models_dir, name) for name in built.names]
    if not all((folder / MODEL_FILE).is_file() and read_sums(folder / BUILT_SUMS_FILE) for folder in folders):
        return False
    key_file = folders[0] / BUILD_KEY_FILE
    return key_file.is_file() and key_file.read_text() == _build_key(built)


def pull_models(
    names: Sequence[str] = (),
    source: Path | None = None,
    *,
    console: Console | None,
    models_dir: Path | None = None,
) -> None:
    """Fetch what is missing and build what is out of date; a second run does nothing.

    Args:
        names: weights to pull; empty for all that a worker needs.
        source: a folder that has them, instead of the sources of the lock.
        console: where progress is shown; None shows nothing.
        models_dir: the model repository.

    Raises:
        ConfigError: no weights have such a name.
        WeightsError: no source worked, a hash is wrong, or the disk is full.
    """
    models_dir = models_dir or default_models_dir()
    artefacts = load_lock().artefacts
    if unknown := set(names) - set(artefacts):
        raise ConfigError(f"no weights are called {min(unknown)}; there are {', '.join(sorted(artefacts))}")
    for name in names or [name for name, artefact in artefacts.items() if not artefact.training_only]:
        if console is None:
            pull(name, source_dir=source)
            continue
        with progress_bars(console) as bars:
            pulled = pull(name, source_dir=source, progress=bars)
        origin = f"from {pulled.source}" if pulled.is_new else f"here already, from {pulled.source}"
        console.print(f"{pulled.title}: {pulled.licence}, {pulled.num_bytes / 1e6:.0f} MB, {origin}", markup=False)
    for built in _builds(models_dir):
        if (not names or built.artefact in names) and not _is_current(models_dir, built):
            if console is not None:
                console.print(f"building {', '.join(built.names)} ({PRECISION}) in {models_dir}", markup=False)
            _build(models_dir, built)
    folder = version_dir(models_dir, INTENT_MODEL)
    if (folder / MODEL_FILE).is_file() and not (folder / RECORD_FILE).is_file():
        seal_intent(folder)  # nobody answered for it before: from now on it stays what it is


def _build(models_dir: Path, built: _Built) -> None:
    if built.artefact is None:
        install_intent(models_dir, {}, intent_tokenizer_path(models_dir), PRECISION)
    elif built.artefact == SPEECH_WEIGHTS:
        install_speech(models_dir, open_tensors(built.artefact), file(built.artefact, "tokenizer.json"), PRECISION)
    else:
        install_intent(models_dir, open_tensors(built.artefact), file(built.artefact, "tokenizer.json"), PRECISION)
    for folder in (version_dir(models_dir, name) for name in built.names):
        write_sums(folder, [name for name in _BUILT_FILES if (folder / name).is_file()], BUILT_SUMS_FILE)
    key = _build_key(built)
    write_atomically(version_dir(models_dir, built.names[0]) / BUILD_KEY_FILE, partial(Path.write_text, data=key))


def model_lines(models_dir: Path | None = None) -> Iterator[str]:
    """One line per set of weights and per model: what, from where, and whether it is whole."""
    models_dir = models_dir or default_models_dir()
    lock = load_lock()
    for held in status(deep=True):
        artefact = lock.artefact(held.name)
        use = " (training only)" if held.training_only else ""
        yield f"{held.name}: {held.state}, {artefact.licence}, {artefact.homepage}{use} {held.detail}".rstrip()
    for built in _builds(models_dir):
        state = "built" if _is_current(models_dir, built) else "not built or out of date; run: scamtap models pull"
        versions = "/".join(sorted({version_dir(models_dir, name).name for name in built.names}))
        yield f"{', '.join(built.names)}: version {versions}, {state}, {PRECISION}, in {models_dir}"
    yield f"weights are kept in {cache_dir()}"


def build_stages(settings: "Settings") -> Stages:
    """Load the models: every file is held against its digest, the classifier against what it was evaluated with.

    Raises:
        WeightsError, EngineError: they were not pulled, are damaged or no pair; the remedy is in the message.
    """
    models_dir = settings.models_dir or default_models_dir()
    engine = OnnxEngine(models_dir)
    check_speech(engine, models_dir)
    recogniser = Recogniser(engine, speech_tokenizer_path(models_dir), settings.speech)
    return Stages(recogniser, build_scorer(settings, engine, engine.spec(ENCODER).metadata), engine)


def build_scorer(
    settings: "Settings", engine: Engine | None = None, speech: Mapping[str, str] | None = None
) -> IntentScorer:
    """Load the newest version of the intent model alone.

    Args:
        settings: where it is.
        engine: what it runs on; None: one of its own.
        speech: metadata of the recogniser that it reads; None: it reads texts.

    Raises:
        WeightsError, EngineError: it is not there, damaged, or was evaluated with another recogniser or precision.
    """
    models_dir = settings.models_dir or default_models_dir()
    engine = engine or OnnxEngine(models_dir)
    folder = version_dir(models_dir, INTENT_MODEL)
    scorer = IntentScorer(engine, intent_tokenizer_path(models_dir), calibration_path(models_dir), settings.intent)
    check_intent(folder, engine.spec(settings.intent.model).metadata, speech)
    return scorer


def build_parts(settings: "Settings", stages: Stages) -> CallParts:
    """Factories for what each call needs of its own."""
    engine = stages.engine

    def network(frames: PCM, state: np.ndarray) -> tuple[Probabilities, np.ndarray]:
        out = engine.infer(VAD_MODEL, {"frames": frames, "state": state})
        return out["speech"].astype(np.float32, copy=False), out["next_state"]

    vad = default_vad(network)
    calibration = stages.scorer.calibration
    verdict = settings.verdict.calibrated(calibration)

    def segmenter(leg: Leg) -> Segmenter:
        return Segmenter(leg, settings.segmenter, vad)

    judges = hashlib.sha256(calibration.model_dump_json().encode()).hexdigest()  # the head's own hash is in it
    model = f"{settings.intent.model}:{judges[:MODEL_HEX_DIGITS]}"
    return CallParts(segmenter, lambda: Verdict(verdict, calibration.stage_thresholds), model)


def default_language(settings: "Settings") -> str | None:
    """Language of calls that do not say: a code, or None to detect it."""
    return None if settings.speech.language == "auto" else settings.speech.language
