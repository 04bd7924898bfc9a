"""Alerts that outlive their call: written down first, then delivered until somebody says they have them.

SQLite in one file. An alert is stored with one row per channel, in one transaction, before anything is sent, so a crash
between the two loses nothing; a channel that fails is retried with growing pauses, across restarts.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import AlertError, ConfigError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS delivery (
  alert_id TEXT NOT NULL, channel TEXT NOT NULL, body TEXT NOT NULL, created_s REAL NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, due_s REAL NOT NULL, PRIMARY KEY (alert_id, channel));
CREATE INDEX IF NOT EXISTS delivery_due ON delivery (channel, due_s);
"""
# Standard Webhooks' suggested schedule, seconds after each failed attempt; then dropped and counted.
RETRY_AFTER_S = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One alert owed to one channel."""

    alert_id: str
    channel: str
    body: str
    attempts: int


def body_text(body: Mapping[str, Any]) -> str:
    """An alert as it goes over the wire."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


class Outbox:
    """A bounded, durable queue of deliveries.

    Attributes:
        is_durable: what is owed survives a restart.

    Args:
        path: the database file; None keeps it in memory.
        max_pending: bound on rows; beyond it :meth:`put` raises, because silently dropping an alert is worse.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the file cannot be opened, or is no database.
    """

    def __init__(
        self, path: Path | None, *, max_pending: int = 100_000, clock: Callable[[], float] = time.time
    ) -> None:
        self.is_durable = path is not None
        self._max_pending = max_pending
        self._clock = clock
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            if hasattr(self, "_db"):
                self._db.close()
            raise ConfigError(
                f"alerts.outbox_path: alert outbox {path} cannot be opened ({error}); choose a writable file"
            ) from error

    def put(self, alert_id: str, body: Mapping[str, Any], channels: Sequence[str]) -> None:
        """Owe ``body`` to every channel, atomically. Putting the same alert twice changes nothing.

        Raises:
            AlertError: the outbox is full or the disk refused.
        """
        if self.pending() + len(channels) > self._max_pending:
            raise AlertError(f"alert outbox is full ({self._max_pending} deliveries); is the webhook down?")
        now_s = self._clock()
        text = body_text(body)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO delivery (alert_id, channel, body, created_s, due_s) VALUES (?, ?, ?, ?, ?)",
                [(alert_id, channel, text, now_s, now_s) for channel in channels],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise AlertError(f"alert outbox cannot be written ({error}); free some disk") from error

    def due(self, channel: str, limit: int = 64) -> list[Delivery]:
        """Deliveries of ``channel`` whose time has come: those never tried before, then the others, each oldest first.

        A warning is worth most while its call is on, so a backlog of failed ones must not hold it up.
        """
        rows = self._execute(
            "SELECT alert_id, channel, body, attempts FROM delivery WHERE channel = ? AND due_s <= ? "
            "ORDER BY attempts > 0, created_s LIMIT ?",
            (channel, self._clock(), limit),
        )
        return [Delivery(*row) for row in rows]

    def done(self, delivery: Delivery) -> None:
        """The channel has it."""
        self._execute("DELETE FROM delivery WHERE alert_id = ? AND channel = ?", (delivery.alert_id, delivery.channel))

    def failed(self, delivery: Delivery) -> bool:
        """Try again later; False where the schedule is used up and the delivery is given up."""
        if delivery.attempts >= len(RETRY_AFTER_S):
            self.done(delivery)
            return False
        self._execute(
            "UPDATE delivery SET attempts = attempts + 1, due_s = ? WHERE alert_id = ? AND channel = ?",
            (self._clock() + RETRY_AFTER_S[delivery.attempts], delivery.alert_id, delivery.channel),
        )
        return True

    def pending(self) -> int:
        """How many deliveries are owed."""
        ((count,),) = self._execute("SELECT COUNT(*) FROM delivery")
        return int(count)

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise AlertError(f"alert outbox cannot be used ({error}); check its disk") from error

    def close(self) -> None:
        """Close the file; what is owed stays in it."""
        self._db.close()
