"""Redis or Valkey as the place to remember in: many workers, many hosts, one memory.

A batch of commands is one transaction in one round trip: counted whole or not at all, and no counter is left without
its expiry. Counted sets are HyperLogLogs (12 kB
at most, .8 % error; exact while small). Keys expire by themselves; Redis' own ``maxmemory`` bounds the whole, and
should evict with ``volatile-lru``: a flood of spoofed numbers then drives out itself first.
"""

from collections.abc import Sequence
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from redis.asyncio import Redis
from redis.exceptions import RedisError

from inference.errors import ConfigError, StoreError
from inference.screening.backend import Add, Answer, Command, Distinct, Drop, Fields, Include, Put
from inference.screening.backend import Field as OneField

# KEYS[1] the key; ARGV field, value, ttl, is_first, max_fields.
_PUT = """
local held = redis.call('HEXISTS', KEYS[1], ARGV[1])
if held == 1 and ARGV[4] == '1' then
  redis.call('EXPIRE', KEYS[1], ARGV[3]); return
end
if held == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""


class RedisConfig(BaseModel):
    """How Redis is reached.

    Attributes:
        url: ``redis://``, ``rediss://`` or ``unix://``, without a password.
        password: of the server.
        prefix: of every key of ours.
        timeout_s: on connecting and on each request.
        max_connections: of one worker.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "redis://127.0.0.1:6379/0"
    password: SecretStr | None = None
    prefix: str = Field(default="scamtap:", max_length=64)
    timeout_s: float = Field(default=0.02, gt=0, le=10)
    max_connections: int = Field(default=32, ge=1, le=4096)

    @field_validator("url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("url begins with redis://, rediss:// or unix://")
        if "@" in value:
            raise ValueError("url holds a password: set it as password")
        return value


class RedisBackend:
    """Implements :class:`inference.screening.backend.Backend`; connects when first asked, and again when it was away.

    Raises:
        ConfigError: the URL is none.
    """

    def __init__(self, config: RedisConfig) -> None:
        self._prefix = config.prefix
        try:
            self._redis: Any = Redis.from_url(
                config.url,
                password=config.password.get_secret_value() if config.password is not None else None,
                decode_responses=True,
                socket_timeout=config.timeout_s,
                socket_connect_timeout=config.timeout_s,
                max_connections=config.max_connections,
            )
        except ValueError as error:
            raise ConfigError("screening.redis.url is not a URL of Redis") from error

    async def run(self, commands: Sequence[Command]) -> list[Answer]:
        """See :class:`Backend`."""
        answered: list[int] = []  # place of each command's answer among those of the pipeline, -1 for none
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for command in commands:
                    self._queue(pipe, command)
                    answered.append(len(pipe.command_stack) - 1 if _has_answer(command) else -1)
                got = await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreError(f"redis did not answer ({type(error).__name__})") from None
        return [cast(Answer, got[at]) if at >= 0 else None for at in answered]

    def _queue(self, pipe: Any, command: Command) -> None:
        match command:
            case Add():
                pipe.hincrby(self._prefix + command.key, command.field, command.number)
                pipe.expire(self._prefix + command.key, command.ttl_s)
            case Put(value=None):
                pipe.hdel(self._prefix + command.key, command.field)
            case Put():
                # Sent whole each time: 300 bytes, where asking whether the server knows it costs a round trip.
                key, first = self._prefix + command.key, int(command.is_first)
                pipe.eval(_PUT, 1, key, command.field, command.value, command.ttl_s, first, command.max_fields)
            case Fields():
                pipe.hgetall(self._prefix + command.key)
            case OneField():
                pipe.hget(self._prefix + command.key, command.field)
            case Drop():
                if command.fields:
                    pipe.hdel(self._prefix + command.key, *command.fields)
            case Include():
                pipe.pfadd(self._prefix + command.key, command.member)
                pipe.expire(self._prefix + command.key, command.ttl_s)
            case Distinct():
                pipe.pfcount(*(self._prefix + key for key in command.keys))

    async def aclose(self) -> None:
        """Close the connections; what is remembered stays."""
        await self._redis.aclose()


def _has_answer(command: Command) -> bool:
    return isinstance(command, Fields | OneField | Distinct)
