"""The version folder ``<models>/<intent model>/<number>`` that a training writes."""

import hashlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from inference.engine.repository import newest_version, write_atomically
from inference.errors import ConfigError
from inference.intent.context import WindowTokenizer
from inference.intent.encoder import ENCODER_FILE, EncoderShape, Reading
from inference.intent.install import HEAD_FILE, INTENT_MODEL, TOKENIZER_FILE, model_of
from inference.intent.scorer import IntentConfig
from inference.intent.versions import unseal
from inference.weights.safetensors import write_safetensors


def models_dir_of(version_dir: Path) -> Path:
    """The model repository of ``<models>/<intent model>/<number>``, whose newest version that is or will be.

    Raises:
        ConfigError: the path does not end so, or a newer version lies beside it: graphs are built of the newest.
    """
    number, model = version_dir.name, model_of(version_dir)
    if not number.isdecimal() or version_dir.parent.name != model:
        raise ConfigError(f"{version_dir}: want a folder that ends in {INTENT_MODEL}/1, as models/{INTENT_MODEL}/1")
    models_dir = version_dir.parent.parent
    if (newest := newest_version(models_dir, model)) > int(number):
        raise ConfigError(f"{version_dir}: version {newest} lies beside it; give that one, or a folder elsewhere")
    return models_dir


def window_tokenizer(path: Path, reading: Reading = "utterances") -> WindowTokenizer:
    """The tokenizer of an encoder."""
    return WindowTokenizer(Tokenizer.from_file(str(path)), IntentConfig().max_tokens, reading=reading)


def write_head(path: Path, tensors: Mapping[str, np.ndarray]) -> str:
    """Write head.safetensors; returns its sha256."""
    buffer = io.BytesIO()
    shapes = {name: tuple(int(n) for n in tensor.shape) for name, tensor in tensors.items()}
    write_safetensors(buffer, shapes, "float16", lambda name: tensors[name])
    content = buffer.getvalue()
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return hashlib.sha256(content).hexdigest()


def write_version(out: Path, shape: EncoderShape, tensors: Mapping[str, np.ndarray], tokenizer: Path) -> str:
    """Write what a fit gave: head.safetensors, encoder.json, and the tokenizer of an encoder that is not locked.

    Args:
        out: the version folder; its seal is broken now, so that a fault before leaves what was there as it was.
        shape: of the encoder.
        tensors: what is shipped.
        tokenizer: tokenizer.json.

    Returns:
        sha256 of the head.
    """
    out.mkdir(parents=True, exist_ok=True)
    unseal(out)
    digest = write_head(out / HEAD_FILE, tensors)
    text = shape.model_dump_json(indent=2) + "\n"
    write_atomically(out / ENCODER_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    if shape.artefact is None:
        write_atomically(out / TOKENIZER_FILE, lambda temporary: shutil.copyfile(tokenizer, temporary))
    return digest
