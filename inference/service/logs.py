"""Structured logs: events and numbers, never what was said."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO, cast

import structlog

if TYPE_CHECKING:
    from inference.config import LogConfig


class _Unfailing:
    """Standard error, that may lie on a full disk or lead to nobody: losing a line must not cost a call."""

    def write(self, text: str) -> None:
        """Write what can be written."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def set_up_logs(config: "LogConfig") -> None:
    """Log to standard error: lines for people, or JSON Lines for collectors."""
    level = logging.getLevelNamesMapping()[config.level.upper()]
    is_terminal = sys.stderr.isatty()
    for_people = structlog.dev.ConsoleRenderer(colors=is_terminal)
    renderer = structlog.processors.JSONRenderer() if config.json_lines else for_people
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing())),
        cache_logger_on_first_use=True,
    )
    # uvicorn and asyncio speak through the standard library: only what matters, in one line.
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )


@contextlib.contextmanager
def silent_logs() -> Iterator[None]:
    """Log nothing meanwhile, for a command that says all there is to say by itself."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
