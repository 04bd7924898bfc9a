"""Weights between the champion and what it was tuned to, as far from it as development calls allow.

A model half way between another and what that was tuned to knows nearly all that either does (Wortsman et al., "Robust
fine-tuning of zero-shot models", CVPR 2022). How far a candidate may go is found here on old development calls, by the
very condition that the gate asks of the gold ones: these are never looked at.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.retrain.compare import Gate

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate as the old development calls saw it.

    Attributes:
        kept: share of the champion's weights in its own.
        gates: what they ask of it.
    """

    kept: float
    gates: tuple[Gate, ...]

    @property
    def is_enough(self) -> bool:
        """Whether it forgets no more, and alarms falsely no more, than a gate would allow."""
        return all(gate.is_passed for gate in self.gates)

    def to_json(self) -> dict[str, Any]:
        """For report.json."""
        return {"kept": self.kept} | {gate.name: gate.found for gate in self.gates}


def between(new: Weights, old: Weights, kept: float) -> dict[str, np.ndarray]:
    """``new`` moved back towards ``old`` by ``kept`` of the way; what ``old`` does not have stays as it is."""

    def moved(name: str, value: np.ndarray) -> np.ndarray:
        was = old.get(name)
        if was is None or was.shape != value.shape:
            return value
        return ((1 - kept) * value.astype(np.float32) + kept * was.astype(np.float32)).astype(np.float16)

    return {name: moved(name, value) for name, value in new.items()}


def furthest(shares: Iterable[float], make: Callable[[float], Tried]) -> list[Tried]:
    """Make candidates that keep more and more of the champion, until one is enough; the last one stays if none is.

    Args:
        shares: what to keep, in turn.
        make: makes the candidate, in place of the one before, and tries it.

    Returns:
        All that were tried.
    """
    tried: list[Tried] = []
    for share in shares:
        tried.append(make(share))
        if tried[-1].is_enough:
            break
    return tried
