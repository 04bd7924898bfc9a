"""Puts intent models into the model repository, made of pulled weights and the heads we ship.

``scam_intent`` judges every language that it was trained on. A language may have a model of its own beside it, made of
an encoder that knows that language better: ``scam_intent_<language>`` (ISO 639-1). Calls in that language go to it.
"""

import re
import shutil
from pathlib import Path

from inference.engine.graph import Precision
from inference.engine.repository import version_dir, write_atomically, write_model
from inference.intent.calibration import CALIBRATION_FILE, Calibration, load_calibration
from inference.intent.encoder import ENCODER_FILE, load_encoder
from inference.intent.graph import Tensors, build_intent

INTENT_MODEL = "scam_intent"
HEAD_FILE = "head.safetensors"
TOKENIZER_FILE = "tokenizer.json"

_OWN = re.compile(r"(.+)_([a-z]{2})")


def own_models(models_dir: Path, model: str = INTENT_MODEL) -> dict[str, str]:
    """Language -> name of the model of its own that lies in the repository beside ``model``.

    A version that lacks files counts: calls in its language are not to be judged by a model that does not know it.
    """
    found = {}
    for folder in sorted(models_dir.iterdir()) if models_dir.is_dir() else ():
        match = _OWN.fullmatch(folder.name)
        if match is None or match[1] != model or not folder.is_dir():
            continue
        if any(version.name.isdecimal() for version in folder.iterdir()):
            found[match[2]] = folder.name
    return found


def intent_models(models_dir: Path, model: str = INTENT_MODEL) -> tuple[str, ...]:
    """Every intent model in the repository, the one for all languages first."""
    return (model, *own_models(models_dir, model).values())


def model_of(version: Path) -> str:
    """Name of the model that the version folder ``<models>/<name>/<number>`` is of; of another: ``scam_intent``."""
    name = version.resolve().parent.name
    match = _OWN.fullmatch(name)
    return name if match is not None and match[1] == INTENT_MODEL else INTENT_MODEL


def joint_calibration(models_dir: Path, model: str = INTENT_MODEL) -> Calibration:
    """What judges calls in every language: the model's calibration, with that of languages with a model of their own.

    Raises:
        WeightsError: one is missing or malformed, or they do not go together.
    """
    own = own_models(models_dir, model).items()
    others = {language: load_calibration(calibration_path(models_dir, name)) for language, name in own}
    return load_calibration(calibration_path(models_dir, model)).with_own(others)


def tokenizer_path(models_dir: Path, model: str = INTENT_MODEL) -> Path:
    """Where an intent model's tokenizer lies in the repository: in its newest version."""
    return version_dir(models_dir, model) / TOKENIZER_FILE


def calibration_path(models_dir: Path, model: str = INTENT_MODEL) -> Path:
    """Where its calibration lies."""
    return version_dir(models_dir, model) / CALIBRATION_FILE


def encoder_path(models_dir: Path, model: str = INTENT_MODEL) -> Path:
    """Where it says which encoder the model is made of."""
    return version_dir(models_dir, model) / ENCODER_FILE


def install_intent(
    models_dir: Path, base: Tensors, tokenizer_file: Path, precision: Precision = "int8", model: str = INTENT_MODEL
) -> None:
    """Build ``model`` from the published encoder and ``head.safetensors`` beside it, with its tokenizer.

    Args:
        models_dir: the model repository; holds the shipped head.
        base: the encoder's weights under their published names.
        tokenizer_file: ``tokenizer.json`` of the same encoder; the one in the repository is left where it is.
        precision: ``int8`` for CPU, ``fp16`` for GPU.
        model: name in the repository.

    Raises:
        WeightsError: head or weights are missing or do not fit, or the folder cannot be written.
    """
    encoder = load_encoder(encoder_path(models_dir, model))
    graph = build_intent(base, version_dir(models_dir, model) / HEAD_FILE, precision, encoder)
    path = tokenizer_path(models_dir, model)
    if tokenizer_file != path:
        write_atomically(path, lambda temporary: shutil.copyfile(tokenizer_file, temporary))
    write_model(models_dir, model, graph)
