"""Fits the intent network on whole calls: the sum of an utterance's log-likelihood ratios is what is trained.

Single utterances cannot be labelled scam or genuine: most words of a scam call are harmless. So the loss is the
cross-entropy of the evidence accumulated after every utterance of a call (floored as the verdict floors it), which
teaches each utterance to add what it is worth and fillers to add nothing. Families, stages and acts are trained beside
it, where they are labelled.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.errors import ConfigError
from inference.intent.acts import ACTS, FAR_ACTS
from inference.intent.context import CONTEXT_UTTERANCES, Said, WindowTokenizer
from inference.intent.encoder import EncoderShape
from inference.intent.graph import MAX_UTTERANCES
from inference.intent.scores import FAMILIES, STAGES
from inference.intent.text import is_filler
from training.intent.checkpoint import load_checkpoint, save_checkpoint
from training.intent.data import MAX_PIECES, Call, Piece, windows_of
from training.intent.device import Ranks, best_device, precision
from training.intent.network import Ids, IntentNetwork, LowerLayers, Outputs, State, pad_ids
from training.intent.window import WindowNetwork

Network = IntentNetwork | WindowNetwork

EVIDENCE_FLOOR = 3.0
"""Nats below the start that reassurance can bring the accumulated evidence to, in training."""

UTTERANCES_TOGETHER = 48
"""Utterances of a batch that are padded to one length: sorted by length, most of them waste little."""

STANDARD_BATCHES = 4
"""Batches that the spread of encoded utterances is measured on before training."""

HEAD_BATCH = 400
"""Utterances of a batch while the heads alone are trained."""

NUM_LOSSES = 4
"""Evidence, families, stages, acts."""


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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call, its utterances tokenised, and their cached states where lower layers stay as published.

    The near leg is read as context and its acts are learnt, but it adds no evidence: on calls kept apart its own
    evidence did not help (calibration gave it the factor 0), and leaving it out made the far leg's better.

    Attributes:
        utterances: token ids of every utterance; of every window, where windows are read as one text.
        states: per utterance or window, after the frozen layers.
        pieces: those that are scored: the far leg's, and the near leg's where acts are labelled.
        members: per scored piece, which utterances its window reads: itself, then back in time.
        parts: per window read as one text, which part each token is of; empty where utterances are read.
    """

    call: Call
    weight: float
    utterances: list[Ids]
    states: list[State] | None
    pieces: list[Piece]
    members: list[list[int]]
    parts: list[list[int]] = field(default_factory=list)


def is_scored(piece: Piece) -> bool:
    """Whether an utterance is asked for scores: the far leg's, and the near leg's where acts are labelled."""
    return piece.leg == "far" or (piece.acts is not None and not is_filler(piece.text))


def members_of(pieces: Sequence[Piece], utterances: Sequence[Ids], at: int, tokenizer: WindowTokenizer) -> list[int]:
    """Which utterances the window of utterance ``at`` reads, as live calls have it: silence is not remembered."""
    said = [i for i in range(at) if pieces[i].text.strip()][-CONTEXT_UTTERANCES:]
    indices = [at, *reversed(said)]
    return indices[: tokenizer.how_many_fit(len(utterances[i]) for i in indices)]


def prepare(
    calls: Sequence[Call],
    weights: Sequence[float],
    lower: LowerLayers | None,
    tokenizer: WindowTokenizer,
    advance: Callable[[int], None],
    chunk: int = 100,
) -> list[Prepared]:
    """Run the frozen layers over every utterance once, ``chunk`` calls at a time; ``advance`` is told how many.

    Where ``tokenizer`` reads windows as one text, over every window of a far utterance.
    """
    if tokenizer.reading == "window":
        return _prepare_windows(calls, weights, lower, tokenizer, advance, chunk)
    out: list[Prepared] = []
    for start in range(0, len(calls), chunk):
        part = calls[start : start + chunk]
        ids = [[tokenizer.utterance_ids(Said(p.leg, p.text)) for p in call.pieces[:MAX_PIECES]] for call in part]
        states = iter(lower.states([utterance for of_call in ids for utterance in of_call])) if lower else None
        for call, of_call, weight in zip(part, ids, weights[start : start + chunk], strict=True):
            cached = [next(states) for _ in of_call] if states else None
            scored = [i for i, piece in enumerate(call.pieces[:MAX_PIECES]) if is_scored(piece)]
            members = [members_of(call.pieces, of_call, i, tokenizer) for i in scored]
            if any(call.pieces[i].leg == "far" for i in scored):
                out.append(Prepared(call, weight, of_call, cached, [call.pieces[i] for i in scored], members))
        advance(len(part))
    return out


def _prepare_windows(
    calls: Sequence[Call],
    weights: Sequence[float],
    lower: LowerLayers | None,
    tokenizer: WindowTokenizer,
    advance: Callable[[int], None],
    chunk: int,
) -> list[Prepared]:
    if lower is None:
        raise ConfigError("an encoder from nothing reads utterances: leave `reading: window` out")
    out: list[Prepared] = []
    for start in range(0, len(calls), chunk):
        part = calls[start : start + chunk]
        windows = [[w for w in windows_of(call, MAX_PIECES) if w.current.leg == "far"] for call in part]
        rows = [[tokenizer.window_ids(window) for window in of_call] for of_call in windows]
        states = iter(lower.states([ids for of_call in rows for ids, _ in of_call]))
        for call, of_call, weight in zip(part, rows, weights[start : start + chunk], strict=True):
            pieces = [piece for piece in call.pieces[:MAX_PIECES] if piece.leg == "far"]
            if pieces:
                ids, parts = [row[0] for row in of_call], [row[1] for row in of_call]
                out.append(Prepared(call, weight, ids, [next(states) for _ in of_call], pieces, [], parts))
        advance(len(part))
    return out


def batches(items: Sequence[Prepared], pieces: int, rng: np.random.Generator) -> list[list[Prepared]]:
    """Shuffled calls, packed to about ``pieces`` utterances a batch."""
    out: list[list[Prepared]] = [[]]
    size = 0
    for index in rng.permutation(len(items)):
        item = items[index]
        if out[-1] and size + len(item.utterances) > pieces:
            out.append([])
            size = 0
        out[-1].append(item)
        size += len(item.utterances)
    return out


def encode(network: IntentNetwork, batch: Sequence[Prepared]) -> tuple[Tensor, Tensor]:
    """Mean and maximum of every utterance of ``batch``, in order."""
    device = next(network.parameters()).device
    utterances = [ids for item in batch for ids in item.utterances]
    cached = [state for item in batch for state in item.states or ()]
    order = sorted(range(len(utterances)), key=lambda i: len(utterances[i]))
    xs, lengths = [], []
    for start in range(0, len(order), UTTERANCES_TOGETHER):
        chosen = order[start : start + UTTERANCES_TOGETHER]
        x, length = pad_ids([utterances[i] for i in chosen])
        if network.embeddings is None:
            x = torch.zeros(*x.shape, cached[0].shape[1], dtype=torch.float16)
            for row, i in enumerate(chosen):
                x[row, : len(cached[i])] = torch.from_numpy(cached[i])
            x = x.to(device, precision(device))
        xs.append(x.to(device))
        lengths.append(length.to(device))
    back = torch.tensor(np.argsort(order)).to(device)
    means, highest = network.encode(xs, lengths)
    return means[back], highest[back]


def run(network: Network, batch: Sequence[Prepared], encoded: tuple[Tensor, Tensor] | None = None) -> Outputs:
    """Outputs for all scored utterances of the calls of ``batch``, in order; ``encoded``: what :func:`encode` gave."""
    if isinstance(network, WindowNetwork):
        return network.judge_windows(
            [state for item in batch for state in item.states or ()], [part for item in batch for part in item.parts]
        )
    starts = np.cumsum([0, *(len(item.utterances) for item in batch)])
    windows = [
        [start + i for i in members] for start, item in zip(starts, batch, strict=False) for members in item.members
    ]
    members = torch.full((len(windows), MAX_UTTERANCES), -1)
    for row, indices in enumerate(windows):
        members[row, : len(indices)] = torch.tensor(indices)
    means, highest = encoded or encode(network, batch)
    out = network.judge(means, highest, members.to(means.device))
    return Outputs(*(value.float().cpu() for value in out))


def accumulate(llr: Tensor, floor: float) -> Tensor:
    """Evidence after each utterance, ``[calls, utterances]``: a sum that never falls below ``-floor``."""
    total, out = torch.zeros(len(llr)), []
    for value in llr.unbind(1):
        total = torch.clamp_min(total + value, -floor)
        out.append(total)
    return torch.stack(out, 1)


def call_loss(llr: Tensor, batch: Sequence[Prepared], smoothing: float) -> tuple[Tensor, float]:
    """Cross-entropy of the accumulated evidence over all prefixes, later ones counting more.

    Returns:
        its weighted sum over the calls, and the sum of their weights.
    """
    far = [[i for i, piece in enumerate(item.pieces) if piece.leg == "far"] for item in batch]
    starts = np.cumsum([0, *(len(item.pieces) for item in batch)])
    length = max(len(indices) for indices in far)
    index = torch.zeros(len(batch), length, dtype=torch.long)
    spoken, by_time = torch.zeros(len(batch), length), torch.zeros(len(batch), length)
    for row, (item, indices) in enumerate(zip(batch, far, strict=True)):
        index[row, : len(indices)] = torch.tensor(indices) + int(starts[row])
        spoken[row, : len(indices)] = torch.tensor([float(not is_filler(item.pieces[i].text)) for i in indices])
        ramp = torch.linspace(0.5, 1.5, len(indices))
        by_time[row, : len(indices)] = ramp / ramp.sum()
    evidence = accumulate(llr[index] * spoken, EVIDENCE_FLOOR)
    target = torch.tensor([1 - smoothing if item.call.is_scam else smoothing for item in batch])
    loss = functional.binary_cross_entropy_with_logits(evidence, target[:, None].expand_as(evidence), reduction="none")
    weights = torch.tensor([item.weight for item in batch])
    return ((loss * by_time).sum(1) * weights).sum(), float(weights.sum())


def head_losses(out: Outputs, batch: Sequence[Prepared]) -> list[tuple[Tensor, float]]:
    """Cross-entropy of families (scam calls), stages and acts (labelled utterances): sums and what they count.

    An utterance of the far leg is asked for the far leg's acts alone, one of the near leg for its own.
    """
    pieces = [(item.call, piece) for item in batch for piece in item.pieces]
    named = [(i, FAMILIES.index(call.family)) for i, (call, _) in enumerate(pieces) if call.family is not None]
    zero = torch.zeros(())
    family = zero
    if named:
        rows, targets = (torch.tensor(column) for column in zip(*named, strict=True))
        family = functional.cross_entropy(out.families[rows], targets, reduction="sum")
    losses = [(family, float(len(named)))]
    for logits, labels, marks in (
        (out.stages, STAGES, [piece.stages if piece.leg == "far" else None for _, piece in pieces]),
        (out.acts, ACTS, [piece.acts for _, piece in pieces]),
    ):
        rows = torch.tensor([i for i, mark in enumerate(marks) if mark is not None], dtype=torch.long)
        truth = torch.tensor([[float(name in mark) for name in labels] for mark in marks if mark is not None])
        asked = torch.ones(len(rows), len(labels))
        if labels is ACTS:
            is_far = torch.tensor([pieces[i][1].leg == "far" for i in rows.tolist()], dtype=torch.bool)
            asked = (torch.tensor([name in FAR_ACTS for name in ACTS])[None, :] == is_far[:, None]).float()
        if len(rows):
            loss = functional.binary_cross_entropy_with_logits(logits[rows], truth, reduction="none")
            losses.append(((loss * asked).sum(), float(asked.sum())))
        else:
            losses.append((zero, 0.0))
    return losses


def fit(
    tensors: Mapping[str, np.ndarray],
    encoder: EncoderShape,
    train: Sequence[Prepared],
    config: FitConfig,
    progress: Callable[[str, float], None],
    checkpoint: Path | None = None,
) -> Network:
    """Train and return the network.

    Args:
        tensors: published base weights; with those of a head of ours among them (``head.…``), it is gone on from.
        encoder: how much of them is used.
        train: prepared calls with weights.
        config: the recipe.
        progress: told after every batch: a line about the loss, and the share of work done (0–1).
        checkpoint: file to save to and, if it is there, to go on from; the same batches follow as without a break.
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
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses = losses.detach()
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


def losses_of(
    network: Network,
    batch: Sequence[Prepared],
    smoothing: float,
    encoded: tuple[Tensor, Tensor] | None = None,
) -> list[tuple[Tensor, float]]:
    """The :data:`NUM_LOSSES` losses of a batch: sums and what they count; zeros for an empty one."""
    if not batch:
        nothing = sum(p.sum() for p in network.parameters()) * 0.0
        return [(torch.as_tensor(nothing).cpu(), 0.0)] * NUM_LOSSES
    out = run(network, batch, encoded)
    return [call_loss(out.llr, batch, smoothing), *head_losses(out, batch)]
