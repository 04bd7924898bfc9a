"""What turns the intent model's raw outputs into calibrated scores; lies beside the model as calibration.json."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inference.audio import Leg
from inference.engine.repository import read_beside
from inference.errors import WeightsError
from inference.intent.acts import ACTS, FAR_ACTS, GENUINE_ACTS, SUBSCRIBER_ACTS
from inference.intent.scores import STAGES, Weighed

CALIBRATION_FILE = "calibration.json"

REASSURING = frozenset(("reassure", *GENUINE_ACTS, "began_it"))
"""Stages and acts that only ever speak for a genuine call; all others only ever for a scam."""


class OperatingPoint(BaseModel):
    """Thresholds on the accumulated evidence (nats), chosen on development calls for a stated false-alarm rate.

    Attributes:
        suspect_llr, danger_llr: levels begin here.
        suspect_false_alarms, danger_false_alarms: share of genuine development calls allowed above them.
        num_genuine: how many genuine development calls that was measured on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    suspect_llr: float = Field(gt=0)
    danger_llr: float = Field(gt=0)
    suspect_false_alarms: float = Field(ge=0, le=1)
    danger_false_alarms: float = Field(ge=0, le=1)
    num_genuine: int = Field(ge=0)


class Weights(BaseModel):
    """What an utterance is worth, and how much evidence makes an alarm. Fitted on development calls, never on test.

    Attributes:
        far_scale: factor on the raw log-likelihood ratio of a far utterance. It tempers: what follows one another in a
            call is correlated, so the raw values together claim too much. The near leg's is not trained and not read.
        far_bias: nats, never positive, that every far utterance which says something adds.
        act_weights: nats that an utterance adds which surely shows a stage or an act; never positive for what
            reassures (:data:`REASSURING`), never negative for the rest. What a caller does tells more than how it
            sounds: on calls kept apart the acts ranked better than the raw ratio.
        operating_point: thresholds for the verdict.
        stage_thresholds: probability from which a stage counts as present, per stage; None: as in all languages.
        bare_budget: nats that all utterances together which show no act of a scam can raise the evidence above what it
            were without them: an hour of small talk must not add up to an alarm. None: no bound.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    far_scale: float = Field(ge=0)
    far_bias: float = Field(le=0)
    act_weights: dict[str, float]
    operating_point: OperatingPoint
    stage_thresholds: dict[str, float] | None = None
    bare_budget: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if missing := set(STAGES) - set(self.act_weights):
            raise ValueError(f"act_weights lacks {min(missing)}")
        if unknown := set(self.act_weights) - set(STAGES) - set(ACTS):
            raise ValueError(f"act_weights has an unknown {min(unknown)}")
        if any((weight > 0) if act in REASSURING else (weight < 0) for act, weight in self.act_weights.items()):
            raise ValueError("act_weights has a wrong sign")
        if self.stage_thresholds is not None and (missing := set(STAGES) - set(self.stage_thresholds)):
            raise ValueError(f"stage_thresholds lacks {min(missing)}")
        return self


class Counting(NamedTuple):
    """How acts count, the same in every language but for the budget: see :class:`Calibration`, :class:`Weights`."""

    floor: float
    repeat: float
    bare_limit: float
    bare_budget: float | None = None


class Calibration(Weights):
    """The weights of all languages together, and of each by itself where there were calls enough to tell.

    Attributes:
        head_sha256: of the head.safetensors that it belongs to; another head is refused.
        languages: ISO 639-1 codes that the model was trained on; in any other an utterance is no evidence.
        by_language: a language's own weights. The same act is told apart less surely in one language than in another,
            and what is left of a threat or an offer after a recogniser differs.
        act_floor: probability up to which an act is no evidence (:func:`shown`). Half of all far utterances show no
            act; without a floor their small probabilities add up over a call and drown the few that matter.
        act_repeat: share that an act counts for which the call has shown before: saying the same thing again is hardly
            news.
        bare_limit: nats that a far utterance adds at most which shows no act of a scam, however it sounds. Many words
            of a scam show none; where they counted in full, a single one could alarm.
    """

    head_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    languages: tuple[str, ...] = Field(min_length=1)
    by_language: dict[str, Weights] = Field(default_factory=dict)
    act_floor: float = Field(default=0.0, ge=0, lt=1)
    act_repeat: float = Field(default=1.0, ge=0, le=1)
    bare_limit: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.stage_thresholds is None:
            raise ValueError("stage_thresholds is missing")
        if unknown := set(self.by_language) - set(self.languages):
            raise ValueError(f"by_language has an unknown {min(unknown)}")
        return self

    def of(self, language: str) -> Weights:
        """The weights that utterances in ``language`` are weighed with."""
        return self.by_language.get(language, self)

    def counting(self) -> Counting:
        """How acts count where a language has no weights of its own."""
        return Counting(self.act_floor, self.act_repeat, self.bare_limit, self.bare_budget)

    def with_own(self, own: Mapping[str, "Calibration"]) -> "Calibration":
        """This one with the weights of languages that have a model of their own.

        Raises:
            WeightsError: one of them does not know its language, or counts acts otherwise.
        """
        by_language = dict(self.by_language)
        for language, other in own.items():
            if language not in other.languages:
                raise WeightsError(f"the intent model for {language} was not trained on it; retrain it, or remove it")
            if other.counting()._replace(bare_budget=self.bare_budget) != self.counting():
                raise WeightsError(f"the intent model for {language} counts acts otherwise; calibrate both again")
            weights = other.of(language).model_dump(include=set(Weights.model_fields))
            thresholds = weights["stage_thresholds"] or other.stage_thresholds
            by_language[language] = Weights.model_validate(weights | {"stage_thresholds": thresholds})
        languages = tuple(dict.fromkeys((*self.languages, *own)))
        return self.model_copy(update={"by_language": by_language, "languages": languages})

    def weigh(self, language: str, leg: Leg, raw: float, marks: Mapping[str, float], limit: float) -> Weighed:
        """What one utterance that says something is worth.

        Args:
            language: ISO 639-1 code.
            leg: whose it is.
            raw: the network's log-likelihood ratio; read of the far leg alone.
            marks: probability per stage and act.
            limit: no utterance adds or takes more.
        """
        weights = self.of(language)
        names = SUBSCRIBER_ACTS if leg == "near" else (*STAGES, *FAR_ACTS)
        acts = {name: shown(marks[name], self.act_floor) for name in names if name in marks}
        parts = {name: weights.act_weights.get(name, 0.0) * part for name, part in acts.items() if part}
        if leg == "near":
            return Weighed(0.0, parts, limit, limit)
        return self.bounded(Weighed(raw * weights.far_scale + weights.far_bias, parts, limit, limit), leg)

    def bounded(self, weighed: Weighed, leg: Leg) -> Weighed:
        """``weighed`` with what an utterance of ``leg`` adds at most which shows its acts."""
        is_bare = leg == "far" and not set(weighed.acts) - REASSURING
        ceiling = min(weighed.limit, self.bare_limit) if is_bare else weighed.limit
        return replace(weighed, ceiling=ceiling, is_bare=is_bare)


def shown(probability: float, floor: float) -> float:
    """How far an act is shown: 0 up to ``floor``, then in proportion, 1 where it is certain."""
    return max(0.0, probability - floor) / (1 - floor)


def load_calibration(path: Path) -> Calibration:
    """Read calibration.json.

    Raises:
        WeightsError: it is missing, malformed, or lacks a stage.
    """
    return read_beside(path, Calibration)
