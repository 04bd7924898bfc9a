"""Where alerts go: a JSON Lines file, and a webhook in the Standard Webhooks form (standardwebhooks.com)."""

import asyncio
import errno
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import httpx
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from inference.alerts.outbox import Delivery
from inference.errors import AlertError, ConfigError


class Channel(Protocol):
    """Somewhere an alert can be delivered to."""

    name: str

    async def deliver(self, delivery: Delivery) -> None:
        """Hand it over once.

        Raises:
            AlertError: it was not taken; the outbox will try again.
        """
        ...

    async def aclose(self) -> None:
        """Release what the channel holds."""
        ...


class JsonLinesChannel:
    """Appends one line per alert, flushed to the disk before it counts as delivered."""

    name = "jsonl"

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            raise ConfigError(f"alerts.jsonl_path {path}: {error.strerror}; choose a writable file") from error

    async def deliver(self, delivery: Delivery) -> None:
        """Append and fsync: rare and small, so the event loop can wait for it. A line is whole or not there."""
        line = delivery.body.encode() + b"\n"
        num_written = 0
        try:
            with self._path.open("ab", buffering=0) as file:
                end = file.seek(0, os.SEEK_END)
                try:
                    num_written = file.write(line)
                    os.fsync(file.fileno())
                finally:
                    if num_written != len(line):
                        os.ftruncate(file.fileno(), end)
        except OSError as error:
            raise AlertError(f"{self._path}: {error.strerror}") from error
        if num_written != len(line):
            raise AlertError(f"{self._path}: {os.strerror(errno.ENOSPC)}")

    async def aclose(self) -> None:
        """Nothing is held open between alerts, so the file may be rotated."""


class WebhookChannel:
    """POSTs the alert, signed with HMAC-SHA256; any 2xx answer takes it.

    Args:
        url: the operator's endpoint. Redirects are not followed: they would carry the alert elsewhere.
        secret: ``whsec_`` + base64, shared with the endpoint.
        timeout_s: bound on one attempt.
        client: for tests.
    """

    name = "webhook"

    def __init__(
        self, url: str, secret: str, *, timeout_s: float = 5.0, client: httpx.AsyncClient | None = None
    ) -> None:
        try:
            self._webhook = Webhook(secret)
        except (ValueError, EmptyWebhookSecretError) as error:
            raise ConfigError("alerts.webhook_secret is not 'whsec_' + base64 of 24 to 64 random bytes") from error
        self._url = url
        self._timeout_s = timeout_s
        self._client = client or httpx.AsyncClient(timeout=timeout_s, follow_redirects=False)

    async def deliver(self, delivery: Delivery) -> None:
        """One signed attempt."""
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.alert_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(delivery.alert_id, now, delivery.body),
        }
        try:
            async with asyncio.timeout(self._timeout_s):  # the client's own bound is on each read, not on them all
                response = await self._client.post(self._url, content=delivery.body.encode(), headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise AlertError(f"webhook not reached ({type(error).__name__})") from error
        if not response.is_success:
            raise AlertError(f"webhook answered {response.status_code}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
