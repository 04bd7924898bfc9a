"""List entries and everything that was ever done to them: an append-only log, chained by hashes, in one SQLite file.

Nothing is changed in place. A change is a line that names who, when, why and the entry after it; each line holds the
digest of the line before, so a line that is altered or taken out shows (:meth:`EntryBook.verify`). What holds now is the
last line of each entry.
"""

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inference.errors import ConfigError, StoreError
from inference.screening.lists import ListEntry

Change = Literal["added", "removed", "appealed", "appeal_granted", "appeal_refused"]
FIRST = "0" * 64
_SCHEMA = """
CREATE TABLE IF NOT EXISTS change (
  number INTEGER PRIMARY KEY, at_s REAL NOT NULL, what TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL,
  entry TEXT NOT NULL, before TEXT NOT NULL, digest TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Changed:
    """One line of the log.

    Attributes:
        number: 1 is the first.
        at_s: when, seconds since the epoch.
        what: was done, by ``who``, on the ground of ``why``.
        entry: after it.
        digest: of this line and of all before it.
    """

    number: int
    at_s: float
    what: str
    who: str
    why: str
    entry: ListEntry
    digest: str


class EntryBook:
    """The log, and what holds now.

    Args:
        path: the file; None keeps it in the process.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=2.0)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            if hasattr(self, "_db"):
                self._db.close()
            raise ConfigError(f"list entries {path}: cannot be used ({error}); choose a writable file") from error

    @property
    def version(self) -> str:
        """Names what holds now: the digest of the last line."""
        rows = self._rows("SELECT digest FROM change ORDER BY number DESC LIMIT 1")
        return str(rows[0][0])[:12] if rows else "0"

    def entries(self) -> list[ListEntry]:
        """Entries that were not removed, the latest state of each."""
        held: dict[tuple[str, str, bool], ListEntry] = {}
        for changed in self.log():
            key = _key(changed.entry)
            if changed.what == "removed":
                held.pop(key, None)
            else:
                held[key] = changed.entry
        return list(held.values())

    def log(self, since_s: float = 0.0, until_s: float = 1e12) -> Iterator[Changed]:
        """Lines of that time, oldest first.

        Raises:
            StoreError: the file cannot be read.
        """
        for number, at_s, what, who, why, entry, _, digest in self._rows(
            "SELECT * FROM change WHERE at_s >= ? AND at_s < ? ORDER BY number", (since_s, until_s)
        ):
            yield Changed(number, at_s, what, who, why, ListEntry.model_validate_json(entry), digest)

    def add(self, entry: ListEntry) -> Changed:
        """Put an entry on its list; one of the same number and kind is replaced.

        Raises:
            StoreError: the disk refused.
        """
        return self._append("added", entry.who, entry.why, entry)

    def remove(self, entry: ListEntry, *, who: str, why: str) -> Changed:
        """Take an entry off its list.

        Raises:
            StoreError: it is not on it, or the disk refused.
        """
        return self._append("removed", who, why, self._held(entry))

    def appeal(
        self, entry: ListEntry, what: Literal["appealed", "appeal_granted", "appeal_refused"], *, who: str, why: str
    ) -> Changed:
        """A number's owner asks, or somebody decides: a granted appeal switches the entry off.

        Raises:
            StoreError: the entry is not there, nobody appealed, or the disk refused.
        """
        held = self._held(entry)
        if what != "appealed" and held.appeal != "open":
            raise StoreError("nobody appealed against this entry, or it was decided already")
        state = {"appealed": "open", "appeal_granted": "granted", "appeal_refused": "refused"}[what]
        return self._append(what, who, why, held.model_copy(update={"appeal": state}))

    def _held(self, entry: ListEntry) -> ListEntry:
        for held in self.entries():
            if _key(held) == _key(entry):
                return held
        raise StoreError("no such list entry; look it up with: scamtap lists show")

    def _append(self, what: Change, who: str, why: str, entry: ListEntry) -> Changed:
        at_s = self._clock()
        try:
            self._db.execute("BEGIN IMMEDIATE")  # the chain has one end: two writers take turns
            last = self._db.execute("SELECT number, digest FROM change ORDER BY number DESC LIMIT 1").fetchone()
            number, before = (last[0] + 1, last[1]) if last is not None else (1, FIRST)
            text = entry.model_dump_json()
            digest = _digest(number, at_s, what, who, why, text, before)
            self._db.execute(
                "INSERT INTO change VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (number, at_s, what, who, why, text, before, digest),
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(f"list entries cannot be written ({error}); free some disk") from error
        return Changed(number, at_s, what, who, why, entry, digest)

    def verify(self) -> int | None:
        """The number of the first line that was altered, or after which one is missing; None where all hold."""
        before, expected = FIRST, 1
        for number, at_s, what, who, why, entry, chained, digest in self._rows("SELECT * FROM change ORDER BY number"):
            if (
                number != expected
                or chained != before
                or digest != _digest(number, at_s, what, who, why, entry, before)
            ):
                return int(expected)
            before, expected = digest, expected + 1
        return None

    def _rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"list entries cannot be read ({error}); check the disk") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _key(entry: ListEntry) -> tuple[str, str, bool]:
    return entry.kind, entry.number, entry.is_prefix


def _digest(number: int, at_s: float, what: str, who: str, why: str, entry: str, before: str) -> str:
    line = json.dumps([number, at_s, what, who, why, entry, before], ensure_ascii=True)
    return hashlib.sha256(line.encode()).hexdigest()
