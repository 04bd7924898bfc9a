"""Which calls a model is trained and calibrated on, and how much each source weighs.

Every script comes as it was written, damaged, and as our own recogniser heard it (:mod:`training.intent.heard`).

Style must not be the signal: outside scams are prose of one language model, robocalls or captions, so our own
genuine calls, written to sound like scams, carry most of the genuine weight, and every source but the one-sided ones
gives both labels. Numbers of calls are small on purpose (a CPU trains this in minutes); groups are drawn evenly, so a
robocall campaign with a hundred near copies counts as a few.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.intent.corrupt import Corruptor, as_chat, join_calls
from training.intent.data import Call
from training.intent.heard import SOURCE as RECOGNISED
from training.scripts import Split


@dataclass(frozen=True, slots=True)
class Share:
    """What one source gives to one label.

    Attributes:
        mass: its share of the label's total weight.
        num_calls: at most so many calls.
        per_group: at most so many of one campaign, video or conversation.
        copies: damaged copies beside each clean call; below 1, that share of calls is damaged instead.
    """

    mass: float
    num_calls: int
    per_group: int = 1
    copies: float = 0.5


TRAIN: dict[tuple[str, bool], Share] = {
    ("scripts", True): Share(0.34, 10_000),
    ("scripts-zh", True): Share(0.28, 10_000),
    (RECOGNISED, True): Share(0.12, 10_000, per_group=2, copies=0),
    ("bothbosu", True): Share(0.07, 50),
    ("youtube", True): Share(0.09, 120, per_group=2, copies=0.3),
    ("ftc", True): Share(0.10, 160, per_group=12, copies=0.3),
    ("teleantifraud", True): Share(0.06, 60),
    ("scripts", False): Share(0.34, 10_000, copies=0.5),
    ("scripts-zh", False): Share(0.30, 10_000, copies=0.5),
    (RECOGNISED, False): Share(0.12, 10_000, per_group=2, copies=0),
    ("bothbosu", False): Share(0.12, 50),
    ("sgd", False): Share(0.09, 40),
    ("teleantifraud", False): Share(0.08, 60),
}

DEV: dict[tuple[str, bool], Share] = {
    ("scripts", True): Share(0.25, 10_000),
    ("scripts-zh", True): Share(0.25, 10_000),
    (RECOGNISED, True): Share(0.15, 10_000, per_group=3),
    ("bothbosu", True): Share(0.05, 25),
    ("youtube", True): Share(0.12, 30, per_group=2),
    ("ftc", True): Share(0.12, 40, per_group=4),
    ("teleantifraud", True): Share(0.06, 30),
    ("scripts", False): Share(0.32, 10_000),
    ("scripts-zh", False): Share(0.32, 10_000),
    (RECOGNISED, False): Share(0.15, 10_000, per_group=3),
    ("bothbosu", False): Share(0.08, 40),
    ("sgd", False): Share(0.06, 40),
    ("teleantifraud", False): Share(0.07, 40),
}

CHAT_SHARE = 0.2
"""Of the genuine two-way calls, so many also come as small talk (:func:`training.intent.corrupt.as_chat`)."""


def draw(calls: Sequence[Call], shares: Mapping[tuple[str, bool], Share], split: Split, seed: int) -> list[Call]:
    """The calls of ``split``, as many of each source as ``shares`` allow, groups evenly; stable for a seed."""
    rng = np.random.default_rng(seed)
    chosen: list[Call] = []
    for (source, is_scam), share in shares.items():
        pool = [c for c in calls if c.source == source and c.is_scam == is_scam and c.split == split]
        pool = [pool[i] for i in rng.permutation(len(pool))]
        seen: Counter[str] = Counter()
        kept: list[Call] = []
        for call in pool:
            if seen[call.group] < share.per_group and len(kept) < share.num_calls:
                seen[call.group] += 1
                kept.append(call)
        chosen += kept
    return chosen


def damage(
    calls: Sequence[Call], shares: Mapping[tuple[str, bool], Share], corruptor: Corruptor, seed: int | Sequence[int]
) -> list[Call]:
    """``calls`` with recognition-like copies added (below one copy: in their place); genuine ones as chat too."""
    rng = np.random.default_rng(seed)
    out: list[Call] = []
    for call in calls:
        copies = shares[(call.source, call.is_scam)].copies
        if copies >= 1:
            out.append(call)
            out += [corruptor.call(call, rng) for _ in range(int(copies))]
        else:
            out.append(corruptor.call(call, rng) if rng.random() < copies else call)
        if call.source != RECOGNISED and is_two_way_and_genuine(call) and rng.random() < CHAT_SHARE:
            out.append(as_chat(call, rng))
    return out


def is_two_way_and_genuine(call: Call) -> bool:
    """Whether :func:`training.intent.corrupt.as_chat` can make small talk of it."""
    return not call.is_scam and {p.leg for p in call.pieces} == {"far", "near"}


def long_chats(calls: Sequence[Call], seed: int, num_joined: int = 4) -> list[Call]:
    """Long small talk, each made of ``num_joined`` genuine calls: shows what evidence creeps up over time."""
    rng = np.random.default_rng(seed)
    chats = [as_chat(c, rng) for c in calls if is_two_way_and_genuine(c)]
    return [join_calls(chats[at : at + num_joined]) for at in range(0, len(chats) - num_joined + 1, num_joined)]


def weights(calls: Sequence[Call], shares: Mapping[tuple[str, bool], Share]) -> list[float]:
    """Weight of each call: its source's mass shared evenly, both labels alike, 1 on average.

    Where a source is missing (no outside data), its mass goes to the others of the label.
    """
    counts = Counter((call.source, call.is_scam) for call in calls)
    mass = {
        label: sum(share.mass for key, share in shares.items() if counts[key] and key[1] == label)
        for label in (True, False)
    }
    raw = [shares[(c.source, c.is_scam)].mass / mass[c.is_scam] / counts[(c.source, c.is_scam)] for c in calls]
    average = sum(raw) / max(1, len(raw))
    return [value / average for value in raw]
