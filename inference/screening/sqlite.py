"""Memory that survives its process: windows in this process, written to one SQLite file beside the call path.

What people said and decided (marks, contacts, shields, preferences) is written within a second; the windows of callers
and habits of callees when the process ends and every minute; the last minutes of a callee never. A crash costs a minute
of counting, never a complaint.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog

from inference.errors import ConfigError, StoreError
from inference.screening.backend import Add, Answer, Command, Drop, Include, MemoryBackend, Put
from inference.screening.beside import in_thread

log = structlog.get_logger(__name__)

DURABLE_EVERY_S = 1.0
ALL_EVERY_S = 60.0
DURABLE_KEYS = ("m:", "k:", "r:", "g:", "o:", "s:")
PASSING_KEYS = ("w:", "l:", "v:")
"""Gone within minutes by themselves: not written at all."""

WRITTEN_AT_ONCE = 1000
"""Keys copied in one turn of the loop, a few milliseconds, and written in one transaction."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS field (key TEXT, field TEXT, value TEXT, PRIMARY KEY (key, field)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member (key TEXT, member TEXT, PRIMARY KEY (key, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS expiry (key TEXT PRIMARY KEY, until_s REAL) WITHOUT ROWID;
"""


class SqliteBackend(MemoryBackend):
    """A :class:`MemoryBackend` that reads its file when it is made and writes it as time goes by.

    Args:
        path: the file; one process at a time has it.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the file cannot be opened, is no database, or another process has it.
    """

    def __init__(self, path: Path, *, max_keys: int = 2_000_000, clock: Callable[[], float] = time.time) -> None:
        super().__init__(max_keys=max_keys, clock=clock)
        self._path = path
        self._dirty: set[str] = set()
        self._writing = asyncio.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
            self._load()
        except (sqlite3.Error, OSError) as error:
            if hasattr(self, "_db"):
                self._db.close()
            raise ConfigError(
                f"screening.path: {path} cannot be used ({error}); choose a writable file that no other worker has"
            ) from error

    def _load(self) -> None:
        now_s = self._clock()
        with contextlib.closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            for table in ("field", "member"):
                cursor.execute(
                    f"DELETE FROM {table} WHERE key IN (SELECT key FROM expiry WHERE until_s < ?)",  # noqa: S608
                    (now_s,),
                )
            cursor.execute("DELETE FROM expiry WHERE until_s < ?", (now_s,))
            cursor.execute("COMMIT")
            for key, until_s in cursor.execute("SELECT key, until_s FROM expiry"):
                self._restore(key, until_s)
            for key, field, value in cursor.execute("SELECT key, field, value FROM field"):
                self.fields.setdefault(key, {})[field] = value
            for key, member in cursor.execute("SELECT key, member FROM member"):
                self.sets.setdefault(key, set()).add(member)

    async def run(self, commands: Sequence[Command]) -> list[Answer]:
        """See :class:`Backend`; never waits for the disk."""
        self._dirty.update(
            command.key
            for command in commands
            if isinstance(command, Add | Put | Include | Drop) and command.key[:2] not in PASSING_KEYS
        )
        return await super().run(commands)

    def _forget(self, key: str) -> None:
        super()._forget(key)
        if key[:2] not in PASSING_KEYS:
            self._dirty.add(key)  # its rows are to go, too

    async def keep_writing(self) -> None:
        """Write what changed, for ever; a full disk is said once and tried again."""
        written_s, is_failing = self._clock(), False
        while True:
            await asyncio.sleep(DURABLE_EVERY_S)
            is_all = self._clock() - written_s >= ALL_EVERY_S
            try:
                await self.write(everything=is_all)
            except StoreError as error:
                if not is_failing:
                    log.error("screening memory not written", why=str(error))
                is_failing = True
                continue
            is_failing = False
            if is_all:
                written_s = self._clock()

    async def write(self, *, everything: bool = True) -> None:
        """Write the keys that changed, or only those that must not be lost.

        Raises:
            StoreError: the disk refused; they stay to be written.
        """
        async with self._writing:
            chosen = [key for key in self._dirty if everything or key.startswith(DURABLE_KEYS)]
            for at in range(0, len(chosen), WRITTEN_AT_ONCE):
                keys = chosen[at : at + WRITTEN_AT_ONCE]
                # Copied in the loop's own turn, written in a thread: nothing changes under the writer's hands.
                rows = [
                    (key, dict(self.fields.get(key, {})), set(self.sets.get(key, ())), self.expires_s.get(key))
                    for key in keys
                ]
                self._dirty.difference_update(keys)
                try:
                    await in_thread(partial(self._write, rows))
                except sqlite3.Error as error:
                    self._dirty.update(keys)
                    raise StoreError(f"{self._path}: {error}; free some disk") from error

    def _write(self, rows: Sequence[tuple[str, dict[str, str], set[str], float | None]]) -> None:
        with contextlib.closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                keys = [(key,) for key, *_ in rows]
                cursor.executemany("DELETE FROM field WHERE key = ?", keys)
                cursor.executemany("DELETE FROM member WHERE key = ?", keys)
                cursor.executemany("DELETE FROM expiry WHERE key = ?", keys)
                kept = [row for row in rows if row[3] is not None]
                cursor.executemany(
                    "INSERT INTO field VALUES (?, ?, ?)",
                    [(key, field, value) for key, fields, _, _ in kept for field, value in fields.items()],
                )
                cursor.executemany(
                    "INSERT INTO member VALUES (?, ?)", [(key, member) for key, _, of, _ in kept for member in of]
                )
                cursor.executemany("INSERT INTO expiry VALUES (?, ?)", [(key, until_s) for key, _, _, until_s in kept])
                cursor.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    async def aclose(self) -> None:
        """Write everything and close the file."""
        try:
            await self.write()
        except StoreError as error:
            log.error("screening memory not written", why=str(error))
        self._db.close()
