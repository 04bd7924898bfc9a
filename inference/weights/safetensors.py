"""The safetensors container: u64 header length, JSON header, tensor bytes (huggingface/safetensors, README "Format").

Our own reader, because the file is downloaded: every count, offset and shape is checked against the file before a
tensor is touched, errors name the exact field, and nothing is copied (tensors are views of a memory map). Our own
writer, because the canonical file must come out byte for byte the same on every machine.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference.errors import WeightsError

Tensor = npt.NDArray[Any]

DTYPES: dict[str, str] = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1",
    "BOOL": "|b1",
}  # fmt: skip
"""safetensors name -> NumPy dtype. BF16 and the 8-bit floats have no NumPy dtype and are refused."""

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 65_536
MAX_RANK = 8


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Map the file at ``path``: tensor name -> read-only view, in the order of the file.

    Raises:
        WeightsError: it cannot be read or is not a well-formed safetensors file.
    """
    data = map_bytes(path)
    header, start = _header(data, path.name)
    entries = _entries(header, data.size - start, path.name)
    return {
        name: data[start + begin : start + end].view(dtype).reshape(shape)
        if begin < end
        else np.empty(shape, dtype=dtype)
        for name, (dtype, shape, begin, end) in entries.items()
    }


def map_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """Map a file read-only as bytes ``[num_bytes]``.

    Raises:
        WeightsError: it is missing, unreadable or empty.
    """
    try:
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}; pull the weights again") from error
    except ValueError as error:
        raise WeightsError(f"{path} is empty; pull the weights again") from error


def _header(data: npt.NDArray[np.uint8], name: str) -> tuple[dict[str, Any], int]:
    if data.size < 8:
        raise WeightsError(f"{name}: safetensors file has truncated header length ({data.size} bytes)")
    (length,) = struct.unpack("<Q", data[:8].tobytes())
    if length > MAX_HEADER_BYTES:
        raise WeightsError(f"{name}: safetensors header of {length} bytes is above {MAX_HEADER_BYTES}")
    if 8 + length > data.size:
        raise WeightsError(f"{name}: safetensors file has truncated header")
    try:
        header = json.loads(data[8 : 8 + length].tobytes(), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{name}: safetensors header is not valid JSON") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{name}: safetensors header is not an object")
    return header, 8 + length


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("duplicate key")
    return out


_Entry = tuple[str, tuple[int, ...], int, int]


def _entries(header: dict[str, Any], num_bytes: int, name: str) -> dict[str, _Entry]:
    entries = {k: _entry(v, f"{name}: tensor {k[:80]!r}") for k, v in header.items() if k != "__metadata__"}
    if len(entries) > MAX_TENSORS:
        raise WeightsError(f"{name}: safetensors file has {len(entries)} tensors, above {MAX_TENSORS}")
    at = 0  # the format allows neither holes nor overlaps, so a file cannot hide bytes or alias tensors
    for key, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != at:
            raise WeightsError(f"{name}: tensor {key[:80]!r} starts at byte {begin}, expected {at}")
        at = end
    if at != num_bytes:
        raise WeightsError(f"{name}: safetensors file has {num_bytes} bytes of tensors, its header describes {at}")
    return entries


def _entry(value: object, where: str) -> _Entry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"{where} has not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WeightsError(f"{where} has unsupported dtype {str(dtype)[:20]!r}")
    if not _is_counts(shape) or len(shape) > MAX_RANK:
        raise WeightsError(f"{where} has an invalid shape")
    if not _is_counts(offsets) or len(offsets) != 2:
        raise WeightsError(f"{where} has invalid data_offsets")
    begin, end = offsets
    if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
        raise WeightsError(f"{where} has {end - begin} bytes, not what its shape and dtype need")
    return DTYPES[dtype], tuple(shape), begin, end


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)


class Writer(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Write all of ``data``."""


def write_safetensors(
    file: Writer,
    specs: Mapping[str, tuple[int, ...]],
    dtype: str,
    load: Callable[[str], Tensor],
) -> None:
    """Write tensors one at a time, by name in sorted order, all of ``dtype``.

    Args:
        file: takes the bytes.
        specs: tensor name -> shape.
        dtype: NumPy name, ``float16`` or ``float32``.
        load: gives the tensor of a name; called once each, so only one need be in memory.

    Raises:
        WeightsError: ``load`` gave another shape or dtype than announced.
    """
    code = next(name for name, np_name in DTYPES.items() if np.dtype(np_name) == np.dtype(dtype))
    item = np.dtype(dtype).itemsize
    names = sorted(specs)
    header, at = {}, 0
    for name in names:
        end = at + math.prod(specs[name]) * item
        header[name] = {"dtype": code, "shape": list(specs[name]), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors' first byte is 8-aligned, as the reference writer does
    file.write(struct.pack("<Q", len(text)) + text)
    for name in names:
        tensor = load(name)
        if tensor.shape != specs[name] or tensor.dtype != np.dtype(dtype):
            raise WeightsError(f"tensor {name} is {tensor.dtype} {tensor.shape}, expected {dtype} {specs[name]}")
        file.write(tensor_bytes(tensor))


def tensor_bytes(tensor: Tensor) -> bytes:
    """Little-endian, C-ordered bytes: what is hashed and stored."""
    return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes(order="C")
