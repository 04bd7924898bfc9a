"""Models that belong together: proved before they are loaded, sealed when somebody answers for them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inference.audio.vad import VAD_MODEL
from inference.engine.base import Engine
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import MODEL_FILE, version_dir
from inference.engine.sums import check_listed, check_sums
from inference.gate.calibration import CALIBRATION_FILE as GATE_CALIBRATION
from inference.gate.install import GATE_MODEL
from inference.gate.install import SHIPPED as GATE_SHIPPED
from inference.intent.install import intent_models
from inference.intent.versions import (
    BUILT,
    RECORD_FILE,
    SHIPPED,
    VersionRecord,
    check_record,
    read_record,
    seal,
    speech_used,
    unseal,
)
from inference.speech.graph import DECODER, ENCODER
from inference.speech.install import TOKENIZER_FILE
from inference.speech.whole import WHOLE

_BESIDE = {VAD_MODEL: (MODEL_FILE,), WHOLE: (MODEL_FILE,), GATE_MODEL: (MODEL_FILE, *GATE_SHIPPED)}
"""Models beside recogniser and classifier -> what a list of digests must name."""


def check_speech(engine: Engine, models_dir: Path) -> None:
    """Hold the recogniser's files against their digests.

    Raises:
        WeightsError, EngineError: it was not built, or one bit differs.
    """
    for name in (ENCODER, DECODER):
        engine.spec(name)  # refuses what is missing before what is damaged
        check_sums(version_dir(models_dir, name), (MODEL_FILE,))


def check_speech_tokenizer(models_dir: Path) -> None:
    """Hold what is read here of a recogniser that a server runs against its digest.

    Raises:
        WeightsError: one bit differs, or no list names it.
    """
    check_listed(version_dir(models_dir, ENCODER), (TOKENIZER_FILE,))


def check_gate(models_dir: Path, name: str = GATE_MODEL) -> None:
    """Hold a gate's calibration against its digest, wherever its graph runs.

    Raises:
        WeightsError: one bit differs, or no list names it.
    """
    check_listed(version_dir(models_dir, name), (GATE_CALIBRATION,))


def check_intent(folder: Path, intent: Mapping[str, str], speech: Mapping[str, str] | None) -> None:
    """Hold a version of the classifier against its digests, and against what it was evaluated with.

    Args:
        folder: of the version.
        intent: metadata of the graph that is served.
        speech: of the recogniser that it reads; None: it reads texts.

    Raises:
        WeightsError: one bit differs, a file is not listed, or the models are no pair.
    """
    is_here = (folder / MODEL_FILE).is_file()  # not where a server runs it
    check_sums(folder, (*SHIPPED, *BUILT) if is_here else SHIPPED)
    check_record(folder, intent, speech)


def verify_models(models_dir: Path) -> Iterator[str]:
    """One line per model whose newest version is whole.

    Raises:
        WeightsError, EngineError: the first that is not.
    """
    engine = OnnxEngine(models_dir)
    try:
        check_speech(engine, models_dir)
        for name in (ENCODER, DECODER):
            yield f"{version_dir(models_dir, name)}: whole"
        for name, needed in _BESIDE.items():
            folder = version_dir(models_dir, name)
            if folder.is_dir():  # what a worker can do without
                check_sums(folder, needed)
                yield f"{folder}: whole"
        for name in intent_models(models_dir):
            folder = version_dir(models_dir, name)
            check_intent(folder, engine.spec(name).metadata, engine.spec(ENCODER).metadata)
            yield f"{folder}: whole, and evaluated with the speech model here"
    finally:
        engine.close()


def seal_intent(folder: Path, record: VersionRecord | None = None) -> Path:
    """Seal a version of the classifier; returns its folder.

    Where a recogniser lies beside it, it counts as evaluated with that, and with those it was sealed with before.

    Args:
        folder: ``<models>/<intent model>/<version>``.
        record: what is known of it; head and precision are the graph's own.

    Raises:
        WeightsError, EngineError: it was not built.
    """
    models_dir = folder.parent.parent
    before = read_record(folder) if record is None and (folder / RECORD_FILE).is_file() else record
    unseal(folder)
    engine = OnnxEngine(models_dir)
    try:
        intent = engine.spec(folder.parent.name).metadata
        has_speech = (version_dir(models_dir, ENCODER) / MODEL_FILE).is_file()
        seen = (speech_used(engine.spec(ENCODER).metadata),) if has_speech else ()
    finally:
        engine.close()
    if before is None or (record is None and before.head_sha256 != intent["head_sha256"]):
        before = VersionRecord(head_sha256=intent["head_sha256"])  # another head: what was said of the old is void
    found: dict[str, Any] = {"head_sha256": intent["head_sha256"], "precision": intent["precision"]}
    found["speech"] = tuple(dict.fromkeys((*before.speech, *seen)))
    seal(folder, before.model_copy(update=found))
    return folder
