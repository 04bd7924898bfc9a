"""Structured logs: events and numbers, never what was said."""

import logging
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from inference.config import LogConfig


def set_up_logs(config: "LogConfig") -> None:
    """Log to standard error: lines for people, or JSON Lines for collectors."""
    level = logging.getLevelNamesMapping()[config.level.upper()]
    is_terminal = sys.stderr.isatty()
    renderer = structlog.processors.JSONRenderer() if config.json_lines else structlog.dev.ConsoleRenderer(is_terminal)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # uvicorn and asyncio speak through the standard library: only what matters, in one line.
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format="%(levelname)s %(name)s %(message)s"
    )
