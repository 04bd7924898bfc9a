"""The door for everything that operators' systems are told: written down, then carried to every sink."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog

from inference.alerts.alert import Alert
from inference.alerts.notice import Notice
from inference.alerts.outbox import Outbox
from inference.alerts.pump import PAUSES_S, Pump
from inference.alerts.sinks.base import Sink
from inference.errors import AlertError

log = structlog.get_logger(__name__)


class Dispatcher:
    """Owns the outbox and one pump per sink.

    Args:
        outbox: where notices wait.
        sinks: where they go.
        source: URI reference that names this installation.
        include_text: whether transcripts leave the process.
        idle_s: how long a pump sleeps when nothing is due; a new notice wakes it at once.
        pauses_s: while a sink is away: the first pause before it is tried again, and the longest.
        drain_s: at the end, how long each sink may take for what is due.
        on_outcome: told ``(sink, "delivered" | "retry" | "dead_letter" | "dropped")``, for metrics.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        outbox: Outbox,
        sinks: Sequence[Sink],
        *,
        source: str = "/scamtap",
        include_text: bool = False,
        idle_s: float = 1.0,
        pauses_s: tuple[float, float] = PAUSES_S,
        drain_s: float = 10.0,
        on_outcome: Callable[[str, str], None] = lambda _sink, _outcome: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = outbox
        self._pumps = [Pump(sink, outbox, on_outcome, idle_s=idle_s, pauses_s=pauses_s) for sink in sinks]
        self._source = source
        self._include_text = include_text
        self._drain_s = drain_s
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver, what a former process left behind first."""
        self._tasks = [asyncio.create_task(pump.run()) for pump in self._pumps]

    @property
    def tasks(self) -> tuple["asyncio.Task[None]", ...]:
        """One per sink, from :meth:`start` to :meth:`aclose`; done before that, it broke down."""
        return tuple(self._tasks)

    def send(self, alert: Alert) -> None:
        """Tell every sink of an alert.

        Raises:
            AlertError: as for :meth:`tell`.
        """
        self.tell(alert.notice(with_text=self._include_text, now_s=self._clock()))

    def tell(self, *notices: Notice) -> None:
        """Write notices down, all or none, and wake the sinks. When this returns, they are on the disk.

        Raises:
            AlertError: they could not be written down. They are still tried, from memory.
        """
        if not self._pumps:
            return
        envelopes = [notice.sealed(self._source) for notice in notices]
        try:
            self._outbox.put(envelopes, [pump.sink.name for pump in self._pumps])
        except AlertError:
            for pump in self._pumps:
                pump.hold(envelopes)
            raise
        finally:
            for pump in self._pumps:
                pump.wake()

    async def deliver_due(self) -> int:
        """One pass over what is due, for every sink; returns how many deliveries were taken.

        Raises:
            AlertError: the outbox cannot be read or written.
        """
        return sum(await asyncio.gather(*(pump.deliver_due() for pump in self._pumps)))

    async def aclose(self) -> None:
        """Drain: stop the pumps, try what is due once more, keep the rest in the outbox; say what stays undelivered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(pump.drain(self._drain_s) for pump in self._pumps))
        owed = self._outbox.pending()
        if owed and self._outbox.is_durable:
            log.warning("alerts kept for the next start", deliveries=owed)
        elif owed:
            log.error("alerts lost: alerts.outbox_path would have kept them", deliveries=owed)
        self._outbox.close()
