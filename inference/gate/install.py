"""Puts the gate into the model repository, made of the head we ship."""

from pathlib import Path

from inference.engine.repository import MODEL_FILE, write_model
from inference.gate.calibration import CALIBRATION_FILE, load_gate_calibration
from inference.gate.graph import build_gate

GATE_MODEL = "scam_gate"
HEAD_FILE = "head.safetensors"


def gate_calibration_path(models_dir: Path, model: str = GATE_MODEL) -> Path:
    """Where a gate's calibration lies in the repository."""
    return models_dir / model / "1" / CALIBRATION_FILE


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
    return True
