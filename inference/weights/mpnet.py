"""all-mpnet-base-v2 to BERT's tensor names, so that one code tunes, draws and serves both kinds of encoder.

MPNet (Song et al. 2020) is BERT but for three things. Its projections have other names. Its first two positions belong
to padding and are never read. And a learnt bias, one number per head and *bucket* of the distance between two tokens,
is added to every layer's attention scores (:func:`buckets_of`); the table is shared by all layers.
"""

import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.errors import WeightsError
from inference.weights.safetensors import Tensor, read_safetensors

ARCHIVE = "all-mpnet-base-v2.zip"
"""The packages carry the published folder as one archive, cut into pieces; the hub has its files as they are."""

FILES = ("config.json", "tokenizer.json", "model.safetensors")
MAX_FILE_BYTES = 450_000_000

DISTANCE_BIAS = "encoder.relative_attention_bias.weight"
"""Bias table, ``[buckets, heads]``; an encoder without it has none."""

MAX_DISTANCE = 128
"""Tokens; what is farther away is all one bucket."""

PADDING_POSITIONS = 2

_NAMES = (
    (re.compile(r"\.attention\.attn\.q\."), ".attention.self.query."),
    (re.compile(r"\.attention\.attn\.k\."), ".attention.self.key."),
    (re.compile(r"\.attention\.attn\.v\."), ".attention.self.value."),
    (re.compile(r"\.attention\.attn\.o\."), ".attention.output.dense."),
    (re.compile(r"\.attention\.LayerNorm\."), ".attention.output.LayerNorm."),
)
_NOT_USED = ("pooler.", "embeddings.position_ids")


def buckets_of(num_tokens: int, num_buckets: int = 32) -> npt.NDArray[np.int64]:
    """Bucket of the distance from every token to every other, int64 ``[tokens, tokens]`` (rows look, columns are seen).

    Half of the buckets are for what stands to the right. Of each half, the first half are single steps, the others
    grow wider by the logarithm up to :data:`MAX_DISTANCE`, as in T5 (Raffel et al. 2020, section 2.1), whose signs
    these are.
    """
    places = np.arange(num_tokens)
    distance = places[None, :] - places[:, None]
    half = num_buckets // 2
    exact = half // 2
    far = np.maximum(np.abs(distance), 1)
    # In float32, as the published code computes it: a boundary between two buckets must fall on the same distance.
    steps = np.log(far.astype(np.float32) / np.float32(exact)) / np.float32(np.log(MAX_DISTANCE / exact))
    wide = np.minimum(exact + (steps * np.float32(half - exact)).astype(np.int64), half - 1)
    right = half * (distance > 0).astype(np.int64)
    return np.asarray(right + np.where(np.abs(distance) < exact, np.abs(distance), wide))


def bert_tensors(published: Mapping[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """MPNet's tensors under BERT's names, without the positions of padding.

    Raises:
        WeightsError: it is no MPNet.
    """
    if DISTANCE_BIAS not in published or "embeddings.position_embeddings.weight" not in published:
        raise WeightsError("model.safetensors is no MPNet encoder (it has no relative_attention_bias)")
    out: dict[str, Callable[[], Tensor]] = {}
    for name, tensor in published.items():
        if name.startswith(_NOT_USED):
            continue
        new = name
        for pattern, replacement in _NAMES:
            new = pattern.sub(replacement, new)
        first = PADDING_POSITIONS if name == "embeddings.position_embeddings.weight" else 0
        out[new] = _from_row(tensor, first)
    return out


def _from_row(tensor: Tensor, first: int) -> Callable[[], Tensor]:
    return lambda: tensor[first:]


def open_published(raw: Path) -> dict[str, Callable[[], Tensor]]:
    """The tensors in folder ``raw``, which holds either the published files or the archive of them; unpacks that.

    Raises:
        WeightsError: neither is there, or the archive is damaged.
    """
    if (raw / ARCHIVE).is_file():
        _unpack(raw / ARCHIVE, raw)
    return bert_tensors(read_safetensors(raw / "model.safetensors"))


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in FILES:
                # Only what is asked for by name, so nothing in the archive says where it is written.
                found = archive.getinfo(f"all-mpnet-base-v2/{name}")
                if found.file_size > MAX_FILE_BYTES:
                    raise WeightsError(f"{path.name}: {name} unpacks to {found.file_size} bytes; pull again")
                with archive.open(found) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
        raise WeightsError(f"{path.name} is not the archive expected ({error}); delete it and pull again") from error
