"""NATS JetStream: a publish that waits until the stream has stored the notice."""

import asyncio

import structlog
from nats.aio.client import Client
from nats.errors import Error, MaxPayloadError
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from inference.alerts.config import NatsConfig
from inference.alerts.notice import CONTENT_TYPE, Envelope
from inference.alerts.sinks.base import Connection
from inference.errors import AlertError, SinkDownError

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 1.0
"""A connection that TLS or the server broke off never says that it is closed, and the client would wait for that."""


class NatsSink:
    """Publishes to one subject.

    ``Nats-Msg-Id`` is the notice's id: within the stream's duplicate window (2 minutes unless the operator says else) a
    repeated delivery is acknowledged and not stored again.

    Raises:
        ConfigError: a certificate cannot be read.
    """

    name = "nats"

    def __init__(self, config: NatsConfig) -> None:
        self._config = config
        is_encrypted = config.servers[0].startswith("tls://")
        self._tls = config.tls.context("alerts.nats.tls") if is_encrypted else None
        self._connection = Connection(self._open, self._close)

    async def _open(self) -> Client:
        config = self._config
        client = Client()
        try:
            async with asyncio.timeout(config.timeout_s):
                await client.connect(
                    list(config.servers),
                    user=config.user,
                    password=None if config.password is None else config.password.get_secret_value(),
                    token=None if config.token is None else config.token.get_secret_value(),
                    tls=self._tls,
                    allow_reconnect=False,
                    connect_timeout=max(1, int(config.timeout_s)),
                    error_cb=_say_nothing,  # else the library logs what servers say
                    name="scamtap",
                )
        except BaseException:
            await self._close(client)
            raise
        return client

    async def _close(self, client: Client) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await client.close()
        except (Error, OSError, TimeoutError) as error:
            log.debug("NATS connection not closed in order", why=type(error).__name__)

    async def deliver(self, envelope: Envelope) -> None:
        """Publish and wait for the stream's acknowledgement."""
        config, client = self._config, None
        try:
            client = await self._connection.get()
            await client.jetstream().publish(
                config.subject,
                envelope.body.encode(),
                timeout=config.timeout_s,
                headers={"Nats-Msg-Id": envelope.id, "Content-Type": CONTENT_TYPE},
            )
        except NoStreamResponseError as error:
            raise SinkDownError(f"no JetStream stream takes {config.subject}; create one") from error
        except ServiceUnavailableError as error:
            raise SinkDownError(f"NATS stores nothing now (error {error.err_code})") from error
        except APIError as error:
            raise AlertError(f"NATS refused (error {error.err_code})") from error
        except MaxPayloadError as error:
            raise AlertError("too large for this NATS server") from error
        except (Error, OSError, TimeoutError) as error:
            await self._connection.drop(client)
            raise SinkDownError(f"NATS not reached ({type(error).__name__})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise AlertError(f"what answers on {config.subject} is no JetStream stream") from error

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()


async def _say_nothing(_error: Exception) -> None:
    return None
