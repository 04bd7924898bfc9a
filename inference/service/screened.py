"""Screening inside a worker: opened beside the calls, told what they were, its messages sent like any alert."""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Self

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from inference.alerts.dispatcher import Dispatcher
from inference.alerts.ear import Reach
from inference.alerts.feedback import Feedback
from inference.alerts.notice import Notice
from inference.alerts.warner import Warner
from inference.errors import AlertError
from inference.screening.config import Screening, ScreeningConfig, open_screening
from inference.screening.heard import HeardCall, Message
from inference.screening.numbers import Number
from inference.screening.sip.server import RedirectServer
from inference.service.events import VerdictEvent

log = structlog.get_logger(__name__)

MAX_BEING_TOLD = 10_000
"""Verdicts on their way to the store; beyond it the newest is dropped, and counted."""


class ScreenedWorker:
    """Keeps screening running and closes the loop from listening to it.

    Args:
        screening: opened parts.
        dispatcher: for messages after a call.

    Attributes:
        screening: the parts.
        tasks: run as long as the worker; done before that, one broke down.
        num_dropped: verdicts that were not told for lack of room.
    """

    def __init__(self, screening: Screening, dispatcher: Dispatcher) -> None:
        self.screening = screening
        self.tasks: tuple[asyncio.Task[None], ...] = ()
        self.num_dropped = 0
        self._dispatcher = dispatcher
        self._telling: set[asyncio.Task[None]] = set()
        self._denied: dict[str, None] = {}

    @classmethod
    async def open(cls, config: ScreeningConfig, dispatcher: Dispatcher, exit_stack: AsyncExitStack) -> Self:
        """Open what ``config`` asks for, the SIP door too; closed with ``exit_stack``, what is on its way told first.

        Raises:
            ConfigError: a file is missing or malformed, another worker has the store, or a port is in use.
        """
        opened: list[Self] = []
        screening = open_screening(config, exit_stack, on_shield=lambda callee: opened[0].shielded(callee))
        worker = cls(screening, dispatcher)
        opened.append(worker)
        worker.tasks = tuple(_run(background()) for background in screening.background)
        exit_stack.push_async_callback(worker.aclose)
        if config.sip is not None:
            door = RedirectServer(config.sip, screening.screener)
            exit_stack.push_async_callback(door.aclose)
            await door.start()
        return worker

    def shielded(self, callee: Number) -> None:
        """A subscriber is being bombed with calls, and is told so; never waits."""
        if callee.key is not None and len(self._telling) < MAX_BEING_TOLD:
            self._start(self._tell_shielded(callee.key))

    async def _tell_shielded(self, callee: str) -> None:
        message = await self.screening.heard.shielded(callee, time.time())
        self._send([] if message is None else [message])

    def said(self, feedback: Feedback) -> None:
        """The subscriber of a call under way said that it is no scam."""
        if len(self._denied) < MAX_BEING_TOLD:
            self._denied[feedback.call] = None

    def begun(self, reach: Reach | None, warner: Warner) -> None:
        """A call is answered; where it was labelled before it rang, its subscriber is told once more. Never waits."""
        if reach is not None and reach.subscriber is not None and reach.caller is not None:
            if len(self._telling) >= MAX_BEING_TOLD:
                self.num_dropped += 1
                return
            self._start(
                self._say_label(reach, reach.caller.get_secret_value(), reach.subscriber.get_secret_value(), warner)
            )

    async def _say_label(self, reach: Reach, caller: str, subscriber: str, warner: Warner) -> None:
        screened = await self.screening.heard.label_of(caller, subscriber, time.time())
        if screened is not None and screened.label is not None:
            warner.labelled(reach, screened.label, screened.language)

    def ended(self, verdict: VerdictEvent, reach: Reach | None) -> None:
        """A call is over; never waits. Without the subscriber's number nothing can be remembered."""
        is_denied = self._denied.pop(verdict.call, 0) is None
        if reach is None or reach.subscriber is None:
            return
        if len(self._telling) >= MAX_BEING_TOLD:
            self.num_dropped += 1
            return
        heard = HeardCall(
            call_id=verdict.call,
            caller=reach.caller.get_secret_value() if reach.caller is not None else None,
            callee=reach.subscriber.get_secret_value(),
            level=verdict.level,
            family=verdict.family,
            ended_s=time.time(),
            said_not_a_scam=is_denied,
        )
        self._start(self._tell(heard))

    def _start(self, telling: Coroutine[Any, Any, None]) -> None:
        task = _run(telling)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, heard: HeardCall) -> None:
        self._send(await self.screening.heard.heard(heard))

    def _send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            kind, key = message.kind, f"{message.kind}:{message.call_id}"
            try:
                self._dispatcher.tell(Notice(kind, key, message.call_id, time.time(), message.to_json()))
            except AlertError as error:
                log.error("message not kept", kind=kind, call=message.call_id, why=str(error))

    async def aclose(self) -> None:
        """Finish what is being told, and stop."""
        if self._telling:
            await asyncio.wait(self._telling, timeout=5.0)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class DecisionMetrics(Collector):
    """Screening as Prometheus metrics: what was done and why, never a number.

    Args:
        screened: whose.
    """

    def __init__(self, screened: ScreenedWorker) -> None:
        self._screening = screened.screening

    def collect(self) -> Iterator[Metric]:
        """For a registry."""
        labels = ["what", "reason", "category"]
        decisions = CounterMetricFamily("scamtap_screening", "Decisions and events of screening", labels=labels)
        for values, count in list(self._screening.journal.counts.items()):
            decisions.add_metric(values, count)
        yield decisions
        lost, degraded = self._screening.journal.num_lost, self._screening.screener.num_degraded
        yield CounterMetricFamily("scamtap_journal_lost", "Journal lines given up", value=lost)
        yield CounterMetricFamily("scamtap_screening_degraded", "Calls decided without the store", value=degraded)


def _run(what: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(what)
