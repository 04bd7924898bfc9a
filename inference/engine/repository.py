"""The model repository: ``<models_dir>/<name>/<version>/model.onnx``, the layout Triton serves as it is."""

import os
from collections.abc import Callable
from pathlib import Path

from onnx import ModelProto

from inference.errors import EngineError, WeightsError

MODEL_FILE = "model.onnx"
REMEDY = "run: scamtap models pull"


def find_model(models_dir: Path, name: str) -> tuple[int, Path]:
    """Highest version of ``name`` and its file.

    Raises:
        EngineError: there is none.
    """
    versions = find_versions(models_dir / name)
    if not versions:
        raise EngineError(f"model {name} is not in {models_dir}; {REMEDY}")
    return versions[-1], models_dir / name / str(versions[-1]) / MODEL_FILE


def find_versions(folder: Path) -> list[int]:
    """Versions of the model in ``folder`` that have a graph, ascending."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and (folder / name / MODEL_FILE).is_file())


def write_model(models_dir: Path, name: str, model: ModelProto, version: int = 1) -> Path:
    """Put ``model`` in the repository in one step: readers see the old file or the new one, never half of it.

    Raises:
        WeightsError: the disk is full or not writable.
    """
    path = models_dir / name / str(version) / MODEL_FILE
    content = model.SerializeToString()
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then move it there.

    Raises:
        WeightsError: the disk is full or not writable; nothing is left behind.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise WeightsError(f"cannot write {path}: {error.strerror}; make room or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)
