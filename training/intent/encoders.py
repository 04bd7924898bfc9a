"""Encoders that the intent network is tuned from: locked ones, one of the user's own, or a small one from nothing.

A name is looked up in this order: an artefact of ``inference/weights/lock.json``; ``scratch``; a folder with
``model.safetensors``, ``config.json`` and ``tokenizer.json``; a repository of the hub, where one can be reached. Any
BERT-like encoder of transformers fits (BERT, RoBERTa, XLM-R and what is built like them, with absolute positions; and
MPNet).
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from inference.errors import ConfigError
from inference.intent.encoder import ENCODER_FILE, EncoderShape, Reading, load_encoder
from inference.intent.install import HEAD_FILE, INTENT_MODEL, TOKENIZER_FILE
from inference.intent.text import HAN, normalise
from inference.weights import file, load_lock, open_tensors
from inference.weights.mpnet import DISTANCE_BIAS, bert_tensors
from inference.weights.safetensors import read_safetensors
from training.intent.data import Call

SCRATCH = "scratch"
SCRATCH_WIDTH, SCRATCH_LAYERS, SCRATCH_HEADS = 192, 3, 6
SCRATCH_POSITIONS = 512
UNKNOWN = "[UNK]"
MIN_WORD_COUNT = 2
HUB_FILES = ("config.json", "tokenizer.json", "model.safetensors")
_PREFIX = re.compile(r"^(bert|roberta|model)\.")
POSITIONS = "embeddings.position_embeddings.weight"


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder ready to be tuned.

    Attributes:
        name: as it was asked for.
        shape: what is written to encoder.json.
        tensors: under the names of BERT's checkpoints.
        tokenizer: its tokenizer.json.
    """

    name: str
    shape: EncoderShape
    tensors: Mapping[str, np.ndarray]
    tokenizer: Path

    def read_as(self, reading: Reading) -> "Encoder":
        """The same, for windows that are read otherwise."""
        return replace(self, shape=self.shape.model_copy(update={"reading": reading}))

    def frozen(self, num_tuned: int, is_whole: bool) -> dict[str, np.ndarray]:
        """What must be shipped beside the tuned part: nothing of a locked encoder, all lower layers of another."""
        if is_whole or self.shape.artefact is not None:
            return {}
        kept = tuple(f"encoder.layer.{n}." for n in range(self.shape.num_layers - num_tuned))
        return {
            name: np.array(tensor, np.float16)
            for name, tensor in self.tensors.items()
            if name.startswith(("embeddings.", DISTANCE_BIAS, *kept))
        }


def open_encoder(name: str, num_layers: int | None = None) -> Encoder:
    """Open a published encoder; ``num_layers``: use the lowest so many.

    Raises:
        ConfigError: there is none of this name, or it is not built like BERT.
        WeightsError: it is locked and was not pulled, or is damaged.
    """
    if name in load_lock().artefacts:
        tensors: Mapping[str, np.ndarray] = open_tensors(name)
        depth = _depth(tensors)
        shape = EncoderShape(artefact=name, num_layers=min(num_layers or depth, depth))
        if "config.json" in load_lock().artefact(name).files:
            shape = shape.model_copy(update=_said_by(file(name, "config.json")))
        return Encoder(name, shape, tensors, file(name, "tokenizer.json"))
    folder = Path(name) if Path(name).is_dir() else _from_hub(name)
    missing = [wanted for wanted in HUB_FILES if not (folder / wanted).is_file()]
    if missing:
        raise ConfigError(f"encoder {name}: {missing[0]} is missing; give a BERT-like encoder as safetensors")
    config, _ = (_json_object(folder / wanted) for wanted in ("config.json", "tokenizer.json"))
    tensors = {_PREFIX.sub("", key): value for key, value in read_safetensors(folder / "model.safetensors").items()}
    if config.get("model_type") == "mpnet":
        tensors = {key: load() for key, load in bert_tensors(tensors).items()}
    depth = _depth(tensors)
    if POSITIONS not in tensors or not depth:
        raise ConfigError(f"encoder {name}: is not built like BERT (no absolute positions or no encoder.layer.*)")
    if "roberta" in str(config.get("model_type", "")):  # its first position is that after the padding index
        tensors[POSITIONS] = tensors[POSITIONS][int(_number(config, "pad_token_id", 1)) + 1 :]
    shape = EncoderShape(
        artefact=None,
        num_layers=min(num_layers or depth, depth),
    ).model_copy(update=_said_by(folder / "config.json"))
    return Encoder(name, shape, tensors, folder / "tokenizer.json")


def open_version(version: Path) -> Encoder:
    """The encoder of a version of ours as it was tuned, and its heads beside it: a fit goes on from them.

    Args:
        version: folder with head.safetensors and encoder.json.

    Raises:
        ConfigError: it has no head.
        WeightsError: a file is damaged, or its encoder was not pulled.
    """
    if not (version / HEAD_FILE).is_file():
        raise ConfigError(f"{version}: holds no {HEAD_FILE}; give a version, e.g. models/{INTENT_MODEL}/1")
    shape = load_encoder(version / ENCODER_FILE)
    published = open_tensors(shape.artefact) if shape.artefact else {}
    tokenizer = file(shape.artefact, TOKENIZER_FILE) if shape.artefact else version / TOKENIZER_FILE
    tuned = read_safetensors(version / HEAD_FILE)
    return Encoder(
        shape.artefact or str(version), shape, {**{name: published[name] for name in published}, **tuned}, tokenizer
    )


def _said_by(config_file: Path) -> dict[str, int | float]:
    config = _json_object(config_file)
    heads, epsilon = _number(config, "num_attention_heads"), _number(config, "layer_norm_eps", 1e-12)
    return {"num_heads": int(heads), "epsilon": epsilon}


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give another folder") from error
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: is no JSON object; where it is a pointer of git-lfs, run in its folder: git lfs pull"
        )
    return content


def _number(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = config.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"config.json: {name}: want a number; give the config.json of a BERT-like encoder")
    return value


def _depth(tensors: Iterable[str]) -> int:
    numbers = [int(match.group(1)) for name in tensors if (match := re.match(r"encoder\.layer\.(\d+)\.", name))]
    return 1 + max(numbers, default=-1)


def _from_hub(name: str) -> Path:
    if "/" not in name:
        raise ConfigError(
            f"encoder {name}: no such weights, folder or hub repository; locked: {', '.join(load_lock().artefacts)}"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(f"encoder {name}: the hub does not give it; give a folder that holds it") from error


def scratch_encoder(calls: Iterable[Call], folder: Path, seed: int) -> Encoder:
    """A small encoder of random weights that reads Chinese characters and whole words: what is pretraining worth?

    Writes its tokenizer.json into ``folder``.
    """
    counts: Counter[str] = Counter()
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split(Regex(f"[{HAN}]"), behavior="isolated")]
    )
    for call in calls:
        for piece in call.pieces:
            counts.update(word for word, _ in split.pre_tokenize_str(normalise(piece.text)))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "caller", "me"]
    words = sorted(word for word, count in counts.items() if count >= MIN_WORD_COUNT and word not in special)
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = split
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scratch-tokenizer.json"
    tokenizer.save(str(path))
    shape = EncoderShape(artefact=None, num_layers=SCRATCH_LAYERS, num_heads=SCRATCH_HEADS)
    return Encoder(SCRATCH, shape, _random_tensors(len(vocabulary), np.random.default_rng(seed)), path)


def _random_tensors(num_words: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    width, inner = SCRATCH_WIDTH, 4 * SCRATCH_WIDTH
    shapes = {
        "embeddings.word_embeddings": (num_words, width),
        "embeddings.position_embeddings": (SCRATCH_POSITIONS, width),
        "embeddings.token_type_embeddings": (1, width),
    }
    out = {f"{name}.weight": rng.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    for number in range(SCRATCH_LAYERS):
        prefix = f"encoder.layer.{number}"
        sizes = {f"attention.self.{name}": (width, width) for name in ("query", "key", "value")}
        sizes |= {"attention.output.dense": (width, width), "intermediate.dense": (inner, width)}
        sizes["output.dense"] = (width, inner)
        for name, size in sizes.items():
            out[f"{prefix}.{name}.weight"] = rng.normal(0, 0.04, size).astype(np.float32)
            out[f"{prefix}.{name}.bias"] = np.zeros(size[0], np.float32)
        norms += [f"{prefix}.attention.output.LayerNorm", f"{prefix}.output.LayerNorm"]
    for name in norms:
        out[f"{name}.weight"], out[f"{name}.bias"] = np.ones(width, np.float32), np.zeros(width, np.float32)
    return out
