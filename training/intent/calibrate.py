"""Fits calibration.json on development calls: weights of ratio and acts, stage thresholds, the operating point.

Everything is measured on the served graph (its precision, its tokenizer), never on test calls.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from inference.intent.acts import ACTS, SUBSCRIBER_ACTS
from inference.intent.calibration import REASSURING, Calibration, OperatingPoint, Weights
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

MARKS = (*STAGES, *ACTS)
"""What a weight is fitted to beside the raw ratio."""

NUM_PLAIN = 2
"""Weights before those of :data:`MARKS`: far scale and far bias."""

START = (0.5, -0.1, *(0.0 if mark in REASSURING else 0.3 for mark in MARKS))
BOUNDS = (
    (0.0, 1.5),
    (-0.6, 0.0),
    *((-3.0, 0.0) if mark in REASSURING else (0.0, 3.0) for mark in MARKS),
)
"""The signs are fixed: an act of a scam can only speak for one, one that reassures only against."""

FLOORS = (0.3, 0.5)
"""Tried for ``act_floor``. Where .15 was tried too, it was chosen, and two long chats of 63 genuine development calls
reached ``danger``: small probabilities of half of all utterances may add up."""

REPEATS = (0.0, 0.3)
"""Tried for ``act_repeat``; of all pairs with a floor, the one with the least loss is taken. In full (1.0) the same act
again and again adds up: it had the least loss once, on calls that are mostly short, and long real chats alarmed."""

RIDGE = 0.01
"""Cost of the squared weights of all marks: development calls are few."""

LANGUAGE_RIDGE = 0.1
"""Cost of a language's weights being other than those of all languages. Folds of development calls kept apart, AUC of
English and Mandarin scripts: .953 and .827 with common weights, .948 and .872 with this, .945 and .886 with a tenth of
it, where English already warns of fewer at 5 % false alarms."""

CHAMPION_RIDGE = 1.0
"""Cost, ten times as much, of weights being other than those of the model that a retraining began with: fifty new calls
say little about them."""

MIN_CALLS_OF_LANGUAGE = 60
"""Scam and genuine calls of a language, each, from which it has weights of its own."""


def shown_marks(raw: RawCall, floor: float = 0.5) -> Floats:
    """``inference.intent.calibration.shown`` of every stage and act that goes with the leg, ``[utterances, marks]``."""
    marks = np.concatenate([raw.stages, raw.acts], axis=1)
    shown = np.maximum(0.0, marks - floor) / (1 - floor)
    near = np.array([mark in SUBSCRIBER_ACTS for mark in MARKS])
    return np.asarray(shown * np.where(raw.is_far[:, None], ~near, near) * raw.is_spoken[:, None])


def counted_marks(raw: RawCall, repeat: float = 1.0, floor: float = 0.5) -> Floats:
    """What of :func:`shown_marks` counts, where what the call has shown before counts for ``repeat``."""
    shown = shown_marks(raw, floor)
    before = np.zeros_like(shown)
    before[1:] = np.maximum.accumulate(shown, axis=0)[:-1]
    return np.asarray(shown - (1 - repeat) * np.minimum(shown, before))


def may_speak_for_scam(raw: RawCall, floor: float = 0.5) -> npt.NDArray[np.bool_]:
    """Which utterances may add evidence, ``[utterances]``: near ones, and far ones that show an act of a scam."""
    marks = [index for index, mark in enumerate(MARKS) if mark not in REASSURING]
    return np.asarray(~raw.is_far | (shown_marks(raw, floor)[:, marks] > 0).any(axis=1))


def features(raw: RawCall, repeat: float = 1.0, floor: float = 0.5) -> Floats:
    """What the weights are multiplied with, ``[utterances, weights]``."""
    far = raw.is_far * raw.is_spoken
    plain = np.stack([raw.llr * far, far.astype(float)], axis=1)
    return np.concatenate([plain, counted_marks(raw, repeat, floor)], axis=1)


def weighed(raw: RawCall, weights: Sequence[float], repeat: float = 1.0, floor: float = 0.5) -> Floats:
    """Calibrated log-likelihood ratios of one call; the same sums as ``Calibration.weigh`` and ``Weighed.total``."""
    value = features(raw, repeat, floor) @ np.asarray(weights)
    value = np.where(may_speak_for_scam(raw, floor), value, np.minimum(value, 0.0))
    return np.asarray(np.clip(value, -LLR_LIMIT, LLR_LIMIT))


def fit_weights(
    calls: Sequence[RawCall],
    call_weights: Sequence[float],
    verdict: VerdictConfig,
    repeat: float = 1.0,
    floor: float = 0.5,
    near: Sequence[float] | None = None,
    ridge: float = LANGUAGE_RIDGE,
) -> tuple[tuple[float, ...], float]:
    """Weights with the least log loss of the accumulated evidence, at even prior, over all prefixes; and that loss.

    All calls are stepped through together: short ones are padded at the end and their padding is not counted.

    Args:
        calls: what is fitted to.
        call_weights: of each of them.
        verdict: its floor and ceiling.
        repeat: ``act_repeat``.
        floor: ``act_floor``.
        near: weights that cost nothing; small ones of the marks where left out.
        ridge: what it costs to be other than ``near``.
    """
    # The plain weights are free, but where the weights have something to stay near to.
    held = np.array([0.0] * NUM_PLAIN + [RIDGE / len(MARKS)] * len(MARKS))
    centre = np.zeros(len(START))
    if near is not None:
        held = np.array([ridge] * NUM_PLAIN + [ridge / len(MARKS)] * len(MARKS))
        centre = np.asarray(near)
    length = max(len(raw.llr) for raw in calls)
    columns = np.zeros((len(calls), length, len(START)))
    counted = np.zeros((len(calls), length))
    ceiling = np.full((len(calls), length), LLR_LIMIT)
    for row, raw in enumerate(calls):
        columns[row, : len(raw.llr)] = features(raw, repeat, floor)
        counted[row, : len(raw.llr)] = call_weights[row] / len(raw.llr)
        ceiling[row, : len(raw.llr)] = np.where(may_speak_for_scam(raw, floor), LLR_LIMIT, 0.0)
    sign = np.where([raw.call.is_scam for raw in calls], 1.0, -1.0)

    def loss(values: Floats) -> tuple[float, Floats]:
        llr = columns @ values
        is_free = (llr > -LLR_LIMIT) & (llr < ceiling)
        llr = np.clip(llr, -LLR_LIMIT, ceiling)
        total, cost = np.zeros(len(calls)), 0.0
        slope, gradient = np.zeros((len(calls), len(START))), np.zeros(len(START))
        for step in range(length):
            total = total + llr[:, step]
            is_held = (total < -verdict.floor_llr) | (total > verdict.ceiling_llr)
            total = np.clip(total, -verdict.floor_llr, verdict.ceiling_llr)
            slope = np.where(is_held[:, None], 0.0, slope + columns[:, step] * is_free[:, step, None])
            cost += float((counted[:, step] * np.logaddexp(0, -sign * total)).sum())
            pull = -sign * counted[:, step] / (1 + np.exp(sign * total))
            gradient = gradient + pull @ slope
        away = values - centre
        gradient = gradient / sum(call_weights) + 2 * held * away
        return cost / sum(call_weights) + float((held * away**2).sum()), gradient

    start = np.array(START) if near is None else centre
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=BOUNDS, options={"maxiter": 200})
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
    calls: Sequence[RawCall],
    call_weights: Sequence[float],
    weights: Sequence[float],
    repeat: float,
    floor: float,
    verdict: VerdictConfig,
) -> OperatingPoint:
    """Thresholds that the stated share of genuine development calls stays below, at their worst moment."""
    peaks, peak_weights = [], []
    for raw, weight in zip(calls, call_weights, strict=True):
        if not raw.call.is_scam:
            sums = evidence(weighed(raw, weights, repeat, floor), verdict.floor_llr, verdict.ceiling_llr)
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


def values_of(weights: Weights) -> tuple[float, ...]:
    """Weights in the order that :func:`fit_weights` has them."""
    marks = (weights.act_weights.get(mark, 0.0) for mark in MARKS)
    return (weights.far_scale, weights.far_bias, *marks)


def calibrate(
    calls: Sequence[RawCall], call_weights: Sequence[float], head_sha256: str, champion: Calibration | None = None
) -> tuple[Calibration, float]:
    """Fit everything; returns the calibration and its development log loss.

    Args:
        calls: development calls as the served graph judges them.
        call_weights: of each of them.
        head_sha256: of the head that did.
        champion: of the model that the head was gone on from: weights stay near its own, acts count as they did.
    """
    verdict = VerdictConfig()
    if champion is None:
        pairs = itertools.product(REPEATS, FLOORS)
        fitted = [(fit_weights(calls, call_weights, verdict, repeat, floor), repeat, floor) for repeat, floor in pairs]
        (common, loss), repeat, floor = min(fitted, key=lambda found: found[0][1])
    else:
        repeat, floor = champion.act_repeat, champion.act_floor
        common, loss = fit_weights(calls, call_weights, verdict, repeat, floor, values_of(champion), CHAMPION_RIDGE)
    languages = sorted({raw.call.language for raw in calls})

    def weights_of(values: Sequence[float], chosen: Sequence[int]) -> Weights:
        far_scale, bias, *marks = values
        its, masses = [calls[i] for i in chosen], [call_weights[i] for i in chosen]
        return Weights(
            far_scale=far_scale,
            far_bias=bias,
            act_weights=dict(zip(MARKS, marks, strict=True)),
            operating_point=operating_point(its, masses, values, repeat, floor, verdict),
        )

    by_language = {}
    for language in languages:
        chosen = [i for i, raw in enumerate(calls) if raw.call.language == language]
        scams = sum(calls[i].call.is_scam for i in chosen)
        if len(languages) == 1 or min(scams, len(chosen) - scams) < MIN_CALLS_OF_LANGUAGE:
            continue
        its, masses = [calls[i] for i in chosen], [call_weights[i] for i in chosen]
        near, ridge = common, LANGUAGE_RIDGE
        if champion is not None and language in champion.by_language:
            near, ridge = values_of(champion.by_language[language]), CHAMPION_RIDGE
        values, _ = fit_weights(its, masses, verdict, repeat, floor, near, ridge)
        by_language[language] = weights_of(values, chosen)
    calibration = Calibration(
        **weights_of(common, range(len(calls))).model_dump(exclude={"stage_thresholds"}),
        head_sha256=head_sha256,
        languages=tuple(languages),
        by_language=by_language,
        act_floor=floor,
        act_repeat=repeat,
        stage_thresholds=stage_thresholds(calls),
    )
    return calibration, loss
