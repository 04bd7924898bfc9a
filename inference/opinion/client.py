"""Asks an OpenAI-compatible endpoint: one attempt, within a time, a bounded answer, no exception for a failure.

An opinion is an extra: where none comes, the call goes on as if nobody had been asked. So there is no second attempt,
and what went wrong is one word for a counter. Neither holds what was sent or answered.
"""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Self

import httpx

from inference.opinion.answer import MAX_ANSWER_BYTES, Answer, Outcome, Shown, read_answer
from inference.opinion.config import OpinionConfig
from inference.opinion.pause import Pause
from inference.opinion.question import Question


class OpinionClient:
    """One endpoint.

    Args:
        config: where it is; ``config.url`` is set.
        on_change: told (whether it is paused, why) when it fails too often, and when it is back.
        clock: monotonic seconds.
        transport: for tests.

    Raises:
        ConfigError: the key's variable is not set, or a certificate cannot be read.
    """

    def __init__(
        self,
        config: OpinionConfig,
        *,
        on_change: Callable[[bool, str], Any] = lambda _is_paused, _why: None,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._pause = Pause(config.max_failures, config.pause_s, clock, on_change)
        self._client = httpx.AsyncClient(
            headers={"accept-encoding": "identity", **config.headers()},  # packed, an answer has no bound
            timeout=config.timeout_s,
            limits=httpx.Limits(max_connections=config.max_concurrent),
            follow_redirects=False,  # a redirect would carry the words, and the key, elsewhere
            trust_env=False,  # so would a proxy
            verify=config.tls(),
            transport=transport,
        )

    @property
    def is_paused(self) -> bool:
        """Whether asking is no use now."""
        return self._pause.is_on

    async def ask(self, question: Question) -> Answer:
        """Ask once; the answer comes within ``timeout_s``."""
        if not self._pause.may_ask():
            return Answer("paused")
        began_s = self._clock()
        outcome, shown = await self._asked(question)
        if outcome in ("answered", "malformed"):  # whoever can make one call's answer malformed must not silence all
            self._pause.succeeded()
        else:
            self._pause.failed(outcome)
        return Answer(outcome, max(0.0, self._clock() - began_s), shown)

    async def _asked(self, question: Question) -> tuple[Outcome, Shown | None]:
        body = json.dumps(question.body(self._config.model or "")).encode()
        headers = {"content-type": "application/json"}
        try:
            # The client's own bound is on each read, not on them all.
            async with asyncio.timeout(self._config.timeout_s):
                url = f"{self._config.url}/chat/completions"
                async with self._client.stream("POST", url, content=body, headers=headers) as response:
                    if not response.is_success:
                        return "refused", None
                    answered = bytearray()
                    async for chunk in response.aiter_raw():
                        answered += chunk
                        if len(answered) > MAX_ANSWER_BYTES:
                            return "malformed", None
        except (TimeoutError, httpx.TimeoutException):
            return "timeout", None
        except httpx.HTTPError:
            return "unreachable", None
        shown = read_answer(bytes(answered), len(question.lines))
        return ("malformed", None) if shown is None else ("answered", shown)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class WaitingClient:
    """The same for a caller who waits, such as the replay of a recording: a context manager, on a loop of its own.

    Args:
        config: where the endpoint is.

    Raises:
        ConfigError: as for :class:`OpinionClient`.
    """

    def __init__(self, config: OpinionConfig) -> None:
        self._client = OpinionClient(config)
        self._runner = asyncio.Runner()

    @property
    def is_paused(self) -> bool:
        """Whether asking is no use now."""
        return self._client.is_paused

    def ask(self, question: Question) -> Answer:
        """Ask once; waits for at most ``timeout_s``."""
        return self._runner.run(self._client.ask(question))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._runner.run(self._client.aclose())
        finally:
            self._runner.close()
