"""The encoder in torch: embeddings, layers, and those of them that stay as published."""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.intent.encoder import EncoderShape
from inference.intent.graph import LOWEST, TYPES
from inference.weights.mpnet import DISTANCE_BIAS, buckets_of
from training.intent.device import precision

State = npt.NDArray[np.float16]
Ids = list[int]
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


def tensor(tensors: Tensors, name: str) -> Tensor:
    """A published tensor as float32."""
    return torch.from_numpy(np.array(tensors[name], np.float32))


Weights = dict[str, tuple[Tensor, Tensor]]
"""Name of a part of a layer -> its weight and bias, rounded to the precision that is computed in."""


class Layer(nn.Module):
    """One BERT layer (post-norm), with the weights ``<prefix>.…`` of ``tensors``."""

    def __init__(self, tensors: Tensors, prefix: str, encoder: EncoderShape, dropout: float) -> None:
        super().__init__()
        self.prefix, self.num_heads, self.epsilon = prefix, encoder.num_heads, encoder.epsilon
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

    def rounded(self, dtype: torch.dtype) -> Weights:
        """All weights in ``dtype``; the parameters stay float32.

        Rounded once for all utterances of a batch. autocast would also change the states back and forth around every
        norm and sum, a fifth of the time.
        """
        return {
            name: (cast(Tensor, module.weight).to(dtype), cast(Tensor, module.bias).to(dtype))
            for name, module in [*self.linear.items(), *self.norm.items()]
        }

    def forward(self, x: Tensor, mask: Tensor, weights: Weights) -> Tensor:
        """``x`` [utterances, tokens, width], ``mask`` from :class:`Sight` -> the same shape as ``x``."""
        batch, tokens, width = x.shape

        def split(name: str) -> Tensor:
            out = functional.linear(x, *weights[f"attention/self/{name}"])
            return out.view(batch, tokens, self.num_heads, width // self.num_heads).transpose(1, 2)

        attended = functional.scaled_dot_product_attention(split("query"), split("key"), split("value"), mask)
        attended = attended.transpose(1, 2).reshape(batch, tokens, width)
        attended = self.dropout(functional.linear(attended, *weights["attention/output/dense"]))
        x = functional.layer_norm(x + attended, (width,), *weights["attention/output/LayerNorm"], self.epsilon)
        inner = functional.gelu(functional.linear(x, *weights["intermediate/dense"]))
        y = self.dropout(functional.linear(inner, *weights["output/dense"]))
        return functional.layer_norm(x + y, (width,), *weights["output/LayerNorm"], self.epsilon)


class Embeddings(nn.Module):
    """Words and positions; every token has type 0, whose embedding is folded into the positions."""

    def __init__(self, tensors: Tensors, encoder: EncoderShape) -> None:
        super().__init__()
        self.epsilon = encoder.epsilon
        self.words = nn.Parameter(tensor(tensors, "embeddings.word_embeddings.weight"))
        positions = tensor(tensors, "embeddings.position_embeddings.weight")
        if TYPES in tensors:
            positions = positions + tensor(tensors, TYPES)[0]
        self.positions = nn.Parameter(positions)
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
            TYPES: torch.zeros(1, self.words.shape[1]),
            "embeddings.LayerNorm.weight": self.gain.detach(),
            "embeddings.LayerNorm.bias": self.bias.detach(),
        }


class Sight(nn.Module):
    """What each token sees of the others: those of its own utterance, and how near (MPNet's learnt bias, as published).

    The bias is not trained: all layers share it, and the lower ones stay as they are.
    """

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        self.bias: Tensor | None
        self.register_buffer("bias", tensor(tensors, DISTANCE_BIAS) if DISTANCE_BIAS in tensors else None, False)

    def forward(self, words: Tensor, dtype: torch.dtype) -> Tensor:
        """Mask for :class:`Layer` of ``words``, bool [utterances, tokens]: True where there is one."""
        mask = words[:, None, None, :]
        if self.bias is None:
            return mask
        buckets = torch.from_numpy(buckets_of(words.shape[1], len(self.bias))).to(words.device)
        bias = self.bias[buckets].permute(2, 0, 1)[None]
        return bias.masked_fill(~mask, LOWEST).to(dtype)


class LowerLayers(nn.Module):
    """Embeddings and the layers that stay as published."""

    def __init__(self, tensors: Tensors, encoder: EncoderShape, num_layers: int) -> None:
        super().__init__()
        self.embeddings = Embeddings(tensors, encoder)
        self.sight = Sight(tensors)
        self.layers = nn.ModuleList(Layer(tensors, f"encoder.layer.{n}", encoder, 0.0) for n in range(num_layers))
        self.eval()

    @torch.no_grad()
    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """States after the last frozen layer, [utterances, tokens, width]."""
        x: Tensor = self.embeddings(input_ids).to(precision(input_ids.device))
        mask = self.sight(is_word(lengths, input_ids.shape[1]), x.dtype)
        for layer in self.layers:
            x = layer(x, mask, cast(Layer, layer).rounded(x.dtype))
        return x

    def states(self, utterances: Sequence[Ids], batch_size: int = 128) -> list[State]:
        """States of every utterance, unpadded, in the order given; those of like length are computed together."""
        out: list[State | None] = [None] * len(utterances)
        order = sorted(range(len(utterances)), key=lambda i: len(utterances[i]))
        device = self.embeddings.words.device
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids, lengths = pad_ids([utterances[i] for i in chosen])
            states = self(ids.to(device), lengths.to(device)).to("cpu", torch.float16).numpy()
            for index, state in zip(chosen, states, strict=True):
                out[index] = state[: len(utterances[index])].copy()
        return [state for state in out if state is not None]


def pad_ids(utterances: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    """Ids [utterances, tokens], 0 where there are none, and lengths [utterances]."""
    lengths = torch.tensor([len(ids) for ids in utterances])
    out = torch.zeros(len(utterances), int(lengths.max()), dtype=torch.long)
    for row, ids in enumerate(utterances):
        out[row, : len(ids)] = torch.tensor(ids)
    return out, lengths


def is_word(lengths: Tensor, num_tokens: int) -> Tensor:
    """Bool [utterances, tokens]: True where there is a token."""
    return torch.arange(num_tokens, device=lengths.device)[None, :] < lengths[:, None]
