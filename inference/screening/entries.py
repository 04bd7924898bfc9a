"""List entries and everything that was ever done to lists; what holds now is the last word on each.

Nothing is changed in place: a change names who, when and why, and goes to a chained log
(:mod:`inference.screening.chain`).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inference.errors import StoreError
from inference.screening.chain import AuditLog, ChainedLog, Line
from inference.screening.lists import BulkList, ListEntry

Key = tuple[str, str, bool, str | None]
Change = Literal["added", "removed", "appealed", "appeal_granted", "appeal_refused"]
PURPOSE = "list entries"
IMPORTED = "imported"
_STATES = {"appealed": "open", "appeal_granted": "granted", "appeal_refused": "refused"}


@dataclass(frozen=True, slots=True)
class Changed:
    """One change of a list.

    Attributes:
        number: of its line in the log.
        at_s: when, seconds since the epoch.
        what: was done, by ``who``, on the ground of ``why``.
        entry: after it.
    """

    number: int
    at_s: float
    what: str
    who: str
    why: str
    entry: ListEntry


@dataclass(frozen=True, slots=True)
class Import:
    """A published list was imported.

    Attributes:
        at_s: when, seconds since the epoch.
        who, why: by whom, on what ground.
        version: digest of its content.
    """

    at_s: float
    who: str
    why: str
    version: str


class EntryBook:
    """The log of list entries, and what holds now.

    Args:
        where: the file, or a log that lies elsewhere; None keeps it in the process.
        clock: seconds since the epoch.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, where: Path | AuditLog | None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._log: AuditLog
        self._log = ChainedLog(where, PURPOSE) if where is None or isinstance(where, Path) else where

    @property
    def version(self) -> str:
        """Names what holds now.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._log.version

    def entries(self) -> list[ListEntry]:
        """Entries that were not removed, the latest state of each.

        Raises:
            StoreError: the file cannot be read.
        """
        held: dict[Key, ListEntry] = {}
        for changed in self.log():
            if changed.what == "removed":
                held.pop(_key(changed.entry), None)
            else:
                held[_key(changed.entry)] = changed.entry
        return list(held.values())

    def log(self, since_s: float = 0.0, until_s: float = 1e12) -> Iterator[Changed]:
        """Changes of that time, oldest first.

        Raises:
            StoreError: the file cannot be read.
        """
        return (_changed(line) for line in self._log.lines(since_s, until_s) if line.what != IMPORTED)

    def imports(self) -> dict[str, Import]:
        """The latest import of each published list, by its name.

        Raises:
            StoreError: the file cannot be read.
        """
        lines = ((line, line.values()) for line in self._log.lines() if line.what == IMPORTED)
        found = ((line.at_s, body["who"], body["why"], body["list"]) for line, body in lines)
        return {made["name"]: Import(at_s, who, why, made["version"]) for at_s, who, why, made in found}

    def imported(self, made: BulkList, *, who: str, why: str) -> Line:
        """Note that a published list was imported, in place of the former one of its name.

        Raises:
            StoreError: the disk refused.
        """
        about = {
            "name": made.name, "kind": made.kind, "version": made.version, "numbers": len(made.numbers),
            "prefixes": len(made.prefixes),
        }  # fmt: skip
        (line,) = self._log.append([(self._clock(), IMPORTED, {"who": who, "why": why, "list": about})])
        return line

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

        An appeal against a published list (``entry.of_list``) makes its entry.

        Raises:
            StoreError: the entry is not there, nobody appealed, or the disk refused.
        """
        is_first = what == "appealed" and entry.of_list is not None and entry not in self
        held = entry if is_first else self._held(entry)
        if what != "appealed" and held.appeal != "open":
            raise StoreError("nobody appealed against this entry, or it was decided already")
        return self._append(what, who, why, held.model_copy(update={"appeal": _STATES[what]}))

    def __contains__(self, entry: object) -> bool:
        return isinstance(entry, ListEntry) and any(_key(held) == _key(entry) for held in self.entries())

    def _held(self, entry: ListEntry) -> ListEntry:
        for held in self.entries():
            if _key(held) == _key(entry):
                return held
        raise StoreError("no such list entry; look it up with: scamtap lists show")

    def _append(self, what: Change, who: str, why: str, entry: ListEntry) -> Changed:
        body = {"who": who, "why": why, "entry": entry.model_dump()}
        (line,) = self._log.append([(self._clock(), what, body)])
        return _changed(line)

    def verify(self) -> int | None:
        """The first line that was altered or is missing; None where all hold.

        Raises:
            StoreError: the file cannot be read.
        """
        return self._log.verify()

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def _changed(line: Line) -> Changed:
    body = line.values()
    entry = ListEntry.model_validate(body["entry"])
    return Changed(line.number, line.at_s, line.what, body["who"], body["why"], entry)


def _key(entry: ListEntry) -> Key:
    return entry.kind, entry.number, entry.is_prefix, entry.of_list
