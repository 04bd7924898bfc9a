"""Redis or Valkey as the place to remember in: many workers, many hosts, one memory.

A request is one script with the commands of every question that waited while others were under way: one argument in,
one answer out, counted whole or not at all, and no counter left without its expiry. Counted sets are HyperLogLogs
(12 kB at most, .8 % error; exact while small). Keys expire by themselves; Redis' own ``maxmemory`` bounds the whole,
and should evict with ``volatile-lru``: a flood of spoofed numbers then drives out itself first.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from inference.errors import ConfigError, StoreError
from inference.screening.backend import Add, Answer, Command, Distinct, Drop, Fields, Include, Put
from inference.screening.backend import Field as OneField

MAX_BATCH = 128
"""Questions of one request: a script holds up everybody else for as long as it runs, here a few milliseconds."""

MAX_WAITING = 10_000

_SCRIPT = """
local answers = {}
for i, c in ipairs(cmsgpack.unpack(ARGV[1])) do
  local op, key = c[1], c[2]
  if op == 'add' then
    redis.call('HINCRBY', key, c[3], c[4])
    redis.call('EXPIRE', key, c[5])
  elseif op == 'put' then
    local held = redis.call('HEXISTS', key, c[3])
    if held == 1 or redis.call('HLEN', key) < c[7] then
      if held == 0 or not c[6] then redis.call('HSET', key, c[3], c[4]) end
      redis.call('EXPIRE', key, c[5])
    end
  elseif op == 'drop' then
    redis.call('HDEL', key, unpack(c, 3))
  elseif op == 'include' then
    redis.call('PFADD', key, c[3])
    redis.call('EXPIRE', key, c[4])
  elseif op == 'fields' then
    answers[#answers + 1] = redis.call('HGETALL', key)
  elseif op == 'field' then
    answers[#answers + 1] = redis.call('HGET', key, c[3])
  else
    answers[#answers + 1] = redis.call('PFCOUNT', unpack(c, 2))
  end
end
return cmsgpack.pack(answers)
"""

Question: TypeAlias = tuple[Sequence[Command], "asyncio.Future[list[Answer]]"]


class RedisConfig(BaseModel):
    """How Redis is reached.

    Attributes:
        url: ``redis://``, ``rediss://`` or ``unix://``, without a password.
        password: of the server.
        prefix: of every key of ours.
        timeout_s: on connecting and on each request.
        share_lists: keep list entries, appeals and their log in Redis too: one book for all hosts, in place of the file
            beside ``screening.path``. That Redis must keep its data on disk (``appendonly yes``). Published lists stay
            files of each host.
        max_connections: of one worker: so many requests are under way at once, each with all questions that waited.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "redis://127.0.0.1:6379/0"
    password: SecretStr | None = None
    prefix: str = Field(default="scamtap:", max_length=64)
    timeout_s: float = Field(default=0.02, gt=0, le=10)
    share_lists: bool = False
    max_connections: int = Field(default=4, ge=1, le=4096)

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

    waits = True

    def __init__(self, config: RedisConfig) -> None:
        self._prefix = config.prefix
        self._max_asking = config.max_connections
        self._waiting: deque[Question] = deque()
        self._asking: set[asyncio.Task[None]] = set()
        self._digest: str | None = None
        try:
            self._redis: Any = Redis.from_url(
                config.url,
                password=config.password.get_secret_value() if config.password is not None else None,
                socket_timeout=config.timeout_s,
                socket_connect_timeout=config.timeout_s,
                max_connections=config.max_connections,
                retry=Retry(NoBackoff(), 0),  # what was perhaps counted is not counted again
            )
        except ValueError as error:
            raise ConfigError("screening.redis.url is not a URL of Redis") from error

    async def run(self, commands: Sequence[Command]) -> list[Answer]:
        """See :class:`Backend`."""
        if len(self._waiting) >= MAX_WAITING:
            raise StoreError("redis is too slow: more questions wait for it than there is room for")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Answer]] = loop.create_future()
        self._waiting.append((commands, future))
        if len(self._asking) < self._max_asking:
            task = loop.create_task(self._ask())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        return await future

    async def _ask(self) -> None:
        """Send what waits until nothing does."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            batch = [question for question in batch if not question[1].done()]  # given up meanwhile
            written = [_written(command, self._prefix) for commands, _ in batch for command in commands]
            try:
                packed = await self._call(msgspec.msgpack.encode([one for one in written if one is not None]))
                answers = iter(msgspec.msgpack.decode(packed))
            except (RedisError, OSError, TimeoutError, msgspec.DecodeError) as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(StoreError(f"redis did not answer ({type(error).__name__})"))
                continue
            for commands, future in batch:
                read = [_read(command, answers) for command in commands]
                if not future.done():
                    future.set_result(read)

    async def _call(self, packed: bytes) -> bytes:
        if self._digest is None:
            self._digest = await self._redis.script_load(_SCRIPT)
        try:
            answer: bytes = await self._redis.evalsha(self._digest, 0, packed)
        except NoScriptError:  # another server than before: nothing was done there yet
            self._digest = await self._redis.script_load(_SCRIPT)
            answer = await self._redis.evalsha(self._digest, 0, packed)
        return answer

    async def aclose(self) -> None:
        """Close the connections; what is remembered stays."""
        if self._asking:
            await asyncio.wait(self._asking)
        await self._redis.aclose()


def _written(command: Command, prefix: str) -> tuple[object, ...] | None:
    """A command as the script reads it; None where there is nothing to do."""
    match command:
        case Add(key, field, number, ttl_s):
            return "add", prefix + key, field, number, ttl_s
        case Put(key, field, None):
            return "drop", prefix + key, field
        case Put(key, field, value, ttl_s, is_first, max_fields):
            return "put", prefix + key, field, value, ttl_s, is_first, max_fields
        case Fields(key):
            return "fields", prefix + key
        case OneField(key, field):
            return "field", prefix + key, field
        case Drop(key, fields):
            return ("drop", prefix + key, *fields) if fields else None
        case Include(key, member, ttl_s):
            return "include", prefix + key, member, ttl_s
        case Distinct(keys):
            return "distinct", *(prefix + key for key in keys)


def _read(command: Command, answers: Iterator[Any]) -> Answer:
    if isinstance(command, Fields):
        flat = list(next(answers))
        return dict(zip(flat[::2], flat[1::2], strict=True))
    if isinstance(command, OneField):
        found = next(answers)
        return found if isinstance(found, str) else None
    return int(next(answers)) if isinstance(command, Distinct) else None
