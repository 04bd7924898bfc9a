"""Fits the intent network on whole calls, checkpoint by checkpoint (:mod:`training.intent.losses`)."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from inference.intent.encoder import EncoderShape
from training.intent.checkpoint import load_checkpoint, save_checkpoint
from training.intent.device import Ranks, best_device
from training.intent.journal import Journal
from training.intent.losses import Network, encode, losses_of
from training.intent.network import IntentNetwork
from training.intent.prepare import Prepared, batches
from training.intent.window import WindowNetwork

STANDARD_BATCHES = 4
"""Batches that the spread of encoded utterances is measured on before training."""

HEAD_BATCH = 400
"""Utterances of a batch while the heads alone are trained."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """What a run depends on, besides the data.

    Attributes:
        num_tuned: upper layers that are trained; those below stay as published.
        is_whole: train everything, word table included (an encoder that starts from nothing).
        learning_rate, layer_rate: of the heads and of the encoder.
        smoothing: how far from certain the label of a call is taken to be.
        head_epochs: after that, so many with the encoder as it then is: the heads alone. Costs
            little; tried once with 12: better on recognised calls, worse on written ones.
        save_every: steps between checkpoints, where a folder for them is given.
    """

    seed: int = 1
    epochs: int = 3
    num_tuned: int = 2
    is_whole: bool = False
    learning_rate: float = 1e-3
    layer_rate: float = 2.5e-4
    weight_decay: float = 0.02
    dropout: float = 0.1
    smoothing: float = 0.03
    pieces_per_batch: int = 72
    stage_weight: float = 1.5
    act_weight: float = 6.0
    family_weight: float = 0.3
    save_every: int = 100
    head_epochs: int = 0


def fit(
    tensors: Mapping[str, np.ndarray],
    encoder: EncoderShape,
    train: Sequence[Prepared],
    config: FitConfig,
    progress: Callable[[str, float], None],
    checkpoint: Path | None = None,
    journal: Journal | None = None,
) -> Network:
    """Train and return the network.

    Args:
        tensors: published base weights; with those of a head of ours among them (``head.…``), it is gone on from.
        encoder: how much of them is used.
        train: prepared calls with weights.
        config: the recipe.
        progress: told after every batch: a line about the loss, and the share of work done (0–1).
        checkpoint: file to save to and, if it is there, to go on from; the same batches follow as without a break.
        journal: what is written down of every step.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    ranks, device = Ranks(), best_device()
    network: Network
    if encoder.reading == "window":
        network = WindowNetwork(tensors, encoder, config.num_tuned, config.dropout).to(device)
    else:
        network = IntentNetwork(tensors, encoder, config.num_tuned, config.dropout, is_whole=config.is_whole).to(device)
    slow = network.encoder_parameters()
    quick = network.head_parameters()
    groups = [{"params": slow, "lr": config.layer_rate}, {"params": quick, "lr": config.learning_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    plan = [b for _ in range(config.epochs) for b in batches(train, config.pieces_per_batch * ranks.size, rng)]
    warmup = max(1, len(plan) // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, max(0.02, (len(plan) - step) / (len(plan) - warmup + 1)))
    )
    if isinstance(network, IntentNetwork) and not network.has_heads:
        with torch.no_grad():
            network.standardise(*encode(network, [item for batch in plan[:STANDARD_BATCHES] for item in batch]))
    network.go_on_from({name: tensors[name] for name in tensors if name.startswith("head.")})
    done = load_checkpoint(checkpoint, network, optimizer, schedule) if checkpoint else 0
    network.train()
    averages: list[float] = []
    started = time.monotonic()
    shares = torch.tensor([1.0, config.family_weight, config.stage_weight, config.act_weight])
    for step, batch in enumerate(plan[done:], done + 1):
        sums = losses_of(network, batch[ranks.rank :: ranks.size], config.smoothing)
        counts = ranks.total(torch.tensor([count for _, count in sums])).clamp_min(1e-6)
        losses = torch.stack([loss for loss, _ in sums]) / counts
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward((losses * shares).sum())
        ranks.sum_gradients(network.parameters())
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses = losses.detach()
        if journal and ranks.is_first:
            journal.note(step, losses, norm, float(schedule.get_last_lr()[-1]), sum(len(item.pieces) for item in batch))
        averages.append(float(losses[0]))
        if checkpoint and ranks.is_first and step % config.save_every == 0 and step < len(plan):
            save_checkpoint(checkpoint, network, optimizer, schedule, step)
        line = f"loss {np.mean(averages[-50:]):.3f} stage {losses[2]:.3f} act {losses[3]:.3f}"
        progress(f"{line} {time.monotonic() - started:.0f} s", step / len(plan))
    network.eval()
    if config.head_epochs and isinstance(network, IntentNetwork):
        fit_heads(network, train, config, progress)
    ranks.close()
    network.cpu()
    return network


def fit_heads(
    network: IntentNetwork, train: Sequence[Prepared], config: FitConfig, progress: Callable[[str, float], None]
) -> None:
    """Train the heads alone for ``config.head_epochs``, on utterances encoded once by the tuned encoder.

    Cheap, so they may be trained for long; every process does the same and comes to the same.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    with torch.no_grad():
        encoded = [encode(network, [item]) for item in train]
    place = {id(item): number for number, item in enumerate(train)}
    plan = [b for _ in range(config.head_epochs) for b in batches(train, HEAD_BATCH, rng)]
    optimizer = torch.optim.AdamW(network.head_parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(plan))
    shares = torch.tensor([1.0, config.family_weight, config.stage_weight, config.act_weight])
    network.train()
    for step, batch in enumerate(plan, 1):
        means, highest = (torch.cat(p) for p in zip(*(encoded[place[id(item)]] for item in batch), strict=True))
        sums = losses_of(network, batch, config.smoothing, (means, highest))
        losses = torch.stack([loss / max(count, 1e-6) for loss, count in sums])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward((losses * shares).sum())
        nn.utils.clip_grad_norm_(network.head_parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses = losses.detach()
        progress(f"heads: loss {losses[0]:.3f} stage {losses[2]:.3f} act {losses[3]:.3f}", step / len(plan))
    network.eval()
