"""Fits the gate: cross-entropy of the evidence accumulated over a call, as it is accumulated in service."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.gate.calibration import FLOOR_LLR
from inference.intent.scores import STAGES
from training.gate.network import GateNetwork, pad
from training.gate.states import GateCall

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GateFitConfig:
    """What a run depends on, besides the data."""

    seed: int = 1
    epochs: int = 5
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    smoothing: float = 0.05
    segments_per_batch: int = 96
    stage_weight: float = 3.0


def call_weights(calls: Sequence[GateCall]) -> list[float]:
    """Both labels alike within each synthesiser, 1 on average: who speaks must not tell what is said."""
    counts = Counter((call.synthesiser, call.is_scam) for call in calls)
    raw = [
        sum(counts[call.synthesiser, label] for label in (True, False)) / counts[call.synthesiser, call.is_scam]
        for call in calls
    ]
    average = sum(raw) / max(1, len(raw))
    return [value / average for value in raw]


def batches(calls: Sequence[GateCall], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Numbers of shuffled calls, packed to about ``size`` segments a batch."""
    out: list[list[int]] = [[]]
    held = 0
    for number in rng.permutation(len(calls)):
        if out[-1] and held + len(calls[number].states) > size:
            out.append([])
            held = 0
        out[-1].append(int(number))
        held += len(calls[number].states)
    return out


def accumulate(llr: Tensor, floor: float = FLOOR_LLR) -> Tensor:
    """Evidence after each segment of one call: a sum that never falls below ``-floor``."""
    total, out = torch.zeros(()), []
    for value in llr:
        total = torch.clamp_min(total + value, -floor)
        out.append(total)
    return torch.stack(out)


def batch_loss(
    llr: Tensor, stages: Tensor, calls: Sequence[GateCall], weights: Sequence[float], smoothing: float
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of the evidence over all prefixes, later ones counting more; and that of the stages."""
    total, at = torch.zeros(()), 0
    for call, weight in zip(calls, weights, strict=True):
        evidence = accumulate(llr[at : at + len(call.states)])
        at += len(call.states)
        target = torch.full_like(evidence, 1 - smoothing if call.is_scam else smoothing)
        by_time = torch.linspace(0.5, 1.5, len(evidence))
        loss = functional.binary_cross_entropy_with_logits(evidence, target, reduction="none")
        total = total + weight * (loss * by_time).sum() / by_time.sum()
    wanted = torch.tensor([[float(s in marks) for s in STAGES] for call in calls for marks in call.marks])
    return total / max(sum(weights), 1e-6), functional.binary_cross_entropy_with_logits(stages, wanted)


def channel_moments(calls: Sequence[GateCall]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each channel over all blocks, float32 ``[width]``."""
    count, total, squares = 0, np.float64(0), np.float64(0)
    for call in calls:
        for one in call.states:
            wide = one.astype(np.float64)
            count += len(wide)
            total, squares = total + wide.sum(0), squares + np.square(wide).sum(0)
    centre = total / max(1, count)
    spread = np.sqrt(np.maximum(squares / max(1, count) - np.square(centre), 1e-6))
    return np.asarray(centre, np.float32), np.asarray(spread, np.float32)


def fit(
    calls: Sequence[GateCall],
    config: GateFitConfig,
    progress: Callable[[str, float], None] = lambda _text, _done: None,
) -> GateNetwork:
    """Train and return the network; the same calls, config and machine give the same.

    Args:
        calls: training calls; those without a segment are left out.
        config: the recipe.
        progress: told after every batch: a line about the loss, and the share of work done (0-1).
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    calls = [call for call in calls if call.states]
    weights = call_weights(calls)
    network = GateNetwork(*channel_moments(calls))
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    plan = [b for _ in range(config.epochs) for b in batches(calls, config.segments_per_batch, rng)]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=len(plan) + 1)
    network.train()
    recent: list[float] = []
    for step, numbers in enumerate(plan):
        chosen = [calls[n] for n in numbers]
        llr, stages = network(*pad([one for call in chosen for one in call.states]))
        main, stage = batch_loss(llr, stages, chosen, [weights[n] for n in numbers], config.smoothing)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(main + config.stage_weight * stage)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent = [*recent[-49:], main.item()]
        progress(f"loss {np.mean(recent):.3f} stages {stage.item():.3f}", (step + 1) / len(plan))
    network.eval()
    return network


@torch.no_grad()
def raw_llr(network: GateNetwork, call: GateCall) -> list[float]:
    """The network's word on each segment of a call."""
    if not call.states:
        return []
    return [float(value) for value in network(*pad(call.states))[0]]
