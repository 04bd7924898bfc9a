"""The other peer of benchmarks/engine.py: whisper.cpp on the very weights that ScamTap's own graphs were made of.

whisper.cpp's PyPI binding (pywhispercpp) carries no weights; its file format is simple, so they are written here: the
header, the mel filters, the byte-pair tokens, then the tensors, matrices as Q8_0 (blocks of 32 int8 and a fp16 scale).
"""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, pre_tokenizers

Weights = Mapping[str, npt.NDArray[Any]]

MAGIC = 0x67676D6C
F32, F16, Q8_0 = 0, 1, 8  # types of tensors
MOSTLY_Q8_0 = 2007  # type of the file: 7, in version 2 of the quantisation formats
BLOCK = 32
KEPT_WIDE = ("conv1.bias", "conv2.bias", "positional_embedding")
RENAMED = (
    ("model.", ""),
    (".layers.", ".blocks."),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder_attn.", "cross_attn."),
    ("self_attn.", "attn."),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("embed_tokens", "token_embedding"),
    ("embed_positions.weight", "positional_embedding"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
)


def write_whisper_cpp_model(path: Path, tensors: Weights, tokenizer_file: Path, mel_filters: npt.NDArray[Any]) -> None:
    """Write the weights as a whisper.cpp model file; ``mel_filters`` is ``[80, 201]``, of 16 kHz audio."""
    layers = {side: 1 + max(_layer(name) for name in tensors if f".{side}.layers." in name) for side in ENCDEC}
    rows, width = tensors["model.decoder.embed_tokens.weight"].shape
    lengths = [len(tensors[f"model.{side}.embed_positions.weight"]) for side in ENCDEC]
    sides = [(length, width, width // 64, layers[side]) for length, side in zip(lengths, ENCDEC, strict=True)]
    with path.open("wb") as file:
        file.write(struct.pack("<I11i", MAGIC, rows, *sides[0], *sides[1], len(mel_filters), MOSTLY_Q8_0))
        file.write(struct.pack("<2i", *mel_filters.shape) + mel_filters.astype("<f4").tobytes())
        tokens = _byte_tokens(Tokenizer.from_file(str(tokenizer_file)))
        file.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            file.write(struct.pack("<I", len(token)) + token)
        for name, tensor in tensors.items():
            _write_tensor(file, _renamed(name), tensor)


ENCDEC = ("encoder", "decoder")


def _layer(name: str) -> int:
    return int(name.split(".layers.")[1].split(".")[0])


def _renamed(name: str) -> str:
    for old, new in RENAMED:
        name = name.replace(old, new)
    return name


def _byte_tokens(tokenizer: Tokenizer) -> list[bytes]:
    """The text tokens as the bytes they stand for."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that byte-level BPE shows as themselves
    hidden = [byte for byte in range(256) if byte not in shown]
    byte_of = {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
    assert set(byte_of) == set(pre_tokenizers.ByteLevel.alphabet())
    end = tokenizer.token_to_id("<|endoftext|>")
    return [bytes(byte_of[c] for c in tokenizer.id_to_token(i)) for i in range(end)]


def _write_tensor(file: BinaryIO, name: str, tensor: npt.NDArray[Any]) -> None:
    is_wide = tensor.ndim < 2 or name.endswith(KEPT_WIDE)
    if name.endswith(("conv1.bias", "conv2.bias")):
        tensor = tensor[:, None]
    kind = F32 if is_wide else Q8_0 if tensor.ndim == 2 else F16
    encoded = name.encode()
    dims = tensor.shape[::-1]
    file.write(struct.pack(f"<3i{len(dims)}i", len(dims), len(encoded), kind, *dims) + encoded)
    if kind == Q8_0:
        blocks = tensor.astype(np.float32).reshape(-1, BLOCK)
        scale = np.abs(blocks).max(axis=1) / 127
        packed = np.zeros(len(blocks), np.dtype([("scale", "<f2"), ("values", "i1", BLOCK)]))
        packed["scale"] = scale
        packed["values"] = np.rint(blocks / np.where(scale > 0, scale, 1)[:, None])
        file.write(packed.tobytes())
    else:
        file.write(tensor.astype("<f4" if kind == F32 else "<f2").tobytes())


def open_whisper_cpp(path: Path) -> Callable[[npt.NDArray[np.float32]], str]:
    """whisper.cpp set to do the same job: greedy, no fallback, no memory of earlier text.

    Raises:
        ImportError: the binding is not installed.
    """
    from pywhispercpp.model import Model

    quiet = dict.fromkeys(("print_progress", "print_realtime", "print_timestamps"), False)
    greedy = {"single_segment": True, "no_context": True, "no_timestamps": True, "temperature_inc": 0.0}
    model = Model(str(path), n_threads=1, language="en", redirect_whispercpp_logs_to=None, **quiet, **greedy)

    def hear(wave: npt.NDArray[np.float32]) -> str:
        return " ".join(segment.text.strip() for segment in model.transcribe(wave))

    return hear
