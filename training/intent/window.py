"""The intent network that reads a window as one text: the current utterance and what was said before it, together.

Tokens of both meet in the tuned layers, so a word is read in the light of what came before. That costs several times
what reading utterance by utterance does (:mod:`training.intent.network`), since each utterance is encoded once for
every window that it stands in; on calls kept apart it has been the better judge so far (models/README.md).
:func:`inference.intent.graph.build_intent` draws the same network for ``reading: window``.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.intent.acts import ACTS
from inference.intent.encoder import EncoderShape
from inference.intent.graph import HIDDEN, LABELS, LLR_LIMIT
from training.intent.device import precision
from training.intent.layers import Layer, Sight, State, Tensors, tensor
from training.intent.network import Outputs, weights_of

BEFORE, CURRENT = 1, 2
"""Values of ``part``, as :class:`inference.intent.context.WindowTokenizer` writes them for one text; 0 is padding."""

NAMES = ("families", "stages")
"""Heads; acts are learnt where utterances are read each by itself (:mod:`training.intent.network`)."""


class WindowNetwork(nn.Module):
    """What is trained: the top ``num_tuned`` layers and the heads."""

    def __init__(self, tensors: Tensors, encoder: EncoderShape, num_tuned: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(tensors, f"encoder.layer.{n}", encoder, dropout)
            for n in range(encoder.num_layers - num_tuned, encoder.num_layers)
        )
        self.sight = Sight(tensors)
        width = np.shape(tensors["embeddings.LayerNorm.weight"])[0]
        # A head that is gone on from keeps its own width.
        hidden = np.shape(tensors["head.hidden.bias"])[0] if "head.hidden.bias" in tensors else HIDDEN
        self.hidden = nn.Linear(2 * width, hidden)
        self.llr = nn.Linear(hidden, 1)
        self.heads = nn.ModuleDict({name: nn.Linear(hidden, len(LABELS[name])) for name in NAMES})
        nn.init.normal_(self.llr.weight, std=0.02)
        nn.init.zeros_(self.llr.bias)
        self.dropout = nn.Dropout(2 * dropout)

    def forward(self, x: Tensor, part: Tensor) -> Outputs:
        """Scores of windows.

        Args:
            x: states after the frozen layers, [windows, tokens, width].
            part: [windows, tokens]; :data:`BEFORE`, :data:`CURRENT`, 0 for padding.
        """
        mask = self.sight(part > 0, x.dtype)
        for layer in self.layers:
            x = layer(x, mask, cast(Layer, layer).rounded(x.dtype))
        pooled = []
        for which in (CURRENT, BEFORE):
            weight = (part == which).to(x.dtype)[:, :, None]
            pooled.append((x * weight).sum(1).float() / weight.sum(1).float().clamp_min(1))
        hidden = self.dropout(functional.gelu(self.hidden(self.dropout(torch.cat(pooled, 1)))))
        llr = LLR_LIMIT * torch.tanh(self.llr(hidden)[:, 0] / LLR_LIMIT)
        acts = torch.zeros(len(llr), len(ACTS), device=llr.device)
        return Outputs(llr, self.heads["families"](hidden), self.heads["stages"](hidden), acts)

    def judge_windows(self, states: Sequence[State], parts: Sequence[Sequence[int]]) -> Outputs:
        """Scores of unpadded windows, in order; ``states`` [tokens, width] each."""
        device = next(self.parameters()).device
        longest = max(len(part) for part in parts)
        x = torch.zeros(len(parts), longest, states[0].shape[1], dtype=torch.float16)
        part = torch.zeros(len(parts), longest, dtype=torch.long)
        for row, (state, numbers) in enumerate(zip(states, parts, strict=True)):
            x[row, : len(state)] = torch.from_numpy(state)
            part[row, : len(numbers)] = torch.tensor(numbers)
        out = self(x.to(device, precision(device)), part.to(device))
        return Outputs(*(value.float().cpu() for value in out))

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What was there before training: learnt at the lower rate."""
        return list(self.layers.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """All but the encoder's."""
        encoder = {id(p) for p in self.encoder_parameters()}
        return [p for p in self.parameters() if id(p) not in encoder]

    def _modules_by_name(self) -> dict[str, nn.Module]:
        return {"hidden": self.hidden, "llr": self.llr, **dict(self.heads.items())}

    @torch.no_grad()
    def go_on_from(self, shipped: Tensors) -> None:
        """A warm start: take over the heads that an earlier network shipped; others than these shapes stay as they are.

        Called for every fit, with nothing where nothing was shipped.
        """
        for name, module in self._modules_by_name().items():
            for kind in ("weight", "bias"):
                parameter = cast(Tensor, getattr(module, kind))
                if np.shape(shipped.get(f"head.{name}.{kind}", ())) == tuple(parameter.shape):
                    parameter.copy_(tensor(shipped, f"head.{name}.{kind}").to(parameter.device))

    def shipped(self) -> dict[str, np.ndarray]:
        """Everything trained, fp16, by name: what head.safetensors holds."""
        out: dict[str, Tensor] = {}
        for layer in self.layers:
            out |= cast(Layer, layer).tensors()
        for name, module in self._modules_by_name().items():
            out[f"head.{name}.weight"], out[f"head.{name}.bias"] = weights_of(module)
        return {name: value.to("cpu", torch.float16).contiguous().numpy() for name, value in out.items()}
