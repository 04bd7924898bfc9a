"""The gate in torch.

:func:`inference.gate.graph.build_gate` draws the same network in ONNX, and a test holds the two together. What is
served is small. In training it also learns to tell the stages of the script apart (an extra layer that is not
shipped): with a few hundred calls the label alone teaches it topics.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.gate.graph import FAR_BELOW, HIDDEN, LLR_LIMIT, NUM_POOLS, PROJECTED
from inference.intent.scores import STAGES

DROPOUT = 0.4
SHIPPED = ("project", "pool", "hidden", "llr")


class GateNetwork(nn.Module):
    """Block means in, a log-likelihood ratio a segment out.

    Args:
        centre, spread: mean and standard deviation of each channel of the states ``[width]``, folded into the
            projection when it is shipped.
    """

    def __init__(self, centre: npt.NDArray[np.float32], spread: npt.NDArray[np.float32]) -> None:
        super().__init__()
        self.centre, self.spread = torch.from_numpy(centre), torch.from_numpy(spread)
        self.project = nn.Linear(len(centre), PROJECTED)
        self.pool = nn.Linear(PROJECTED, NUM_POOLS, bias=False)
        self.hidden = nn.Linear((NUM_POOLS + 1) * PROJECTED, HIDDEN)
        self.llr = nn.Linear(HIDDEN, 1)
        self.stages = nn.Linear(HIDDEN, len(STAGES))
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.normal_(self.llr.weight, std=0.02)
        nn.init.zeros_(self.llr.bias)

    def forward(self, blocks: Tensor, is_heard: Tensor) -> tuple[Tensor, Tensor]:
        """Block means ``[segments, blocks, width]`` and which are speech -> llr ``[segments]``, stage logits."""
        x = (blocks - self.centre) / self.spread
        x = functional.gelu(self.project(self.dropout(x)))
        masked = torch.where(is_heard, 0.0, FAR_BELOW)[:, :, None]
        weights = torch.softmax((self.pool(x) + masked).transpose(1, 2), dim=-1)
        together = torch.cat([(weights @ x).flatten(1), (x + masked).amax(1)], dim=1)
        hidden = self.dropout(functional.gelu(self.hidden(self.dropout(together))))
        llr = LLR_LIMIT * torch.tanh(self.llr(hidden)[:, 0] / LLR_LIMIT)
        return llr, self.stages(hidden)

    def shipped(self) -> dict[str, npt.NDArray[np.float16]]:
        """What head.safetensors holds, fp16, by name; centre and spread are in the projection."""
        out = {f"{name}.weight": getattr(self, name).weight.detach() for name in SHIPPED}
        out |= {f"{name}.bias": getattr(self, name).bias.detach() for name in SHIPPED if name != "pool"}
        weight = out["project.weight"] / self.spread
        out |= {"project.weight": weight, "project.bias": out["project.bias"] - weight @ self.centre}
        return {name: value.to(torch.float16).contiguous().numpy() for name, value in out.items()}


def pad(segments: Sequence[npt.NDArray[np.float16]]) -> tuple[Tensor, Tensor]:
    """Segments of ``[blocks, width]`` -> float32 ``[segments, blocks, width]`` and bool ``[segments, blocks]``."""
    longest = max(len(one) for one in segments)
    blocks = torch.zeros(len(segments), longest, segments[0].shape[1])
    is_heard = torch.zeros(len(segments), longest, dtype=torch.bool)
    for row, one in enumerate(segments):
        blocks[row, : len(one)] = torch.from_numpy(one).float()
        is_heard[row, : len(one)] = True
    return blocks, is_heard
