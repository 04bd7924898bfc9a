"""Fits calibration.json on development calls: weights of ratio and acts, stage thresholds, the operating point.

Everything is measured on the served graph (its precision, its tokenizer), never on test calls.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from inference.intent.calibration import Calibration, OperatingPoint
from inference.intent.scores import STAGES
from inference.verdict.verdict import DANGER_FALSE_ALARMS, SUSPECT_FALSE_ALARMS, VerdictConfig
from training.intent.raw import Floats, RawCall, evidence

LLR_LIMIT = 3.0
MIN_SUSPECT_LLR = 1.0
MIN_DANGER_LLR = 4.0
"""Never below these, however clean few development calls look: at prior .05 a risk of .13 and .74. Of the 15 genuine
development calls that are voiced (synthetic), one reached 3.2: recognition errors cost more than their texts show."""

DANGER_MARGIN_LLR = 0.4
"""Added to what the worst allowed development call reached: with a hundred genuine calls 1 % is hardly measured."""

START = (0.5, 0.0, -0.1, *(0.0 if stage == "reassure" else 0.5 for stage in STAGES))
BOUNDS = (
    (0.0, 1.5),
    (0.0, 1.0),
    (-0.6, 0.0),
    *((-4.0, 0.0) if stage == "reassure" else (0.0, 4.0) for stage in STAGES),
)
"""far scale, near scale, far bias, then a weight per stage. The signs are fixed: an act can only speak for a scam."""

ACT_FLOOR = 0.5
"""Chosen on development calls among 0, .3, .4 and .5: recall at 1.4 % false alarms .49 without a floor, .60 with it."""

RIDGE = 0.002
"""Cost of a squared weight: development calls are few."""


def shown_acts(raw: RawCall) -> Floats:
    """``inference.intent.calibration.shown`` for every utterance and stage of a call, ``[utterances, stages]``."""
    return np.asarray(np.maximum(0.0, raw.stages - ACT_FLOOR) / (1 - ACT_FLOOR))


def shows_scam_act(raw: RawCall) -> npt.NDArray[np.bool_]:
    """Which utterances may speak for a scam at all, ``[utterances]``."""
    acts = [index for index, stage in enumerate(STAGES) if stage != "reassure"]
    return np.asarray((shown_acts(raw)[:, acts] > 0).any(axis=1))


def weighed(raw: RawCall, weights: Sequence[float]) -> Floats:
    """Calibrated log-likelihood ratios of one call; the same sum as ``Calibration.llr``."""
    far_scale, near_scale, bias, *acts = weights
    far = raw.llr * far_scale + bias + shown_acts(raw) @ np.asarray(acts)
    far = np.where(shows_scam_act(raw), far, np.minimum(far, 0.0))
    value = np.where(raw.is_far, far, raw.llr * near_scale) * raw.is_spoken
    return np.asarray(np.clip(value, -LLR_LIMIT, LLR_LIMIT))


def fit_weights(
    calls: Sequence[RawCall], call_weights: Sequence[float], verdict: VerdictConfig
) -> tuple[tuple[float, ...], float]:
    """Weights with the least log loss of the accumulated evidence, at even prior, over all prefixes; and that loss.

    All calls are stepped through together: short ones are padded at the end and their padding is not counted.
    """
    length = max(len(raw.llr) for raw in calls)
    features = np.zeros((len(calls), length, len(START)))
    counted = np.zeros((len(calls), length))
    ceiling = np.full((len(calls), length), LLR_LIMIT)
    for row, raw in enumerate(calls):
        far, near = raw.is_far * raw.is_spoken, ~raw.is_far * raw.is_spoken
        columns = (raw.llr * far, raw.llr * near, far.astype(float), *(shown_acts(raw) * far[:, None]).T)
        features[row, : len(raw.llr)] = np.stack(columns, axis=1)
        counted[row, : len(raw.llr)] = call_weights[row] / len(raw.llr)
        ceiling[row, : len(raw.llr)] = np.where(raw.is_far & ~shows_scam_act(raw), 0.0, LLR_LIMIT)
    sign = np.where([raw.call.is_scam for raw in calls], 1.0, -1.0)

    def loss(values: Floats) -> float:
        llr = np.clip(features @ values, -LLR_LIMIT, ceiling)
        total, cost = np.zeros(len(calls)), 0.0
        for step in range(length):
            total = np.clip(total + llr[:, step], -verdict.floor_llr, verdict.ceiling_llr)
            cost += float((counted[:, step] * np.logaddexp(0, -sign * total)).sum())
        return cost / sum(call_weights) + RIDGE * float((values[3:] ** 2).sum()) / len(STAGES)

    found = minimize(loss, np.array(START), method="L-BFGS-B", bounds=BOUNDS, options={"maxiter": 60})
    return tuple(round(float(value), 4) + 0.0 for value in found.x), float(found.fun)


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
    calls: Sequence[RawCall], call_weights: Sequence[float], weights: Sequence[float], verdict: VerdictConfig
) -> OperatingPoint:
    """Thresholds that the stated share of genuine development calls stays below, at their worst moment."""
    peaks, peak_weights = [], []
    for raw, weight in zip(calls, call_weights, strict=True):
        if not raw.call.is_scam:
            sums = evidence(weighed(raw, weights), verdict.floor_llr, verdict.ceiling_llr)
            peaks.append(float(sums.max(initial=0.0)))
            peak_weights.append(weight)
    suspect = weighted_quantile(peaks, peak_weights, SUSPECT_FALSE_ALARMS)
    danger = weighted_quantile(peaks, peak_weights, DANGER_FALSE_ALARMS) + DANGER_MARGIN_LLR
    # A level begins at its threshold, so it has to lie above the worst call that must stay below.
    suspect = min(max(suspect + 0.01, MIN_SUSPECT_LLR), verdict.ceiling_llr - 1)
    return OperatingPoint(
        suspect_llr=round(suspect, 3),
        danger_llr=round(min(max(danger, MIN_DANGER_LLR, suspect), verdict.ceiling_llr), 3),
        suspect_false_alarms=SUSPECT_FALSE_ALARMS,
        danger_false_alarms=DANGER_FALSE_ALARMS,
        num_genuine=len(peaks),
    )


def calibrate(calls: Sequence[RawCall], call_weights: Sequence[float], head_sha256: str) -> tuple[Calibration, float]:
    """Fit everything; returns the calibration and its development log loss."""
    verdict = VerdictConfig()
    weights, loss = fit_weights(calls, call_weights, verdict)
    far_scale, near_scale, bias, *acts = weights
    calibration = Calibration(
        head_sha256=head_sha256,
        languages=("en",),
        far_scale=far_scale,
        near_scale=near_scale,
        far_bias=bias,
        act_weights=dict(zip(STAGES, acts, strict=True)),
        act_floor=ACT_FLOOR,
        stage_thresholds=stage_thresholds(calls),
        operating_point=operating_point(calls, call_weights, weights, verdict),
    )
    return calibration, loss
