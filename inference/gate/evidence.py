"""Whether ONE call is worth reading, by what the gate hears of it."""

import math

from inference.audio import Leg
from inference.gate.calibration import GateCalibration


class GateEvidence:
    """A sequential test over one call, as the verdict's (:mod:`inference.verdict.verdict`).

    What the far leg's segments say is added up, above a floor: an hour of harmless talk cannot hide the ask at its end.
    While the sum is not below the operating point, the call is read. An operating point below zero reads every call
    from its first segment, and leaves those that turn out harmless. Of the near leg nothing is weighed; it is read with
    its call.

    Args:
        calibration: the gate's.
        pass_llr: nats from which the call is read; None: the gate's operating point.
    """

    def __init__(self, calibration: GateCalibration, pass_llr: float | None = None) -> None:
        self._floor_llr = calibration.floor_llr
        self._pass_llr = calibration.operating_point.pass_llr if pass_llr is None else pass_llr
        self._evidence_llr = 0.0

    @property
    def evidence_llr(self) -> float:
        """Accumulated evidence, nats."""
        return self._evidence_llr

    @property
    def is_passed(self) -> bool:
        """Whether the call is read now."""
        return self._evidence_llr >= self._pass_llr

    def needed(self, leg: Leg) -> float:
        """Nats that the next segment must say for it to be read: an infinity where it is not its word that decides."""
        if leg == "far" and self._pass_llr > -self._floor_llr:
            return self._pass_llr - self._evidence_llr
        return -math.inf if leg == "far" or self.is_passed else math.inf

    def weigh(self, leg: Leg, llr: float) -> bool:
        """Add what the next segment says; returns whether it is to be read."""
        if leg == "far":
            self._evidence_llr = max(-self._floor_llr, self._evidence_llr + llr)
        return self.is_passed
