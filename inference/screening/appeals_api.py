"""Appeals over HTTP: for the operator's own portal, which knows whose number it is, and for the desk that decides."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from inference.errors import StoreError
from inference.screening.appeals import Appeal, Appeals, Step
from inference.screening.lists import LIST_NAME, AppealState, ListKind
from inference.screening.numbers import parse_number


class AppealStep(BaseModel):
    """An appeal, or a decision on one.

    Attributes:
        kind: of the list that the number is on.
        number: whose, E.164; ``86138*`` where an entry lists all that begin so.
        list: name of the published list it is against; None for an entry of our own.
        step: ``open`` asks, ``grant`` and ``refuse`` decide.
        who, why: asks or decides, on what ground; kept for good.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ListKind = "deny"
    number: str = Field(min_length=1, max_length=64)
    list: Annotated[str, Field(pattern=LIST_NAME)] | None = None
    step: Step
    who: str = Field(min_length=1, max_length=200)
    why: str = Field(min_length=1, max_length=500)


def appeals_router(appeals: Appeals, region: str) -> APIRouter:
    """``/appeals``, to be included under ``/v1/screening``.

    Args:
        appeals: takes them.
        region: ISO 3166, for national numbers.
    """
    router = APIRouter(prefix="/appeals")

    @router.get("")
    async def appealed(state: Literal["open", "granted", "refused"] | None = None) -> dict[str, Any]:
        wanted: AppealState | None = state
        try:
            return {"appeals": await asyncio.to_thread(appeals.all, wanted)}
        except StoreError as error:
            raise HTTPException(503, str(error), {"Retry-After": "1"}) from error

    @router.post("", status_code=201)
    async def step(asked: AppealStep) -> dict[str, Any]:
        is_prefix = asked.number.endswith("*") and asked.list is None
        text = asked.number.rstrip("*")
        digits = text.lstrip("+") if is_prefix else parse_number(text, region).key
        if digits is None or not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
            raise HTTPException(422, "is no number: want E.164, e.g. +8613800138000")
        appeal = Appeal(asked.kind, digits, is_prefix, asked.list)
        try:
            # Shielded: begun, it is carried through, also where the client leaves.
            changed = await asyncio.shield(
                asyncio.to_thread(appeals.step, appeal, asked.step, who=asked.who, why=asked.why)
            )
        except StoreError as error:
            raise HTTPException(409, str(error)) from error
        return {"state": changed.entry.appeal, "line": changed.number, "at_s": changed.at_s}

    return router
