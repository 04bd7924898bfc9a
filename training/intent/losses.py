"""What the network says of a batch of calls, and how wrong it is.

Single utterances cannot be labelled scam or genuine: most words of a scam call are harmless. So the loss is the
cross-entropy of the evidence accumulated after every utterance of a call (floored as the verdict floors it), which
teaches each utterance to add what it is worth and fillers to add nothing. Families, stages and acts are trained beside
it, where they are labelled.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference.intent.acts import ACTS, FAR_ACTS
from inference.intent.graph import MAX_UTTERANCES
from inference.intent.scores import FAMILIES, STAGES
from inference.intent.text import is_filler
from training.intent.device import precision
from training.intent.layers import pad_ids
from training.intent.network import IntentNetwork, Outputs
from training.intent.prepare import Prepared
from training.intent.window import WindowNetwork

Network = IntentNetwork | WindowNetwork

EVIDENCE_FLOOR = 3.0
"""Nats below the start that reassurance can bring the accumulated evidence to, in training."""

UTTERANCES_TOGETHER = 48
"""Utterances of a batch that are padded to one length: sorted by length, most of them waste little."""

LOSSES = ("evidence", "family", "stage", "act")


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


def call_loss(
    llr: Tensor, batch: Sequence[Prepared], smoothing: float, taught: Outputs | None = None
) -> tuple[Tensor, float]:
    """Cross-entropy of the accumulated evidence over all prefixes, later ones counting more.

    Where ``taught`` says what it was before: how far it is from that (Huber), as labels do not say how sure to be.

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
    if taught is not None:
        was = accumulate(taught.llr[index] * spoken, EVIDENCE_FLOOR)
        loss = functional.smooth_l1_loss(evidence, was, reduction="none")
    weights = torch.tensor([item.weight for item in batch])
    return ((loss * by_time).sum(1) * weights).sum(), float(weights.sum())


def head_losses(out: Outputs, batch: Sequence[Prepared], taught: Outputs | None = None) -> list[tuple[Tensor, float]]:
    """Cross-entropy of families (scam calls), stages and acts (labelled utterances): sums and what they count.

    An utterance of the far leg is asked for the far leg's acts alone, one of the near leg for its own. What was
    ``taught`` stands in for labels.
    """
    pieces = [(item.call, piece) for item in batch for piece in item.pieces]
    named = [(i, FAMILIES.index(call.family)) for i, (call, _) in enumerate(pieces) if call.family is not None]
    zero = torch.zeros(())
    family = zero
    if named:
        rows, targets = (torch.tensor(column) for column in zip(*named, strict=True))
        truth = functional.one_hot(targets, len(FAMILIES)).float()
        if taught is not None:
            truth = taught.families[rows].softmax(1)
        family = functional.cross_entropy(out.families[rows], truth, reduction="sum")
    losses = [(family, float(len(named)))]
    for name, labels, marks in (
        ("stages", STAGES, [piece.stages if piece.leg == "far" else None for _, piece in pieces]),
        ("acts", ACTS, [piece.acts for _, piece in pieces]),
    ):
        rows = torch.tensor([i for i, mark in enumerate(marks) if mark is not None], dtype=torch.long)
        truth = torch.tensor([[float(label in mark) for label in labels] for mark in marks if mark is not None])
        asked = torch.ones(len(rows), len(labels))
        if labels is ACTS:
            is_far = torch.tensor([pieces[i][1].leg == "far" for i in rows.tolist()], dtype=torch.bool)
            asked = (torch.tensor([name in FAR_ACTS for name in ACTS])[None, :] == is_far[:, None]).float()
        if len(rows):
            if taught is not None:
                truth = getattr(taught, name)[rows].sigmoid()
            logits = getattr(out, name)[rows]
            loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
            losses.append(((loss * asked).sum(), float(asked.sum())))
        else:
            losses.append((zero, 0.0))
    return losses


def losses_of(
    network: Network,
    batch: Sequence[Prepared],
    smoothing: float,
    encoded: tuple[Tensor, Tensor] | None = None,
    taught: Outputs | None = None,
) -> list[tuple[Tensor, float]]:
    """The losses of :data:`LOSSES` of a batch: sums and what they count; zeros for an empty one."""
    if not batch:
        nothing = sum(p.sum() for p in network.parameters()) * 0.0
        return [(torch.as_tensor(nothing).cpu(), 0.0)] * len(LOSSES)
    out = run(network, batch, encoded)
    return [call_loss(out.llr, batch, smoothing, taught), *head_losses(out, batch, taught)]
