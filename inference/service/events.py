"""What happens in a call, as callers of ScamTap see it: one JSON object an event."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from inference.alerts.alert import Alert
from inference.audio import Leg
from inference.speech.utterance import Utterance
from inference.verdict.verdict import Level


@dataclass(frozen=True, slots=True)
class UtteranceEvent:
    """Words were understood.

    Attributes:
        risk: of the call, after them.
        number: of the utterance in its call, from 1, in the order in which they were weighed.
    """

    call: str
    utterance: Utterance
    risk: float
    number: int

    def to_json(self) -> Mapping[str, Any]:
        """The line ``scamtap replay --json`` prints."""
        return {
            "type": "utterance",
            "call": self.call,
            "leg": self.utterance.leg,
            "start_s": round(self.utterance.start_s, 3),
            "end_s": round(self.utterance.end_s, 3),
            "text": self.utterance.text,
            "risk": round(self.risk, 4),
        }


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """The call rose to ``suspect`` or ``danger``."""

    alert: Alert

    @property
    def call(self) -> str:
        """Id of the call."""
        return self.alert.call

    def to_json(self) -> Mapping[str, Any]:
        """The alert with what was said: for the operator's own terminal or stream, not for disk."""
        return self.alert.to_json(with_text=True)


@dataclass(frozen=True, slots=True)
class OpinionEvent:
    """A language model's opinion of the call was weighed (:mod:`inference.opinion`); nothing of its own words is here.

    Attributes:
        at_s: call time at which it came.
        level, risk: of the call, after it.
        acts: nats per act that the call has shown, as they are held now; those that weigh most first.
        after: number of the last utterance that was weighed before it.
    """

    call: str
    at_s: float
    level: Level
    risk: float
    acts: tuple[tuple[str, float], ...]
    after: int

    def to_json(self) -> Mapping[str, Any]:
        """Between two utterances, before the alert that it may have raised."""
        return {
            "type": "opinion",
            "call": self.call,
            "at_s": round(self.at_s, 3),
            "level": self.level,
            "risk": round(self.risk, 4),
            "acts": dict(self.acts),
        }


@dataclass(frozen=True, slots=True)
class VerdictEvent:
    """The call is over.

    Attributes:
        level: the highest level reached.
        first_alert_s: call time of the first alert, or None.
        speech_s: seconds of speech heard per leg.
        packets: per-leg packet counters, or None where the call did not come as packets.
    """

    call: str
    level: Level
    risk: float
    family: str | None
    first_alert_s: float | None
    speech_s: Mapping[Leg, float]
    packets: Mapping[str, Any] | None

    def to_json(self) -> Mapping[str, Any]:
        """The last line of a call."""
        return {
            "type": "verdict",
            "call": self.call,
            "level": self.level,
            "risk": round(self.risk, 4),
            "family": self.family,
            "first_alert_s": None if self.first_alert_s is None else round(self.first_alert_s, 3),
            "speech_s": {leg: round(seconds, 2) for leg, seconds in self.speech_s.items()},
            "packets": self.packets,
        }


Event: TypeAlias = UtteranceEvent | OpinionEvent | AlertEvent | VerdictEvent
