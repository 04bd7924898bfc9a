"""The peer of benchmarks/speech.py: faster-whisper on the very weights that ScamTap's own graphs were made of."""

import json
from collections.abc import Mapping
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from inference.speech.vocabulary import Vocabulary

Weights = Mapping[str, npt.NDArray[Any]]


def write_peer_model(folder: Path, tensors: Weights, tokenizer_file: Path, head_width: int = 64) -> None:
    """Write the weights as a CTranslate2 model folder, as its own converter would."""
    from ctranslate2.specs import whisper_spec

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    layers = {side: 1 + max(_layer(name) for name in tensors if f".{side}.layers." in name) for side in ENCDEC}
    width = tensors["model.decoder.embed_tokens.weight"].shape[1]
    heads = width // head_width
    spec = whisper_spec.WhisperSpec(layers["encoder"], heads, layers["decoder"], heads)
    for i in (1, 2):
        _fill(getattr(spec.encoder, f"conv{i}"), tensors, f"model.encoder.conv{i}")
    for side, part in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        part.position_encodings.encodings = tensors[f"model.{side}.embed_positions.weight"]
        _norm(part.layer_norm, tensors, f"model.{side}.layer_norm")
        for i, layer in enumerate(part.layer):
            name = f"model.{side}.layers.{i}"
            _norm(layer.self_attention.layer_norm, tensors, f"{name}.self_attn_layer_norm")
            _attention(layer.self_attention.linear, tensors, f"{name}.self_attn", fused="qkv")
            if side == "decoder":
                _norm(layer.attention.layer_norm, tensors, f"{name}.encoder_attn_layer_norm")
                _attention(layer.attention.linear, tensors, f"{name}.encoder_attn", fused="kv")
            _norm(layer.ffn.layer_norm, tensors, f"{name}.final_layer_norm")
            _fill(layer.ffn.linear_0, tensors, f"{name}.fc1")
            _fill(layer.ffn.linear_1, tensors, f"{name}.fc2")
    spec.decoder.embeddings.weight = tensors["model.decoder.embed_tokens.weight"]
    spec.decoder.projection.weight = tensors["model.decoder.embed_tokens.weight"]
    spec.register_vocabulary([tokenizer.id_to_token(i) for i in range(vocabulary.size)])
    spec.validate()
    spec.optimize(quantization="float16")  # as published; int8 is made when faster-whisper loads it
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    config = {
        "suppress_ids": [*vocabulary.suppressed, *range(vocabulary.start, vocabulary.no_timestamps)],
        "suppress_ids_begin": list(vocabulary.suppressed_first),
        "lang_ids": list(vocabulary.languages.values()),
        "alignment_heads": [[i, h] for i in range(layers["decoder"] // 2, layers["decoder"]) for h in range(heads)],
    }
    (folder / "config.json").write_text(json.dumps(config))
    copyfile(tokenizer_file, folder / "tokenizer.json")


ENCDEC = ("encoder", "decoder")


def _layer(name: str) -> int:
    return int(name.split(".layers.")[1].split(".")[0])


def _fill(spec: Any, tensors: Weights, name: str) -> None:
    spec.weight, spec.bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _norm(spec: Any, tensors: Weights, name: str) -> None:
    spec.gamma, spec.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _attention(specs: list[Any], tensors: Weights, name: str, fused: str) -> None:
    """CTranslate2 wants queries, keys and values of one input in one matrix; the rest stays apart."""
    if fused == "kv":
        _fill(specs[0], tensors, f"{name}.q_proj")
    stacked = specs[0] if fused == "qkv" else specs[1]
    weights = [tensors[f"{name}.{p}_proj.weight"] for p in fused]
    stacked.weight = np.concatenate(weights)
    # Whisper's keys have no bias.
    zeros = np.zeros(len(weights[0]), weights[0].dtype)
    stacked.bias = np.concatenate([zeros if p == "k" else tensors[f"{name}.{p}_proj.bias"] for p in fused])
    _fill(specs[-1], tensors, f"{name}.out_proj")
