"""An append-only log in SQLite whose lines are chained by hashes: what was decided stays decided, and shows if altered.

Each line holds the digest of itself and of the line before. Retention takes whole lines off the old end and leaves the
digest they ended with, so what is left can still be verified.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from inference.errors import ConfigError, StoreError

FIRST = "0" * 64
LINES_AT_ONCE = 1000
"""Read in pages: no page holds up writers, and no writer's transaction is read half done."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS line (
  number INTEGER PRIMARY KEY, at_s REAL NOT NULL, what TEXT NOT NULL, body TEXT NOT NULL, digest TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS line_at ON line (at_s);
CREATE TABLE IF NOT EXISTS kept_from (number INTEGER NOT NULL, digest TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log.

    Attributes:
        number: 1 is the first ever written.
        at_s: when, seconds since the epoch.
        what: kind of event.
        body: JSON object, as text.
        digest: of this line and all before it.
    """

    number: int
    at_s: float
    what: str
    body: str
    digest: str

    def values(self) -> dict[str, Any]:
        """The body, read."""
        read: dict[str, Any] = json.loads(self.body)
        return read


class AuditLog(Protocol):
    """A chained log, wherever it lies; see :class:`ChainedLog` for each."""

    def append(self, events: Sequence[tuple[float, str, dict[str, Any]]]) -> list[Line]:
        """Write events ``(at_s, what, body)``, all or none."""
        ...

    @property
    def version(self) -> str:
        """Names what it holds."""
        ...

    def lines(self, since_s: float = 0.0, until_s: float = 1e12) -> Iterator[Line]:
        """Lines of that time, oldest first."""
        ...

    def verify(self) -> int | None:
        """The first line that was altered or is missing; None where all hold."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


class ChainedLog:
    """One file, any number of readers; writers take turns.

    Args:
        path: the file; None keeps it in the process.
        purpose: named in errors, e.g. ``list entries``.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, path: Path | None, purpose: str) -> None:
        self._purpose = purpose
        self._lock = threading.Lock()  # one connection, used by the loop and by threads beside it
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            if hasattr(self, "_db"):
                self._db.close()
            raise ConfigError(f"{purpose}: {path} cannot be used ({error}); choose a writable file") from error

    def append(self, events: Sequence[tuple[float, str, dict[str, Any]]]) -> list[Line]:
        """Write events ``(at_s, what, body)`` in one transaction, on the disk when this returns.

        Raises:
            StoreError: the disk refused; nothing was written.
        """
        with self._lock:
            return self._append(events)

    def _append(self, events: Sequence[tuple[float, str, dict[str, Any]]]) -> list[Line]:
        lines: list[Line] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")  # the chain has one end
            number, digest = self._end()
            for at_s, what, body in events:
                text = json.dumps(body, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
                number += 1
                digest = digest_of(number, at_s, what, text, digest)
                lines.append(Line(number, at_s, what, text, digest))
            self._db.executemany(
                "INSERT INTO line VALUES (?, ?, ?, ?, ?)", [(x.number, x.at_s, x.what, x.body, x.digest) for x in lines]
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(
                f"{self._purpose}: cannot be written ({error}); free some disk, or end what holds the file"
            ) from error
        return lines

    def _end(self) -> tuple[int, str]:
        row = self._db.execute("SELECT number, digest FROM line ORDER BY number DESC LIMIT 1").fetchone()
        row = row or self._db.execute("SELECT number, digest FROM kept_from").fetchone()
        return (int(row[0]), str(row[1])) if row is not None else (0, FIRST)

    @property
    def version(self) -> str:
        """The digest of the last line, shortened; ``0`` for an empty log.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            with self._lock:
                number, digest = self._end()
        except sqlite3.Error as error:
            raise StoreError(f"{self._purpose}: cannot be read ({error}); check the disk") from error
        return digest[:12] if number else "0"

    def lines(self, since_s: float = 0.0, until_s: float = 1e12) -> Iterator[Line]:
        """Lines of that time, oldest first, read as they are taken.

        Raises:
            StoreError: the file cannot be read.
        """
        last = -1
        while True:
            try:
                with self._lock:
                    rows = self._db.execute(
                        "SELECT number, at_s, what, body, digest FROM line WHERE number > ? AND at_s >= ? AND at_s < ? "
                        "ORDER BY number LIMIT ?",
                        (last, since_s, until_s, LINES_AT_ONCE),
                    ).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self._purpose}: cannot be read ({error}); check the disk") from error
            for row in rows:
                yield Line(*row)
            if len(rows) < LINES_AT_ONCE:
                return
            last = rows[-1][0]

    def verify(self) -> int | None:
        """The number of the first line that was altered, or that is missing; None where all hold.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            kept = self._db.execute("SELECT number, digest FROM kept_from").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"{self._purpose}: cannot be read ({error}); check the disk") from error
        number, digest = (int(kept[0]), str(kept[1])) if kept is not None else (0, FIRST)
        for line in self.lines(since_s=-1e12):
            number += 1
            digest = digest_of(number, line.at_s, line.what, line.body, digest)
            if (line.number, line.digest) != (number, digest):
                return number
        return None

    def forget(self, before_s: float) -> int:
        """Take off the oldest lines, as far as all of them are older; returns how many.

        Raises:
            StoreError: the disk refused.
        """
        with self._lock:
            return self._forget(before_s)

    def _forget(self, before_s: float) -> int:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            row = self._db.execute("SELECT MIN(number) FROM line WHERE at_s >= ?", (before_s,)).fetchone()
            last = self._db.execute(
                "SELECT number, digest FROM line WHERE number < ? ORDER BY number DESC LIMIT 1",
                (row[0] if row[0] is not None else 1 << 62,),
            ).fetchone()
            count = 0
            if last is not None:
                count = self._db.execute("DELETE FROM line WHERE number <= ?", (last[0],)).rowcount
                self._db.execute("DELETE FROM kept_from")
                self._db.execute("INSERT INTO kept_from VALUES (?, ?)", last)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(f"{self._purpose}: cannot be shortened ({error}); check the disk") from error
        return count

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def digest_of(number: int, at_s: float, what: str, body: str, before: str) -> str:
    """The digest of a line, over itself and the digest of the line before."""
    line = json.dumps([number, at_s, what, body, before], ensure_ascii=True)
    return hashlib.sha256(line.encode()).hexdigest()
