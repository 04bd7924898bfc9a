"""A Redis stream: ``XADD key MAXLEN ~ n * id <id> event <CloudEvent>``."""

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, RedisError

from inference.alerts.config import RedisConfig
from inference.alerts.notice import Envelope
from inference.errors import AlertError, SinkDownError


class RedisSink:
    """Appends to one stream.

    An entry whose acknowledgement was lost is appended again; consumers know it by its ``id`` field. Whether an entry
    outlives the server is the server's setting (``appendonly``, ``appendfsync``).

    Raises:
        ConfigError: a certificate cannot be read.
    """

    name = "redis"

    def __init__(self, config: RedisConfig) -> None:
        self._config = config
        more: dict[str, Any] = {}
        if config.url.startswith("rediss://"):
            config.tls.context("alerts.redis.tls")  # says in one line what is wrong with the files
            more = {
                "ssl_ca_certs": None if config.tls.ca_path is None else str(config.tls.ca_path),
                "ssl_certfile": None if config.tls.cert_path is None else str(config.tls.cert_path),
                "ssl_keyfile": None if config.tls.key_path is None else str(config.tls.key_path),
                "ssl_check_hostname": True,
            }
        self._client: Any = Redis.from_url(  # its types differ from release to release
            config.url,
            username=config.user,
            password=None if config.password is None else config.password.get_secret_value(),
            client_name="scamtap",
            socket_timeout=config.timeout_s,
            socket_connect_timeout=config.timeout_s,
            retry=Retry(NoBackoff(), 0),  # the outbox tries again; the client would append twice
            **more,
        )

    async def deliver(self, envelope: Envelope) -> None:
        """Append, and wait for the entry's number."""
        config = self._config
        entry = {"id": envelope.id, "event": envelope.body}
        try:
            async with asyncio.timeout(config.timeout_s):
                await self._client.xadd(config.stream, entry, maxlen=config.max_entries, approximate=True)
        except DataError as error:
            raise AlertError("no entry for Redis") from error
        except (RedisError, OSError, TimeoutError) as error:
            await self._client.connection_pool.disconnect(inuse_connections=False)
            raise SinkDownError(f"Redis does not take it ({type(error).__name__})") from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
