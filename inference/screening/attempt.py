"""A call attempt, what became of it, and what is decided about it: the types that every part of screening shares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Action = Literal["allow", "prompt", "challenge", "reject"]
ACTIONS: tuple[Action, ...] = ("allow", "prompt", "challenge", "reject")
"""In order of severity."""

Trunk = Literal["own", "national", "international"]
"""Where the attempt came in: from our own subscribers, from another operator of the country, from abroad."""

MAX_TEXT_CHARACTERS = 256
MAX_IDENTITY_CHARACTERS = 8193
"""One more than any PASSporT may have: a longer one is cut, and so is malformed."""


def _cut(size: int) -> BeforeValidator:
    """Texts of callers are cut, not refused: what is refused is decided by nobody, and its call rings.

    Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark.
    """
    return BeforeValidator(lambda text: _writable(text[:size]) if isinstance(text, str) else text)


def _writable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


Text = Annotated[str, _cut(MAX_TEXT_CHARACTERS)]
CallId = Annotated[str, _cut(MAX_TEXT_CHARACTERS), Field(min_length=1)]
Callee = Annotated[str, _cut(MAX_TEXT_CHARACTERS), Field(min_length=1)]
Identity = Annotated[str, _cut(MAX_IDENTITY_CHARACTERS)]


class CallAttempt(BaseModel):
    """Somebody dials. Everything in it is hostile text: it came over signalling.

    Attributes:
        call_id: the operator's own id of the call.
        caller: number as signalled (E.164, national, SIP user part); None or empty where it is withheld.
        callee: the subscriber's number as dialled.
        at_s: when, seconds since the epoch; None for now.
        trunk: where it came in; None for unknown, and then nothing is concluded from it.
        identity: the SIP Identity header with its PASSporT (RFC 8224), if there was one.
        is_callback_window: the callee called an emergency number a short while ago, said by the operator's switch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    call_id: CallId
    caller: Text | None = None
    callee: Callee
    at_s: float | None = Field(default=None, ge=0, lt=1e11, allow_inf_nan=False)
    trunk: Trunk | None = None
    identity: Identity | None = None
    is_callback_window: bool = False


class CallOutcome(BaseModel):
    """What became of an attempt: the operator's switch says so after it.

    Attributes:
        call_id: of the attempt.
        caller, callee: as in the attempt.
        at_s: when the call ended, seconds since the epoch; None for now.
        answered: whether anybody answered.
        rang_s, talked_s: for how long.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    call_id: CallId
    caller: Text | None = None
    callee: Callee
    at_s: float | None = Field(default=None, ge=0, lt=1e11, allow_inf_nan=False)
    answered: bool
    rang_s: float = Field(default=0.0, ge=0, le=3600, allow_inf_nan=False)
    talked_s: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Label:
    """What the callee is shown before answering.

    Attributes:
        text: in the callee's language, with its source.
        category: machine-readable, e.g. ``parcel``.
        source: who says so: ``subscribers``, ``listening``, ``list:<name>``, ``numbering``.
        language: ISO 639-1.
    """

    text: str
    category: str
    source: str
    language: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What is done with one call attempt, and why.

    Attributes:
        call_id: of the attempt.
        action: allow, prompt, challenge or reject.
        reasons: machine-readable codes, the weightiest first; never empty (``DEFAULT`` where nothing spoke).
        risk: probability that the call is unwanted, by the scoring model; None where no model was asked.
        rules_version, lists_version: what was applied, so that a decision can be explained a year later.
        label: for ``prompt``, and to be shown with ``challenge``.
        sip_code, sip_reason: for ``reject``: 603, 607 (RFC 8197) or 608 (RFC 8688).
        is_degraded: the store was away: decided without what it knows, and open.
        contributions: by how much each feature moved the model's log-odds; for explanation.
        lists: list entries that spoke, each ``<kind>:<list>@<version>``: what ``DENY_LISTED`` and the like go back to.
    """

    call_id: str
    action: Action
    reasons: tuple[str, ...]
    risk: float | None
    rules_version: str
    lists_version: str
    label: Label | None = None
    sip_code: int | None = None
    sip_reason: str | None = None
    is_degraded: bool = False
    contributions: Mapping[str, float] = field(default_factory=dict)
    lists: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object that ``scamtap screen --json`` and the HTTP API give."""
        return {
            "call_id": self.call_id,
            "decision": self.action,
            "reasons": list(self.reasons),
            "label": None
            if self.label is None
            else {
                "text": self.label.text,
                "category": self.label.category,
                "source": self.label.source,
                "language": self.label.language,
            },
            "risk": None if self.risk is None else round(self.risk, 4),
            "sip": None if self.sip_code is None else {"code": self.sip_code, "reason": self.sip_reason},
            "rules_version": self.rules_version,
            "lists": list(self.lists),
            "lists_version": self.lists_version,
            "degraded": self.is_degraded,
            "contributions": {name: round(value, 3) for name, value in self.contributions.items()},
        }
