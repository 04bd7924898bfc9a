"""Fits calibration.json on development calls: tempering per leg, stage thresholds, the operating point.

Everything is measured on the served graph (its precision, its tokenizer), never on test calls.
"""

from collections.abc import Sequence

import numpy as np

from inference.intent.calibration import Calibration, OperatingPoint
from inference.intent.scores import STAGES
from inference.verdict.verdict import DANGER_FALSE_ALARMS, SUSPECT_FALSE_ALARMS, VerdictConfig
from training.intent.raw import Floats, RawCall, evidence

SCALES = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5)
NEAR_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
LLR_LIMIT = 3.0
MIN_SUSPECT_LLR = 2.0
MIN_DANGER_LLR = 3.5
"""Never below these, however clean few development calls look: at prior .05 a risk of .28 and .64."""

MARGIN_LLR = 0.4
"""Added to what the worst allowed development call reached: the next genuine call may be a little worse."""


def scaled(raw: RawCall, far: float, near: float) -> Floats:
    """Calibrated log-likelihood ratios of one call."""
    return np.clip(raw.llr * np.where(raw.is_far, far, near), -LLR_LIMIT, LLR_LIMIT)


def log_loss(
    calls: Sequence[RawCall], weights: Sequence[float], far: float, near: float, verdict: VerdictConfig
) -> float:
    """Cross-entropy of the accumulated evidence at even prior, over all prefixes, calls weighted."""
    total = 0.0
    for raw, weight in zip(calls, weights, strict=True):
        sums = evidence(scaled(raw, far, near), verdict.floor_llr, verdict.ceiling_llr)
        signed = sums if raw.call.is_scam else -sums
        total += weight * float(np.logaddexp(0, -signed).mean())
    return total / sum(weights)


def fit_scales(
    calls: Sequence[RawCall], weights: Sequence[float], verdict: VerdictConfig
) -> tuple[float, float, float]:
    """Tempering factors of the far and near leg with the least log loss, and that loss."""
    best = min(
        (log_loss(calls, weights, far, far * share, verdict), far, far * share)
        for far in SCALES
        for share in NEAR_SHARES
    )
    return best[1], best[2], best[0]


def stage_thresholds(calls: Sequence[RawCall]) -> dict[str, float]:
    """Per stage, the probability with the best F1 over labelled far utterances; within .2 to .8."""
    rows = [
        (raw.stages[i], piece.stages)
        for raw in calls
        for i, piece in enumerate(raw.call.pieces)
        if piece.stages is not None and piece.leg == "far"
    ]
    out = {}
    for index, stage in enumerate(STAGES):
        truth = np.array([stage in stages for _, stages in rows])
        probability = np.array([p[index] for p, _ in rows])

        def f1(threshold: float, truth: np.ndarray = truth, probability: np.ndarray = probability) -> float:
            said = probability >= threshold
            return float(2 * (said & truth).sum() / max(1, said.sum() + truth.sum()))

        grid = [round(float(t), 2) for t in np.arange(0.2, 0.81, 0.05)]
        out[stage] = max(grid, key=f1) if truth.any() else 0.5
    return out


def weighted_quantile(values: Sequence[float], weights: Sequence[float], share_above: float) -> float:
    """Smallest of ``values`` above which lies at most ``share_above`` of the weight."""
    order = np.argsort(values)[::-1]
    total, above = float(sum(weights)), 0.0
    for index in order:
        if above + weights[index] > share_above * total:
            return float(values[index])
        above += weights[index]
    return float(values[order[-1]])


def operating_point(
    calls: Sequence[RawCall], weights: Sequence[float], far: float, near: float, verdict: VerdictConfig
) -> OperatingPoint:
    """Thresholds that the stated share of genuine development calls stays below, at their worst moment."""
    peaks, peak_weights = [], []
    for raw, weight in zip(calls, weights, strict=True):
        if not raw.call.is_scam:
            peaks.append(
                float(evidence(scaled(raw, far, near), verdict.floor_llr, verdict.ceiling_llr).max(initial=0.0))
            )
            peak_weights.append(weight)
    suspect = weighted_quantile(peaks, peak_weights, SUSPECT_FALSE_ALARMS) + MARGIN_LLR
    danger = weighted_quantile(peaks, peak_weights, DANGER_FALSE_ALARMS) + MARGIN_LLR
    suspect = min(max(suspect, MIN_SUSPECT_LLR), verdict.ceiling_llr - 1)
    return OperatingPoint(
        suspect_llr=round(suspect, 3),
        danger_llr=round(min(max(danger, MIN_DANGER_LLR, suspect), verdict.ceiling_llr), 3),
        suspect_false_alarms=SUSPECT_FALSE_ALARMS,
        danger_false_alarms=DANGER_FALSE_ALARMS,
        num_genuine=len(peaks),
    )


def calibrate(calls: Sequence[RawCall], weights: Sequence[float], head_sha256: str) -> tuple[Calibration, float]:
    """Fit everything; returns the calibration and its development log loss."""
    verdict = VerdictConfig()
    far, near, loss = fit_scales(calls, weights, verdict)
    calibration = Calibration(
        head_sha256=head_sha256,
        languages=("en",),
        far_scale=far,
        near_scale=near,
        stage_thresholds=stage_thresholds(calls),
        operating_point=operating_point(calls, weights, far, near, verdict),
    )
    return calibration, loss
