"""Where a call's events go: counted, told to followers, written down for operators' systems, said to the subscriber."""

from collections.abc import Callable
from typing import Protocol

import structlog

from inference.alerts.alert import Alert
from inference.alerts.dispatcher import Dispatcher
from inference.alerts.ear import Reach
from inference.audio import Leg
from inference.errors import AlertError
from inference.service.bus import EventBus
from inference.service.events import AlertEvent, Event, VerdictEvent
from inference.service.telemetry import Telemetry

log = structlog.get_logger(__name__)


class Warner(Protocol):
    """Warns subscribers; decides when, what and how often. Nothing here waits."""

    def alerted(self, alert: Alert, reach: Reach | None, language: str | None) -> None:
        """A call rose to a level."""
        ...

    def key_pressed(self, call: str, leg: Leg, digit: str) -> None:
        """A party of a call pressed a key."""
        ...

    def ended(self, call: str) -> None:
        """A call is over: nothing more is played to it."""
        ...


class Publisher:
    """Fans events out. Never waits, and whatever fails here takes nothing else down.

    Args:
        telemetry: what is counted.
        bus: followers of events.
        dispatcher: operators' systems.
        warner: the subscriber's ear; None where nobody is warned in the call.
        on_verdict: told how each call ended, and how its subscriber is reached; must not wait.
        on_begun: told how the subscriber of a call that begins is reached; must not wait.
        keep: told every event, words and all, where transcripts are kept.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        bus: EventBus,
        dispatcher: Dispatcher,
        warner: Warner | None = None,
        on_verdict: Callable[[VerdictEvent, Reach | None], None] = lambda _verdict, _reach: None,
        on_begun: Callable[[Reach | None], None] = lambda _reach: None,
        keep: Callable[[Event], None] = lambda _event: None,
    ) -> None:
        self.telemetry = telemetry
        self._bus = bus
        self._dispatcher = dispatcher
        self._warner = warner
        self._on_verdict = on_verdict
        self._on_begun = on_begun
        self._keep = keep

    def publish(self, event: Event, reach: Reach | None, language: str | None) -> None:
        """Tell everybody of ``event``; an alert to the subscriber first, for whom time counts.

        Args:
            event: what happened.
            reach: how the subscriber of its call is reached.
            language: spoken in the call, as far as is known.
        """
        if isinstance(event, AlertEvent) and self._warner is not None:
            self._warner.alerted(event.alert, reach, language)
        self.telemetry.count(event)
        self._bus.publish(event)
        self._keep(event)
        if isinstance(event, AlertEvent):
            self._send(event.alert)
        if isinstance(event, VerdictEvent):
            self._on_verdict(event, reach)

    def _send(self, alert: Alert) -> None:
        log.warning("alert", call=alert.call, call_level=alert.level, risk=round(alert.risk, 3), family=alert.family)
        try:
            self._dispatcher.send(alert)
        except AlertError as error:
            log.error("alert not kept", call=alert.call, alert=alert.id, why=str(error))

    def key_pressed(self, call: str, leg: Leg, digit: str) -> None:
        """A party of ``call`` pressed a key. Which one is not logged: it may be part of a PIN."""
        log.info("key pressed", call=call, leg=leg)
        if self._warner is not None:
            self._warner.key_pressed(call, leg, digit)

    def begun(self, reach: Reach | None) -> None:
        """A call begins, and its subscriber is reached so."""
        self._on_begun(reach)

    def ended(self, call: str) -> None:
        """``call`` is over."""
        if self._warner is not None:
            self._warner.ended(call)
