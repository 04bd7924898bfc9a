"""One warning about one call, as operators' systems receive it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.speech.utterance import Utterance
from inference.verdict.verdict import Level


def new_alert_id() -> str:
    """A random id; it is also the webhook's idempotency key, so a retried delivery can be told from a new alert."""
    return f"alr_{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Alert:
    """A call rose to ``suspect`` or ``danger``.

    Attributes:
        call: the id under which signalling registered the call.
        level: the level it rose to.
        at_s: call time at which we knew, seconds: end of the utterance that tipped it, plus pause and compute.
        risk: calibrated probability that the call is a scam.
        family, stage: what it looks like; None where the model cannot say.
        evidence: the utterances that moved the risk most, oldest first. Personal data.
        id: unique per alert.
    """

    call: str
    level: Level
    at_s: float
    risk: float
    family: str | None
    stage: str | None
    evidence: tuple[Utterance, ...]
    id: str = field(default_factory=new_alert_id)

    def to_json(self, *, with_text: bool) -> Mapping[str, Any]:
        """The wire form. ``with_text=False`` leaves out what was said, and is what goes to disk by default."""
        return {
            "type": "alert",
            "id": self.id,
            "call": self.call,
            "level": self.level,
            "at_s": round(self.at_s, 3),
            "risk": round(self.risk, 4),
            "family": self.family,
            "stage": self.stage,
            "evidence": [
                {
                    "leg": utterance.leg,
                    "start_s": round(utterance.start_s, 3),
                    "end_s": round(utterance.end_s, 3),
                    **({"text": utterance.text} if with_text else {}),
                }
                for utterance in self.evidence
            ],
        }
