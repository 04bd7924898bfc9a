"""Fits calibration.json on development calls: weights of ratio and acts, stage thresholds, the operating point.

Everything is measured on the served graph (its precision, its tokenizer), never on test calls.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import minimize

from inference.intent.calibration import REASSURING, Calibration, Counting, OperatingPoint, Weights
from inference.intent.scores import STAGES
from inference.verdict.verdict import DANGER_FALSE_ALARMS, SUSPECT_FALSE_ALARMS, VerdictConfig
from training.intent.raw import Floats, RawCall
from training.intent.weighing import LLR_LIMIT, MARKS, accumulated, bare, ceilings, features

MIN_SUSPECT_LLR = 1.0
MIN_DANGER_LLR = 4.0
"""Never below these, however clean few development calls look: at prior .05 a risk of .13 and .74. Of the 15 genuine
development calls that are voiced (synthetic), one reached 3.2: recognition errors cost more than their texts show."""

DANGER_MARGIN_LLR = 0.4
"""Added to what the worst allowed development call reached: with a hundred genuine calls 1 % is hardly measured."""

NUM_PLAIN = 2
"""Weights before those of :data:`MARKS`: far scale and far bias."""

START = (0.5, -0.1, *(0.0 if mark in REASSURING else 0.3 for mark in MARKS))
BOUNDS = (
    (0.0, 1.5),
    (-0.6, 0.0),
    *((-3.0, 0.0) if mark in REASSURING else (0.0, 3.0) for mark in MARKS),
)
"""The signs are fixed: an act of a scam can only speak for one, one that reassures only against."""

COUNTING = Counting(floor=0.3, repeat=0.3, bare_limit=1.0)
"""The same in every model, as models of several languages judge side by side.

Floor and repeat: where a floor of .15 was tried, two long chats of 63 genuine development calls reached ``danger``
(small probabilities of half of all utterances may add up), and where a repeated act counted in full, long real chats
alarmed; between 0 and .3, and .3 and .5, folds of development calls kept apart differed by .001 in AUC.

Limit of a far utterance that shows no act of a scam, nats: AUC on folds of English development calls kept apart .922
at 0 (what was shipped before), .966 at .5, .975 at 1, .978 at 1.5 and where there is none, of Mandarin ones .894, .935,
.936, .934, .934. No long chat of the development side reached a threshold at any of them.
"""

BUDGETS: Mapping[str, float] = {"en": 1.75}
"""Of all such utterances of a call together, nats, per language; no bound in any other.

Real small talk sounds less like our chats than they sound like one another, and adds up: of 90 Switchboard chats, none
of them among those tested with, the English model without a bound alarms of 7, of 3 by more than 4 nats; with 2.5 nats
of 6 and 1, with 2 of 3 and 1, with 1.75 of 2 and 1, with 1 of 2 and 1. Of 381 English development scams it warns of 328
at 3 % of genuine ones, 275 before the ask; with those of 327 and 274, 327 and 271, 325 and 269, 323 and 262. Mandarin
stays without: there is no real small talk here to choose one on.
"""

RIDGE = 0.01
"""Cost of the squared weights of all marks: development calls are few."""

LANGUAGE_RIDGE = 0.1
"""Cost of a language's weights being other than those of all languages. Folds of development calls kept apart, AUC of
English and Mandarin scripts: .953 and .827 with common weights, .948 and .872 with this, .945 and .886 with a tenth of
it, where English already warns of fewer at 5 % false alarms."""

MIN_CALLS_OF_LANGUAGE = 60
"""Scam and genuine calls of a language, each, from which it has weights of its own."""


def fit_weights(
    calls: Sequence[RawCall],
    call_weights: Sequence[float],
    verdict: VerdictConfig,
    counting: Counting,
    near: Sequence[float] | None = None,
) -> tuple[tuple[float, ...], float]:
    """Weights with the least log loss of the accumulated evidence, at even prior, over all prefixes; and that loss.

    All calls are stepped through together: short ones are padded at the end and their padding is not counted.

    Args:
        calls: what is fitted to.
        call_weights: of each of them.
        verdict: its floor and ceiling.
        counting: how acts count.
        near: weights that cost nothing, those of all languages; small ones of the marks where left out.
    """
    # The plain weights are free, but where the weights have something to stay near to.
    held = np.array([0.0] * NUM_PLAIN + [RIDGE / len(MARKS)] * len(MARKS))
    centre = np.zeros(len(START))
    if near is not None:
        held = np.array([LANGUAGE_RIDGE] * NUM_PLAIN + [LANGUAGE_RIDGE / len(MARKS)] * len(MARKS))
        centre = np.asarray(near)
    length = max(len(raw.llr) for raw in calls)
    columns = np.zeros((len(calls), length, len(START)))
    counted = np.zeros((len(calls), length))
    ceiling = np.full((len(calls), length), LLR_LIMIT)
    is_bare = np.zeros((len(calls), length), bool)
    for row, raw in enumerate(calls):
        columns[row, : len(raw.llr)] = features(raw, counting)
        counted[row, : len(raw.llr)] = call_weights[row] / len(raw.llr)
        ceiling[row, : len(raw.llr)] = ceilings(raw, counting)
        is_bare[row, : len(raw.llr)] = bare(raw, counting.floor)
    budget = np.inf if counting.bare_budget is None else counting.bare_budget
    sign = np.where([raw.call.is_scam for raw in calls], 1.0, -1.0)

    def loss(values: Floats) -> tuple[float, Floats]:
        llr = columns @ values
        is_free = (llr > -LLR_LIMIT) & (llr < ceiling)
        llr = np.clip(llr, -LLR_LIMIT, ceiling)
        cost, gradient = 0.0, np.zeros(len(START))
        total: Floats = np.zeros(len(calls))
        unbare: Floats = np.zeros(len(calls))
        slope: Floats = np.zeros((len(calls), len(START)))
        unbare_slope: Floats = np.zeros((len(calls), len(START)))
        for step in range(length):
            added, added_slope = llr[:, step], columns[:, step] * is_free[:, step, None]
            raises = is_bare[:, step] & (added > 0)
            bound = np.where(raises, np.maximum(total, unbare + budget), np.inf)
            is_over = total + added > bound
            is_spent = is_over & (total >= unbare + budget)  # it adds nothing
            slope = np.where(is_over[:, None], np.where(is_spent[:, None], slope, unbare_slope), slope + added_slope)
            total = np.minimum(total + added, bound)
            unbare, unbare_slope = unbare + ~raises * added, unbare_slope + ~raises[:, None] * added_slope
            total, slope = _held_in(total, slope, verdict)
            unbare, unbare_slope = _held_in(unbare, unbare_slope, verdict)
            cost += float((counted[:, step] * np.logaddexp(0, -sign * total)).sum())
            pull = -sign * counted[:, step] / (1 + np.exp(sign * total))
            gradient = gradient + pull @ slope
        away = values - centre
        gradient = gradient / sum(call_weights) + 2 * held * away
        return cost / sum(call_weights) + float((held * away**2).sum()), gradient

    start = np.array(START) if near is None else centre
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=BOUNDS, options={"maxiter": 200})
    return tuple(round(float(value), 4) + 0.0 for value in found.x), float(found.fun)


def _held_in(total: Floats, slope: Floats, verdict: VerdictConfig) -> tuple[Floats, Floats]:
    """Sums held between floor and ceiling, ``[calls]``, and how they go with the weights, ``[calls, weights]``."""
    is_held = (total < -verdict.floor_llr) | (total > verdict.ceiling_llr)
    return np.clip(total, -verdict.floor_llr, verdict.ceiling_llr), np.where(is_held[:, None], 0.0, slope)


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
    counting: Counting,
    verdict: VerdictConfig,
) -> OperatingPoint:
    """Thresholds that the stated share of genuine development calls stays below, at their worst moment."""
    peaks, peak_weights = [], []
    for raw, weight in zip(calls, call_weights, strict=True):
        if not raw.call.is_scam:
            peaks.append(float(accumulated(raw, weights, counting, verdict).max(initial=0.0)))
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
    """Fit everything; returns the calibration and its development log loss.

    Args:
        calls: development calls as the served graph judges them.
        call_weights: of each of them.
        head_sha256: of the head that did.
    """
    verdict = VerdictConfig()
    languages = sorted({raw.call.language for raw in calls})

    def counting_in(language: str | None) -> Counting:
        """None: in all languages together."""
        return COUNTING._replace(bare_budget=BUDGETS.get(language or ""))

    only = languages[0] if len(languages) == 1 else None
    counting = counting_in(only)
    common, loss = fit_weights(calls, call_weights, verdict, counting)

    def weights_of(values: Sequence[float], chosen: Sequence[int], language: str | None) -> Weights:
        far_scale, bias, *marks = values
        its, masses, counting = [calls[i] for i in chosen], [call_weights[i] for i in chosen], counting_in(language)
        point = operating_point(its, masses, values, counting, verdict)
        return Weights(
            far_scale=far_scale,
            far_bias=bias,
            act_weights=dict(zip(MARKS, marks, strict=True)),
            operating_point=point,
            bare_budget=counting.bare_budget,
        )

    by_language = {}
    for language in languages:
        chosen = [i for i, raw in enumerate(calls) if raw.call.language == language]
        scams = sum(calls[i].call.is_scam for i in chosen)
        if len(languages) == 1 or min(scams, len(chosen) - scams) < MIN_CALLS_OF_LANGUAGE:
            continue
        its, masses = [calls[i] for i in chosen], [call_weights[i] for i in chosen]
        values, _ = fit_weights(its, masses, verdict, counting_in(language), common)
        by_language[language] = weights_of(values, chosen, language)
    calibration = Calibration(
        **weights_of(common, range(len(calls)), only).model_dump(exclude={"stage_thresholds"}),
        head_sha256=head_sha256,
        languages=tuple(languages),
        by_language=by_language,
        act_floor=counting.floor,
        act_repeat=counting.repeat,
        bare_limit=counting.bare_limit,
        stage_thresholds=stage_thresholds(calls),
    )
    return calibration, loss
