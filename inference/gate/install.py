"""Puts the gate into the model repository, made of the head we ship: a model, and a part of ``speech_text``."""

from collections.abc import Mapping
from pathlib import Path

from inference.engine.graph import Array, Precision
from inference.engine.repository import BUILT_SUMS_FILE, MODEL_FILE, write_model
from inference.engine.sums import write_sums
from inference.gate import graph
from inference.gate.calibration import CALIBRATION_FILE, load_gate_calibration
from inference.gate.gate import HEAD_DRAWN
from inference.gate.graph import LLR_LIMIT, add_gate, build_gate, head_sha256, read_head
from inference.speech.graph import fingerprint
from inference.speech.whole import DrawnGate

GATE_MODEL = "scam_gate"
HEAD_FILE = "head.safetensors"
SHIPPED = (HEAD_FILE, CALIBRATION_FILE)


def gate_calibration_path(models_dir: Path, model: str = GATE_MODEL) -> Path:
    """Where a gate's calibration lies in the repository."""
    return models_dir / model / "1" / CALIBRATION_FILE


def gate_sources(models_dir: Path) -> list[Path]:
    """Code and data that decide what is drawn into ``speech_text``."""
    folder = models_dir / GATE_MODEL / "1"
    shipped = [folder / name for name in SHIPPED]
    return [Path(graph.__file__), *shipped] if shipped[0].is_file() else []


def drawn_gate(models_dir: Path, tensors: Mapping[str, Array], precision: Precision) -> DrawnGate | None:
    """The gate as it is drawn into ``speech_text``; None where there is none, or none for these states.

    Args:
        models_dir: the model repository.
        tensors: the speech model's weights.
        precision: that it is built in.

    Raises:
        WeightsError: head or calibration is malformed.
    """
    folder = models_dir / GATE_MODEL / "1"
    if not (folder / HEAD_FILE).is_file():
        return None
    calibration = load_gate_calibration(folder / CALIBRATION_FILE)
    if (calibration.states_precision, calibration.states_weights_sha256) != (precision, fingerprint(tensors)):
        return None
    head = read_head(folder / HEAD_FILE)
    return DrawnGate(
        lambda graph, states, num_frames: add_gate(graph, states, num_frames, head),
        -LLR_LIMIT,
        {HEAD_DRAWN: head_sha256(folder / HEAD_FILE)},
    )


def install_gate(models_dir: Path) -> bool:
    """Build ``scam_gate`` from the head and calibration that lie there, where it is not built of them already.

    Returns:
        Whether there is a gate at all: without a head, none is built.

    Raises:
        WeightsError: head or calibration is malformed, or the folder cannot be written.
    """
    folder = models_dir / GATE_MODEL / "1"
    head = folder / HEAD_FILE
    if not head.is_file():
        return False
    content = build_gate(head, load_gate_calibration(folder / CALIBRATION_FILE).born_with)
    model = folder / MODEL_FILE
    if not model.is_file() or model.read_bytes() != content.SerializeToString():
        write_model(models_dir, GATE_MODEL, content)
    write_sums(folder, [MODEL_FILE], BUILT_SUMS_FILE)
    return True


def seal_gate(models_dir: Path) -> None:
    """Put down the digests of head and calibration: from now on they are loaded as they are, or not at all.

    Raises:
        WeightsError: one is missing, or the list cannot be written.
    """
    write_sums(models_dir / GATE_MODEL / "1", SHIPPED)
