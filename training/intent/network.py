"""The intent network in torch: a BERT-like encoder whose upper layers are tuned, and small heads.

The lower layers stay as published, so their states are computed once per window and kept; only what is trained is
shipped (head.safetensors). An encoder that starts from nothing is trained whole, word table included, and shipped
whole. :func:`inference.intent.graph.build_intent` draws the same network in ONNX; a test holds the two together.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.intent.context import TokenBatch, pad_rows
from inference.intent.encoder import EncoderShape
from inference.intent.graph import CURRENT, HIDDEN, LABELS, LLR_LIMIT, LOWEST, NUM_POOLED
from training.intent.device import autocast

State = npt.NDArray[np.float16]
Row = tuple[list[int], list[int]]
Tensors = Mapping[str, np.ndarray]

LINEARS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


class Outputs(NamedTuple):
    """What the network says of each window: llr ``[batch]``, logits ``[batch, n]``."""

    llr: Tensor
    families: Tensor
    stages: Tensor
    acts: Tensor


def tensor(tensors: Tensors, name: str) -> Tensor:
    """A published tensor as float32."""
    return torch.from_numpy(np.array(tensors[name], np.float32))


class Layer(nn.Module):
    """One BERT layer (post-norm), with the weights ``<prefix>.…`` of ``tensors``."""

    def __init__(self, tensors: Tensors, prefix: str, encoder: EncoderShape, dropout: float) -> None:
        super().__init__()
        self.prefix, self.num_heads = prefix, encoder.num_heads
        self.linear, self.norm = nn.ModuleDict(), nn.ModuleDict()
        for name in LINEARS:
            weight = tensor(tensors, f"{prefix}.{name}.weight")
            module = nn.Linear(weight.shape[1], weight.shape[0])
            module.weight.data, module.bias.data = weight, tensor(tensors, f"{prefix}.{name}.bias")
            self.linear[name.replace(".", "/")] = module
        for name in NORMS:
            gain = tensor(tensors, f"{prefix}.{name}.weight")
            norm = nn.LayerNorm(len(gain), eps=encoder.epsilon)
            norm.weight.data, norm.bias.data = gain, tensor(tensors, f"{prefix}.{name}.bias")
            self.norm[name.replace(".", "/")] = norm
        self.dropout = nn.Dropout(dropout)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters under their published names."""
        return {
            f"{self.prefix}.{name.replace('/', '.')}.{kind}": getattr(module, kind).detach()
            for name, module in [*self.linear.items(), *self.norm.items()]
            for kind in ("weight", "bias")
        }

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` [batch, tokens, width], ``mask`` bool [batch, 1, 1, tokens] -> the same shape as ``x``."""
        batch, tokens, width = x.shape

        def split(name: str) -> Tensor:
            out: Tensor = self.linear[f"attention/self/{name}"](x)
            return out.view(batch, tokens, self.num_heads, width // self.num_heads).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(split("query"), split("key"), split("value"), mask)
        attended = attended.transpose(1, 2).reshape(batch, tokens, width)
        attended = self.dropout(self.linear["attention/output/dense"](attended))
        x = self.norm["attention/output/LayerNorm"](x + attended)
        inner = functional.gelu(self.linear["intermediate/dense"](x))
        out: Tensor = self.norm["output/LayerNorm"](x + self.dropout(self.linear["output/dense"](inner)))
        return out


class Embeddings(nn.Module):
    """Words and positions; every token has type 0, whose embedding is folded into the positions."""

    def __init__(self, tensors: Tensors, encoder: EncoderShape) -> None:
        super().__init__()
        self.epsilon = encoder.epsilon
        self.words = nn.Parameter(tensor(tensors, "embeddings.word_embeddings.weight"))
        positions = tensor(tensors, "embeddings.position_embeddings.weight")
        self.positions = nn.Parameter(positions + tensor(tensors, "embeddings.token_type_embeddings.weight")[0])
        self.gain = nn.Parameter(tensor(tensors, "embeddings.LayerNorm.weight"))
        self.bias = nn.Parameter(tensor(tensors, "embeddings.LayerNorm.bias"))

    def forward(self, input_ids: Tensor) -> Tensor:
        """Ids [batch, tokens] -> states [batch, tokens, width]."""
        x = functional.embedding(input_ids, self.words) + self.positions[: input_ids.shape[1]]
        return functional.layer_norm(x, (x.shape[-1],), self.gain, self.bias, self.epsilon)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters under their published names."""
        return {
            "embeddings.word_embeddings.weight": self.words.detach(),
            "embeddings.position_embeddings.weight": self.positions.detach(),
            "embeddings.token_type_embeddings.weight": torch.zeros(1, self.words.shape[1]),
            "embeddings.LayerNorm.weight": self.gain.detach(),
            "embeddings.LayerNorm.bias": self.bias.detach(),
        }


class LowerLayers(nn.Module):
    """Embeddings and the layers that stay as published."""

    def __init__(self, tensors: Tensors, encoder: EncoderShape, num_layers: int) -> None:
        super().__init__()
        self.embeddings = Embeddings(tensors, encoder)
        self.layers = nn.ModuleList(Layer(tensors, f"encoder.layer.{n}", encoder, 0.0) for n in range(num_layers))
        self.eval()

    @torch.no_grad()
    def forward(self, batch: TokenBatch) -> Tensor:
        """States after the last frozen layer, [batch, tokens, width]."""
        device = self.embeddings.words.device
        x: Tensor = self.embeddings(torch.from_numpy(batch.input_ids).to(device))
        mask = torch.from_numpy(batch.part > 0).to(device)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def states(self, rows: Sequence[Row], batch_size: int = 64) -> list[State]:
        """States of every row, unpadded, in the order given; rows of like length are computed together."""
        out: list[State | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            with autocast(self.embeddings.words.device):
                states = self(pad_rows([rows[i] for i in chosen])).to("cpu", torch.float16).numpy()
            for row, state in zip(chosen, states, strict=True):
                out[row] = state[: len(rows[row][0])].copy()
        return [state for state in out if state is not None]


class IntentNetwork(nn.Module):
    """What is trained: the top ``num_tuned`` layers and the heads; all of it where ``is_whole``."""

    def __init__(
        self,
        tensors: Tensors,
        encoder: EncoderShape,
        num_tuned: int,
        dropout: float = 0.1,
        *,
        is_whole: bool = False,
    ) -> None:
        super().__init__()
        first = 0 if is_whole else encoder.num_layers - num_tuned
        self.embeddings = Embeddings(tensors, encoder) if is_whole else None
        self.layers = nn.ModuleList(
            Layer(tensors, f"encoder.layer.{n}", encoder, dropout) for n in range(first, encoder.num_layers)
        )
        width = np.shape(tensors["embeddings.LayerNorm.weight"])[0]
        self.hidden = nn.Linear(NUM_POOLED * width, HIDDEN)
        self.llr = nn.Linear(HIDDEN, 1)
        self.heads = nn.ModuleDict({name: nn.Linear(HIDDEN, len(labels)) for name, labels in LABELS.items()})
        self.dropout = nn.Dropout(2 * dropout)
        nn.init.normal_(self.llr.weight, std=0.02)
        nn.init.zeros_(self.llr.bias)
        for name, module in self._heads().items():
            if np.shape(tensors.get(f"head.{name}.weight", ())) == tuple(module.weight.shape):  # a warm start: our own
                module.weight.data = tensor(tensors, f"head.{name}.weight")
                module.bias.data = tensor(tensors, f"head.{name}.bias")

    def _heads(self) -> dict[str, nn.Linear]:
        return {
            name: cast(nn.Linear, m) for name, m in (("hidden", self.hidden), ("llr", self.llr), *self.heads.items())
        }

    def forward(self, x: Tensor, part: Tensor) -> Outputs:
        """States [batch, tokens, width] (ids [batch, tokens] where whole) and parts [batch, tokens]."""
        if self.embeddings is not None:
            x = self.embeddings(x)
        mask = (part > 0)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        current = (part == CURRENT).to(x.dtype)[:, :, None]
        before = ((part > 0) & (part != CURRENT)).to(x.dtype)[:, :, None]
        pooled = [(x * weight).sum(1) / weight.sum(1).clamp_min(1.0) for weight in (current, before)]
        pooled.append((x + (1 - current) * LOWEST).amax(1))
        hidden = self.dropout(functional.gelu(self.hidden(self.dropout(torch.cat(pooled, 1)))))
        llr = LLR_LIMIT * torch.tanh(self.llr(hidden)[:, 0] / LLR_LIMIT)
        return Outputs(llr, **{name: head(hidden) for name, head in self.heads.items()})

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What was there before training: learnt at the lower rate."""
        modules = [*self.layers] if self.embeddings is None else [self.embeddings, *self.layers]
        return [p for module in modules for p in module.parameters()]

    def shipped(self) -> dict[str, npt.NDArray[np.float16]]:
        """Everything trained, fp16, by name: what head.safetensors holds."""
        out: dict[str, Tensor] = {} if self.embeddings is None else self.embeddings.tensors()
        for layer in self.layers:
            out |= cast(Layer, layer).tensors()
        for name, module in self._heads().items():
            out[f"head.{name}.weight"] = module.weight.detach()
            out[f"head.{name}.bias"] = module.bias.detach()
        return {name: value.to("cpu", torch.float16).contiguous().numpy() for name, value in out.items()}


def count_parameters(module: nn.Module) -> int:
    """Trained numbers in ``module``."""
    return sum(math.prod(p.shape) for p in module.parameters())
