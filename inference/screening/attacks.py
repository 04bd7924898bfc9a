"""Simulated calls to one subscriber: bombing attacks, and the crowds they must not be taken for.

Simulated, not recorded: rates, ringing times and number mixes follow public descriptions of such attacks and of crowds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

AttackKind = Literal["random", "sequential", "withheld", "slow"]
CrowdKind = Literal["quiz", "recall", "school", "birthday"]

VICTIM = "442079460000"


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """One call to the subscriber.

    Attributes:
        at_s: when it is tried, seconds.
        caller: as signalled; None for withheld.
        answered, rang_s, talked_s: what would become of it, were it let through; 0 s of ringing is a busy line.
        is_attack: whether the attack made it.
        is_known: a contact of the subscriber.
    """

    at_s: float
    caller: str | None
    answered: bool
    rang_s: float
    talked_s: float
    is_attack: bool
    is_known: bool = False


def _mobile(rng: np.random.Generator) -> str:
    return f"+4474{rng.integers(10**8):08}"


def _any_number(rng: np.random.Generator) -> str:
    """Ten digits behind +44, as a spoofer rolls them: most are of no range."""
    return f"+44{rng.integers(1, 10)}{rng.integers(10**9):09}"


def attack(
    kind: AttackKind, per_minute: float, rng: np.random.Generator, duration_s: float = 300.0
) -> list[SimulatedCall]:
    """An attack from second 0 on.

    Args:
        kind: ``random``: spoofed numbers as they fall; ``sequential``: valid ones in a row; ``withheld``; ``slow``: few
            valid ones, for hours.
        per_minute: attempts; for ``slow`` one or two.
        duration_s: how long it goes on.
        rng: randomness.
    """
    times = _times(per_minute / 60, duration_s, rng)
    base = int(rng.integers(10**7))
    callers: dict[AttackKind, Callable[[int], str | None]] = {
        "random": lambda _n: _any_number(rng),
        "sequential": lambda n: f"+44747{(base + n) % 10**7:07}",
        "withheld": lambda _n: None,
        "slow": lambda _n: _mobile(rng),
    }
    calls, free_s = [], 0.0
    for number, at_s in enumerate(times):
        rang_s = float(rng.uniform(1.0, 4.5)) if at_s >= free_s else 0.0  # one line rings for one caller at a time
        free_s = max(free_s, at_s + rang_s)
        calls.append(SimulatedCall(at_s, callers[kind](number), False, rang_s, 0.0, is_attack=True))
    return calls


def real_calls(
    per_hour: float, duration_s: float, rng: np.random.Generator, share_known: float = 0.6
) -> list[SimulatedCall]:
    """A person's ordinary calls: contacts mostly, who let it ring."""
    calls = []
    for at_s in _times(per_hour / 3600, duration_s, rng):
        is_known = bool(rng.random() < share_known)
        answered = bool(rng.random() < 0.7)
        calls.append(
            SimulatedCall(
                at_s,
                f"+447700900{rng.integers(1, 30):03}" if is_known else _mobile(rng),
                answered,
                float(rng.uniform(4, 25)),
                float(rng.exponential(90)) if answered else 0.0,
                is_attack=False,
                is_known=is_known,
            )
        )
    return calls


def crowd(kind: CrowdKind, rng: np.random.Generator) -> list[SimulatedCall]:
    """A crowd of people who mean it, from second 0 on; see :data:`CROWDS` for what is known of the line before."""
    per_minute, duration_s, lines, talk_s = CROWDS[kind]
    calls: list[SimulatedCall] = []
    busy_until_s = [0.0] * lines
    for at_s in _times(per_minute / 60, duration_s, rng):
        line = int(np.argmin(busy_until_s))
        if at_s < busy_until_s[line]:
            calls.append(SimulatedCall(at_s, _mobile(rng), False, 0.0, 0.0, is_attack=False))
            continue
        gives_up = rng.random() < 0.12  # thought better of it, a wrong number
        answered = not gives_up and bool(rng.random() < 0.85)
        rang_s = (
            float(rng.uniform(1.5, 5)) if gives_up else float(rng.uniform(3, 20) if answered else rng.uniform(20, 40))
        )
        talked_s = float(rng.exponential(talk_s)) if answered else 0.0
        busy_until_s[line] = at_s + rang_s + talked_s
        calls.append(SimulatedCall(at_s, _mobile(rng), answered, rang_s, talked_s, is_attack=False))
    return calls


CROWDS: dict[CrowdKind, tuple[float, float, int, float]] = {
    "quiz": (600.0, 300.0, 4, 20.0),
    "recall": (60.0, 1800.0, 6, 180.0),
    "school": (6.0, 3600.0, 2, 60.0),
    "birthday": (0.6, 3600.0 * 3, 1, 240.0),
}
"""Attempts a minute, seconds, lines behind the number, seconds of talk."""


def _times(per_second: float, duration_s: float, rng: np.random.Generator) -> Iterator[float]:
    at_s = float(rng.exponential(1 / per_second))
    while at_s < duration_s:
        yield at_s
        at_s += float(rng.exponential(1 / per_second))
