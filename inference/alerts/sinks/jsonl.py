"""A JSON Lines file: one CloudEvent a line."""

import os
from pathlib import Path

from inference.alerts.deadletters import append_whole
from inference.alerts.notice import Envelope
from inference.errors import ConfigError, SinkDownError


class JsonLinesSink:
    """Appends one line per notice, flushed to the disk before it counts as delivered.

    Raises:
        ConfigError: the file cannot be written.
    """

    name = "jsonl"

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
        except OSError as error:
            raise ConfigError(f"alerts.jsonl_path {path}: {error.strerror}; choose a writable file") from error

    async def deliver(self, envelope: Envelope) -> None:
        """Append and fsync: rare and small, so the event loop can wait for it. A line is whole or not there."""
        try:
            with self._path.open("ab", buffering=0) as file:
                append_whole(file.fileno(), envelope.body.encode() + b"\n", os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise SinkDownError(f"{self._path}: {error.strerror}") from error

    async def aclose(self) -> None:
        """Nothing is held open between notices, so the file may be rotated."""
