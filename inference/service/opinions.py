"""Asks a language model about calls at ``suspect`` while they go on: nothing of a call ever waits for it.

Calls that are in doubt stand in a bounded queue; a few questions are under way at once. A question is put when its turn
comes, not before, so it is about what was said last, and nothing is kept of calls that wait. A call that ends meanwhile
is not asked about, or its answer is dropped.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from inference.opinion.client import OpinionClient
from inference.opinion.config import OpinionConfig
from inference.service.call import Call
from inference.service.events import Event
from inference.service.telemetry import Telemetry

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Wanted:
    call: Call
    begun_s: float
    tell: Callable[[Event], Any]


class Opinions:
    """The third stage of a worker.

    Args:
        config: bounds; ``config.url`` is set.
        telemetry: what is counted: how often a call was in doubt, by what became of it: beside the outcomes of a client
            ``dropped`` (too many waited), ``settled`` (in doubt no more when its turn came) and ``ended``.
        client: whom to ask; None: the endpoint of ``config``.
        clock: monotonic seconds, that of the calls.

    Raises:
        ConfigError: the key's variable is not set, or a certificate cannot be read.
    """

    def __init__(
        self,
        config: OpinionConfig,
        telemetry: Telemetry,
        client: OpinionClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._telemetry = telemetry
        self._client = client or OpinionClient(config, on_change=self._changed)
        self._clock = clock
        self._waiting: OrderedDict[Call, _Wanted] = OrderedDict()
        self._asking: dict[Call, asyncio.Task[None]] = {}
        self._is_closed = False

    @property
    def num_pending(self) -> int:
        """Calls that wait or are asked about."""
        return len(self._waiting) + len(self._asking)

    def consider(self, call: Call, begun_s: float, tell: Callable[[Event], Any]) -> None:
        """Something was said in ``call``: have it asked about if it is in doubt. Returns at once.

        Args:
            call: whose.
            begun_s: when its time began, seconds of the clock.
            tell: told what comes of an opinion.
        """
        is_pending = call in self._waiting or call in self._asking
        if self._is_closed or is_pending or not call.is_in_doubt(self._clock() - begun_s):
            return
        if self._client.is_paused:
            self._count("paused")
            return
        self._waiting[call] = _Wanted(call, begun_s, tell)
        if len(self._waiting) > self._config.max_waiting:
            self._waiting.popitem(last=False)
            self._count("dropped")
        self._next()

    def _next(self) -> None:
        while self._waiting and len(self._asking) < self._config.max_concurrent and not self._is_closed:
            call, wanted = self._waiting.popitem(last=False)
            self._asking[call] = asking = asyncio.create_task(self._ask(wanted))
            asking.add_done_callback(partial(self._asked, call))

    def _asked(self, call: Call, asking: "asyncio.Task[None]") -> None:
        del self._asking[call]
        self._next()
        if asking.cancelled():
            self._count("ended")
        else:
            asking.result()  # where it raises, ours is the mistake: the loop logs it, without what it says

    async def _ask(self, wanted: _Wanted) -> None:
        call = wanted.call
        if self._client.is_paused:
            self._count("paused")
            return
        question = None if call.is_over else call.question(self._clock() - wanted.begun_s)
        if question is None:
            self._count("ended" if call.is_over else "settled")
            return
        answer = await self._client.ask(question)
        if answer.outcome != "paused":
            self._telemetry.asked.inc()
            self._telemetry.opinion_s.observe(answer.took_s)
        if call.is_over:
            self._count("ended")
            return
        self._count(answer.outcome)
        if answer.shown is None:
            return
        before = call.level
        for event in call.reconsider(question, answer.shown, self._clock() - wanted.begun_s):
            wanted.tell(event)
        if call.level != before:
            self._telemetry.opinion_changes.labels(call.level).inc()

    def _count(self, outcome: str) -> None:
        self._telemetry.opinions.labels(outcome).inc()

    def _changed(self, is_paused: bool, why: str) -> None:
        if is_paused:
            log.error("opinions paused", why=why, pause_s=self._config.pause_s)
        else:
            log.info("opinions asked for again")

    async def aclose(self) -> None:
        """Ask no more; what is under way is given up. For the beginning of a drain: those calls are all ending."""
        self._is_closed = True
        for _ in self._waiting:
            self._count("ended")
        self._waiting.clear()
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._client.aclose()
