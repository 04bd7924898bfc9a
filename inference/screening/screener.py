"""One call attempt in, one decision out: numbers are read, lists and store asked, rules applied, words found."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

import structlog

from inference.errors import StoreError
from inference.screening.attempt import CallAttempt, CallOutcome, Decision, Label
from inference.screening.lists import NumberLists
from inference.screening.numbers import Number, parse_dialled, parse_number
from inference.screening.passport import NO_PASSPORT, PassportVerifier
from inference.screening.rules import RULES_VERSION, Known, RiskModel, RulesConfig, Ruling, rule
from inference.screening.store import CalleeWindow, ScreeningStore

log = structlog.get_logger(__name__)

T = TypeVar("T")

SIP_REJECTIONS = {"CALL_BOMBING": (603, "Decline"), "DENY_LISTED": (607, "Unwanted")}
"""The rest is 608: an analytics engine rejected it, and its owner must be told where to appeal (RFC 8688)."""

MAX_AHEAD_S = 60.0
"""An attempt from further in the future comes from a clock that is wrong: ours is taken."""

SHIELD_STEP_S = 30.0
"""A shield that is up is prolonged by no less: not a write for every call of an attack."""

BACK_AFTER_S = 10.0
"""A store that misses no call for so long is back; one that only misses some is not said to come and go."""

UNKNOWN = "unknown"
"""Whoever was dialled with no number: counted together, never shielded together."""

NIGHT_BEGINS_H, NIGHT_ENDS_H = 22, 7


class BurstDetector(Protocol):
    """Tells a call-bombing attack; see :mod:`inference.screening.bombing`."""

    def shield_until_s(self, window: CalleeWindow, at_s: float) -> float | None:
        """Until when the callee is to be shielded, seconds since the epoch; None where it is not under attack."""
        ...


class LabelMaker(Protocol):
    """Finds the words for a callee; see :mod:`inference.screening.labels`."""

    def label(self, category: str, source: str, known: Known) -> Label | None:
        """What is shown; None where the callee does not want to be told, or was told enough."""
        ...


class Screener:
    """Decides call attempts. One per worker; holds no state of calls, that is the store's.

    Attributes:
        num_degraded: attempts decided without the store.

    Args:
        config: the operator's rules.
        lists: of numbers.
        store: what is remembered.
        passports: verifies PASSporTs; None where the country has none.
        model: risk of a number; None for rules alone.
        bursts: call-bombing detection; None for off.
        labels: words; None shows nothing.
        time_zone: of the operator, for what is night.
        store_timeout_s: how long a call may wait for the store before it is decided without.
        clock: seconds since the epoch.
        on_decision: told every decision, for the event log and metrics; must not wait.
        on_shield: told the callee when an attack was noticed and its shield goes up; must not wait.
    """

    def __init__(
        self,
        config: RulesConfig,
        lists: NumberLists,
        store: ScreeningStore,
        *,
        passports: PassportVerifier | None = None,
        model: RiskModel | None = None,
        bursts: BurstDetector | None = None,
        labels: LabelMaker | None = None,
        time_zone: str = "UTC",
        store_timeout_s: float = 0.02,
        clock: Callable[[], float] = time.time,
        on_decision: Callable[[CallAttempt, Known, Decision], None] = lambda _attempt, _known, _decision: None,
        on_shield: Callable[[Number], None] = lambda _callee: None,
    ) -> None:
        self.config = config
        self.lists = lists
        self._store = store
        self._passports = passports
        self._model = model
        self._bursts = bursts
        self._labels = labels
        self._zone = ZoneInfo(time_zone)
        self._store_timeout_s = store_timeout_s
        self._clock = clock
        self._on_decision = on_decision
        self._on_shield = on_shield
        self.num_degraded = 0
        self._degraded_s: float | None = None
        digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]
        self.rules_version = f"{RULES_VERSION}.{digest}" + (f".{model.version}" if model is not None else "")

    @property
    def waits(self) -> bool:
        """Whether a decision may have to wait for the store; where not, :meth:`decide` never gives way to others."""
        return self._store.waits

    async def decide(self, attempt: CallAttempt) -> Decision:
        """Decide one attempt, and count it. Never raises for what the attempt holds, nor for a store that is away."""
        at_s = self._time(attempt.at_s)
        known, is_degraded = await self._look_up(attempt, at_s)
        ruling = rule(known, self.config, self._model)
        decision = self._decision(attempt, known, ruling, is_degraded)
        self._on_decision(attempt, known, decision)
        if decision.label is not None and not is_degraded:
            with contextlib.suppress(StoreError, TimeoutError):
                text, language = decision.label.text, decision.label.language
                to = known.callee.key or UNKNOWN
                await self._in_time(self._store.labelled(known.caller.key, to, text, language, at_s))
        return decision

    def _time(self, said_s: float | None) -> float:
        now_s = self._clock()
        return now_s if said_s is None or said_s > now_s + MAX_AHEAD_S else said_s

    async def _look_up(self, attempt: CallAttempt, at_s: float) -> tuple[Known, bool]:
        caller = parse_number(attempt.caller, self.config.region)
        callee = parse_dialled(attempt.callee, self.config.region)
        passport = NO_PASSPORT
        if self._passports is not None:
            passport = self._passports.check(
                attempt.identity, caller.e164, callee.e164 or callee.digits, attempt.call_id
            )
        hits = self.lists.find(caller.key, at_s)
        plain = Known(
            caller, callee, attempt.trunk, passport, hits, is_callback_window=attempt.is_callback_window, at_s=at_s
        )
        try:
            known, is_degraded = await self._in_time(self._with_memory(plain, at_s)), False
        except (StoreError, TimeoutError):
            known, is_degraded = plain, True
        self._note_degraded(is_degraded)
        return known, is_degraded

    async def _in_time(self, asking: Coroutine[Any, Any, T]) -> T:
        """Await the store; a deadline costs a timer, and is for a store that may make a call wait."""
        if not self._store.waits:
            return await asking
        async with asyncio.timeout(self._store_timeout_s):
            return await asking

    async def _with_memory(self, known: Known, at_s: float) -> Known:
        to = known.callee.key or UNKNOWN
        seen = await self._store.attempt(
            known.caller.key,
            to,
            at_s,
            is_night=self._is_night(at_s),
            is_odd=known.caller.kind not in ("valid", "short", "emergency"),
            is_outgoing=known.trunk == "own" and known.callee.key is not None,
            is_emergency=known.callee.kind == "emergency",
            is_attested=known.passport.state == "valid" and known.passport.attestation == "A",
        )
        until_s = seen.callee.shielded_until_s
        begun_s = None
        if self._bursts is not None and known.callee.key is not None and known.callee.kind != "emergency":
            begun_s = self._bursts.shield_until_s(seen.callee, at_s)
        if begun_s is not None:
            if until_s is None:
                self._on_shield(known.callee)
            if until_s is None or begun_s > until_s + SHIELD_STEP_S:
                await self._store.shield(to, begun_s)
            until_s = max(begun_s, until_s or 0.0)
        return replace(
            known,
            caller_window=seen.caller,
            callee_window=seen.callee,
            is_contact=seen.is_contact,
            is_callback_window=known.is_callback_window or seen.is_called_back,
            is_attacked=until_s is not None and at_s < until_s,
            wants=seen.wants,
        )

    def _is_night(self, at_s: float) -> bool:
        hour = datetime.fromtimestamp(at_s, self._zone).hour
        return hour >= NIGHT_BEGINS_H or hour < NIGHT_ENDS_H

    def _note_degraded(self, is_degraded: bool) -> None:
        """Say once that the store is away, and once that it is back: when it answered every call for a while."""
        self.num_degraded += is_degraded
        if is_degraded:
            if self._degraded_s is None:
                log.error("screening without its store: decided by lists and numbering plan alone, open for the rest")
            self._degraded_s = self._clock()
        elif self._degraded_s is not None and abs(self._clock() - self._degraded_s) >= BACK_AFTER_S:
            self._degraded_s = None
            log.info("screening has its store again", num_degraded=self.num_degraded)

    def _decision(self, attempt: CallAttempt, known: Known, ruling: Ruling, is_degraded: bool) -> Decision:
        label, (code, reason) = None, (None, None)
        if ruling.action in ("prompt", "challenge") and ruling.category and ruling.source and self._labels is not None:
            label = self._labels.label(ruling.category, ruling.source, known)
        if ruling.action == "reject":
            code, reason = SIP_REJECTIONS.get(ruling.reasons[0], (608, "Rejected"))
        return Decision(
            attempt.call_id,
            ruling.action,
            ruling.reasons,
            ruling.risk,
            self.rules_version,
            self.lists.version,
            label,
            code,
            reason,
            is_degraded,
            ruling.contributions or {},
            tuple(map(str, ruling.matched)),
        )

    def undecided(self, attempt: CallAttempt) -> Decision:
        """What is answered when deciding itself broke: the call goes through."""
        return Decision(
            attempt.call_id, "allow", ("ERROR",), None, self.rules_version, self.lists.version, is_degraded=True
        )

    async def ended(self, outcome: CallOutcome) -> None:
        """Learn what became of an attempt.

        Raises:
            StoreError: the store is away; the outcome is not counted.
        """
        at_s = self._time(outcome.at_s)
        caller = parse_number(outcome.caller, self.config.region)
        callee = parse_dialled(outcome.callee, self.config.region)
        await self._store.outcome(
            caller.key,
            callee.key or UNKNOWN,
            at_s,
            answered=outcome.answered,
            rang_s=outcome.rang_s,
            talked_s=outcome.talked_s,
        )
