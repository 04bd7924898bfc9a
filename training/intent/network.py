"""The intent network in torch: MiniLM whose upper layers are tuned, and three small heads.

The lower layers stay as published, so their states are computed once per window and kept; only what is trained is
shipped (head.safetensors). :func:`inference.intent.graph.build_intent` draws the same network in ONNX; a test holds
the two together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.intent.context import TokenBatch, pad_rows
from inference.intent.graph import CURRENT, HIDDEN, LLR_LIMIT, NUM_HEADS, NUM_LAYERS, WIDTH
from inference.intent.scores import FAMILIES, STAGES

State = npt.NDArray[np.float16]
Row = tuple[list[int], list[int]]


class Layer(nn.Module):
    """One BERT layer (post-norm); parameter names are the published ones."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        linear = {
            "attention.self.query": (WIDTH, WIDTH),
            "attention.self.key": (WIDTH, WIDTH),
            "attention.self.value": (WIDTH, WIDTH),
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (WIDTH, 4 * WIDTH),
            "output.dense": (4 * WIDTH, WIDTH),
        }
        self.linear = nn.ModuleDict({name.replace(".", "/"): nn.Linear(*size) for name, size in linear.items()})
        self.norm = nn.ModuleDict(
            {n: nn.LayerNorm(WIDTH, eps=1e-12) for n in ("attention/output/LayerNorm", "output/LayerNorm")}
        )
        self.dropout = nn.Dropout(dropout)

    def load(self, tensors: Mapping[str, np.ndarray], prefix: str) -> None:
        """Fill from published tensors ``<prefix>.<name>.weight|bias``."""
        for name, module in [*self.linear.items(), *self.norm.items()]:
            for kind in ("weight", "bias"):
                value = torch.from_numpy(np.asarray(tensors[f"{prefix}.{name.replace('/', '.')}.{kind}"], np.float32))
                getattr(module, kind).data.copy_(value)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The parameters under their published names."""
        return {
            f"{prefix}.{name.replace('/', '.')}.{kind}": getattr(module, kind).detach()
            for name, module in [*self.linear.items(), *self.norm.items()]
            for kind in ("weight", "bias")
        }

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` [batch, tokens, width], ``mask`` bool [batch, 1, 1, tokens] -> the same shape as ``x``."""
        batch, tokens, _ = x.shape

        def split(name: str) -> Tensor:
            out: Tensor = self.linear[f"attention/self/{name}"](x)
            return out.view(batch, tokens, NUM_HEADS, WIDTH // NUM_HEADS).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(split("query"), split("key"), split("value"), mask)
        attended = attended.transpose(1, 2).reshape(batch, tokens, WIDTH)
        attended = self.dropout(self.linear["attention/output/dense"](attended))
        x = self.norm["attention/output/LayerNorm"](x + attended)
        inner = functional.gelu(self.linear["intermediate/dense"](x))
        out: Tensor = self.norm["output/LayerNorm"](x + self.dropout(self.linear["output/dense"](inner)))
        return out


class LowerLayers(nn.Module):
    """Embeddings and the layers that stay as published."""

    def __init__(self, tensors: Mapping[str, np.ndarray], num_layers: int) -> None:
        super().__init__()

        def get(name: str) -> Tensor:
            return torch.from_numpy(np.asarray(tensors[f"embeddings.{name}"], np.float32))

        self.words = get("word_embeddings.weight")
        self.positions = get("position_embeddings.weight") + get("token_type_embeddings.weight")[0]
        self.norm_weight, self.norm_bias = get("LayerNorm.weight"), get("LayerNorm.bias")
        self.layers = nn.ModuleList(Layer(0.0) for _ in range(num_layers))
        for number, layer in enumerate(self.layers):
            cast(Layer, layer).load(tensors, f"encoder.layer.{number}")
        self.eval()

    @torch.no_grad()
    def forward(self, batch: TokenBatch) -> Tensor:
        """States after the last frozen layer, [batch, tokens, width]."""
        ids = torch.from_numpy(batch.input_ids)
        mask = torch.from_numpy(batch.part > 0)[:, None, None, :]
        x = self.words[ids] + self.positions[: ids.shape[1]]
        x = functional.layer_norm(x, (WIDTH,), self.norm_weight, self.norm_bias, 1e-12)
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def states(self, rows: Sequence[Row], batch_size: int = 64) -> list[State]:
        """States of every row, unpadded, in the order given; rows of like length are computed together."""
        out: list[State | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                states = self(pad_rows([rows[i] for i in chosen])).to(torch.float16).numpy()
            for row, state in zip(chosen, states, strict=True):
                out[row] = state[: len(rows[row][0])].copy()
        return [state for state in out if state is not None]


class IntentNetwork(nn.Module):
    """What is trained: the top ``num_tuned`` layers and the heads."""

    def __init__(self, tensors: Mapping[str, np.ndarray], num_tuned: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.first = NUM_LAYERS - num_tuned
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(num_tuned))
        for number, layer in enumerate(self.layers, self.first):
            cast(Layer, layer).load(tensors, f"encoder.layer.{number}")
        self.hidden = nn.Linear(2 * WIDTH, HIDDEN)
        self.llr = nn.Linear(HIDDEN, 1)
        self.families = nn.Linear(HIDDEN, len(FAMILIES))
        self.stages = nn.Linear(HIDDEN, len(STAGES))
        self.dropout = nn.Dropout(0.2)
        nn.init.normal_(self.llr.weight, std=0.02)
        nn.init.zeros_(self.llr.bias)

    def forward(self, states: Tensor, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """States [batch, tokens, width] and parts [batch, tokens] -> llr [batch], family and stage logits."""
        mask = (part > 0)[:, None, None, :]
        x = states
        for layer in self.layers:
            x = layer(x, mask)
        pooled = []
        for which in (part == CURRENT, (part > 0) & (part != CURRENT)):
            weight = which.to(x.dtype)[:, :, None]
            pooled.append((x * weight).sum(1) / weight.sum(1).clamp_min(1.0))
        hidden = self.dropout(functional.gelu(self.hidden(self.dropout(torch.cat(pooled, 1)))))
        llr = LLR_LIMIT * torch.tanh(self.llr(hidden)[:, 0] / LLR_LIMIT)
        return llr, self.families(hidden), self.stages(hidden)

    def shipped(self) -> dict[str, npt.NDArray[np.float16]]:
        """Everything trained, fp16, by name: what head.safetensors holds."""
        out: dict[str, Tensor] = {}
        for number, layer in enumerate(self.layers, self.first):
            out |= cast(Layer, layer).tensors(f"encoder.layer.{number}")
        for name in ("hidden", "llr", "families", "stages"):
            module = getattr(self, name)
            out[f"head.{name}.weight"] = module.weight.detach()
            out[f"head.{name}.bias"] = module.bias.detach()
        return {name: value.to(torch.float16).contiguous().numpy() for name, value in out.items()}


def count_parameters(module: nn.Module) -> int:
    """Trained numbers in ``module``."""
    return sum(math.prod(p.shape) for p in module.parameters())
