"""Calls that are always there, e.g. a test line: when one ends, the next begins under the same id."""

from collections.abc import Callable, Container

import structlog

from inference.errors import ScamTapError
from inference.gateway.spec import CallSpec

log = structlog.get_logger(__name__)


class StandingCalls:
    """Remembers them and begins those that ended.

    Args:
        begin: follows a call; raises a ScamTapError where it cannot.
    """

    def __init__(self, begin: Callable[[CallSpec], None]) -> None:
        self._begin = begin
        self._specs: dict[str, CallSpec] = {}
        self._refused: set[str] = set()  # could not begin: each is logged once

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._specs

    def keep(self, spec: CallSpec) -> None:
        """Begin a call now, and again whenever it has ended.

        Raises:
            ScamTapError: it cannot begin; it is not kept.
        """
        self._begin(spec)
        self._specs[spec.id] = spec

    def revive(self, under_way: Container[str]) -> None:
        """Begin those that are not ``under_way``."""
        for call_id, spec in self._specs.items():
            if call_id in under_way:
                continue
            try:
                self._begin(spec)
                self._refused.discard(call_id)
            except ScamTapError as error:
                if call_id not in self._refused:
                    log.error("standing call cannot begin", call=call_id, why=str(error))
                self._refused.add(call_id)
