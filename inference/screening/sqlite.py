"""Memory that survives its process: windows in this process, written to one SQLite file beside the call path.

What people said and decided (marks, contacts, shields, preferences) is written within a second; the windows of callers
and habits of callees when the process ends and, little by little, those of a minute in the minute after; the last
minutes of a callee never. A crash costs two minutes of counting, never a complaint.
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
DURABLE_KEYS = frozenset(("m:", "k:", "r:", "g:", "o:", "s:"))
PASSING_KEYS = frozenset(("w:", "l:", "v:"))
"""Gone within minutes by themselves: not written at all."""

WRITTEN_AT_ONCE = 1000
"""Keys copied in one turn of the loop, a few milliseconds, and written in one transaction."""

TRICKLE, REST = 250, 1.0
"""Of windows, so many at a time while calls are decided (2 ms), and then a rest of so many times as long as it took."""

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
        # Apart, so that looking for what is due in a second does not pass over a minute's windows.
        self._dirty: dict[str, None] = {}
        self._dirty_windows: dict[str, None] = {}
        self._leaving: dict[str, None] = {}  # windows of the minute before, being written
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
                self._keep(key, until_s)
            for key, field, value in cursor.execute("SELECT key, field, value FROM field"):
                self.fields.setdefault(key, {})[field] = value
            for key, member in cursor.execute("SELECT key, member FROM member"):
                self.sets.setdefault(key, {})[member] = None

    async def run(self, commands: Sequence[Command]) -> list[Answer]:
        """See :class:`Backend`; never waits for the disk."""
        for command in commands:
            if isinstance(command, Add | Put | Include | Drop):
                self._touch(command.key)
        return await super().run(commands)

    def _touch(self, key: str) -> None:
        kind = key[:2]
        if kind in DURABLE_KEYS:
            self._dirty[key] = None
        elif kind not in PASSING_KEYS:
            self._dirty_windows[key] = None

    def _forget(self, key: str) -> None:
        super()._forget(key)
        self._touch(key)  # its rows are to go, too

    async def keep_writing(self) -> None:
        """Write what changed, for ever; a full disk is said once and tried again.

        The windows of a busy minute are half a million keys. They are written a few at a time, with rests in which the
        loop has the interpreter for itself: at once, they made calls wait for seconds.
        """
        said_s = begun_s = self._clock()
        rest_s, is_failing = DURABLE_EVERY_S, False
        while True:
            await asyncio.sleep(rest_s)
            at_s, now_s = time.monotonic(), self._clock()
            try:
                if abs(now_s - said_s) >= DURABLE_EVERY_S or is_failing:
                    await self.write(everything=False)
                    said_s = now_s
                if not self._leaving and abs(now_s - begun_s) >= ALL_EVERY_S:
                    self._leaving, self._dirty_windows, begun_s = self._dirty_windows, {}, now_s
                async with self._writing:
                    await self._write_some(self._leaving, TRICKLE)
            except StoreError as error:
                if not is_failing:
                    log.error("screening memory not written", why=str(error))
                rest_s, is_failing = DURABLE_EVERY_S, True
                continue
            is_failing = False
            rest_s = REST * (time.monotonic() - at_s) if self._leaving else DURABLE_EVERY_S

    async def write(self, *, everything: bool = True) -> None:
        """Write the keys that changed, or only those that must not be lost.

        Raises:
            StoreError: the disk refused; they stay to be written.
        """
        async with self._writing:
            said, self._dirty = self._dirty, {}
            try:
                await self._write_all(said)
            finally:
                self._dirty |= said
            if everything:
                await self._write_all(self._leaving)
                self._leaving, self._dirty_windows = self._dirty_windows, {}
                await self._write_all(self._leaving)

    async def _write_all(self, keys: dict[str, None]) -> None:
        while keys:
            await self._write_some(keys, WRITTEN_AT_ONCE)

    async def _write_some(self, keys: dict[str, None], at_once: int) -> None:
        """Write some of these keys and take them out."""
        taken = [keys.popitem()[0] for _ in range(min(len(keys), at_once))]
        if not taken:
            return
        # Copied in the loop's own turn, written in a thread: nothing changes under the writer's hands.
        rows = [
            (key, dict(self.fields.get(key, {})), tuple(self.sets.get(key, ())), self.lifetimes.expires_s(key))
            for key in taken
        ]
        try:
            await in_thread(partial(self._write, rows))
        except sqlite3.Error as error:
            keys |= dict.fromkeys(taken)
            raise StoreError(f"{self._path}: {error}; free some disk") from error

    def _write(self, rows: Sequence[tuple[str, dict[str, str], tuple[str, ...], float | None]]) -> None:
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
