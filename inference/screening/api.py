"""Screening over HTTP: what a switch, a subscriber's app and an operator's desk ask and say.

A decision must never keep a phone from ringing: whatever goes wrong inside gives ``allow``, marked degraded, and the
caller of this API allows when no answer comes in time.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Protocol

import structlog
from fastapi import APIRouter, HTTPException, Path
from fastapi.params import Depends
from pydantic import BaseModel, ConfigDict, Field

from inference.errors import CapacityError, StoreError
from inference.screening.appeals_api import appeals_router
from inference.screening.attempt import CallAttempt, CallOutcome, Decision
from inference.screening.config import Screening
from inference.screening.numbers import Number, parse_number
from inference.screening.store import Preferences

log = structlog.get_logger(__name__)

Digits = Annotated[str, Path(min_length=1, max_length=64)]
SHIELD_HOURS = 24.0


class CallerReport(BaseModel):
    """What a callee says of a call afterwards.

    Attributes:
        caller, callee: numbers.
        verdict: ``scam`` or ``not_a_scam``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    caller: str = Field(min_length=1, max_length=64)
    callee: str = Field(min_length=1, max_length=64)
    verdict: Literal["scam", "not_a_scam"]


class Wishes(BaseModel):
    """A subscriber's preferences; see :class:`inference.screening.store.Preferences`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: bool = True
    reminders: bool = True
    guardian: str | None = Field(default=None, max_length=64)
    language: Literal["en", "zh"] | None = None


class Contact(BaseModel):
    """A number that a subscriber knows, or expects to be called by.

    Attributes:
        number: whose.
        days: for how long; None for good, 0 forgets it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: str = Field(min_length=1, max_length=64)
    days: float | None = Field(default=None, ge=0, le=3650)


class Shield(BaseModel):
    """Emergency mode of a subscriber, at the subscriber's request.

    Attributes:
        hours: for how long; 0 switches it off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hours: float = Field(default=SHIELD_HOURS, ge=0, le=24 * 30)


class TextMessage(BaseModel):
    """A text message that a subscriber sent to the operator's short code.

    Attributes:
        sender: whose.
        text: a keyword: ``SHIELD ON``/``护盾开``, ``SHIELD OFF``/``护盾关``, ``LABELS ON|OFF``, ``REMINDERS ON|OFF``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sender: str = Field(min_length=1, max_length=64)
    text: str = Field(max_length=400)


KEYWORDS: dict[str, tuple[str, bool]] = {
    "shield on": ("shield", True),
    "shield off": ("shield", False),
    "labels on": ("labels", True),
    "labels off": ("labels", False),
    "reminders on": ("reminders", True),
    "reminders off": ("reminders", False),
    "护盾开": ("shield", True),
    "护盾关": ("shield", False),
    "来电提醒开": ("labels", True),
    "来电提醒关": ("labels", False),
    "短信提醒开": ("reminders", True),
    "短信提醒关": ("reminders", False),
}


class Decides(Protocol):
    """:class:`inference.screening.screener.Screener`, as far as calls are asked about here."""

    async def decide(self, attempt: CallAttempt) -> Decision:
        """What is done with an attempt."""
        ...

    def undecided(self, attempt: CallAttempt) -> Decision:
        """What is answered when deciding broke."""
        ...


async def decide_openly(screener: Decides, attempt: CallAttempt) -> Decision:
    """Decide a call attempt; whatever breaks inside, the telephone rings."""
    try:
        return await screener.decide(attempt)
    except Exception as error:  # noqa: BLE001 - see above
        log.error("a call was not decided", kind=type(error).__name__)
        return screener.undecided(attempt)


def screening_router(screening: Screening, guarded: Sequence[Depends]) -> APIRouter:
    """Routes under ``/v1/screening``.

    Args:
        screening: what decides.
        guarded: dependencies that authorise a request.
    """
    router = APIRouter(prefix="/v1/screening", dependencies=list(guarded), tags=["screening"])
    region, store = screening.screener.config.region, screening.store

    def number_of(text: str) -> str:
        number: Number = parse_number(text, region)
        if number.key is None:
            raise HTTPException(422, "is no number: want E.164, e.g. +8613800138000")
        return number.key

    async def change(operation: Any) -> None:
        try:
            await operation
        except StoreError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        except CapacityError as error:
            raise HTTPException(409, str(error)) from error

    @router.post("/calls")
    async def decide(attempt: CallAttempt) -> dict[str, Any]:
        return (await decide_openly(screening.screener, attempt)).to_json()

    @router.post("/outcomes", status_code=204)
    async def ended(outcome: CallOutcome) -> None:
        await change(screening.screener.ended(outcome))

    @router.post("/reports", status_code=204)
    async def report(said: CallerReport) -> None:
        caller, callee = number_of(said.caller), number_of(said.callee)
        mark: Literal["complaint", "not_a_scam"] = "complaint" if said.verdict == "scam" else "not_a_scam"
        await change(store.mark(caller, callee, mark, time.time()))
        screening.journal.noted("feedback", {"reason": said.verdict, "caller": caller})

    @router.get("/subscribers/{number}")
    async def wishes(number: Digits) -> dict[str, Any]:
        try:
            wants = await store.preferences(number_of(number), time.time())
        except StoreError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        return {
            "prompts": wants.prompts,
            "reminders": wants.reminders,
            "has_guardian": wants.guardian is not None,
            "language": wants.language,
        }

    @router.put("/subscribers/{number}", status_code=204)
    async def prefer(number: Digits, wants: Wishes) -> None:
        guardian = None if wants.guardian is None else number_of(wants.guardian)
        chosen = Preferences(wants.prompts, wants.reminders, guardian, wants.language)
        await change(store.prefer(number_of(number), chosen))

    @router.put("/subscribers/{number}/contacts", status_code=204)
    async def add_contact(number: Digits, contact: Contact) -> None:
        callee, known, now_s = number_of(number), number_of(contact.number), time.time()
        if contact.days == 0:
            await change(store.forget_contact(callee, known))
            return
        until_s = None if contact.days is None else now_s + contact.days * 86_400
        await change(store.add_contact(callee, known, until_s, now_s=now_s))

    @router.put("/subscribers/{number}/shield", status_code=204)
    async def shield(number: Digits, wanted: Shield) -> None:
        await _shield(number_of(number), wanted.hours)

    async def _shield(number: str, hours: float) -> None:
        until_s = time.time() + hours * 3600 if hours else None
        await change(store.shield(number, until_s))
        what: dict[str, object] = {
            "reason": "REQUESTED" if hours else "RELEASED",
            "callee": screening.journal.pseudonym(number),
        }
        screening.journal.noted("shield" if hours else "shield_off", what)

    @router.post("/messages")
    async def message(sent: TextMessage) -> dict[str, str]:
        found = KEYWORDS.get(" ".join(sent.text.lower().split()))
        if found is None:
            return {"reply": "SHIELD ON / SHIELD OFF / LABELS ON / LABELS OFF / REMINDERS ON / REMINDERS OFF"}
        number, (what, is_on) = number_of(sent.sender), found
        if what == "shield":
            await _shield(number, SHIELD_HOURS if is_on else 0.0)
            return {"reply": f"Shield {'on for 24 hours' if is_on else 'off'}."}
        try:
            wants = await store.preferences(number, time.time())
        except StoreError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error
        chosen = replace(wants, prompts=is_on) if what == "labels" else replace(wants, reminders=is_on)
        await change(store.prefer(number, chosen))
        return {"reply": f"{what.capitalize()} {'on' if is_on else 'off'}."}

    @router.get("/counters")
    async def counters() -> dict[str, Any]:
        counted = [
            {"what": what, "reason": reason, "category": category, "count": count}
            for (what, reason, category), count in sorted(screening.journal.counts.items())
        ]
        return {"counters": counted, "lost": screening.journal.num_lost}

    router.include_router(appeals_router(screening.appeals, region))
    return router
