"""A simulated day of a network: people, organisations that call many, and those who call to defraud.

Simulated, not recorded: no operator's records were seen. Rates are orders of magnitude from public reports; what it is
good for is to train a transparent model whose signs are known beforehand, and to rehearse the whole path. An operator
trains anew on its own records (``scamtap-train screening``).
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inference.screening.attempt import Trunk
from inference.screening.numbers import parse_number
from inference.screening.passport import Attestation

Kind = Literal[
    "person", "clinic", "courier", "collector", "sales", "bank", "new_business", "abroad",
    "campaign", "robocall", "spoofed", "quiet_scam",
]  # fmt: skip
UNWANTED: frozenset[str] = frozenset(("campaign", "robocall", "spoofed", "quiet_scam"))
DAY_S = 86_400.0
BAD_PASSPORTS, BAD_PASSPORTS_UNWANTED = 0.001, 0.04
"""Share of calls whose PASSporT does not verify: an operator's mistake, or a forged or replayed one."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How callers of one kind behave.

    Attributes:
        callers: how many of them.
        per_day: calls a day of each, on average.
        callees: how many different numbers each calls at most; 0 for ever new ones.
        answered: share of calls answered.
        talk_s: mean length of an answered call, seconds.
        night: share of calls at night.
        complaints: share of answered calls complained of; people complain of collectors, too.
        heard: share of answered calls that listening calls dangerous; most subscribers did not opt in to listening.
        attested: share of calls with full attestation, then with partial.
        trunk: where they come in.
        is_sequential: dials numbers in a row.
    """

    callers: int
    per_day: float
    callees: int
    answered: float
    talk_s: float
    night: float
    complaints: float
    heard: float
    attested: tuple[float, float]
    trunk: Trunk
    is_sequential: bool = False


HABITS: dict[Kind, Habit] = {
    "person": Habit(3000, 4, 12, 0.72, 150, 0.06, 0.0002, 0.0001, (0.7, 0.1), "national"),
    "clinic": Habit(20, 60, 0, 0.65, 90, 0.0, 0.0005, 0.0002, (0.8, 0.1), "national"),
    "courier": Habit(40, 90, 0, 0.7, 25, 0.0, 0.001, 0.0002, (0.6, 0.2), "national"),
    "collector": Habit(8, 250, 0, 0.3, 80, 0.0, 0.012, 0.001, (0.6, 0.2), "national"),
    "sales": Habit(10, 300, 0, 0.25, 35, 0.0, 0.02, 0.001, (0.5, 0.3), "national"),
    "bank": Habit(5, 200, 0, 0.5, 140, 0.0, 0.001, 0.001, (0.95, 0.03), "national"),
    "new_business": Habit(60, 8, 0, 0.5, 70, 0.01, 0.002, 0.0002, (0.4, 0.2), "national"),
    "abroad": Habit(1500, 3, 6, 0.6, 300, 0.15, 0.0005, 0.0001, (0.0, 0.1), "international"),
    "campaign": Habit(25, 350, 0, 0.28, 22, 0.04, 0.06, 0.05, (0.1, 0.3), "national"),
    "robocall": Habit(15, 900, 0, 0.35, 6, 0.08, 0.03, 0.02, (0.02, 0.2), "international", is_sequential=True),
    "spoofed": Habit(400, 3, 0, 0.3, 40, 0.1, 0.04, 0.05, (0.0, 0.0), "international"),
    "quiet_scam": Habit(40, 15, 0, 0.45, 200, 0.02, 0.05, 0.07, (0.3, 0.3), "national"),
}

_PREFIX: dict[Kind, str] = {
    "person": "4474", "clinic": "44121", "courier": "4475", "collector": "44141", "sales": "44161", "bank": "44207",
    "new_business": "44131", "abroad": "1212", "campaign": "4477", "robocall": "1646", "quiet_scam": "4478",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrafficCall:
    """One call attempt of a simulated day.

    Attributes:
        at_s: seconds from the start.
        caller: E.164 digits, of no plan for some spoofed ones.
        callee: E.164 digits.
        kind: of the caller.
        trunk, attestation: as signalled; None for no PASSporT, ``bad`` for one that does not verify.
        answered, rang_s, talked_s: what would become of it.
        complains, is_heard: the callee complains afterwards; listening heard it to be dangerous.
    """

    at_s: float
    caller: str
    callee: str
    kind: Kind
    trunk: Trunk
    attestation: Attestation | Literal["bad"] | None
    answered: bool
    rang_s: float
    talked_s: float
    complains: bool
    is_heard: bool

    @property
    def is_unwanted(self) -> bool:
        """The truth about it."""
        return self.kind in UNWANTED


def traffic(days: float, seed: int, scale: float = 1.0) -> Iterator[TrafficCall]:
    """Calls of some days, in order of time.

    Args:
        days: how long.
        seed: same seed, same calls.
        scale: of the number of callers of every kind.
    """
    rng = np.random.default_rng(seed)
    sources = [
        _caller(kind, habit, days, np.random.default_rng(rng.integers(2**63)))
        for kind, habit in HABITS.items()
        for _ in range(max(1, round(habit.callers * scale)))
    ]
    yield from heapq.merge(*sources, key=lambda call: call.at_s)


def _caller(kind: Kind, habit: Habit, days: float, rng: np.random.Generator) -> Iterator[TrafficCall]:
    own = _own_number(kind, rng)
    circle = [_subscriber(rng) for _ in range(habit.callees)]
    row = int(rng.integers(10**8 - 10**6))
    begins_s = float(rng.uniform(0, 1.5 * DAY_S)) if kind in UNWANTED or kind == "new_business" else 0.0
    per_s, at_s = habit.per_day / DAY_S * float(rng.lognormal(0, 0.5)), begins_s
    count = 0

    def pick(number: int) -> str:
        if habit.is_sequential:
            return f"4479{row + number:08}"
        return circle[int(rng.integers(len(circle)))] if circle else _subscriber(rng)

    while (at_s := at_s + float(rng.exponential(1 / per_s))) < days * DAY_S:
        is_night = (at_s % DAY_S) < 7 * 3600 or (at_s % DAY_S) >= 22 * 3600
        if is_night != (rng.random() < habit.night):
            at_s += float(rng.uniform(0, 7 * 3600))
        count += 1
        yield _call(at_s, own, pick(count), kind, habit, rng)


def _call(at_s: float, own: str, callee: str, kind: Kind, habit: Habit, rng: np.random.Generator) -> TrafficCall:
    answered = bool(rng.random() < habit.answered)
    full, partial = habit.attested
    drawn = rng.random()
    attestation: Attestation | Literal["bad"] | None = "A" if drawn < full else "B" if drawn < full + partial else None
    if rng.random() < (BAD_PASSPORTS_UNWANTED if kind in UNWANTED else BAD_PASSPORTS):
        attestation = "bad"
    return TrafficCall(
        at_s,
        own,
        callee,
        kind,
        habit.trunk,
        attestation,
        answered,
        float(rng.uniform(2, 25)),
        float(rng.exponential(habit.talk_s)) if answered else 0.0,
        bool(answered and rng.random() < habit.complaints),
        bool(answered and rng.random() < habit.heard),
    )


def _own_number(kind: Kind, rng: np.random.Generator) -> str:
    if kind == "spoofed":  # any ten digits; a victim's number now and then
        return f"44{rng.integers(1, 10)}{rng.integers(10**9):09}"
    prefix = _PREFIX[kind]
    size = (11 if prefix.startswith("1") else 12) - len(prefix)
    while True:  # real callers have numbers that exist
        number = f"{prefix}{rng.integers(10**size):0{size}}"
        if parse_number(f"+{number}", "GB").kind == "valid":
            return number


def _subscriber(rng: np.random.Generator) -> str:
    return f"4479{rng.integers(10**8):08}"
