"""How likely a call is unwanted, by what its number does: a logistic model that anybody can check by hand.

Every feature has a sign that training cannot turn: more complaints never make a number look better. Contributions are
weight times feature, in nats of log-odds, and are what the reasons of a decision come from.
"""

import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.errors import ConfigError
from inference.screening.rules import Known, heard
from inference.screening.store import CallerWindow

SIGNS: dict[str, int] = {
    "calls_1h": 1,
    "distinct_callees": 1,
    "short_calls": 1,
    "unanswered": 1,
    "sequential": 1,
    "night": 1,
    "complaints": 1,
    "heard": 1,
    "from_abroad": 1,
    "not_of_the_plan": 1,
    "passport_bad": 1,
    "young": 1,
    "not_a_scam": -1,
    "attested": -1,
    "partly_attested": -1,
}
"""Feature -> the only sign its weight may have."""

PRIOR_CALLS = 5.0
"""Ratios of a number that was hardly seen are drawn towards what is usual by so many calls."""

COMPLAINTS_PER = 10.0
"""Complaints are weighed by the calls answered, and so many more: whoever calls thousands is complained of."""

YOUNG_S = 3 * 86_400.0


def features(known: Known) -> dict[str, float]:
    """What the model sees of an attempt, all within about 0 to 10.

    Args:
        known: with a caller window; without one, everything remembered is 0.
    """
    window = known.caller_window or CallerWindow()
    age_s = math.inf if window.first_seen_s is None or known.at_s is None else known.at_s - window.first_seen_s
    # Who vouches for a number says nothing for what its owner does with it.
    is_valid = known.passport.state == "valid" and not heard(window)
    return {
        "calls_1h": math.log1p(max(0, window.attempts_1h - 3)),
        "distinct_callees": math.log1p(max(0, window.distinct_callees - 10)),
        "short_calls": _ratio(window.short, window.answered, 0.1),
        "unanswered": _ratio(window.ended - window.answered, window.ended, 0.35),
        "sequential": _ratio(window.sequential, window.attempts, 0.0),
        "night": _ratio(window.night, window.attempts, 0.06),
        "complaints": 10 * max(0.0, window.complaints - window.not_a_scam) / (window.answered + COMPLAINTS_PER),
        "heard": math.log1p(heard(window)),
        "from_abroad": float(known.trunk == "international"),
        "not_of_the_plan": float(known.caller.kind in ("unallocated", "impossible", "malformed")),
        "passport_bad": float(known.passport.state in ("bad_signature", "bad_chain", "mismatch", "stale", "replayed")),
        "young": float(age_s < YOUNG_S) * math.log1p(window.attempts / 10),
        "not_a_scam": math.log1p(window.not_a_scam),
        "attested": float(is_valid and known.passport.attestation == "A"),
        "partly_attested": float(is_valid and known.passport.attestation == "B"),
    }


def _ratio(part: int, whole: int, usual: float) -> float:
    return 10 * max(0.0, (part + PRIOR_CALLS * usual) / (whole + PRIOR_CALLS) - usual)


class RiskWeights(BaseModel):
    """A trained model, as it lies in ``risk.json``.

    Attributes:
        version: digest of weights and data.
        intercept: log-odds of a call of which nothing is known.
        weights: of every feature, with its sign.
        prior: share of unwanted calls in training; ``target_prior`` in the field shifts the intercept.
        data: what it was trained on, in words, with seed and counts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str = Field(pattern=r"^[0-9a-f]{12}$")
    intercept: float = Field(allow_inf_nan=False)
    weights: dict[str, float]
    prior: float = Field(gt=0, lt=1)
    data: dict[str, str | int | float]

    @model_validator(mode="after")
    def _signs_hold(self) -> "RiskWeights":
        if self.weights.keys() != SIGNS.keys():
            raise ValueError(f"weights want exactly: {', '.join(SIGNS)}")
        if wrong := [name for name, weight in self.weights.items() if weight * SIGNS[name] < 0]:
            raise ValueError(f"weight of {wrong[0]} has the wrong sign")
        return self


class LogisticRisk:
    """Implements :class:`inference.screening.rules.RiskModel`.

    Args:
        weights: trained.
        prior: share of unwanted calls in the operator's network; None for that of training.
    """

    def __init__(self, weights: RiskWeights, prior: float | None = None) -> None:
        self._weights = weights
        shift = 0.0 if prior is None else _logit(prior) - _logit(weights.prior)
        self._intercept = weights.intercept + shift
        self.version = weights.version

    def risk(self, known: Known) -> tuple[float, Mapping[str, float]]:
        """Probability that the call is unwanted, and what each feature that is not 0 adds to its log-odds."""
        parts = {name: self._weights.weights[name] * value for name, value in features(known).items() if value}
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, self._intercept + sum(parts.values()))))), parts


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def load_risk(path: Path | None = None) -> RiskWeights:
    """Read ``risk.json``; ours where no path is given.

    Raises:
        ConfigError: it cannot be read, or is no model.
    """
    where = str(path) if path is not None else "the shipped risk.json"
    try:
        if path is not None:
            content = path.read_text(encoding="utf-8")
        else:
            content = (resources.files("inference.screening") / "risk.json").read_text("utf-8")
        return RiskWeights.model_validate(json.loads(content))
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror}); train one: scamtap-train screening") from error
    except (ValueError, ValidationError) as error:
        raise ConfigError(f"{where}: is no risk model; train one: scamtap-train screening") from error
