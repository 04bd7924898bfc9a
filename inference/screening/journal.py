"""What was decided, written down: every prompt, challenge and rejection as a line of the chained log, and counters.

Counters and lines come from one place and reconcile exactly: what cannot be written is counted as lost, never silently.
Allowed calls are counted, not written: who calls whom is nobody's business as long as nothing was done about it.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from inference.errors import StoreError
from inference.screening.attempt import CallAttempt, Decision
from inference.screening.beside import in_thread
from inference.screening.chain import ChainedLog, Line
from inference.screening.numbers import Number
from inference.screening.rules import Known

log = structlog.get_logger(__name__)

WRITE_EVERY_S = 0.25
MAX_UNWRITTEN = 50_000
WRITTEN_AT_ONCE = 2000
DAY_S = 86_400.0
FORGET_EVERY_S = 3600.0


class JournalConfig(BaseModel):
    """The record of decisions.

    Attributes:
        path: SQLite file; None keeps it in the process and loses it with it.
        callee_key: secret with which subscribers' numbers are replaced by a keyed digest: the same subscriber is the
            same digest, and nobody without the key can tell who.
        keep_days: how long lines are kept; what the law asks for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = None
    callee_key: SecretStr = SecretStr("")
    keep_days: float = Field(default=180.0, gt=0, le=36_500)

    @model_validator(mode="after")
    def _key_for_what_is_kept(self) -> Self:
        if self.path is not None and not self.callee_key.get_secret_value():
            raise ValueError("a journal that is kept needs callee_key: openssl rand -hex 32")
        return self


class Journal:
    """Takes decisions as they are made; writes them beside the call path.

    Attributes:
        counts: ``(what, reason, category)`` -> decisions, since this process began; ``what`` is the action.
        num_lost: lines that could not be written and were given up.

    Args:
        config: where and for how long.
        clock: seconds since the epoch.
    """

    def __init__(self, config: JournalConfig, *, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._clock = clock
        self._log = ChainedLog(config.path, "journal")
        # Without a key anybody could try all numbers; what only lives in the process needs none that is kept.
        self._key = config.callee_key.get_secret_value().encode() or secrets.token_bytes(32)
        self._waiting: deque[tuple[float, str, dict[str, object]]] = deque()
        self._writing = asyncio.Lock()
        self._forgot_s = clock()
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.num_lost = 0

    def decided(self, attempt: CallAttempt, known: Known, decision: Decision) -> None:
        """Note a decision; never waits."""
        category = decision.label.category if decision.label is not None else ""
        self.counts[decision.action, decision.reasons[0], category] += 1
        if decision.action == "allow":
            return
        if len(self._waiting) >= MAX_UNWRITTEN:
            self.num_lost += 1
            return
        body: dict[str, object] = {
            "call_id": decision.call_id,
            "caller": known.caller.key or known.caller.kind,
            "callee": self.pseudonym(known.callee.key or known.callee.kind),
            "trunk": attempt.trunk,
            "reasons": list(decision.reasons),
            "category": category,
            "sip_code": decision.sip_code,
            "risk": None if decision.risk is None else round(decision.risk, 4),
            "rules_version": decision.rules_version,
            "lists": list(decision.lists),
            "lists_version": decision.lists_version,
        }
        self._waiting.append((self._clock() if known.at_s is None else known.at_s, decision.action, body))

    def noted(self, what: str, body: dict[str, object]) -> None:
        """Note something else that is to be accounted for, e.g. ``shield`` or ``reminder``; never waits."""
        self.counts[what, str(body.get("reason", "")), str(body.get("category", ""))] += 1
        if len(self._waiting) >= MAX_UNWRITTEN:
            self.num_lost += 1
            return
        self._waiting.append((self._clock(), what, body))

    def shielded(self, callee: Number) -> None:
        """Note that an attack on a subscriber was noticed."""
        self.noted("shield", {"reason": "DETECTED", "callee": self.pseudonym(callee.key or callee.kind)})

    def pseudonym(self, number: str) -> str:
        """A subscriber's number as the journal holds it."""
        return hmac.new(self._key, number.encode(), hashlib.sha256).hexdigest()[:24]

    async def keep_writing(self) -> None:
        """Write what waits, and forget what is too old, for ever; a full disk is said once and tried again."""
        is_failing = False
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            try:
                await self.write()
                is_failing = False
            except StoreError as error:
                if not is_failing:
                    log.error("journal not written", why=str(error))
                is_failing = True

    async def write(self) -> None:
        """Write everything that waits.

        Raises:
            StoreError: the disk refused; it waits on.
        """
        async with self._writing:
            while self._waiting:
                events = list(islice(self._waiting, WRITTEN_AT_ONCE))
                await in_thread(partial(self._log.append, events), partial(self._written, len(events)))
            if self._clock() - self._forgot_s >= FORGET_EVERY_S:
                self._forgot_s = self._clock()
                await in_thread(partial(self._log.forget, self._clock() - self._config.keep_days * DAY_S))

    def _written(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()

    def lines(self, since_s: float = 0.0, until_s: float = 1e12) -> Iterator[Line]:
        """Lines of that time, oldest first.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._log.lines(since_s, until_s)

    def verify(self) -> int | None:
        """The first line that was altered or is missing; None where all hold.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._log.verify()

    async def aclose(self) -> None:
        """Write what waits and close the file."""
        try:
            await self.write()
        except StoreError as error:
            self.num_lost += len(self._waiting)
            log.error("journal lines lost", lines=len(self._waiting), why=str(error))
        self._log.close()
