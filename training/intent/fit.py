"""Fits the intent network on whole calls: the sum of an utterance's log-likelihood ratios is what is trained.

Single utterances cannot be labelled scam or genuine: most words of a scam call are harmless. So the loss is the
cross-entropy of the evidence accumulated after every utterance of a call (floored as the verdict floors it), which
teaches each utterance to add what it is worth and fillers to add nothing. Stage and family heads are trained beside it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.intent.context import WindowTokenizer, pad_rows
from inference.intent.graph import WIDTH
from inference.intent.scores import FAMILIES, STAGES
from inference.intent.text import is_filler
from training.intent.data import Call, Piece, windows_of
from training.intent.network import IntentNetwork, LowerLayers, Row, State

MAX_PIECES = 24
"""Utterances of a call that are trained on; nearly all calls are shorter."""

EVIDENCE_FLOOR = 3.0
"""Nats below the start that reassurance can bring the accumulated evidence to, in training."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """What a run depends on, besides the data."""

    seed: int = 1
    epochs: int = 3
    num_tuned: int = 2
    learning_rate: float = 1e-3
    layer_rate: float = 1.5e-4
    weight_decay: float = 0.02
    smoothing: float = 0.03
    pieces_per_batch: int = 64
    stage_weight: float = 3.0
    family_weight: float = 0.4


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call with the cached states of the windows of its far utterances.

    The near leg is read as context but not scored: on calls kept apart its own evidence did not help (calibration gave
    it the factor 0), and leaving it out of the sum made the far leg's better.
    """

    call: Call
    pieces: list[Piece]
    rows: list[Row]
    states: list[State]
    weight: float


def prepare(
    calls: Sequence[Call],
    weights: Sequence[float],
    lower: LowerLayers,
    tokenizer: WindowTokenizer,
    advance: Callable[[int], None],
    chunk: int = 40,
) -> list[Prepared]:
    """Run the frozen layers over every window once, ``chunk`` calls at a time; ``advance`` is told how many."""
    out: list[Prepared] = []
    for start in range(0, len(calls), chunk):
        part = calls[start : start + chunk]
        windows = [[w for w in windows_of(call, MAX_PIECES) if w.current.leg == "far"] for call in part]
        rows = [[tokenizer.window_ids(w) for w in of_call] for of_call in windows]
        states = iter(lower.states([row for of_call in rows for row in of_call]))
        for call, of_call, weight in zip(part, rows, weights[start : start + chunk], strict=True):
            pieces = [p for p in call.pieces[:MAX_PIECES] if p.leg == "far"]
            if pieces:
                out.append(Prepared(call, pieces, of_call, [next(states) for _ in of_call], weight))
        advance(len(part))
    return out


def batches(items: Sequence[Prepared], pieces: int, rng: np.random.Generator) -> list[list[Prepared]]:
    """Shuffled calls, packed to about ``pieces`` utterances a batch."""
    out: list[list[Prepared]] = [[]]
    size = 0
    for index in rng.permutation(len(items)):
        item = items[index]
        if out[-1] and size + len(item.rows) > pieces:
            out.append([])
            size = 0
        out[-1].append(item)
        size += len(item.rows)
    return out


def run(network: IntentNetwork, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor, Tensor]:
    """All utterances of the calls of ``batch``, in order, through the trained layers (bfloat16 inside)."""
    rows = [row for item in batch for row in item.rows]
    tokens = pad_rows(rows)
    x = torch.zeros(len(rows), tokens.input_ids.shape[1], WIDTH)
    for i, state in enumerate(state for item in batch for state in item.states):
        x[i, : len(state)] = torch.from_numpy(state).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        llr, families, stages = network(x, torch.from_numpy(tokens.part))
    return llr.float(), families.float(), stages.float()


def accumulate(llr: Tensor, floor: float) -> Tensor:
    """Evidence after each utterance of one call: a sum that never falls below ``-floor``."""
    total, out = torch.zeros(()), []
    for value in llr:
        total = torch.clamp_min(total + value, -floor)
        out.append(total)
    return torch.stack(out)


def call_loss(llr: Tensor, batch: Sequence[Prepared], smoothing: float) -> Tensor:
    """Weighted cross-entropy of the accumulated evidence over all prefixes; later prefixes count more."""
    total, weights, at = torch.zeros(()), 0.0, 0
    for item in batch:
        values = llr[at : at + len(item.rows)]
        at += len(item.rows)
        spoken = torch.tensor([float(not is_filler(p.text)) for p in item.pieces])
        evidence = accumulate(values * spoken, EVIDENCE_FLOOR)
        target = torch.full_like(evidence, 1 - smoothing if item.call.is_scam else smoothing)
        by_time = torch.linspace(0.5, 1.5, len(evidence))
        loss = functional.binary_cross_entropy_with_logits(evidence, target, reduction="none")
        total = total + item.weight * (loss * by_time).sum() / by_time.sum()
        weights += item.weight
    return total / max(weights, 1e-6)


def head_losses(families: Tensor, stages: Tensor, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
    """Cross-entropy of family (scam calls) and stages (labelled far utterances)."""
    family_rows, family_targets, stage_rows, stage_targets = [], [], [], []
    at = 0
    for item in batch:
        for piece in item.pieces:
            if item.call.family is not None:
                family_rows.append(at)
                family_targets.append(FAMILIES.index(item.call.family))
            if piece.stages is not None:
                stage_rows.append(at)
                stage_targets.append([float(s in piece.stages) for s in STAGES])
            at += 1
    zero = torch.zeros(())
    family = functional.cross_entropy(families[family_rows], torch.tensor(family_targets)) if family_rows else zero
    stage = (
        functional.binary_cross_entropy_with_logits(stages[stage_rows], torch.tensor(stage_targets))
        if stage_rows
        else zero
    )
    return family, stage


def fit(
    tensors: Mapping[str, np.ndarray],
    train: Sequence[Prepared],
    config: FitConfig,
    progress: Callable[[str, float], None],
) -> IntentNetwork:
    """Train and return the network.

    Args:
        tensors: published base weights.
        train: prepared calls with weights.
        config: the recipe.
        progress: told after every batch: a line about the loss, and the share of work done (0–1).
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network = IntentNetwork(tensors, config.num_tuned)
    layer_parameters = list(network.layers.parameters())
    known = {id(p) for p in layer_parameters}
    groups = [
        {"params": layer_parameters, "lr": config.layer_rate},
        {"params": [p for p in network.parameters() if id(p) not in known], "lr": config.learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    plan = [b for _ in range(config.epochs) for b in batches(train, config.pieces_per_batch, rng)]
    warmup = max(1, len(plan) // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.02, (len(plan) - step) / (len(plan) - warmup + 1)))
    )
    network.train()
    averages: list[float] = []
    started = time.monotonic()
    for step, batch in enumerate(plan):
        llr, families, stages = run(network, batch)
        main = call_loss(llr, batch, config.smoothing)
        family, stage = head_losses(families, stages, batch)
        loss = main + config.family_weight * family + config.stage_weight * stage
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averages.append(main.item())
        recent = float(np.mean(averages[-50:]))
        progress(
            f"loss {recent:.3f} stage {stage.item():.3f} {time.monotonic() - started:.0f} s", (step + 1) / len(plan)
        )
    network.eval()
    return network
