"""Write the canonical form into a folder, checking every tensor and file against the lock as it is written."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from inference.errors import WeightsError
from inference.weights.canonical import Material, cast
from inference.weights.lock import TENSORS_FILE, Artefact, Pinned, TensorLock
from inference.weights.safetensors import Tensor, tensor_bytes, write_safetensors
from inference.weights.store import CHUNK_BYTES, HashingWriter, disk_errors


def build(
    material: Material,
    artefact: Artefact,
    tensor_lock: TensorLock | None,
    folder: Path,
    on_bytes: Callable[[int], None],
) -> None:
    """Write ``material`` to ``folder`` as the files of ``artefact.pins()``.

    Raises:
        WeightsError: a tensor or file is missing, too many, or not what the lock says; or the disk is full. What was
            written so far stays: ``folder`` is the caller's to throw away.
    """
    for name, pin in artefact.files.items():
        if name not in material.files:
            raise WeightsError(f"{name} is missing beside the weights")
        _write_file(material.files[name], folder / name, pin, on_bytes)
    if tensor_lock is not None and artefact.tensors is not None and artefact.dtype is not None:
        _write_tensors(material, artefact.dtype, artefact.tensors, tensor_lock, folder / TENSORS_FILE, on_bytes)


def _write_file(content: bytes | Path, path: Path, pin: Pinned, on_bytes: Callable[[int], None]) -> None:
    with disk_errors(path), path.open("wb") as file:
        writer = HashingWriter(file, on_bytes)
        if isinstance(content, bytes):
            writer.write(content)
        else:
            with content.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    writer.write(chunk)
    if not writer.matches(pin):
        raise WeightsError(f"{path.name} is not the locked one (sha256 {writer.digest.hexdigest()[:12]}…)")


def _write_tensors(
    material: Material,
    dtype: str,
    pin: Pinned,
    lock: TensorLock,
    path: Path,
    on_bytes: Callable[[int], None],
) -> None:
    if missing := lock.tensors.keys() - material.tensors.keys():
        raise WeightsError(f"the weights lack tensor {min(missing)} ({len(missing)} in all)")
    if extra := material.tensors.keys() - lock.tensors.keys():
        raise WeightsError(f"the weights hold an unknown tensor {min(extra)[:80]!r} ({len(extra)} in all)")

    def load(name: str) -> Tensor:
        tensor, want = cast(material.tensors[name](), dtype), lock.tensors[name]
        if tensor.shape != want.shape:
            raise WeightsError(f"tensor {name} has shape {tensor.shape}, expected {want.shape}")
        if hashlib.sha256(tensor_bytes(tensor)).hexdigest() != want.sha256:
            raise WeightsError(f"tensor {name} is not the locked one: these are other weights, or damaged ones")
        return tensor

    with disk_errors(path), path.open("wb") as file:
        writer = HashingWriter(file, on_bytes)
        write_safetensors(writer, {name: want.shape for name, want in lock.tensors.items()}, dtype, load)
    if not writer.matches(pin):
        raise WeightsError(f"{path.name} did not come out as locked: a fault of scamtap or of this machine's memory")
