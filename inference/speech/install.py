"""Puts the speech models into the model repository, made of pulled weights."""

import shutil
from pathlib import Path

from tokenizers import Tokenizer

from inference.engine.graph import Precision
from inference.engine.repository import version_dir, write_atomically, write_model
from inference.speech.graph import DECODER, ENCODER, Tensors, build_speech
from inference.speech.vocabulary import Vocabulary
from inference.speech.whole import WHOLE, DrawnGate, build_whole

TOKENIZER_FILE = "tokenizer.json"


def tokenizer_path(models_dir: Path) -> Path:
    """Where the speech models' tokenizer lies in the repository."""
    return version_dir(models_dir, ENCODER) / TOKENIZER_FILE


def install_speech(
    models_dir: Path,
    tensors: Tensors,
    tokenizer_file: Path,
    precision: Precision = "int8",
    gate: DrawnGate | None = None,
) -> None:
    """Build ``speech``, ``speech_decoder`` and ``speech_text`` and write them with their tokenizer.

    Args:
        models_dir: the model repository.
        tensors: Whisper's weights under their Hugging Face names.
        tokenizer_file: ``tokenizer.json`` of the same checkpoint.
        precision: ``int8`` for CPU, ``fp16`` for GPU.
        gate: for ``speech_text``.

    Raises:
        WeightsError: weights and tokenizer are not a Whisper's, or the folder cannot be written.
    """
    vocabulary = Vocabulary.from_tokenizer(Tokenizer.from_file(str(tokenizer_file)))
    whole = build_whole(tensors, vocabulary, precision, gate=gate)
    models = {**build_speech(tensors, vocabulary, precision), WHOLE: whole}
    write_atomically(tokenizer_path(models_dir), lambda temporary: shutil.copyfile(tokenizer_file, temporary))
    for name in (WHOLE, DECODER, ENCODER):
        write_model(models_dir, name, models[name])
