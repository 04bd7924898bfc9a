"""Puts the intent model into the model repository, made of pulled weights and the head we ship."""

import shutil
from pathlib import Path

from inference.engine.graph import Precision
from inference.engine.repository import version_dir, write_atomically, write_model
from inference.intent.calibration import CALIBRATION_FILE
from inference.intent.encoder import ENCODER_FILE, load_encoder
from inference.intent.graph import Tensors, build_intent

INTENT_MODEL = "scam_intent"
HEAD_FILE = "head.safetensors"
TOKENIZER_FILE = "tokenizer.json"


def tokenizer_path(models_dir: Path) -> Path:
    """Where the intent model's tokenizer lies in the repository: in its newest version."""
    return version_dir(models_dir, INTENT_MODEL) / TOKENIZER_FILE


def calibration_path(models_dir: Path) -> Path:
    """Where its calibration lies."""
    return version_dir(models_dir, INTENT_MODEL) / CALIBRATION_FILE


def encoder_path(models_dir: Path) -> Path:
    """Where it says which encoder the model is made of."""
    return version_dir(models_dir, INTENT_MODEL) / ENCODER_FILE


def install_intent(models_dir: Path, base: Tensors, tokenizer_file: Path, precision: Precision = "int8") -> None:
    """Build ``scam_intent`` from the published encoder and ``head.safetensors`` beside it, with its tokenizer.

    Args:
        models_dir: the model repository; holds the shipped head.
        base: the encoder's weights under their published names.
        tokenizer_file: ``tokenizer.json`` of the same encoder; the one in the repository is left where it is.
        precision: ``int8`` for CPU, ``fp16`` for GPU.

    Raises:
        WeightsError: head or weights are missing or do not fit, or the folder cannot be written.
    """
    encoder = load_encoder(encoder_path(models_dir))
    model = build_intent(base, version_dir(models_dir, INTENT_MODEL) / HEAD_FILE, precision, encoder)
    if tokenizer_file != tokenizer_path(models_dir):
        write_atomically(tokenizer_path(models_dir), lambda temporary: shutil.copyfile(tokenizer_file, temporary))
    write_model(models_dir, INTENT_MODEL, model)
