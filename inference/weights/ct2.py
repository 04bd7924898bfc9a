"""CTranslate2 ``model.bin``, binary version 6, of a Whisper model: read it, and split it into Hugging Face's tensors.

Layout (OpenNMT/CTranslate2, ``python/ctranslate2/specs/model_spec.py``, ``ModelSpec._serialize``), little-endian::

    u32 version | str spec name | u32 spec revision | u32 number of variables
    per variable: str name | u8 rank | u32 × rank dims | u8 dtype | u32 number of bytes | the bytes
    u32 number of aliases; per alias: str alias | str variable

where ``str`` is a u16 length, counting a closing NUL, and the characters.
"""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inference.errors import WeightsError
from inference.weights.safetensors import MAX_RANK, MAX_TENSORS, Tensor, map_bytes

VERSION = 6
SPEC = "WhisperSpec"
DTYPES = {0: "<f4", 1: "|i1", 2: "<i2", 3: "<i4", 4: "<f2"}  # DataType of include/ctranslate2/types.h; bfloat16 (5) not


class _Reader:
    """A cursor over the mapped file that never reads past its end."""

    def __init__(self, path: Path) -> None:
        self.data = map_bytes(path)
        self.name = path.name
        self.at = 0

    def take(self, num_bytes: int, what: str) -> Tensor:
        if num_bytes > self.data.size - self.at:
            raise WeightsError(f"{self.name}: CTranslate2 file has truncated {what} at byte {self.at}")
        self.at += num_bytes
        return self.data[self.at - num_bytes : self.at]

    def unpack(self, form: str, what: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form), what).tobytes())

    def text(self, what: str) -> str:
        (length,) = self.unpack("H", f"{what} length")
        raw = self.take(length, what).tobytes()
        if not raw.endswith(b"\0"):
            raise WeightsError(f"{self.name}: CTranslate2 {what} before byte {self.at} does not end with NUL")
        try:
            return raw[:-1].decode("ascii")
        except UnicodeDecodeError as error:
            raise WeightsError(f"{self.name}: CTranslate2 {what} before byte {self.at} is not ASCII") from error


def read_ct2(path: Path) -> dict[str, Tensor]:
    """Map the variables of ``path``: name -> read-only view (an alias is the view of what it names).

    Raises:
        WeightsError: not a well-formed CTranslate2 Whisper file of version 6; the message names the field.
    """
    reader = _Reader(path)
    (version,) = reader.unpack("I", "version")
    if version != VERSION:
        raise WeightsError(f"{path.name}: CTranslate2 binary version {version}, only {VERSION} is read")
    spec = reader.text("spec name")
    if spec != SPEC:
        raise WeightsError(f"{path.name}: CTranslate2 model is not a {SPEC}")
    _revision, count = reader.unpack("II", "revision and count")
    if count > MAX_TENSORS:
        raise WeightsError(f"{path.name}: CTranslate2 file announces {count} variables, above {MAX_TENSORS}")
    out: dict[str, Tensor] = {}
    for _ in range(count):
        name = reader.text("variable name")
        _add(out, name, _variable(reader, name), path.name)
    (aliases,) = reader.unpack("I", "alias count")
    if aliases > MAX_TENSORS:
        raise WeightsError(f"{path.name}: CTranslate2 file announces {aliases} aliases, above {MAX_TENSORS}")
    for _ in range(aliases):
        alias, target = reader.text("alias"), reader.text("alias target")
        if target not in out:
            raise WeightsError(f"{path.name}: CTranslate2 alias {alias[:80]!r} names no variable")
        _add(out, alias, out[target], path.name)
    if reader.at != reader.data.size:
        raise WeightsError(f"{path.name}: CTranslate2 file has {reader.data.size - reader.at} bytes after its end")
    return out


def _add(out: dict[str, Tensor], name: str, tensor: Tensor, file: str) -> None:
    if name in out:
        raise WeightsError(f"{file}: CTranslate2 variable {name[:80]!r} is there twice")
    out[name] = tensor


def _variable(reader: _Reader, name: str) -> Tensor:
    where = f"{reader.name}: CTranslate2 variable {name[:80]!r}"
    (rank,) = reader.unpack("B", "rank")
    if rank > MAX_RANK:
        raise WeightsError(f"{where} has rank {rank}, above {MAX_RANK}")
    dims = reader.unpack(f"{rank}I", "dimensions")
    code, num_bytes = reader.unpack("BI", "dtype and size")
    if code not in DTYPES:
        raise WeightsError(f"{where} has unsupported dtype {code}")
    if math.prod(dims) * np.dtype(DTYPES[code]).itemsize != num_bytes:
        raise WeightsError(f"{where} has {num_bytes} bytes, not what its shape and dtype need")
    # Variables lie at any byte; a view of another dtype needs no alignment on the machines we run on, NumPy handles it.
    return reader.take(num_bytes, "variable data").view(DTYPES[code]).reshape(dims)


def to_hugging_face(variables: dict[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """Rename and split a Whisper model's variables into transformers' ``WhisperForConditionalGeneration`` names.

    CTranslate2 fuses query, key and value of self-attention (and key and value of cross-attention) along the rows.
    Whisper's key projection has no bias; CTranslate2 stores zeros there, which are checked and left out.

    Returns:
        Tensor name -> function that cuts it out of the map (views, nothing is copied).

    Raises:
        WeightsError: a variable is missing, quantised, or does not split.
    """
    if quantised := [name for name in variables if name.endswith("weight_scale")]:
        raise WeightsError(f"CTranslate2 model is quantised ({quantised[0]}); a float16 or float32 one is needed")
    split = _Splitter(variables)
    for side in ("encoder", "decoder"):
        model = f"model.{side}"
        split.norm(f"{side}/layer_norm", f"{model}.layer_norm")
        split.copy(f"{side}/position_encodings/encodings", f"{model}.embed_positions.weight")
        for i in range(split.num_layers(side)):
            src, dst = f"{side}/layer_{i}", f"{model}.layers.{i}"
            split.norm(f"{src}/self_attention/layer_norm", f"{dst}.self_attn_layer_norm")
            split.linear(f"{src}/self_attention/linear_0", [f"{dst}.self_attn.{p}_proj" for p in "qkv"])
            split.linear(f"{src}/self_attention/linear_1", [f"{dst}.self_attn.out_proj"])
            if side == "decoder":
                split.norm(f"{src}/attention/layer_norm", f"{dst}.encoder_attn_layer_norm")
                split.linear(f"{src}/attention/linear_0", [f"{dst}.encoder_attn.q_proj"])
                split.linear(f"{src}/attention/linear_1", [f"{dst}.encoder_attn.{p}_proj" for p in "kv"])
                split.linear(f"{src}/attention/linear_2", [f"{dst}.encoder_attn.out_proj"])
            split.norm(f"{src}/ffn/layer_norm", f"{dst}.final_layer_norm")
            split.linear(f"{src}/ffn/linear_0", [f"{dst}.fc1"])
            split.linear(f"{src}/ffn/linear_1", [f"{dst}.fc2"])
    for conv in ("conv1", "conv2"):
        split.linear(f"encoder/{conv}", [f"model.encoder.{conv}"])
    split.copy("decoder/embeddings/weight", "model.decoder.embed_tokens.weight")
    return split.out


class _Splitter:
    def __init__(self, variables: dict[str, Tensor]) -> None:
        self.variables = variables
        self.out: dict[str, Callable[[], Tensor]] = {}

    def num_layers(self, side: str) -> int:
        count = 0
        while f"{side}/layer_{count}/ffn/linear_0/weight" in self.variables:
            count += 1
        return count

    def get(self, name: str) -> Tensor:
        if name not in self.variables:
            raise WeightsError(f"CTranslate2 Whisper model lacks {name}")
        return self.variables[name]

    def copy(self, src: str, dst: str) -> None:
        tensor = self.get(src)
        self.out[dst] = lambda: tensor

    def norm(self, src: str, dst: str) -> None:
        self.copy(f"{src}/gamma", f"{dst}.weight")
        self.copy(f"{src}/beta", f"{dst}.bias")

    def linear(self, src: str, parts: list[str]) -> None:
        """Split ``src`` row-wise into ``parts``; the bias of a ``k_proj`` must be zero and is dropped."""
        weight, bias = self.get(f"{src}/weight"), self.get(f"{src}/bias")
        if weight.ndim < 1 or bias.shape != weight.shape[:1] or len(bias) % len(parts):
            raise WeightsError(f"CTranslate2 variable {src} does not split into {len(parts)}: shape {weight.shape}")
        rows = len(bias) // len(parts)
        for i, dst in enumerate(parts):
            part = slice(i * rows, (i + 1) * rows)
            self._rows(weight, part, f"{dst}.weight")
            if not dst.endswith("k_proj"):
                self._rows(bias, part, f"{dst}.bias")
            elif np.any(bias[part]):
                raise WeightsError(f"CTranslate2 variable {src}/bias is not zero for the keys; Whisper has none there")

    def _rows(self, tensor: Tensor, part: slice, dst: str) -> None:
        self.out[dst] = lambda: tensor[part]
