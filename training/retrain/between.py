"""Weights between the champion and what it was tuned to, as far from it as development calls allow.

A model half way between another and what that was tuned to knows nearly all that either does (Wortsman et al., "Robust
fine-tuning of zero-shot models", CVPR 2022). How far a candidate may go is found here on old development calls, by the
very condition that the gate asks of the gold ones: these are never looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.retrain.compare import allowed_loss

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate as the old development scams saw it.

    Attributes:
        kept: share of the champion's weights in its own.
        before, after: of the scams, warned of by the champion and by it.
        num_scam: how many they are.
    """

    kept: float
    before: int
    after: int
    num_scam: int

    @property
    def is_enough(self) -> bool:
        """Whether no more old scams are missed than a gate would allow."""
        return self.before - self.after <= allowed_loss(self.num_scam)


def between(new: Weights, old: Weights, kept: float) -> dict[str, np.ndarray]:
    """``new`` moved back towards ``old`` by ``kept`` of the way; what ``old`` does not have stays as it is."""

    def moved(name: str, value: np.ndarray) -> np.ndarray:
        was = old.get(name)
        if was is None or was.shape != value.shape:
            return value
        return ((1 - kept) * value.astype(np.float32) + kept * was.astype(np.float32)).astype(np.float16)

    return {name: moved(name, value) for name, value in new.items()}


def furthest(shares: Sequence[float], make: Callable[[float], tuple[Tried, Any]]) -> tuple[list[Tried], Any]:
    """Make candidates that keep more and more of the champion, until one is enough; the last one stays if none is.

    Args:
        shares: what to keep, in turn.
        make: makes the candidate, in place of the one before, and tries it; with what is to be recorded of it.

    Returns:
        All that were tried, and what was recorded of the last.
    """
    tried: list[Tried] = []
    noted: Any = None
    for share in shares:
        found, noted = make(share)
        tried.append(found)
        if found.is_enough:
            break
    return tried, noted
