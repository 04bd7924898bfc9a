"""Notices that outlive their call: written down first, then delivered until somebody says they have them.

SQLite in one file. A notice is stored with one row per sink, in one transaction, before anything is sent, so a crash
between the two loses nothing; a sink that fails is retried with growing pauses, across restarts. What is given up goes
to the dead letters before it leaves here.

One process owns the file, and SQLite's exclusive lock sees to it: a second worker is refused in one line. Leases per
row would let workers share, and would need a clock to tell a dead owner from a slow one: after a crash the rest waits
for the lease, after a long pause two send. Workers share nothing else either; each has an outbox of its own, and the
kernel drops the lock with the process, however that ends.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import structlog

from inference.alerts.deadletters import DeadLetters
from inference.alerts.notice import Envelope
from inference.errors import AlertError, ConfigError

log = structlog.get_logger(__name__)

SCHEMA_VERSION = 2
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE delivery (
  number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, sink TEXT NOT NULL, call TEXT NOT NULL,
  body TEXT NOT NULL, created_s REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due_s REAL NOT NULL DEFAULT 0,
  UNIQUE (event_id, sink));
CREATE INDEX delivery_due ON delivery (sink, due_s, number);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_COLUMNS = "number, event_id, call, body, sink, attempts, created_s"
LOCK_TIMEOUT_S = 0.5  # for a former worker that is just letting go

# Pauses after each refusal, seconds; then it is given up. The last ones are those that Standard Webhooks suggests; the
# first are shorter, because a warning is worth most while its call is on.
RETRY_AFTER_S = (2.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)

Fate: TypeAlias = Literal["retry", "dead_letter", "dropped"]
"""What becomes of a delivery that failed: tried again, written to the dead letters, or gone, where there are none."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notice owed to one sink.

    Attributes:
        number: of its row; never used again.
        envelope: what is to be delivered.
        sink: to whom.
        attempts: how often the sink has refused it.
        created_s: when it was written down, seconds since the epoch.
    """

    number: int
    envelope: Envelope
    sink: str
    attempts: int
    created_s: float


class Outbox:
    """A bounded, durable queue of deliveries.

    Attributes:
        is_durable: what is owed survives a restart.

    Args:
        path: the database file; None keeps it in memory.
        max_owed: bound on deliveries per sink, so that one sink that is away does not fill the others' room. Beyond it
            the oldest become dead letters, a fresh warning being worth more; where they cannot, :meth:`put` raises.
        dead_letters: where what is given up goes; None: it is gone, and counted.
        retry_after_s: pauses after each refusal.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the file cannot be opened, is no database of ours, or belongs to another worker.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_owed: int = 100_000,
        dead_letters: DeadLetters | None = None,
        retry_after_s: Sequence[float] = RETRY_AFTER_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.is_durable = path is not None
        self._max_owed = max_owed
        self._dead_letters = dead_letters
        self._retry_after_s = tuple(retry_after_s)
        self._clock = clock
        self._delivered: set[int] = set()  # but not yet recorded, the disk being full
        try:
            self._db = _open(path)
            self._owed = Counter(dict(self._db.execute("SELECT sink, COUNT(*) FROM delivery GROUP BY sink")))
        except (sqlite3.Error, OSError) as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                why = f"{path} belongs to another worker that is running; give each worker its own"
            else:
                why = f"alert outbox {path} cannot be opened ({error}); choose a writable file"
            raise ConfigError(f"alerts.outbox_path: {why}") from error

    def put(self, envelopes: Sequence[Envelope], sinks: Sequence[str]) -> None:
        """Owe every envelope to every sink, all or nothing; on the disk when this returns.

        What is owed already, by its id, is not owed twice.

        Raises:
            AlertError: no room, or the disk refused.
        """
        for sink in sinks:
            excess = self._owed[sink] + len(envelopes) - self._max_owed
            if excess > 0:
                self._make_room(sink, excess)
        now_s, new = self._clock(), Counter[str]()
        with self._transaction(is_durable=True):
            for sink in sinks:
                cursor = self._db.executemany(
                    "INSERT INTO delivery (event_id, call, body, sink, created_s) VALUES (?, ?, ?, ?, ?) "
                    "ON CONFLICT (event_id, sink) DO NOTHING",
                    [(envelope.id, envelope.call, envelope.body, sink, now_s) for envelope in envelopes],
                )
                new[sink] = cursor.rowcount
        self._owed += new

    def _make_room(self, sink: str, excess: int) -> None:
        full = f"alert outbox is full ({self._max_owed} deliveries); is {sink} down?"
        if self._dead_letters is None:
            raise AlertError(full)
        oldest = self._select("WHERE sink = ? ORDER BY number LIMIT ?", (sink, excess))
        if len(oldest) < excess:
            raise AlertError(full)
        self._dead_letters.append([(sink, d.envelope, d.attempts) for d in oldest], "outbox full", self._clock())
        log.error("alerts given up: the outbox is full", sink=sink, deliveries=len(oldest))
        self._delete([delivery.number for delivery in oldest])

    def due(self, sink: str, limit: int = 64) -> list[Delivery]:
        """Deliveries of ``sink`` whose time has come: those never tried before, then the others, each oldest first.

        A warning is worth most while its call is on, so a backlog of failed ones must not hold it up.

        Raises:
            AlertError: the outbox cannot be read.
        """
        rows = self._select(
            "WHERE sink = ? AND due_s <= ? ORDER BY due_s, number LIMIT ?",
            (sink, self._clock(), limit + len(self._delivered)),
        )
        return [delivery for delivery in rows if delivery.number not in self._delivered][:limit]

    def done(self, deliveries: Sequence[Delivery]) -> None:
        """The sink has them.

        Raises:
            AlertError: that cannot be recorded. They are not due again in this process; the next call records them too.
        """
        self._delivered.update(delivery.number for delivery in deliveries)
        if self._delivered:
            self._delete(sorted(self._delivered))
            self._delivered.clear()

    def failed(self, delivery: Delivery, why: str) -> Fate:
        """The sink refused it: try again later, or give it up where the schedule is used up.

        Raises:
            AlertError: that cannot be recorded; it stays due.
        """
        if delivery.attempts >= len(self._retry_after_s):
            return self._give_up(delivery, why)
        with self._transaction():
            self._db.execute(
                "UPDATE delivery SET attempts = attempts + 1, due_s = ? WHERE number = ?",
                (self._clock() + self._retry_after_s[delivery.attempts], delivery.number),
            )
        return "retry"

    def postpone(self, deliveries: Sequence[Delivery], pause_s: float, why: str) -> list[Fate]:
        """The sink is away, which is no fault of theirs: try others first, and give up only what is very old.

        Raises:
            AlertError: as for :meth:`failed`.
        """
        now_s, give_up_s = self._clock(), sum(self._retry_after_s)
        young = [delivery for delivery in deliveries if now_s - delivery.created_s < give_up_s]
        with self._transaction():
            self._db.executemany(
                "UPDATE delivery SET due_s = ? WHERE number = ?", [(now_s + pause_s, d.number) for d in young]
            )
        old = [delivery for delivery in deliveries if delivery not in young]
        fates: list[Fate] = ["retry"] * len(young)
        return fates + [self._give_up(delivery, why) for delivery in old]

    def _give_up(self, delivery: Delivery, why: str) -> Fate:
        """Into the dead letters, on the disk, and only then out of here."""
        fate: Fate = "dropped"
        if self._dead_letters is not None:
            try:
                self._dead_letters.append(
                    [(delivery.sink, delivery.envelope, delivery.attempts + 1)], why, self._clock()
                )
            except AlertError as error:
                log.error("alert kept, though due to be given up", alert=delivery.envelope.id, why=str(error))
                with self._transaction():
                    due_s = self._clock() + self._retry_after_s[-1]
                    self._db.execute("UPDATE delivery SET due_s = ? WHERE number = ?", (due_s, delivery.number))
                return "retry"
            fate = "dead_letter"
        self._delete([delivery.number])
        log.error("alert given up", sink=delivery.sink, alert=delivery.envelope.id, fate=fate, why=why)
        return fate

    def pending(self) -> int:
        """How many deliveries are owed."""
        return self._owed.total() - len(self._delivered)

    def _select(self, where: str, values: tuple[Any, ...]) -> list[Delivery]:
        try:
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM delivery {where}", values).fetchall()  # noqa: S608 -- ours
        except sqlite3.Error as error:
            raise AlertError(f"alert outbox cannot be read ({error}); check its disk") from error
        return [Delivery(row[0], Envelope(*row[1:4]), *row[4:]) for row in rows]

    def _delete(self, numbers: Sequence[int]) -> None:
        gone = Counter[str]()
        with self._transaction():
            for number in numbers:
                for (sink,) in self._db.execute("DELETE FROM delivery WHERE number = ? RETURNING sink", (number,)):
                    gone[sink] += 1
        self._owed -= gone

    @contextmanager
    def _transaction(self, *, is_durable: bool = False) -> Iterator[None]:
        """All or nothing.

        What is not durable lies with the operating system until the next that is: a power cut may bring a delivered
        notice back, which its receiver knows by the id, and can lose none.
        """
        try:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise AlertError(f"alert outbox cannot be written ({error}); free some disk") from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; what is owed stays in it."""
        self._db.close()


def _open(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
    db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=LOCK_TIMEOUT_S)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript("BEGIN EXCLUSIVE; COMMIT")  # takes the lock, which stays
        ((version,),) = db.execute("PRAGMA user_version")
        ((num_tables,),) = db.execute("SELECT COUNT(*) FROM sqlite_master")
        if not num_tables:
            db.executescript(_SCHEMA)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError("made by another version or another program")
    except sqlite3.Error:
        db.close()
        raise
    return db
