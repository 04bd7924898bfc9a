"""Puts alerts into the outbox and carries them to their channels."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from inference.alerts.alert import Alert
from inference.alerts.channels import Channel, JsonLinesChannel, WebhookChannel
from inference.alerts.outbox import Outbox
from inference.errors import AlertError

log = structlog.get_logger(__name__)


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
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to deliver, what a former process left behind first."""
        self._tasks = [asyncio.create_task(self._pump(channel)) for channel in self._channels]

    def send(self, alert: Alert) -> None:
        """Write the alert down and wake the channels.

        Raises:
            AlertError: it could not be written down.
        """
        if not self._channels:
            return
        self._outbox.put(alert.id, alert.to_json(with_text=self._include_text), [c.name for c in self._channels])
        for event in self._wake.values():
            event.set()

    async def deliver_due(self, channel: Channel) -> int:
        """One pass over what is due for ``channel``; returns how many were taken.

        Raises:
            AlertError: the outbox cannot be read or written.
        """
        taken = 0
        for delivery in self._outbox.due(channel.name):
            try:
                await channel.deliver(delivery)
            except AlertError as error:
                kept = self._outbox.failed(delivery)
                self._on_outcome(channel.name, "retry" if kept else "dropped")
                log.warning("alert not delivered", channel=channel.name, alert=delivery.alert_id, why=str(error))
            else:
                self._outbox.done(delivery)
                self._on_outcome(channel.name, "delivered")
                taken += 1
        return taken

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
        """Drain: stop the tasks, try what is due once more, keep the rest in the outbox."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            try:
                async with asyncio.timeout(self._drain_s):
                    await self.deliver_due(channel)
            except (AlertError, TimeoutError) as error:
                log.error("alerts kept for the next start", channel=channel.name, why=str(error) or "took too long")
            await channel.aclose()
        self._outbox.close()
