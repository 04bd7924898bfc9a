"""Puts alerts into the outbox and carries them to their channels."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from inference.alerts.alert import Alert
from inference.alerts.channels import Channel, JsonLinesChannel, WebhookChannel
from inference.alerts.outbox import Delivery, Outbox, body_text
from inference.errors import AlertError

log = structlog.get_logger(__name__)

MAX_UNWRITTEN = 256
"""Alerts that the outbox refused, held in memory per channel for one attempt each."""


class AlertsConfig(BaseModel):
    """Where alerts go.

    Attributes:
        jsonl_path: append alerts to this file; None for no file.
        webhook_url, webhook_secret: Standard Webhooks endpoint and its ``whsec_...`` secret.
        webhook_timeout_s: bound on one attempt.
        outbox_path: SQLite file that holds what is owed; None keeps it in memory.
        include_text: put what was said into alerts. Off: evidence is legs and times only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    jsonl_path: Path | None = None
    webhook_url: str | None = None
    webhook_secret: SecretStr | None = None
    webhook_timeout_s: float = Field(default=5.0, gt=0, le=60)
    outbox_path: Path | None = None
    include_text: bool = False

    @model_validator(mode="after")
    def _secret_goes_with_url(self) -> "AlertsConfig":
        if (self.webhook_url is None) != (self.webhook_secret is None):
            raise ValueError("webhook_url and webhook_secret go together: unsigned alerts are not sent")
        if self.webhook_url is not None:
            try:
                url = httpx.URL(self.webhook_url)
            except (httpx.InvalidURL, UnicodeError) as error:
                raise ValueError("webhook_url is not a URL") from error
            if url.scheme not in ("http", "https") or not url.host:
                raise ValueError("webhook_url must begin with http:// or https:// and name a host")
        return self

    def channels(self) -> list[Channel]:
        """The configured channels, opened."""
        channels: list[Channel] = []
        if self.jsonl_path is not None:
            channels.append(JsonLinesChannel(self.jsonl_path))
        if self.webhook_url is not None and self.webhook_secret is not None:
            channels.append(
                WebhookChannel(
                    self.webhook_url, self.webhook_secret.get_secret_value(), timeout_s=self.webhook_timeout_s
                )
            )
        return channels


class Dispatcher:
    """Owns the outbox; one small task per channel drains it.

    Args:
        outbox: where alerts wait.
        channels: where they go.
        include_text: whether transcripts leave the process.
        idle_s: how long a channel sleeps when nothing is due; a new alert wakes it at once.
        drain_s: at the end, how long each channel may take for what is due.
        on_outcome: told ``(channel, "delivered" | "retry" | "dropped")``, for metrics.
    """

    def __init__(
        self,
        outbox: Outbox,
        channels: Sequence[Channel],
        *,
        include_text: bool = False,
        idle_s: float = 1.0,
        drain_s: float = 10.0,
        on_outcome: Callable[[str, str], None] = lambda _channel, _outcome: None,
    ) -> None:
        self._outbox = outbox
        self._channels = list(channels)
        self._include_text = include_text
        self._idle_s = idle_s
        self._drain_s = drain_s
        self._on_outcome = on_outcome
        self._wake = {channel.name: asyncio.Event() for channel in self._channels}
        self._unwritten: dict[str, deque[Delivery]] = {channel.name: deque() for channel in self._channels}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver, what a former process left behind first."""
        self._tasks = [asyncio.create_task(self._pump(channel)) for channel in self._channels]

    @property
    def tasks(self) -> tuple["asyncio.Task[None]", ...]:
        """One per channel, from :meth:`start` to :meth:`aclose`; done before that, it broke down."""
        return tuple(self._tasks)

    def send(self, alert: Alert) -> None:
        """Write the alert down and wake the channels.

        Raises:
            AlertError: it could not be written down. It is still tried, once, from memory.
        """
        if not self._channels:
            return
        body = alert.to_json(with_text=self._include_text)
        try:
            self._outbox.put(alert.id, body, [channel.name for channel in self._channels])
        except AlertError:
            text = body_text(body)
            for name, waiting in self._unwritten.items():
                if len(waiting) < MAX_UNWRITTEN:
                    waiting.append(Delivery(alert.id, name, text, 0))
                else:
                    self._on_outcome(name, "dropped")
            raise
        finally:
            for event in self._wake.values():
                event.set()

    async def deliver_due(self, channel: Channel) -> int:
        """One pass over what is due for ``channel``; returns how many were taken.

        Raises:
            AlertError: the outbox cannot be read or written.
        """
        taken = await self._deliver_unwritten(channel)
        wake = self._wake[channel.name]
        for number, delivery in enumerate(self._outbox.due(channel.name)):
            if number and wake.is_set():
                break  # an alert came meanwhile: it goes before what has failed already
            error = await self._attempt(channel, delivery)
            if error is None:
                self._outbox.done(delivery)
                self._on_outcome(channel.name, "delivered")
                taken += 1
            else:
                kept = self._outbox.failed(delivery)
                self._on_outcome(channel.name, "retry" if kept else "dropped")
        return taken

    async def _deliver_unwritten(self, channel: Channel) -> int:
        taken, waiting = 0, self._unwritten[channel.name]
        while waiting:
            error = await self._attempt(channel, waiting.popleft())
            self._on_outcome(channel.name, "delivered" if error is None else "dropped")
            taken += error is None
        return taken

    async def _attempt(self, channel: Channel, delivery: Delivery) -> AlertError | None:
        try:
            await channel.deliver(delivery)
        except AlertError as error:
            log.warning("alert not delivered", channel=channel.name, alert=delivery.alert_id, why=str(error))
            return error
        return None

    async def _pump(self, channel: Channel) -> None:
        wake = self._wake[channel.name]
        while True:
            wake.clear()
            try:
                taken = await self.deliver_due(channel)
            except AlertError as error:  # the outbox itself; what is in it is tried again
                log.error("alerts not delivered", channel=channel.name, why=str(error))
                taken = 0
            if taken == 0:
                try:
                    await asyncio.wait_for(wake.wait(), self._idle_s)
                except TimeoutError:
                    continue

    async def aclose(self) -> None:
        """Drain: stop the tasks, try what is due once more, keep the rest in the outbox; say what stays undelivered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            try:
                async with asyncio.timeout(self._drain_s):
                    self._wake[channel.name].clear()
                    while await self.deliver_due(channel):  # a pass takes a limited number
                        pass
            except (AlertError, TimeoutError) as error:
                log.error("alerts not delivered", channel=channel.name, why=str(error) or "took too long")
            await channel.aclose()
        self._report_owed()
        self._outbox.close()

    def _report_owed(self) -> None:
        try:
            owed = self._outbox.pending()
        except AlertError as error:
            log.error("alert outbox not read", why=str(error))
            return
        if owed and self._outbox.is_durable:
            log.warning("alerts kept for the next start", deliveries=owed)
        elif owed:
            log.error("alerts lost: alerts.outbox_path would have kept them", deliveries=owed)
