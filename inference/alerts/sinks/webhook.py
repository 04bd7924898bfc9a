"""A webhook in the Standard Webhooks form (standardwebhooks.com), with a CloudEvent as its body."""

import asyncio
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from inference.alerts.notice import CONTENT_TYPE, Envelope
from inference.alerts.sinks.base import TlsConfig
from inference.errors import AlertError, ConfigError, SinkDownError

AWAY = (429, 502, 503, 504)
"""Answers of a service that takes nothing at the moment, or of the proxy before it."""


class WebhookSink:
    """POSTs the notice, signed with HMAC-SHA256; any 2xx answer takes it.

    Args:
        url: the operator's endpoint. Redirects are not followed: they would carry the alert elsewhere.
        secret: ``whsec_`` + base64, shared with the endpoint.
        timeout_s: bound on one attempt.
        tls: certificates, for an https URL.
        client: for tests.

    Raises:
        ConfigError: the secret is none, or a certificate cannot be read.
    """

    name = "webhook"

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        timeout_s: float = 5.0,
        tls: TlsConfig | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        try:
            self._webhook = Webhook(secret)
        except (ValueError, EmptyWebhookSecretError) as error:
            raise ConfigError("alerts.webhook_secret is not 'whsec_' + base64 of 24 to 64 random bytes") from error
        self._url = url
        self._timeout_s = timeout_s
        verify = (tls or TlsConfig()).context("alerts.webhook_tls")
        self._client = client or httpx.AsyncClient(timeout=timeout_s, follow_redirects=False, verify=verify)

    async def deliver(self, envelope: Envelope) -> None:
        """One signed attempt."""
        now = datetime.now(UTC)
        headers = {
            "content-type": CONTENT_TYPE,
            "webhook-id": envelope.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(envelope.id, now, envelope.body),
        }
        try:
            async with asyncio.timeout(self._timeout_s):  # the client's own bound is on each read, not on them all
                response = await self._client.post(self._url, content=envelope.body.encode(), headers=headers)
        except (httpx.HTTPError, TimeoutError) as error:
            raise SinkDownError(f"webhook not reached ({type(error).__name__})") from error
        if response.status_code in AWAY:
            raise SinkDownError(f"webhook answered {response.status_code}")
        if not response.is_success:
            raise AlertError(f"webhook answered {response.status_code}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
