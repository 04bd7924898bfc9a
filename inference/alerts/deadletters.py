"""What no sink would take: a JSON Lines file that ``scamtap alerts resend`` delivers from, once the cause is mended."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from inference.alerts.notice import Envelope
from inference.errors import AlertError, ConfigError

TAKEN_SUFFIX = ".resending"


class DeadLetters:
    """Appends to the file, whole lines only, each on the disk before it counts.

    A line is ``{"sink", "why", "attempts", "given_up_s", "event"}``; ``event`` is the CloudEvent as it was sent.

    Args:
        path: the file, readable by its owner alone.
        max_bytes: bound on its size; beyond it nothing is taken and the outbox keeps what it has.

    Raises:
        ConfigError: it cannot be written.
    """

    def __init__(self, path: Path, *, max_bytes: int = 256 * 2**20) -> None:
        self.path = path
        self._max_bytes = max_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(self._open())
        except OSError as error:
            raise ConfigError(f"alerts.dead_letter_path {path}: {error.strerror}; choose a writable file") from error

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file, while no other process appends to it or takes it away."""
        while True:
            file = self._open()
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if self.path.exists() and os.path.samestat(os.fstat(file), self.path.stat()):
                    yield file
                    return
            finally:
                os.close(file)

    def append(self, letters: Sequence[tuple[str, Envelope, int]], why: str, now_s: float) -> None:
        """Write ``(sink, envelope, attempts)`` down, all or none.

        Args:
            letters: what is given up.
            why: the last error; ours, so nothing of what was said is in it.
            now_s: seconds since the epoch.

        Raises:
            AlertError: the disk refused, or the file is full.
        """
        lines = "".join(
            json.dumps({"sink": sink, "why": why, "attempts": attempts, "given_up_s": round(now_s, 3)})[:-1]
            + f', "event": {envelope.body}}}\n'
            for sink, envelope, attempts in letters
        ).encode()
        try:
            with self._locked() as file:
                end = os.fstat(file).st_size
                if end + len(lines) > self._max_bytes:
                    raise AlertError(f"{self.path}: full ({self._max_bytes} bytes); run: scamtap alerts resend")
                append_whole(file, lines, end)
        except OSError as error:
            raise AlertError(f"{self.path}: {error.strerror}") from error

    def take(self) -> list[Path]:
        """Set the file aside, so that it can be read while a worker appends to a new one.

        Returns:
            What was set aside: by this call, and by earlier ones that were cut short. Delete each when dealt with.

        Raises:
            AlertError: it cannot be renamed.
        """
        try:
            with self._locked() as file:
                if os.fstat(file).st_size:
                    number = 1 + max((int(path.suffix[1:]) for path in self._taken()), default=0)
                    self.path.rename(self.path.with_name(f"{self.path.name}{TAKEN_SUFFIX}.{number}"))
        except OSError as error:
            raise AlertError(f"{self.path}: {error.strerror}") from error
        return self._taken()

    def _taken(self) -> list[Path]:
        prefix = f"{self.path.name}{TAKEN_SUFFIX}."
        found = [path for path in self.path.parent.iterdir() if path.name.startswith(prefix)]
        return sorted((path for path in found if path.suffix[1:].isdecimal()), key=lambda path: int(path.suffix[1:]))


def append_whole(file: int, lines: bytes, end: int) -> None:
    """Append to an open file and wait for the disk; where it has no room, the file is as it was.

    Args:
        file: descriptor, opened to append.
        lines: what to write.
        end: size of the file before.

    Raises:
        OSError: the disk refused.
    """
    num_written = 0
    try:
        while num_written < len(lines):
            num_written += os.write(file, lines[num_written:])
        os.fsync(file)
    except OSError:
        os.ftruncate(file, end)
        raise
