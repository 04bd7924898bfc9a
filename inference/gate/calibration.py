"""What turns the gate's raw output into evidence and evidence into a decision; calibration.json beside the model."""

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from inference.engine.repository import read_beside

CALIBRATION_FILE = "calibration.json"
BORN_WITH = ("states_precision", "states_weights_sha256")

FLOOR_LLR = 3.0
"""Nats below the start that a call's evidence can fall, as the verdict's: a long harmless opening must not hide the ask
at the end."""


class OperatingPoint(BaseModel):
    """From which evidence a call is read, chosen on development calls.

    Attributes:
        pass_llr: nats of accumulated evidence from which a call is read.
        pass_share: share of development scam calls that are read when the far party first asks.
        pass_share_low: lower end of its 95 % interval (one-sided, exact): what so few calls can prove.
        num_scam, num_genuine: development calls that it was chosen on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pass_llr: float
    pass_share: float = Field(ge=0, le=1)
    pass_share_low: float = Field(ge=0, le=1)
    num_scam: int = Field(ge=0)
    num_genuine: int = Field(ge=0)


class GateCalibration(BaseModel):
    """Fitted on development calls, never on test.

    Attributes:
        head_sha256: of the head.safetensors that it belongs to; another head is refused.
        states_precision, states_weights_sha256: of the speech model whose states it was trained on; any other is
            refused.
        scale, bias: a segment's evidence is ``scale * raw + bias``, nats.
        floor_llr: nats below the start that a call's evidence can fall.
        operating_point: from when on a call is read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    states_precision: str
    states_weights_sha256: str
    scale: float = Field(ge=0)
    bias: float
    floor_llr: float = Field(default=FLOOR_LLR, ge=0)
    operating_point: OperatingPoint

    @property
    def born_with(self) -> dict[str, str]:
        """What the model's metadata says of the states that it takes."""
        return {name: getattr(self, name) for name in BORN_WITH}

    def raw(self, llr: float) -> float:
        """The raw output from which on a segment's evidence is at least ``llr``; an infinity where none or all is."""
        if self.scale == 0 or math.isinf(llr):
            return -math.inf if llr <= self.bias else math.inf
        return (llr - self.bias) / self.scale

    def llr(self, raw: float) -> float:
        """Evidence of one segment, nats; none where the network gave no number."""
        return self.scale * raw + self.bias if math.isfinite(raw) else 0.0


def load_gate_calibration(path: Path) -> GateCalibration:
    """Read calibration.json.

    Raises:
        WeightsError: it is missing or malformed.
    """
    return read_beside(path, GateCalibration)
