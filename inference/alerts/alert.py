"""One warning about one call, as operators' systems receive it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference.alerts.notice import Notice
from inference.speech.utterance import Utterance
from inference.verdict.verdict import Level

ID_HEX_DIGITS = 32  # 128 bits: two alerts of different calls never meet


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
        begun_at_s: when the call began, seconds since the epoch; None for a recording, whose file says nothing of it.
        model: what judged, e.g. ``scam_intent:1f0c9a7e55d2``.
        rise: which rise of this call to this level it is, from 1. Today's verdict warns once per level.
    """

    call: str
    level: Level
    at_s: float
    risk: float
    family: str | None
    stage: str | None
    evidence: tuple[Utterance, ...]
    begun_at_s: float | None = None
    model: str = ""
    rise: int = 1

    @property
    def id(self) -> str:
        """Idempotency key: equal for two alerts that tell an operator the same thing, whoever tells them and when.

        Two alerts are the same where one model found, for the same time, that one call has come to one level. So the
        key holds the call, its level, the decision and the model. The decision is the ``rise``, and none of what comes
        with it: ``at_s`` holds compute time, and risk, family and evidence depend on packets lost on the way, so a
        worker that restarts mid-call and judges again would make a second effect of the same warning. The call is its
        id and its beginning: gateways reuse ids.
        """
        begun_at_ms = None if self.begun_at_s is None else round(self.begun_at_s * 1000)
        # JSON keeps the parts apart: ("a", "bc") and ("ab", "c") differ.
        decision = json.dumps([self.call, begun_at_ms, self.level, self.rise, self.model])
        return f"alr_{hashlib.sha256(decision.encode()).hexdigest()[:ID_HEX_DIGITS]}"

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
            "model": self.model,
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

    def notice(self, *, with_text: bool, now_s: float) -> Notice:
        """What operators' systems are told; ``now_s``, since the epoch, dates an alert of a call without a date."""
        at_s = now_s if self.begun_at_s is None else self.begun_at_s + self.at_s
        return Notice("alert", self.id, self.call, at_s, self.to_json(with_text=with_text))
