"""What each utterance of a call is worth under given weights, as ``inference.intent.calibration`` weighs it.

Calibration fits to these and evaluation ranks by them, so they have to be the very sums that the service makes
(``tests/training/intent/test_weighing.py``).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from inference.intent.acts import ACTS, SUBSCRIBER_ACTS
from inference.intent.calibration import REASSURING, Counting
from inference.intent.scores import STAGES
from inference.verdict.verdict import VerdictConfig
from training.intent.raw import Floats, RawCall, evidence

LLR_LIMIT = 3.0
"""Nats that one utterance adds or takes at most, as :class:`inference.intent.scorer.IntentConfig` has it."""

MARKS = (*STAGES, *ACTS)
"""What a weight is fitted to beside the raw ratio."""


def shown_marks(raw: RawCall, floor: float) -> Floats:
    """``inference.intent.calibration.shown`` of every stage and act that goes with the leg, ``[utterances, marks]``."""
    marks = np.concatenate([raw.stages, raw.acts], axis=1)
    shown = np.maximum(0.0, marks - floor) / (1 - floor)
    near = np.array([mark in SUBSCRIBER_ACTS for mark in MARKS])
    return np.asarray(shown * np.where(raw.is_far[:, None], ~near, near) * raw.is_spoken[:, None])


def counted_marks(raw: RawCall, repeat: float, floor: float) -> Floats:
    """What of :func:`shown_marks` counts, where what the call has shown before counts for ``repeat``."""
    shown = shown_marks(raw, floor)
    before = np.zeros_like(shown)
    before[1:] = np.maximum.accumulate(shown, axis=0)[:-1]
    return np.asarray(shown - (1 - repeat) * np.minimum(shown, before))


def bare(raw: RawCall, floor: float) -> npt.NDArray[np.bool_]:
    """Which utterances of the far leg show no act of a scam, ``[utterances]``."""
    marks = [index for index, mark in enumerate(MARKS) if mark not in REASSURING]
    return np.asarray(raw.is_far & ~(shown_marks(raw, floor)[:, marks] > 0).any(axis=1))


def ceilings(raw: RawCall, counting: Counting) -> Floats:
    """What each utterance adds at most, ``[utterances]``; the same as ``Calibration.bounded``."""
    return np.where(bare(raw, counting.floor), min(LLR_LIMIT, counting.bare_limit), LLR_LIMIT)


def features(raw: RawCall, counting: Counting) -> Floats:
    """What the weights are multiplied with, ``[utterances, weights]``."""
    far = raw.is_far * raw.is_spoken
    plain = np.stack([raw.llr * far, far.astype(float)], axis=1)
    return np.concatenate([plain, counted_marks(raw, counting.repeat, counting.floor)], axis=1)


def weighed(raw: RawCall, weights: Sequence[float], counting: Counting) -> Floats:
    """Calibrated log-likelihood ratios of one call; the same sums as ``Calibration.weigh`` and ``Weighed.total``."""
    value = features(raw, counting) @ np.asarray(weights)
    return np.asarray(np.clip(value, -LLR_LIMIT, ceilings(raw, counting)))


def accumulated(raw: RawCall, weights: Sequence[float], counting: Counting, verdict: VerdictConfig) -> Floats:
    """Evidence after each utterance, ``[utterances]``."""
    llr, is_bare = weighed(raw, weights, counting), bare(raw, counting.floor)
    return evidence(llr, is_bare, counting.bare_budget, verdict.floor_llr, verdict.ceiling_llr)
