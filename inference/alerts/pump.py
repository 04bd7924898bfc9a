"""Carries one sink's deliveries from the outbox to it; each sink has a pump of its own, so none holds up another."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from inference.alerts.notice import Envelope
from inference.alerts.outbox import Delivery, Outbox
from inference.alerts.sinks.base import Sink
from inference.errors import AlertError, SinkDownError

log = structlog.get_logger(__name__)

MAX_HELD = 256
"""Notices that the outbox refused, held in memory per sink."""

NUM_AT_ONCE = 16
"""Deliveries under way at once to one sink; what is new waits for these at most, so for one timeout of the sink."""

PAUSES_S = (0.5, 10.0)
"""A sink that is away is tried again after the first, doubled each time up to the second."""

Failures = list[tuple[Delivery, AlertError]]


class Pump:
    """Delivers to one sink, for as long as :meth:`run` runs.

    A delivery that the sink refuses waits by the outbox's schedule. A sink that is away is no fault of the delivery:
    nothing is counted against it, and the whole sink is tried again within seconds.

    Attributes:
        sink: where to.

    Args:
        sink: where to.
        outbox: where from.
        on_outcome: told ``(sink, outcome)`` of every attempt.
        idle_s: how long to sleep when nothing is due; :meth:`wake` ends it.
        pauses_s: while the sink is away: the first pause and the longest.
    """

    def __init__(
        self,
        sink: Sink,
        outbox: Outbox,
        on_outcome: Callable[[str, str], None],
        *,
        idle_s: float,
        pauses_s: tuple[float, float] = PAUSES_S,
    ) -> None:
        self.sink = sink
        self._outbox = outbox
        self._on_outcome = on_outcome
        self._idle_s = idle_s
        self._pauses_s = pauses_s
        self._pause_s: float | None = None  # while the sink is away
        self._held: deque[Envelope] = deque()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def hold(self, envelopes: Sequence[Envelope]) -> None:
        """Keep in memory what could not be written down, until the outbox or the sink takes it."""
        for envelope in envelopes:
            if len(self._held) < MAX_HELD:
                self._held.append(envelope)
            else:
                self._on_outcome(self.sink.name, "dropped")

    async def run(self) -> None:
        """Deliver for ever; begins with what a former process left behind."""
        while True:
            self._wake.clear()
            taken = 0
            try:
                taken = await self.deliver_due()
            except AlertError as error:  # the outbox itself; what is in it is tried again
                log.error("alerts not delivered", sink=self.sink.name, why=str(error))
            if self._pause_s is not None:
                await asyncio.sleep(self._pause_s)
            elif taken == 0:
                try:
                    await asyncio.wait_for(self._wake.wait(), self._idle_s)
                except TimeoutError:
                    continue

    async def drain(self, limit_s: float) -> None:
        """Try what is due once more, for at most ``limit_s``; what stays in memory only is lost, and said so."""
        try:
            async with asyncio.timeout(limit_s):
                while await self.deliver_due():  # a pass takes a limited number
                    pass
        except (AlertError, TimeoutError) as error:
            log.error("alerts not delivered", sink=self.sink.name, why=str(error) or "took too long")
        if self._held:
            log.error("alerts lost: never written down, nor taken", sink=self.sink.name, deliveries=len(self._held))
            for _ in self._held:
                self._on_outcome(self.sink.name, "dropped")
        await self.sink.aclose()

    async def deliver_due(self) -> int:
        """One pass over what is due; returns how many were taken.

        Raises:
            AlertError: the outbox cannot be read or written.
        """
        num_held = await self._deliver_held()
        batch = self._outbox.due(self.sink.name, NUM_AT_ONCE)
        taken: list[Delivery] = []
        failures: Failures = []
        of_call: dict[str, list[Delivery]] = {}
        for delivery in batch:
            of_call.setdefault(delivery.envelope.call, []).append(delivery)
        try:  # calls side by side; the notices of one call in their order, but for those tried again
            await asyncio.gather(*(self._attempt(deliveries, taken, failures) for deliveries in of_call.values()))
        finally:
            for _ in taken:
                self._on_outcome(self.sink.name, "delivered")
            self._outbox.done(taken)
        self._note_failures(failures, is_away=not taken)
        return len(taken) + num_held

    async def _attempt(self, deliveries: list[Delivery], taken: list[Delivery], failures: Failures) -> None:
        for number, delivery in enumerate(deliveries):
            try:
                await self.sink.deliver(delivery.envelope)
            except SinkDownError as error:  # those behind it would wait in vain too, and overtake it if not
                failures += [(behind, error) for behind in deliveries[number:]]
                return
            except AlertError as error:
                failures.append((delivery, error))
            else:
                taken.append(delivery)

    def _note_failures(self, failures: Failures, *, is_away: bool) -> None:
        """A sink is away where nothing at all got through; else what failed is to blame itself."""
        name = self.sink.name
        if not failures:
            if not is_away:
                self._is_back()
            return
        first = str(failures[0][1])
        if is_away and all(isinstance(error, SinkDownError) for _, error in failures):
            self._is_away(first)
            for fate in self._outbox.postpone([delivery for delivery, _ in failures], self._pauses_s[0], first):
                self._on_outcome(name, fate)
            return
        self._is_back()
        for delivery, error in failures:
            log.warning("alert not delivered", sink=name, alert=delivery.envelope.id, why=str(error))
            self._on_outcome(name, self._outbox.failed(delivery, str(error)))

    async def _deliver_held(self) -> int:
        """What could not be written down: into the outbox if it has room by now, else straight to the sink."""
        if not self._held:
            return 0
        try:
            self._outbox.put(list(self._held), [self.sink.name])
        except AlertError:
            pass
        else:
            self._held.clear()
            return 0
        num_taken = 0
        for _ in range(len(self._held)):
            envelope = self._held[0]
            try:
                await self.sink.deliver(envelope)
            except AlertError as error:
                self._on_outcome(self.sink.name, "retry")
                if isinstance(error, SinkDownError):
                    self._is_away(str(error))
                    break
                log.warning("alert not delivered", sink=self.sink.name, alert=envelope.id, why=str(error))
                self._held.rotate(-1)
            else:
                self._held.popleft()
                self._is_back()
                self._on_outcome(self.sink.name, "delivered")
                num_taken += 1
        return num_taken

    def _is_away(self, why: str) -> None:
        first_s, longest_s = self._pauses_s
        if self._pause_s is None:
            log.error("alerts wait: the sink is away", sink=self.sink.name, why=why)
        before_s = first_s / 2 if self._pause_s is None else self._pause_s
        # Not all workers at the same moment.
        self._pause_s = min(longest_s, 2 * before_s) * random.uniform(0.8, 1.0)  # noqa: S311

    def _is_back(self) -> None:
        if self._pause_s is not None:
            log.info("the sink is back", sink=self.sink.name)
            self._pause_s = None
