"""From the raw files of any source to the canonical form: the same bytes whatever carried the weights.

Tensors are named as in transformers and have the artefact's canonical dtype: float16 for Whisper (its published
checkpoint is float16; the hub's float32 file is that, widened, so rounding to nearest even gives it back), float32
for MiniLM (published so; float16 would lose), float16 for multilingual-e5-small (it comes in 4 bits) and for
all-mpnet-base-v2 (published in float32; it is served in eight bits and tuned from there, and half a gigabyte of disk is
saved). Tokenizers: see :mod:`inference.weights.tokenizer`.
"""

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inference.errors import WeightsError
from inference.weights.ct2 import read_ct2, to_hugging_face
from inference.weights.e5 import prune, read_e5, read_kept
from inference.weights.lock import LOCK_DIR, Artefact
from inference.weights.mpnet import open_published
from inference.weights.safetensors import Tensor, read_safetensors
from inference.weights.tokenizer import canonical_json, read_json, whisper_tokenizer

VOICE_SHAPE = (510, 1, 256)
"""A Kokoro voice: one 256-number style per length of the phoneme string (1..510)."""

E5_FILE, E5_KEPT = "e5-small-q4.bin", "multilingual-e5-small.kept.txt"

_NOT_WEIGHTS = ("proj_out.weight", "embeddings.position_ids")
"""In some published files and not in others, and no weights: the output projection is tied to the token embedding,
position ids are a constant 0, 1, 2, …"""


@dataclass(frozen=True, slots=True)
class Material:
    """An artefact before it is written and verified.

    Attributes:
        tensors: name -> function giving the tensor, in whatever float dtype the source has.
        files: canonical file name -> its bytes, or a raw file to copy.
    """

    tensors: Mapping[str, Callable[[], Tensor]]
    files: Mapping[str, bytes | Path]


def prepare(artefact: Artefact, raw: Path) -> Material:
    """Read the raw files in folder ``raw`` by the artefact's recipe.

    Raises:
        WeightsError: a file is missing, malformed or of an unknown form.
    """
    return _RECIPES[artefact.recipe](artefact, raw)


def cast(tensor: Tensor, dtype: str) -> Tensor:
    """Round to ``dtype``, to nearest even (IEEE 754); what overflows becomes infinite and fails its hash.

    Raises:
        WeightsError: the tensor does not hold floats.
    """
    if tensor.dtype.kind != "f":
        raise WeightsError(f"a tensor holds {tensor.dtype}, not floats; these are other weights than the locked ones")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(tensor, dtype=dtype, order="C")


def _whisper(_: Artefact, raw: Path) -> Material:
    tokenizer = read_json(raw / "tokenizer.json")
    text, token_ids = whisper_tokenizer(tokenizer)
    if (raw / "model.bin").exists():
        tensors = to_hugging_face(read_ct2(raw / "model.bin"))
        config = _from_ct2_config(read_json(raw / "config.json"), token_ids)
    else:
        tensors = _views(read_safetensors(raw / "model.safetensors"))
        config = _from_generation_config(read_json(raw / "generation_config.json"))
    return Material(tensors, {"tokenizer.json": text, "config.json": canonical_json(config)})


def _views(tensors: Mapping[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    def view(name: str) -> Callable[[], Tensor]:
        return lambda: tensors[name]

    return {name: view(name) for name in tensors if name not in _NOT_WEIGHTS}


def _from_ct2_config(config: dict[str, Any], token_ids: Mapping[str, int]) -> dict[str, Any]:
    try:
        by_id = {token_id: content for content, token_id in token_ids.items()}
        return {
            "alignment_heads": config["alignment_heads"],
            "begin_suppress_tokens": config["suppress_ids_begin"],
            "lang_to_id": {by_id[token_id].strip("<|>"): token_id for token_id in config["lang_ids"]},
            "suppress_tokens": config["suppress_ids"],
        }
    except (KeyError, TypeError) as error:
        raise WeightsError(f"config.json of the CTranslate2 Whisper model lacks or garbles {error}") from error


def _from_generation_config(config: dict[str, Any]) -> dict[str, Any]:
    try:
        return {
            "alignment_heads": config["alignment_heads"],
            "begin_suppress_tokens": config["begin_suppress_tokens"],
            "lang_to_id": {name.strip("<|>"): token_id for name, token_id in config["lang_to_id"].items()},
            "suppress_tokens": config["suppress_tokens"],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"generation_config.json of the Whisper model lacks or garbles {error}") from error


def _verbatim(artefact: Artefact, raw: Path) -> Material:
    for name in artefact.files:
        if not (raw / name).is_file():
            raise WeightsError(f"{name} is missing beside the weights")
    return Material(_views(read_safetensors(raw / "model.safetensors")), {name: raw / name for name in artefact.files})


def _e5(_: Artefact, raw: Path) -> Material:
    tensors, tokenizer = prune(read_e5(raw / E5_FILE), read_kept(LOCK_DIR / E5_KEPT))
    return Material(tensors, {"tokenizer.json": tokenizer})


def _mpnet(artefact: Artefact, raw: Path) -> Material:
    return Material(open_published(raw), {name: raw / name for name in artefact.files})


def _kokoro(_: Artefact, raw: Path) -> Material:
    if not (raw / "model.onnx").is_file():
        raise WeightsError("model.onnx of Kokoro is missing")
    num_bytes = 4 * VOICE_SHAPE[0] * VOICE_SHAPE[2]
    voices = {}
    for path in sorted(raw.glob("*.voice")):
        if path.stat().st_size != num_bytes:
            raise WeightsError(f"Kokoro voice {path.stem} has {path.stat().st_size} bytes, expected {num_bytes}")
        voices[path.stem] = path.read_bytes()
    return Material({}, {"model.onnx": raw / "model.onnx", "voices.npz": _npz(voices)})


def _npz(voices: Mapping[str, bytes]) -> bytes:
    """An uncompressed .npz of float32 voices; written by hand so that its bytes do not depend on NumPy or the clock."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {VOICE_SHAPE}, }}"
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"  # npy format 1.0: data starts at a multiple of 64
    prefix = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("ascii")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(voices):
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, prefix + voices[name])
    return out.getvalue()


_RECIPES: Mapping[str, Callable[[Artefact, Path], Material]] = {
    "whisper": _whisper,
    "verbatim": _verbatim,
    "kokoro": _kokoro,
    "e5": _e5,
    "mpnet": _mpnet,
}
