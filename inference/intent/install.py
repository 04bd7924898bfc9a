"""Puts the intent model into the model repository: pulled base weights and the shipped head make one graph."""

import shutil
from pathlib import Path

from inference.engine.graph import Precision
from inference.engine.repository import write_atomically, write_model
from inference.errors import WeightsError
from inference.intent.calibration import CALIBRATION_FILE, load_calibration
from inference.intent.graph import Tensors, build_intent

NAME = "scam_intent"
HEAD_FILE = "head.safetensors"
TOKENIZER_FILE = "tokenizer.json"


def tokenizer_path(models_dir: Path, version: int = 1) -> Path:
    """Where the intent model's tokenizer lies in the repository."""
    return models_dir / NAME / str(version) / TOKENIZER_FILE


def calibration_path(models_dir: Path, version: int = 1) -> Path:
    """Where its calibration lies."""
    return models_dir / NAME / str(version) / CALIBRATION_FILE


def install_intent(
    models_dir: Path,
    base_tensors: Tensors,
    tokenizer_file: Path,
    shipped_dir: Path,
    precision: Precision = "int8",
    version: int = 1,
) -> None:
    """Build ``scam_intent`` and write it with its tokenizer and calibration.

    Args:
        models_dir: the model repository.
        base_tensors: all-MiniLM-L6-v2 under its published names.
        tokenizer_file: ``tokenizer.json`` of the same checkpoint.
        shipped_dir: holds our ``head.safetensors`` and ``calibration.json``; may be the target itself.
        precision: ``int8`` for CPU, ``fp16`` for GPU.
        version: number under which it is installed.

    Raises:
        WeightsError: something is missing, malformed or does not fit together, or the folder cannot be written.
    """
    head_path = shipped_dir / HEAD_FILE
    if not head_path.is_file():
        raise WeightsError(f"{head_path}: is missing; restore it from the repository")
    load_calibration(shipped_dir / CALIBRATION_FILE)
    model = build_intent(base_tensors, head_path, precision)
    _copy(tokenizer_file, tokenizer_path(models_dir, version))
    _copy(shipped_dir / CALIBRATION_FILE, calibration_path(models_dir, version))
    write_model(models_dir, NAME, model, version)


def _copy(source: Path, target: Path) -> None:
    if source.resolve() != target.resolve():
        write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))
