"""The chained log of lists in Redis: one book of entries for every host, that any worker may write.

The same lines and digests as :mod:`inference.screening.chain`. A line is appended only where the chain still ends as it
was read, so two writers never fork it. Nothing here expires; keep Redis' ``maxmemory-policy`` a ``volatile-`` one.
"""

import json
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from inference.errors import StoreError
from inference.screening.chain import FIRST, LINES_AT_ONCE, Line, digest_of
from inference.screening.redis import RedisConfig

TIMEOUT_S = 2.0
"""Nobody's call waits for it: lists are read beside calls, and written by people."""

MAX_TRIES = 30
FIRST_WAIT_S, LONGEST_WAIT_S = 0.002, 0.25
"""Between tries, a random share of a time that doubles: writers in step would stand in one another's way for ever."""

_APPEND = """
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
redis.call('RPUSH', KEYS[1], unpack(ARGV, 2))
return 1
"""


class SharedLog:
    """Implements :class:`inference.screening.chain.AuditLog`; its methods block.

    Args:
        config: of Redis.
        purpose: names the log, and is named in errors.
    """

    def __init__(self, config: RedisConfig, purpose: str) -> None:
        self._purpose = purpose
        self._key = f"{config.prefix}log:{purpose}"
        self._redis: Any = Redis.from_url(
            config.url,
            password=config.password.get_secret_value() if config.password is not None else None,
            decode_responses=True,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
        )

    def append(self, events: Sequence[tuple[float, str, dict[str, Any]]]) -> list[Line]:
        """Write events ``(at_s, what, body)``, all or none.

        Raises:
            StoreError: Redis is away, full, or others write without end.
        """
        for number_of_try in range(MAX_TRIES):
            if number_of_try:
                time.sleep(random.random() * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**number_of_try))  # noqa: S311 -- no secret
            last = self._last()
            number, digest = (last.number, last.digest) if last is not None else (0, FIRST)
            num_before, lines = number, list[Line]()
            for at_s, what, body in events:
                text = json.dumps(body, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
                number += 1
                digest = digest_of(number, at_s, what, text, digest)
                lines.append(Line(number, at_s, what, text, digest))
            written = [json.dumps([line.at_s, line.what, line.body, line.digest]) for line in lines]
            if self._ask(lambda n=num_before, w=written: self._redis.eval(_APPEND, 1, self._key, n, *w)):
                return lines
        raise StoreError(f"{self._purpose}: others write at the same time; try again")

    def _last(self) -> Line | None:
        count = self._ask(lambda: self._redis.llen(self._key))
        found = self._ask(lambda: self._redis.lrange(self._key, count - 1, count - 1)) if count else []
        return self._line(count, found[0]) if found else None

    def _ask(self, question: Any) -> Any:
        try:
            return question()
        except (RedisError, OSError) as error:
            raise StoreError(f"{self._purpose}: redis did not answer ({type(error).__name__})") from None

    def _line(self, number: int, text: str) -> Line:
        try:
            at_s, what, body, digest = json.loads(text)
        except (ValueError, TypeError) as error:
            raise StoreError(f"{self._purpose}: line {number} is no line of ours: ask who wrote it") from error
        return Line(number, float(at_s), what, body, digest)

    @property
    def version(self) -> str:
        """The digest of the last line, shortened; ``0`` for an empty log.

        Raises:
            StoreError: Redis is away.
        """
        last = self._last()
        return last.digest[:12] if last is not None else "0"

    def lines(self, since_s: float = 0.0, until_s: float = 1e12) -> Iterator[Line]:
        """Lines of that time, oldest first, read as they are taken.

        Raises:
            StoreError: Redis is away.
        """
        begin = 0
        while True:
            first, last = begin, begin + LINES_AT_ONCE - 1
            found = self._ask(lambda a=first, b=last: self._redis.lrange(self._key, a, b))
            for at, text in enumerate(found, begin + 1):
                line = self._line(at, text)
                if since_s <= line.at_s < until_s:
                    yield line
            if len(found) < LINES_AT_ONCE:
                return
            begin += LINES_AT_ONCE

    def verify(self) -> int | None:
        """The number of the first line that was altered; None where all hold.

        Raises:
            StoreError: Redis is away.
        """
        digest = FIRST
        for line in self.lines(since_s=-1e12):
            digest = digest_of(line.number, line.at_s, line.what, line.body, digest)
            if line.digest != digest:
                return line.number
        return None

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()
