"""Stops asking a server that is away, and finds out when it is back."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from inference.errors import EngineError


class CircuitBreaker:
    """Closed, requests pass. Open, they wait while one canary at a time asks the server whether it is back.

    It opens after ``max_failures`` refusals in a row, or at once after a silence: a server that hangs holds up every
    request for as long as an attempt may take. Whoever comes within ``patience_s`` of the opening waits for the server
    until its own deadline; later ones are turned away at once, so that nothing piles up behind a server that is gone.

    Args:
        canary: asks the server something small; true where it answers.
        max_failures: refusals in a row that open it.
        probe_s: pause between two canaries, seconds; half to all of it, so that workers do not ask in step.
        patience_s: see above.
        on_change: told (is open, why) on every change.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        canary: Callable[[], Awaitable[bool]],
        *,
        max_failures: int,
        probe_s: float,
        patience_s: float,
        on_change: Callable[[bool, str], Any],
        clock: Callable[[], float],
    ) -> None:
        self._canary = canary
        self._max_failures = max_failures
        self._probe_s = probe_s
        self._patience_s = patience_s
        self._on_change = on_change
        self._clock = clock
        self._num_failures = 0
        self._closed = asyncio.Event()
        self._closed.set()
        self._opened_s = 0.0
        self._why = ""
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests wait."""
        return not self._closed.is_set()

    async def passed(self, deadline_s: float) -> None:
        """Return when requests may go out.

        Raises:
            EngineError: the server is not back by ``deadline_s``, or has been away too long already.
        """
        if not self.is_open:
            return
        until_s = deadline_s if self._clock() < self._opened_s + self._patience_s else 0.0
        try:
            await asyncio.wait_for(self._closed.wait(), max(0.0, until_s - self._clock()))
        except TimeoutError:
            away_s = self._clock() - self._opened_s
            raise EngineError(
                f"the Triton server has been away for {away_s:.0f} s ({self._why}); start it (make triton), or set "
                "engine.url to where it is"
            ) from None

    def succeeded(self) -> None:
        """A request was answered, well or badly."""
        self._num_failures = 0

    def refused(self, why: str) -> None:
        """A request found nobody there."""
        self._num_failures += 1
        if self._num_failures >= self._max_failures:
            self._open(why)

    def timed_out(self, why: str) -> None:
        """A request was not answered in time."""
        self._open(why)

    def _open(self, why: str) -> None:
        if self.is_open:
            return
        self._closed.clear()
        self._opened_s, self._why = self._clock(), why
        self._on_change(True, why)
        self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        while not await self._canary():  # noqa: ASYNC110 (nobody tells us)
            await asyncio.sleep(self._probe_s * random.uniform(0.5, 1))  # noqa: S311
        self._num_failures = 0
        self._closed.set()
        self._on_change(False, f"after {self._clock() - self._opened_s:.1f} s")

    async def aclose(self) -> None:
        """Ask no more; who waits is turned away at its deadline."""
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
