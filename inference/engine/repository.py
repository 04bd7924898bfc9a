"""The model repository: ``<models_dir>/<name>/<version>/model.onnx``, the layout Triton serves as it is."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from onnx import ModelProto
from pydantic import BaseModel, ValidationError

from inference.errors import EngineError, WeightsError

Beside = TypeVar("Beside", bound=BaseModel)

MODEL_FILE = "model.onnx"
BUILT_SUMS_FILE = "SHA256SUMS.built"
"""Digests of what was built here, see :mod:`inference.engine.sums`."""
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


def newest_version(models_dir: Path, name: str) -> int:
    """The highest version of ``name`` that has a folder, built or not; 1 where there is none yet."""
    folder = models_dir / name
    found = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    return max(found, default=1)


def version_dir(models_dir: Path, name: str) -> Path:
    """Folder of the newest version of ``name``."""
    return models_dir / name / str(newest_version(models_dir, name))


def read_beside(path: Path, cls: type[Beside]) -> Beside:
    """Read a JSON file that lies beside a model: its calibration, its encoder's shape.

    Raises:
        WeightsError: it is missing or malformed; names file and field.
    """
    try:
        return cls.model_validate_json(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); restore it from the repository") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WeightsError(f"{path}: {where}: {first['msg']}; restore it from the repository") from None


def write_model(models_dir: Path, name: str, model: ModelProto, version: int | None = None) -> Path:
    """Put ``model`` in the repository in one step: readers see the old file or the new one, never half of it.

    It goes into ``version``, by default the newest there is.

    Raises:
        WeightsError: the disk is full or not writable.
    """
    folder = version_dir(models_dir, name) if version is None else models_dir / name / str(version)
    path = folder / MODEL_FILE
    content = model.SerializeToString()
    (folder / BUILT_SUMS_FILE).unlink(missing_ok=True)  # it was made of another build
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
