"""Figures of detection: how often, how surely, how soon. Arrays in, numbers out; nothing here knows a call.

Intervals, curves and tests are SciPy's and scikit-learn's; what they lack (earliness) is here with its source.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from sklearn.metrics import det_curve, roc_auc_score

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NUM_BINS = 10


def share(hits: int, total: int) -> dict[str, Any]:
    """A share with its counts and 95 % interval (Wilson 1927); without any call it is None."""
    if not total:
        return {"share": None, "hits": 0, "n": 0, "ci95": [0.0, 1.0]}
    interval = stats.binomtest(hits, total).proportion_ci(CONFIDENCE, method="wilson")
    ci95 = [round(float(interval.low), 4), round(float(interval.high), 4)]
    return {"share": round(hits / total, 4), "hits": hits, "n": total, "ci95": ci95}


def per_thousand(events: int, total: int) -> dict[str, Any]:
    """Events per 1,000 trials with the one-sided 95 % upper bound (Clopper and Pearson 1934)."""
    if not total:
        return {"per_1000": None, "upper95": None, "events": 0, "n": 0}
    test = stats.binomtest(events, total, alternative="less")
    upper = float(test.proportion_ci(CONFIDENCE, method="exact").high)
    return {
        "per_1000": round(1000 * events / total, 3),
        "upper95": round(1000 * upper, 3),
        "events": events,
        "n": total,
    }


def per_hour(events: int, hours: float) -> dict[str, Any]:
    """Events per hour with the one-sided 95 % upper bound (Poisson, Garwood 1936): 3 / hours where there was none."""
    if hours <= 0:
        return {"per_hour": None, "upper95": None, "events": events, "hours": 0.0}
    upper = float(stats.chi2.ppf(CONFIDENCE, 2 * (events + 1)) / 2)
    return {
        "per_hour": round(events / hours, 4),
        "upper95": round(upper / hours, 4),
        "events": events,
        "hours": round(hours, 3),
    }


def auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Area under the ROC curve, ties half; None without both."""
    if not len(positive) or not len(negative):
        return None
    labels = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return float(roc_auc_score(labels, np.r_[positive, negative]))


def det(positive: Sequence[float], negative: Sequence[float]) -> list[list[float]] | None:
    """Points [false alarm rate, miss rate, threshold] of the detection error trade-off; None without both."""
    if not len(positive) or not len(negative):
        return None
    labels = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    points = zip(*det_curve(labels, np.r_[positive, negative]), strict=True)
    return [[round(float(value), 5) for value in point] for point in points]


def recall_at(positive: Sequence[float], negative: Sequence[float], false_alarms: float) -> float | None:
    """Share of positives above the threshold that lets through at most ``false_alarms`` of the negatives."""
    if not len(positive) or not len(negative):
        return None
    allowed = math.floor(false_alarms * len(negative))
    threshold = sorted(negative, reverse=True)[min(allowed, len(negative) - 1)]
    return float(np.mean(np.asarray(positive) > threshold))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Whether risk is probability.

    Attributes:
        bins: [mean risk, share of scams, share of all weight] per bin that holds any.
        ece: expected calibration error: mean distance of the two, by weight.
        brier: mean squared error of the risk.
    """

    bins: list[list[float]]
    ece: float
    brier: float


def reliability(risk: Sequence[float], is_scam: Sequence[bool], prior: float) -> Reliability | None:
    """Risk against truth in bins of equal width, calls weighted so that scams make up ``prior``; None without both.

    A test set holds scams and genuine calls in whatever numbers were at hand; the risk is a probability at a stated
    prior, so that is what it is held against.
    """
    p, y = np.asarray(risk, np.float64), np.asarray(is_scam, bool)
    if not y.any() or y.all():
        return None
    weight = np.where(y, prior / y.sum(), (1 - prior) / (~y).sum())
    at = np.minimum((p * NUM_BINS).astype(int), NUM_BINS - 1)
    bins, ece = [], 0.0
    for number in range(NUM_BINS):
        its = at == number
        total = float(weight[its].sum())
        if total > 0:
            mean, truth = (float((weight[its] * value[its]).sum() / total) for value in (p, y.astype(np.float64)))
            bins.append([round(mean, 4), round(truth, 4), round(total, 5)])
            ece += total * abs(mean - truth)
    return Reliability(bins, round(ece, 4), round(float((weight * (p - y) ** 2).sum()), 4))


@dataclass(frozen=True, slots=True)
class Survival:
    """Kaplan and Meier 1958: calls not yet warned of, by the far-leg speech heard.

    Attributes:
        median, p90: by when half and nine tenths of all scam calls were warned of; None where fewer ever were.
        curve: [speech, share not yet warned of] at each step.
        warned, censored: calls warned of, and calls that ended unwarned.
    """

    median: float | None
    p90: float | None
    curve: list[list[float]]
    warned: int
    censored: int


def survival(waits: Sequence[float | None], ends: Sequence[float]) -> Survival | None:
    """How long calls go unwarned; one that never is counts as unwarned up to its end (censored); None for no call.

    Args:
        waits: far-leg speech until the warning; None: there was none.
        ends: far-leg speech of the whole call.
    """
    if not waits:
        return None
    times = np.array([end if wait is None else wait for wait, end in zip(waits, ends, strict=True)], np.float64)
    missed = np.array([wait is None for wait in waits])
    if missed.all():
        return Survival(None, None, [], 0, int(missed.sum()))
    function = stats.ecdf(stats.CensoredData.right_censored(times, missed)).sf
    steps = list(zip(function.quantiles.tolist(), function.probabilities.tolist(), strict=True))

    def when(left: float) -> float | None:
        return next((round(time, 2) for time, share_left in steps if share_left <= left + 1e-9), None)

    curve = [[round(time, 2), round(share_left, 4)] for time, share_left in steps]
    return Survival(when(0.5), when(0.1), curve, int((~missed).sum()), int(missed.sum()))


def erde(waits: Sequence[float | None], num_false: int, num_all: int, deadline: float) -> float | None:
    """Early risk detection error (Losada and Crestani 2016), 0 best to 1: what a decision costs, and its delay.

    A miss costs 1, a false alarm the share of scams among all calls, a warning after ``wait`` of far-leg speech
    1 - 1 / (1 + e^(wait - deadline)). The original counts posts, this one seconds.

    Args:
        waits: per scam call; None: missed.
        num_false: genuine calls alarmed of.
        num_all: calls of both kinds.
        deadline: where a warning is worth half.
    """
    if not num_all:
        return None
    late = [1.0 if wait is None else 1 - 1 / (1 + math.exp(min(50.0, wait - deadline))) for wait in waits]
    return round((sum(late) + num_false * len(waits) / num_all) / num_all, 4)


def latency_f1(waits: Sequence[float | None], num_false: int, half_life: float) -> dict[str, float | None]:
    """F1, and F1 weighted by latency (Sadeque, Xu and Bethard 2018): times 1 - the median penalty of warnings.

    The penalty is -1 + 2 / (1 + e^(-p wait)), p such that it is one half at ``half_life`` of far-leg speech.
    """
    warned = [wait for wait in waits if wait is not None]
    if not waits:
        return {"f1": None, "latency_f1": None}
    f1 = 2 * len(warned) / (len(waits) + len(warned) + num_false)
    if not warned:
        return {"f1": 0.0, "latency_f1": 0.0}
    rate = math.log(3) / half_life  # -1 + 2 / (1 + e^-x) is one half at x = ln 3
    penalty = float(np.median([-1 + 2 / (1 + math.exp(-rate * wait)) for wait in warned]))
    return {"f1": round(f1, 4), "latency_f1": round(f1 * (1 - penalty), 4)}


def quantile(values: Sequence[float], q: float) -> float | None:
    """Quantile of values, two digits; None for none."""
    return round(float(np.quantile(values, q)), 2) if len(values) else None


@dataclass(frozen=True, slots=True)
class Shift:
    """How far one distribution of scores is from another.

    Attributes:
        psi: population stability index over tenths of the reference.
        psi_limit: above it the shift is larger than is customary to bear, and larger than chance makes it.
        ks, p_value: Kolmogorov-Smirnov distance, and how often chance alone gives one as large.
    """

    psi: float
    psi_limit: float
    ks: float
    p_value: float

    @property
    def is_drift(self) -> bool:
        """Whether both measures say so."""
        return self.psi > self.psi_limit and self.p_value < 0.01


PSI_DRIFT = 0.25
"""The customary limit of credit scoring (Siddiqi 2006)."""


def shift(reference: Sequence[float], weights: Sequence[float], found: Sequence[float]) -> Shift:
    """Compare scores with a weighted reference.

    PSI of two samples of one distribution is about chi-squared / N (Yurdakul 2018), so few calls raise the limit.

    Args:
        reference: scores the model was shipped with.
        weights: what each of them counts.
        found: scores of the traffic; neither may be empty.
    """
    values, weight = np.asarray(reference, np.float64), np.asarray(weights, np.float64)
    order = np.argsort(values)
    values, weight = values[order], weight[order] / weight.sum()
    cumulative = np.cumsum(weight)
    # A score at an edge falls below it: many genuine calls never leave the prior, and share one score.
    edges = np.unique(np.interp(np.linspace(0, 1, NUM_BINS + 1)[1:-1], cumulative, values))
    sample = np.asarray(found, np.float64)

    def binned(scores: Floats, counts: Floats) -> Floats:
        totals = np.bincount(np.searchsorted(edges, scores, side="left"), counts, len(edges) + 1)
        floor = 0.5 / len(sample)
        return np.asarray(np.maximum(totals / totals.sum(), floor), np.float64)

    expected, actual = binned(values, weight), binned(sample, np.ones(len(sample)))
    psi = float(((actual - expected) * np.log(actual / expected)).sum())
    chance = float(stats.chi2.ppf(0.99, len(edges))) * (1 / len(sample) + float((weight**2).sum()))
    # Both are step functions: the distance is largest at one of the steps.
    grid = np.unique(np.r_[values, sample])
    at_reference = np.r_[0.0, cumulative][np.searchsorted(values, grid, side="right")]
    at_sample = np.searchsorted(np.sort(sample), grid, side="right") / len(sample)
    ks = float(np.abs(at_reference - at_sample).max())
    effective = 1 / (1 / len(sample) + float((weight**2).sum()))
    p_value = float(stats.kstwobign.sf(ks * math.sqrt(effective)))
    return Shift(round(psi, 4), round(max(PSI_DRIFT, chance), 4), round(ks, 4), round(p_value, 5))
