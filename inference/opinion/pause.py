"""Leaves a server alone that fails, and finds out by one question when it is back."""

import math
from collections.abc import Callable
from typing import Any


class Pause:
    """After ``max_failures`` in a row nobody may ask for ``pause_s``; then one may, and how that goes decides.

    Not :class:`inference.engine.breaker.CircuitBreaker`: there requests wait for a server without which nothing works,
    and a canary asks for it. Here nobody waits, and an answer to a small request would tell little of a large one.

    Args:
        max_failures: see above.
        pause_s: likewise.
        clock: monotonic seconds.
        on_change: told (whether it is paused, why) on every change.
    """

    def __init__(
        self, max_failures: int, pause_s: float, clock: Callable[[], float], on_change: Callable[[bool, str], Any]
    ) -> None:
        self._max_failures = max_failures
        self._pause_s = pause_s
        self._clock = clock
        self._on_change = on_change
        self._num_failures = 0
        self._until_s = -math.inf

    @property
    def is_on(self) -> bool:
        """Whether nobody may ask now."""
        return self._num_failures >= self._max_failures and self._clock() < self._until_s

    def may_ask(self) -> bool:
        """Whether the caller may ask now; after a pause the first that comes may, and the others wait for its word."""
        if self.is_on:
            return False
        if self._num_failures >= self._max_failures:
            self._until_s = self._clock() + self._pause_s
        return True

    def succeeded(self) -> None:
        """The server answered."""
        was_paused, self._num_failures = self._num_failures >= self._max_failures, 0
        if was_paused:
            self._on_change(False, "answered")

    def failed(self, why: str) -> None:
        """The server did not."""
        self._num_failures += 1
        if self._num_failures >= self._max_failures:
            self._until_s = self._clock() + self._pause_s
        if self._num_failures == self._max_failures:
            self._on_change(True, why)
