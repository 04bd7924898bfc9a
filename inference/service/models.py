"""The models of this installation: pulled, built into the repository, and joined into the stages that calls use."""

import hashlib
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from rich.console import Console

from inference import intent, speech
from inference.audio.segment import PCM
from inference.audio.segmenter import Segmenter, open_bank
from inference.audio.vad import VAD_MODEL, Probabilities
from inference.engine import graph
from inference.engine.base import Engine
from inference.engine.graph import Precision
from inference.engine.open import require_precision
from inference.engine.pbtxt import write_configs
from inference.engine.repository import BUILT_SUMS_FILE, MODEL_FILE, version_dir, write_atomically
from inference.engine.sums import read_sums, write_sums
from inference.errors import ConfigError, ScamTapError, WeightsError
from inference.gate.calibration import load_gate_calibration
from inference.gate.evidence import GateEvidence
from inference.gate.gate import ScamGate, ScamGateWithin
from inference.gate.install import GATE_MODEL, drawn_gate, gate_calibration_path, gate_sources, install_gate
from inference.intent.encoder import load_encoder
from inference.intent.install import (
    HEAD_FILE,
    TOKENIZER_FILE,
    calibration_path,
    encoder_path,
    install_intent,
    intent_models,
    own_models,
)
from inference.intent.install import tokenizer_path as intent_tokenizer_path
from inference.intent.scorer import IntentScorer, Judge, open_judge
from inference.opinion.inquiry import Inquiry
from inference.service.call import CallParts
from inference.service.engines import build_engine
from inference.service.sealed import check_gate, check_intent, check_speech, check_speech_tokenizer
from inference.service.stages import Stages
from inference.speech.graph import DECODER, ENCODER
from inference.speech.install import install_speech
from inference.speech.install import tokenizer_path as speech_tokenizer_path
from inference.speech.recogniser import Recogniser
from inference.speech.whole import WHOLE
from inference.verdict.verdict import Verdict
from inference.weights import cache_dir, file, load_lock, open_tensors, pull, status
from inference.weights.bar import progress_bars

if TYPE_CHECKING:
    from inference.config import Settings

SPEECH_WEIGHTS = "whisper-base"
BUILD_KEY_FILE = "build.sha256"
PRECISION: Precision = "int8"  # where nothing else was asked for and nothing was built before
CALIBRATED: Precision = "int8"
"""What the classifier was calibrated in. In fp16 it judges otherwise: of 214 calls of our scripts 2 got another level,
6 another first alert, and the evidence of a call moved by up to 1.05 nats."""

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


def _builds(models_dir: Path) -> tuple[_Built, ...]:
    shared = Path(graph.__file__)
    return (
        _Built(
            SPEECH_WEIGHTS,
            (ENCODER, DECODER, WHOLE),
            (shared, *sorted(Path(speech.__path__[0]).glob("[gmvw]*.py")), *gate_sources(models_dir)),
        ),
        *(
            _Built(
                load_encoder(encoder_path(models_dir, name)).artefact,
                (name,),
                (
                    shared,
                    Path(intent.__path__[0]) / "graph.py",
                    encoder_path(models_dir, name),
                    version_dir(models_dir, name) / HEAD_FILE,
                ),
            )
            for name in intent_models(models_dir)
        ),
    )


def _held_precision(models_dir: Path, built: _Built) -> Precision:
    """What the model was last built in; what is fetched again stays what it was."""
    key_file = version_dir(models_dir, built.names[0]) / BUILD_KEY_FILE
    last = key_file.read_text().split()[-1:] if key_file.is_file() else []
    return next((precision for precision in get_args(Precision) if [precision] == last), PRECISION)


def _wanted(precision: Precision | None, models_dir: Path, built: _Built) -> Precision:
    """What to build the model in: the classifier only in what it was calibrated for."""
    is_intent = built.names[0] in intent_models(models_dir)
    return CALIBRATED if is_intent else precision or _held_precision(models_dir, built)


def _build_key(built: _Built, precision: Precision) -> str:
    """What the result depends on: a model built with the same key need not be built again."""
    locked = load_lock().artefact(built.artefact).model_dump_json() if built.artefact else ""
    digest = hashlib.sha256(locked.encode())
    for path in built.sources:
        digest.update(path.read_bytes())
    return f"{digest.hexdigest()} {precision}\n"


def _is_current(models_dir: Path, built: _Built, precision: Precision) -> bool:
    folders = [version_dir(models_dir, name) for name in built.names]
    if not all((folder / MODEL_FILE).is_file() and read_sums(folder / BUILT_SUMS_FILE) for folder in folders):
        return False
    key_file = folders[0] / BUILD_KEY_FILE
    return key_file.is_file() and key_file.read_text() == _build_key(built, precision)


def pull_models(
    names: Sequence[str] = (),
    source: Path | None = None,
    *,
    console: Console | None,
    models_dir: Path | None = None,
    precision: Precision | None = None,
) -> None:
    """Fetch what is missing and build what is out of date; a second run does nothing.

    Args:
        names: weights to pull; empty for all that a worker needs.
        source: a folder that has them, instead of the sources of the lock.
        console: where progress is shown; None shows nothing.
        models_dir: the model repository.
        precision: of the speech models, ``int8`` for CPU or ``fp16`` for GPU; default: what is there, else int8. The
            classifier is always built in what it was calibrated for.

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
        wanted = _wanted(precision, models_dir, built)
        if (not names or built.artefact in names) and not _is_current(models_dir, built, wanted):
            if console is not None:
                console.print(f"building {', '.join(built.names)} ({wanted}) in {models_dir}", markup=False)
            _build(models_dir, built, wanted)
    if install_gate(models_dir) and console is not None:
        console.print(f"{GATE_MODEL}: built of its head in {models_dir}", markup=False)
    write_configs(models_dir)


def _build(models_dir: Path, built: _Built, precision: Precision) -> None:
    name = built.names[0]
    if built.artefact is None:
        install_intent(models_dir, {}, intent_tokenizer_path(models_dir, name), precision, name)
    else:
        tensors, tokenizer = open_tensors(built.artefact), file(built.artefact, "tokenizer.json")
        if built.artefact == SPEECH_WEIGHTS:
            gate = drawn_gate(models_dir, tensors, precision)
            install_speech(models_dir, tensors, tokenizer, precision, gate)
        else:
            install_intent(models_dir, tensors, tokenizer, precision, name)
    for folder in (version_dir(models_dir, name) for name in built.names):
        write_sums(folder, [name for name in _BUILT_FILES if (folder / name).is_file()], BUILT_SUMS_FILE)
    key = _build_key(built, precision)
    write_atomically(version_dir(models_dir, built.names[0]) / BUILD_KEY_FILE, partial(Path.write_text, data=key))


def model_lines(models_dir: Path | None = None) -> Iterator[str]:
    """One line per set of weights and per model: what, from where, and whether it is built."""
    models_dir = models_dir or default_models_dir()
    lock = load_lock()
    for held in status(deep=True):
        artefact = lock.artefact(held.name)
        use = " (training only)" if held.training_only else ""
        yield f"{held.name}: {held.state}, {artefact.licence}, {artefact.homepage}{use} {held.detail}".rstrip()
    for built in _builds(models_dir):
        precision = _held_precision(models_dir, built)
        is_current = _is_current(models_dir, built, precision)
        state = "built" if is_current else "not built or out of date; run: scamtap models pull"
        versions = "/".join(sorted({version_dir(models_dir, name).name for name in built.names}))
        yield f"{', '.join(built.names)}: version {versions}, {state}, {precision}, in {models_dir}"
    yield f"weights are kept in {cache_dir()}"


def build_stages(settings: "Settings") -> Stages:
    """Load the models: every file is held against its digest, the classifier against what it was evaluated with.

    Raises:
        WeightsError, EngineError: they were not pulled, are damaged or no pair; the remedy is in the message.
    """
    models_dir = settings.models_dir or default_models_dir()
    engine, is_remote = build_engine(settings.engine, models_dir), settings.engine.url is not None
    try:
        encoder = WHOLE if is_remote else ENCODER
        if is_remote:
            check_speech_tokenizer(models_dir)
        else:
            check_speech(engine, models_dir)
        require_precision(engine, encoder, settings.engine.precision)
        name = settings.cascade.gate
        gate, within = None, None
        if name is not None:
            check_gate(models_dir, name)
        if name is not None and is_remote:
            within = ScamGateWithin(engine, gate_calibration_path(models_dir, name))
        elif name is not None:
            gate = ScamGate(engine, name, gate_calibration_path(models_dir, name))
        tokenizer = speech_tokenizer_path(models_dir)
        recogniser = Recogniser(engine, tokenizer, settings.speech, gate, is_remote=is_remote, gate_within=within)
        scorer = build_scorer(settings, engine, engine.spec(encoder).metadata)
        gates = "never" if name is None else settings.cascade.when
        return Stages(recogniser, scorer, engine, gates=gates, fusion=settings.cascade.fusion)
    except ScamTapError:
        engine.close()
        raise


def build_scorer(
    settings: "Settings", engine: Engine | None = None, speech: Mapping[str, str] | None = None
) -> IntentScorer:
    """Load the newest versions of the intent models alone.

    Args:
        settings: where it is.
        engine: what it runs on; None: one of its own, closed when nobody has the scorer any more.
        speech: metadata of the recogniser that it reads; None: it reads texts.

    Raises:
        WeightsError, EngineError: it is not there, damaged, or was evaluated with another recogniser or precision.
    """
    models_dir = settings.models_dir or default_models_dir()
    if engine is None:
        engine = build_engine(settings.engine, models_dir)
        try:
            scorer = build_scorer(settings, engine, speech)
        except BaseException:
            engine.close()
            raise
        # A remote engine has a thread, which would outlive the scorer; it may be that very thread which lets go of it.
        weakref.finalize(scorer, _close_elsewhere, engine).atexit = False
        return scorer

    def opened(name: str) -> Judge:
        require_precision(engine, name, CALIBRATED)
        check_intent(version_dir(models_dir, name), engine.spec(name).metadata, speech)  # before any of it is read
        files = (intent_tokenizer_path(models_dir, name), calibration_path(models_dir, name))
        return open_judge(engine, name, *files, settings.intent.max_tokens)

    own = own_models(models_dir, settings.intent.model)
    judges = {language: opened(name) for language, name in own.items()}
    return IntentScorer(opened(settings.intent.model), settings.intent, judges)


def _close_elsewhere(engine: Engine) -> None:
    threading.Thread(target=engine.close, name="closing models", daemon=True).start()


def build_parts(settings: "Settings", stages: Stages) -> CallParts:
    """Factories for what each call needs of its own."""
    engine = stages.engine

    def network(frames: PCM, state: np.ndarray) -> tuple[Probabilities, np.ndarray]:
        out = engine.infer(VAD_MODEL, {"frames": frames, "state": state})
        return out["speech"].astype(np.float32, copy=False), out["next_state"]

    bank = open_bank(settings.segmenter, network)
    calibration = stages.scorer.calibration
    verdict = settings.verdict.calibrated(calibration)

    def judge() -> Verdict:
        inquiry = Inquiry(settings.opinion, calibration) if settings.opinion.is_on else None
        return Verdict(verdict, inquiry)

    gate = None
    if settings.cascade.gate is not None:
        models_dir = settings.models_dir or default_models_dir()
        gate_calibration = load_gate_calibration(gate_calibration_path(models_dir, settings.cascade.gate))
        gate = partial(GateEvidence, gate_calibration, settings.cascade.pass_llr)
    model = f"{settings.intent.model}:{stages.scorer.fingerprint[:MODEL_HEX_DIGITS]}"
    return CallParts(lambda leg: Segmenter(leg, bank), judge, model, gate)


def default_language(settings: "Settings") -> str | None:
    """Language of calls that do not say: a code, or None to detect it."""
    return None if settings.speech.language == "auto" else settings.speech.language
