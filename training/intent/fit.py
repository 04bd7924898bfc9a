"""Fits the intent network on whole calls, checkpoint by checkpoint (:mod:`training.intent.losses`)."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from inference.errors import ConfigError
from inference.intent.encoder import EncoderShape
from training.intent.checkpoint import Place, load_checkpoint, save_checkpoint
from training.intent.data import Call
from training.intent.device import Ranks, best_device
from training.intent.held import Teacher
from training.intent.journal import Journal
from training.intent.losses import Network, encode, losses_of
from training.intent.network import IntentNetwork
from training.intent.passes import batches
from training.intent.prepare import Prepared
from training.intent.window import WindowNetwork

WARMUP_SHARE = 0.1
"""Of the run, while the learning rates rise."""

MIN_RATE = 0.02
"""Share of the learning rates that is left at the end."""

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

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError("epochs: want 1 or more")

    def slowed(self, factor: float) -> "FitConfig":
        """The same with ``factor`` on the learning rates."""
        return replace(self, learning_rate=self.learning_rate * factor, layer_rate=self.layer_rate * factor)

    def as_tuned(self, encoder: EncoderShape, head: Iterable[str]) -> "FitConfig":
        """The same, tuning what was tuned before: a layer left out would be served as published.

        Args:
            encoder: of the version that is gone on from.
            head: names of the tensors in its head.safetensors.
        """
        if encoder.artefact is None:  # such a head holds what was not tuned, too
            return self
        names = list(head)
        layers = {name.split(".")[2] for name in names if name.startswith("encoder.layer.")}
        return replace(self, num_tuned=len(layers), is_whole="embeddings.word_embeddings.weight" in names)


def fit(
    tensors: Mapping[str, np.ndarray],
    encoder: EncoderShape,
    passes: Callable[[int], Sequence[Prepared]],
    config: FitConfig,
    progress: Callable[[str, float], None],
    checkpoint: Path | None = None,
    journal: Journal | None = None,
    holds: Callable[[Call], bool] | None = None,
) -> Network:
    """Train and return the network.

    Args:
        tensors: published base weights; with those of a head of ours among them (``head.…``), it is gone on from.
        encoder: how much of them is used.
        passes: gives the prepared calls of each pass, the same ones each time; asked once a pass, when it begins.
        config: the recipe.
        progress: told after every batch: a line about the loss, and the share of work done (0–1).
        checkpoint: file to save to and, if it is there, to go on from; the same batches follow as without a break.
        journal: what is written down of every step.
        holds: which calls are taught by the head among ``tensors`` instead of their labels, so that little changes
            where nothing new is to be learnt (:mod:`training.intent.held`).

    Raises:
        ConfigError: ``checkpoint`` is of other calls or another recipe, or is damaged.
        ValueError: ``holds`` without a head.
    """
    torch.manual_seed(config.seed)
    ranks, device = Ranks(), best_device()
    head = {name: tensors[name] for name in tensors if name.startswith("head.")}
    network: Network = network_of(tensors, encoder, config).to(device)
    teacher = None
    if holds is not None:
        if not head:
            raise ValueError("holds: tensors have no head that could teach")
        as_shipped = network_of(tensors, encoder, config).to(device)
        as_shipped.go_on_from(head)
        teacher = Teacher(as_shipped, holds)
        torch.manual_seed(config.seed)  # the same run, but for what it is taught
    slow = network.encoder_parameters()
    quick = network.head_parameters()
    groups = [{"params": slow, "lr": config.layer_rate}, {"params": quick, "lr": config.learning_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    full_rates = [float(group["lr"]) for group in optimizer.param_groups]
    place = load_checkpoint(checkpoint, network, optimizer) if checkpoint else None
    epoch = place.epoch if place else 0
    train = passes(epoch)
    plan = plan_of(train, config, epoch, ranks.size)
    if place is not None and place.plan_sha256 != digest_of(plan, train, config):
        raise ConfigError(f"{checkpoint}: is of other calls or another recipe; remove it to begin anew")
    if place is None:
        if isinstance(network, IntentNetwork):  # a warm start, too: dropout is meant for what is standardised
            with torch.no_grad():
                network.standardise(*encode(network, [train[i] for batch in plan[:STANDARD_BATCHES] for i in batch]))
        network.go_on_from(head)
        place = Place(plan_sha256=digest_of(plan, train, config))
    network.train()
    averages: list[float] = []
    started = time.monotonic()
    shares = torch.tensor([1.0, config.family_weight, config.stage_weight, config.act_weight])
    while True:
        if place.batch == len(plan):
            if place.epoch + 1 == config.epochs:
                break
            batch, train = [], ()  # two passes need not be kept at once
            train = passes(place.epoch + 1)
            plan = plan_of(train, config, place.epoch + 1, ranks.size)
            place = Place(place.epoch + 1, 0, place.step, digest_of(plan, train, config))
        share = (place.epoch + place.batch / len(plan)) / config.epochs
        for group, full in zip(optimizer.param_groups, full_rates, strict=True):
            group["lr"] = full * rate_at(share)
        batch = [train[i] for i in plan[place.batch]]
        its = batch[ranks.rank :: ranks.size]
        sums = teacher.losses(network, its, config.smoothing) if teacher else losses_of(network, its, config.smoothing)
        counts = ranks.total(torch.tensor([count for _, count in sums])).clamp_min(1e-6)
        losses = torch.stack([loss for loss, _ in sums]) / counts
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward((losses * shares).sum())
        ranks.sum_gradients(network.parameters())
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses = losses.detach()
        place = replace(place, batch=place.batch + 1, step=place.step + 1)
        if journal and ranks.is_first:
            rate = float(optimizer.param_groups[-1]["lr"])
            journal.note(place.step, losses, norm, rate, sum(len(item.pieces) for item in batch))
        averages.append(float(losses[0]))
        if checkpoint and ranks.is_first and place.step % config.save_every == 0:
            save_checkpoint(checkpoint, network, optimizer, place)
        line = f"loss {np.mean(averages[-50:]):.3f} stage {losses[2]:.3f} act {losses[3]:.3f}"
        done = (place.epoch + place.batch / len(plan)) / config.epochs
        progress(f"{line} {time.monotonic() - started:.0f} s", done)
    network.eval()
    if config.head_epochs and isinstance(network, IntentNetwork):
        fit_heads(network, train, config, progress)
    ranks.close()
    network.cpu()
    return network


def network_of(tensors: Mapping[str, np.ndarray], encoder: EncoderShape, config: FitConfig) -> Network:
    """The network that ``encoder`` reads with, its heads not yet trained."""
    if encoder.reading == "window":
        return WindowNetwork(tensors, encoder, config.num_tuned, config.dropout)
    return IntentNetwork(tensors, encoder, config.num_tuned, config.dropout, is_whole=config.is_whole)


def plan_of(train: Sequence[Prepared], config: FitConfig, epoch: int, num_ranks: int) -> list[list[int]]:
    """Which calls go into each batch of pass ``epoch``; the same whether or not the run was broken off before."""
    rng = np.random.default_rng((config.seed, epoch))
    return batches([len(item.utterances) for item in train], config.pieces_per_batch * num_ranks, rng)


def digest_of(plan: Sequence[Sequence[int]], train: Sequence[Prepared], config: FitConfig) -> str:
    """SHA-256 of what a pass is: the recipe, and the words of every batch in turn."""
    digest = hashlib.sha256(repr(config).encode())
    for batch in plan:
        digest.update(repr([(train[i].call.id, train[i].utterances) for i in batch]).encode())
    return digest.hexdigest()


def rate_at(share: float) -> float:
    """Factor on the learning rates after ``share`` (0-1) of the run: a line up, a longer one down."""
    return min(max(share, 1e-3) / WARMUP_SHARE, max(MIN_RATE, (1 - share) / (1 - WARMUP_SHARE)))


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
    sizes = [len(item.utterances) for item in train]
    plan = [b for _ in range(config.head_epochs) for b in batches(sizes, HEAD_BATCH, rng)]
    optimizer = torch.optim.AdamW(network.head_parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(plan))
    shares = torch.tensor([1.0, config.family_weight, config.stage_weight, config.act_weight])
    network.train()
    for step, batch in enumerate(plan, 1):
        means, highest = (torch.cat(p) for p in zip(*(encoded[i] for i in batch), strict=True))
        sums = losses_of(network, [train[i] for i in batch], config.smoothing, (means, highest))
        losses = torch.stack([loss / max(count, 1e-6) for loss, count in sums])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward((losses * shares).sum())
        nn.utils.clip_grad_norm_(network.head_parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses = losses.detach()
        progress(f"heads: loss {losses[0]:.3f} stage {losses[2]:.3f} act {losses[3]:.3f}", step / len(plan))
    network.eval()
