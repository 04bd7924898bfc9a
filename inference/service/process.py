"""What every serving process needs: its listening socket, its HTTP server, its signals, and a log without secrets."""

import asyncio
import contextlib
import gc
import signal
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import uvicorn

from inference.errors import ConfigError
from inference.service.api import ApiConfig

log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

COLLECT_AFTER = (5_000, 40, 100)
"""New objects until the young are looked at, and passes until older ones are, of :mod:`gc`: often and 2 ms, not seldom
and 8."""


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the worker stops everything in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals alone."""
        yield


def listen(config: ApiConfig) -> socket.socket:
    """The API's listening socket.

    Raises:
        ConfigError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # Named TCP, asyncio spares answers the wait for an acknowledgement (Nagle's algorithm): 2 ms instead of 44.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if config.reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen()  # from now on the port is ours: loading models takes a while, and another worker may start
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"api: {config.host}:{config.port} cannot be used ({error.strerror}); set api.port to a free one"
        ) from error
    return listener


def calm_collector() -> None:
    """Let the garbage collector look at what is made from now on, and seldom at what has lasted.

    A decision leaves nothing that only it could free, while a pass over everything remembered holds calls up for tenths
    of a second. For after everything is loaded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def log_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught, without its message and traceback: a library may have put what was said into them."""
    error = context.get("exception")
    frame = traceback.extract_tb(error.__traceback__)[-1:] if isinstance(error, BaseException) else []
    where = "".join(f"{Path(f.filename).name}:{f.lineno}" for f in frame)
    log.error("internal error", kind=type(error).__name__, where=where)


def stopping(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process. Failures go to :func:`log_failure`."""
    stop = asyncio.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        for either in STOP_SIGNALS:
            signal.signal(either, signal.SIG_DFL)  # the second one is for those in a hurry
        loop.call_soon_threadsafe(stop.set)

    for number in STOP_SIGNALS:
        signal.signal(number, on_signal)
    loop.set_exception_handler(log_failure)
    return stop
