"""What turns the intent model's raw outputs into calibrated scores; lies beside the model as calibration.json."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.audio import Leg
from inference.errors import WeightsError
from inference.intent.scores import STAGES

CALIBRATION_FILE = "calibration.json"


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


class Calibration(BaseModel):
    """Fitted on development calls, never on test.

    Attributes:
        head_sha256: of the head.safetensors that it belongs to; another head is refused.
        languages: ISO 639-1 codes that the model was trained on; in any other an utterance is no evidence.
        far_scale, near_scale: factors on the raw log-likelihood ratio per leg. They temper: what follows one another
            in a call is correlated, so the raw values together claim too much.
        far_bias: nats that every far utterance which says something adds; what shows no act speaks for a genuine call.
        act_weights: nats that a far utterance adds which surely shows a stage; never negative but for ``reassure``,
            never positive for that. What a caller does tells more than how it sounds: on calls kept apart the acts
            ranked better than the raw ratio.
        act_floor: probability up to which an act is no evidence (:func:`shown`). Half of all far utterances show no
            act; without a floor their small probabilities add up over a call and drown the few that matter. For the
            same reason an utterance that shows no act but ``reassure`` never speaks for a scam, however it sounds:
            an hour of small talk must not add up to an alarm.
        stage_thresholds: probability from which a stage counts as present, per stage.
        operating_point: thresholds for the verdict.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    languages: tuple[str, ...] = Field(min_length=1)
    far_scale: float = Field(ge=0)
    near_scale: float = Field(ge=0)
    far_bias: float = Field(le=0)
    act_weights: dict[str, float]
    act_floor: float = Field(default=0.0, ge=0, lt=1)
    stage_thresholds: dict[str, float]
    operating_point: OperatingPoint

    @model_validator(mode="after")
    def _check(self) -> "Calibration":
        for name, values in (("stage_thresholds", self.stage_thresholds), ("act_weights", self.act_weights)):
            if missing := set(STAGES) - set(values):
                raise ValueError(f"{name} lacks {min(missing)}")
        if any((weight > 0) if act == "reassure" else (weight < 0) for act, weight in self.act_weights.items()):
            raise ValueError("act_weights has a wrong sign")
        return self

    def llr(self, leg: Leg, raw: float, stages: Mapping[str, float], limit: float) -> float:
        """Calibrated log-likelihood ratio of one utterance that says something, within +-``limit``."""
        if leg == "far":
            acts = {stage: shown(p, self.act_floor) for stage, p in stages.items()}
            value = raw * self.far_scale + self.far_bias + sum(self.act_weights[s] * a for s, a in acts.items())
            if not any(a for stage, a in acts.items() if stage != "reassure"):
                value = min(0.0, value)
        else:
            value = raw * self.near_scale
        return min(limit, max(-limit, value))


def shown(probability: float, floor: float) -> float:
    """How far an act is shown: 0 up to ``floor``, then in proportion, 1 where it is certain."""
    return max(0.0, probability - floor) / (1 - floor)


def load_calibration(path: Path) -> Calibration:
    """Read calibration.json.

    Raises:
        WeightsError: it is missing, malformed, or lacks a stage.
    """
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); restore it from the repository") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WeightsError(f"{path}: {where}: {first['msg']}; restore it from the repository") from None
