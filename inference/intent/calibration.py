"""What turns the intent model's raw outputs into calibrated scores; lies beside the model as calibration.json."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
        stage_thresholds: probability from which a stage counts as present, per stage.
        operating_point: thresholds for the verdict.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    languages: tuple[str, ...] = Field(min_length=1)
    far_scale: float = Field(gt=0)
    near_scale: float = Field(ge=0)
    stage_thresholds: dict[str, float]
    operating_point: OperatingPoint


def load_calibration(path: Path) -> Calibration:
    """Read calibration.json.

    Raises:
        WeightsError: it is missing, malformed, or lacks a stage.
    """
    try:
        calibration = Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); restore it from the repository") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise WeightsError(f"{path}: {where}: {first['msg']}; restore it from the repository") from None
    if missing := set(STAGES) - set(calibration.stage_thresholds):
        raise WeightsError(f"{path}: stage_thresholds lacks {min(missing)}; restore it from the repository")
    return calibration
