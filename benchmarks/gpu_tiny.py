"""A made network for benchmarks/gpu.py --tiny."""

import math
from typing import Any

import numpy as np

from inference.speech.vocabulary import Vocabulary


def tiny_vocabulary() -> Vocabulary:
    """256 text tokens and the specials behind them, in Whisper's order."""
    return Vocabulary(
        size=270, end=256, start=257, transcribe=261, no_timestamps=265, no_speech=264,
        languages={"en": 258, "zh": 259}, suppressed=(1, 2), suppressed_first=(3, 256),
    )  # fmt: skip


def tiny_tensors(size: int, num_frames: int, width: int = 64, hidden: int = 128, layers: int = 2) -> dict[str, Any]:
    """A made Whisper of random numbers under Whisper's names, with positions for ``num_frames`` states."""
    rng = np.random.default_rng(5)

    def normal(*shape: int, scale: float | None = None) -> Any:
        return (rng.normal(size=shape) * (scale or 1.2 / math.sqrt(math.prod(shape[1:]) or 1))).astype(np.float32)

    out = {
        "model.encoder.conv1.weight": normal(width, 80, 3),
        "model.encoder.conv2.weight": normal(width, width, 3),
        "model.encoder.embed_positions.weight": normal(num_frames, width, scale=0.3),
        "model.decoder.embed_positions.weight": normal(64, width, scale=0.3),
        "model.decoder.embed_tokens.weight": normal(size, width, scale=1),
    }
    for side in ("encoder", "decoder"):
        blocks = ("self_attn", "encoder_attn") if side == "decoder" else ("self_attn",)
        for i in range(layers):
            name = f"model.{side}.layers.{i}"
            shapes = {f"{b}.{p}_proj": (width, width) for b in blocks for p in ("q", "k", "v", "out")}
            shapes |= {"fc1": (hidden, width), "fc2": (width, hidden)}
            out |= {f"{name}.{part}.weight": normal(*shape) for part, shape in shapes.items()}
            out |= {
                f"{name}.{part}.bias": normal(s[0], scale=0.1) for part, s in shapes.items() if "k_proj" not in part
            }
            for norm in (*(f"{block}_layer_norm" for block in blocks), "final_layer_norm"):
                out |= {f"{name}.{norm}.weight": 1 + normal(width, scale=0.1), f"{name}.{norm}.bias": normal(width)}
        out[f"model.{side}.layer_norm.weight"] = normal(width, scale=1)  # of both signs: else it repeats one token
        out[f"model.{side}.layer_norm.bias"] = normal(width, scale=0.1)
    return out | {f"model.encoder.conv{i}.bias": normal(width, scale=0.1) for i in (1, 2)}
