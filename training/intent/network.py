"""The intent network in torch: a BERT-like encoder whose upper layers are tuned, and small heads.

The lower layers stay as published, so their states are computed once per utterance and kept; only what is trained is
shipped (head.safetensors). An encoder that starts from nothing is trained whole, word table included, and shipped
whole. :func:`inference.intent.graph.build_intent` draws the same network in ONNX; a test holds the two together.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.intent.encoder import EncoderShape
from inference.intent.graph import HIDDEN, LABELS, LLR_LIMIT, LOOK, LOWEST
from training.intent.device import precision
from training.intent.layers import Embeddings, Layer, Sight, Tensors, is_word, tensor
from training.intent.look_back import LookBack


class Outputs(NamedTuple):
    """What the network says of each window: llr ``[batch]``, logits ``[batch, n]``."""

    llr: Tensor
    families: Tensor
    stages: Tensor
    acts: Tensor


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
        self.sight = Sight(tensors)
        width = np.shape(tensors["embeddings.LayerNorm.weight"])[0]
        self.look = LookBack(width, dropout)
        self.hidden = nn.Linear(2 * width + LOOK, HIDDEN)
        self.llr = nn.Linear(HIDDEN, 1)
        self.heads = nn.ModuleDict({name: nn.Linear(HIDDEN, len(labels)) for name, labels in LABELS.items()})
        nn.init.normal_(self.llr.weight, std=0.02)
        nn.init.zeros_(self.llr.bias)
        self.dropout = nn.Dropout(2 * dropout)
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(2, width))  # of means and of maxima
        self.register_buffer("spread", torch.ones(2, width))

    def forward(self, x: Tensor, lengths: Tensor, members: Tensor) -> Outputs:
        """Scores of windows made of utterances.

        Args:
            x: states [utterances, tokens, width] (ids [utterances, tokens] where whole).
            lengths: tokens per utterance, [utterances].
            members: [windows, MAX_UTTERANCES]; which utterances a window reads, current first; -1: none.
        """
        return self.judge(*self.encode([x], [lengths]), members)

    def encode(self, xs: Sequence[Tensor], lengths: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and maximum of each utterance by itself, [utterances, width].

        ``xs`` and ``lengths`` as above, in pieces that are each padded to a length of their own.
        """
        if self.embeddings is not None:
            xs = [self.embeddings(x).to(precision(x.device)) for x in xs]
        words = [is_word(length, x.shape[1]) for x, length in zip(xs, lengths, strict=True)]
        masks = [self.sight(word, x.dtype) for x, word in zip(xs, words, strict=True)]
        for layer in self.layers:
            weights = cast(Layer, layer).rounded(xs[0].dtype)
            xs = [layer(x, mask, weights) for x, mask in zip(xs, masks, strict=True)]
        inside = [word.to(x.dtype)[:, :, None] for x, word in zip(xs, words, strict=True)]
        means = [(x * w).sum(1).float() / n[:, None] for x, w, n in zip(xs, inside, lengths, strict=True)]
        highest = [(x + (1 - w) * LOWEST).amax(1).float() for x, w in zip(xs, inside, strict=True)]
        return torch.cat(means), torch.cat(highest)

    def judge(self, means: Tensor, highest: Tensor, members: Tensor) -> Outputs:
        """Scores of windows made of encoded utterances; ``members`` as above."""
        means, highest = (means - self.centre[0]) / self.spread[0], (highest - self.centre[1]) / self.spread[1]
        current = members[:, 0]
        pooled = torch.cat([means[current], highest[current], self.look(means, members)], 1)
        hidden = self.dropout(functional.gelu(self.hidden(self.dropout(pooled))))
        llr = LLR_LIMIT * torch.tanh(self.llr(hidden)[:, 0] / LLR_LIMIT)
        return Outputs(llr, **{name: head(hidden) for name, head in self.heads.items()})

    @torch.no_grad()
    def standardise(self, means: Tensor, highest: Tensor) -> None:
        """Measure where encoded utterances lie, ``[utterances, width]`` each, before training.

        Sentence encoders put all texts into a narrow cone: what they share is large, what tells them apart small, and
        heads learn slowly. Shipped heads have it folded into their weights.
        """
        for index, values in enumerate((means, highest)):
            self.centre[index] = values.mean(0)
            self.spread[index] = values.std(0).clamp_min(1e-4)

    def _looks(self) -> dict[str, nn.Module]:
        """What reads standardised means of utterances, by the name that it is shipped under."""
        return {f"look.{name}": module for name, module in self.look.reads.items()}

    def _plain_parts(self) -> dict[str, nn.Module]:
        """What reads nothing standardised."""
        return {**self.look.parts(), "llr": self.llr, **dict(self.heads.items())}

    def head_parameters(self) -> list[nn.Parameter]:
        """All but the encoder's."""
        encoder = {id(p) for p in self.encoder_parameters()}
        return [p for p in self.parameters() if id(p) not in encoder]

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What was there before training: learnt at the lower rate."""
        modules = [*self.layers] if self.embeddings is None else [self.embeddings, *self.layers]
        return [p for module in modules for p in module.parameters()]

    def shipped(self) -> dict[str, npt.NDArray[np.float16]]:
        """Everything trained, fp16, by name: what head.safetensors holds."""
        out: dict[str, Tensor] = {} if self.embeddings is None else self.embeddings.tensors()
        for layer in self.layers:
            out |= cast(Layer, layer).tensors()
        out["head.look.age"] = self.look.age.detach()
        for name, module in self._plain_parts().items():
            out[f"head.{name}.weight"], out[f"head.{name}.bias"] = weights_of(module)
        for name, module in self._looks().items():
            folded = fold(*weights_of(module), self.centre[0], self.spread[0])
            out[f"head.{name}.weight"], out[f"head.{name}.bias"] = folded
        centre, spread = self._of_pooled()
        out["head.hidden.weight"], out["head.hidden.bias"] = fold(*weights_of(self.hidden), centre, spread)
        return {name: value.to("cpu", torch.float16).contiguous().numpy() for name, value in out.items()}

    def _of_pooled(self) -> tuple[Tensor, Tensor]:
        """Centre and spread of what the hidden layer reads."""
        # What was looked up is no utterance's vector any more and stays as it is.
        device = self.centre.device
        centre, spread = (
            torch.cat([values.flatten(), torch.full((LOOK,), rest, device=device)])
            for values, rest in ((self.centre, 0.0), (self.spread, 1.0))
        )
        return centre, spread

    @torch.no_grad()
    def go_on_from(self, shipped: Tensors) -> None:
        """A warm start: take over the heads that an earlier network shipped; those of another shape stay as they are.

        Comes after :meth:`standardise`: shipped weights have centre and spread folded in, and are unfolded by the new
        ones.
        """
        if np.shape(shipped.get("head.look.age", ())) == tuple(self.look.age.shape):
            self.look.age.copy_(tensor(shipped, "head.look.age"))
        alone = (self.centre[0], self.spread[0])
        heads: dict[str, tuple[nn.Module, tuple[Tensor, Tensor] | None]] = {
            "hidden": (self.hidden, self._of_pooled()),
            **{name: (module, alone) for name, module in self._looks().items()},
            **{name: (module, None) for name, module in self._plain_parts().items()},
        }
        for name, (module, standard) in heads.items():
            layer = cast(nn.Linear, module)
            if np.shape(shipped.get(f"head.{name}.weight", ())) != tuple(layer.weight.shape):
                continue
            weight = tensor(shipped, f"head.{name}.weight").to(layer.weight.device)
            bias = tensor(shipped, f"head.{name}.bias").to(layer.weight.device)
            if standard is not None:
                bias = bias + weight @ standard[0]
                weight = weight * standard[1]
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)


def weights_of(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a dense layer."""
    return cast(Tensor, module.weight).detach(), cast(Tensor, module.bias).detach()


def fold(weight: Tensor, bias: Tensor, centre: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """A dense layer over ``(x - centre) / spread`` as one over ``x``."""
    weight = weight / spread
    return weight, bias - weight @ centre


def count_parameters(module: nn.Module) -> int:
    """Trained numbers in ``module``."""
    return sum(math.prod(p.shape) for p in module.parameters())
