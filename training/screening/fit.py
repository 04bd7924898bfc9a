"""Fits the risk model: logistic regression whose weights cannot take the wrong sign.

The likelihood is maximised under bounds (L-BFGS-B, Byrd et al. 1995), so the model stays monotone by construction, with
a quadratic penalty that keeps rare features from growing without evidence.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import rankdata

from inference.screening.score import SIGNS, RiskWeights

Floats = npt.NDArray[np.float64]
PENALTY = 1e-3


@dataclass(frozen=True, slots=True)
class Examples:
    """Calls to learn from.

    Attributes:
        x: float64 ``[N, F]``, features in the order of :data:`inference.screening.score.SIGNS`.
        y: float64 ``[N]``, 1 for unwanted.
    """

    x: Floats
    y: Floats


def examples(rows: Sequence[dict[str, float]], labels: Sequence[bool]) -> Examples:
    """Feature dictionaries as arrays."""
    return Examples(
        np.array([[row[name] for name in SIGNS] for row in rows], np.float64).reshape(len(rows), len(SIGNS)),
        np.array(labels, np.float64),
    )


def fit(train: Examples, data: dict[str, str | int | float]) -> RiskWeights:
    """The weights.

    Args:
        train: calls; both labels must occur.
        data: where they come from, for the model's own record.

    Raises:
        ValueError: only one label occurs.
    """
    if not 0 < train.y.mean() < 1:
        raise ValueError("want wanted and unwanted calls to learn from")
    signs = np.array(list(SIGNS.values()), np.float64)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, intercept = parameters[:-1], parameters[-1]
        odds = train.x @ weights + intercept
        error = 1 / (1 + np.exp(-odds)) - train.y
        value = float(np.mean(np.logaddexp(0, odds) - train.y * odds) + PENALTY * np.sum(weights**2))
        gradient = np.append(train.x.T @ error / len(train.y) + 2 * PENALTY * weights, error.mean())
        return value, gradient

    bounds = [(0.0, None) if sign > 0 else (None, 0.0) for sign in signs] + [(None, None)]
    start = np.append(0.1 * signs, -2.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights = {name: round(float(w), 5) + 0.0 for name, w in zip(SIGNS, found.x[:-1], strict=True)}
    intercept, prior = round(float(found.x[-1]), 5), round(float(train.y.mean()), 6)
    content = json.dumps([weights, intercept, prior, data], sort_keys=True)
    version = hashlib.sha256(content.encode()).hexdigest()[:12]
    return RiskWeights(version=version, intercept=intercept, weights=weights, prior=prior, data=data)


def auc(scores: Floats, labels: Floats) -> float:
    """Area under the ROC curve (Mann-Whitney)."""
    ranks = rankdata(scores)  # ties share their mean rank
    positive = labels == 1
    num_positive, num_negative = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))
