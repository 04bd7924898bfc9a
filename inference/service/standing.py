"""Calls that are always there, e.g. a test line: when one ends, the next begins.

Either under the same id, or, for a line that carries many calls, each under an id of its own once it is heard.
"""

import time
from collections.abc import Callable, Container
from dataclasses import dataclass

import structlog

from inference.errors import ScamTapError
from inference.gateway.spec import CallSpec

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Line:
    """One of them.

    Attributes:
        spec: how its calls are announced; its id is the line's.
        idle_s: silence that ends a call of a line, seconds; None where calls keep the line's id.
        call_id: the newest call's.
        num_heard: calls of the line so far.
    """

    spec: CallSpec
    idle_s: float | None
    call_id: str
    num_heard: int = 0


class StandingCalls:
    """Remembers them and begins those that ended.

    Args:
        begin: follows a call; raises a ScamTapError where it cannot.
    """

    def __init__(self, begin: Callable[[CallSpec], None]) -> None:
        self._begin = begin
        self._lines: dict[str, _Line] = {}
        self._refused: set[str] = set()  # could not begin: each is logged once

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._lines

    def keep(self, spec: CallSpec, idle_s: float | None = None) -> None:
        """Begin a call now, and again whenever it has ended.

        Args:
            spec: the call, or a line of calls.
            idle_s: silence that ends a call of a line, seconds; None: it is one call, whose id stays.

        Raises:
            ScamTapError: it cannot begin; it is not kept.
        """
        self._begin(spec)
        self._lines[spec.id] = _Line(spec, idle_s, spec.id)

    def waiting(self) -> list[str]:
        """Names of lines whose next call was not heard yet, as far as is known here."""
        return [name for name, line in self._lines.items() if line.idle_s is not None and line.call_id == name]

    def heard(self, name: str) -> CallSpec:
        """The waiting call of a line was heard: how it is announced from now on, with an id of its own."""
        line = self._lines[name]
        line.num_heard += 1
        began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())  # ids differ across restarts too
        line.call_id = f"{name}-{began}-{line.num_heard}"
        return line.spec.model_copy(update={"id": line.call_id})

    def idle_s(self, call_id: str) -> float | None:
        """Silence that ends a call, where that is its line's own."""
        return next((line.idle_s for line in self._lines.values() if line.call_id == call_id), None)

    def revive(self, under_way: Container[str]) -> None:
        """Begin those that are not ``under_way``."""
        for name, line in self._lines.items():
            if line.call_id in under_way or name in under_way:
                continue
            try:
                self._begin(line.spec)
                line.call_id = name
                self._refused.discard(name)
            except ScamTapError as error:
                if name not in self._refused:
                    log.error("standing call cannot begin", call=name, why=str(error))
                self._refused.add(name)
