"""What subscribers say about a warning: that it was wrong. Kept, because nobody knows the call better."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from inference.verdict.verdict import Level


def new_feedback_id() -> str:
    """A random id, unique per feedback: a delivery that is tried again is told from a second key press."""
    return f"fbk_{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Feedback:
    """The subscriber pressed the 'not a scam' key after a warning.

    Attributes:
        call: the id under which signalling registered the call.
        says: what the key means.
        alert: id of the alert that the warning came from.
        level, risk, family: as that alert had them.
        after_s: seconds from the warning to the key.
        at_s: seconds since the epoch.
        id: unique per feedback.
    """

    call: str
    says: Literal["not_a_scam"]
    alert: str
    level: Level
    risk: float
    family: str | None
    after_s: float
    at_s: float = field(default_factory=time.time)
    id: str = field(default_factory=new_feedback_id)

    def to_json(self) -> Mapping[str, Any]:
        """The wire form: no number, and nothing that was said."""
        return {
            "type": "feedback",
            "id": self.id,
            "call": self.call,
            "says": self.says,
            "alert": self.alert,
            "level": self.level,
            "risk": round(self.risk, 4),
            "family": self.family,
            "after_s": round(self.after_s, 3),
            "at_s": round(self.at_s, 3),
        }
