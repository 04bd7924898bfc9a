"""Lists that follow their files: what ``scamtap lists`` changes, serving workers know about a second later."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from inference.errors import ConfigError, StoreError
from inference.screening.beside import in_thread
from inference.screening.bulk import load_bulk
from inference.screening.entries import EntryBook
from inference.screening.lists import BulkList, ListEntry, NumberLists

log = structlog.get_logger(__name__)

EVERY_S = 1.0

Signature = tuple[tuple[str, int, int, int], ...]


def signature(folder: Path | None) -> Signature:
    """What the files of published lists look like from outside: name, inode, size, time of change."""
    found = []
    for path in sorted(folder.glob("*.npz")) if folder is not None else ():
        try:
            seen = path.stat()
        except OSError:
            continue  # taken away meanwhile
        found.append((path.name, seen.st_ino, seen.st_size, seen.st_mtime_ns))
    return tuple(found)


class ListReloader:
    """Looks at the files once a second, reads what changed in a thread, and swaps it in one step.

    A file that cannot be read leaves the lists as they were; that is said once.

    Args:
        lists: replaced part by part.
        entries: list entries; another process may write them.
        folder: of published lists; None for none.
        seen: the folder's :func:`signature` taken before ``lists`` were read from it.

    Attributes:
        num_reloads: how often something new was taken over.
        num_failures: how often it could not be read.
    """

    def __init__(self, lists: NumberLists, entries: EntryBook, folder: Path | None, seen: Signature) -> None:
        self._lists = lists
        self._entries = entries
        self._folder = folder
        self._seen = seen
        self._version = lists.entries_version
        self._is_failing = False
        self.num_reloads = 0
        self.num_failures = 0

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.check()

    async def check(self) -> None:
        """Look once, and take over what changed."""
        try:
            await in_thread(self._read)
        except (ConfigError, StoreError) as error:
            self.num_failures += 1
            if not self._is_failing:
                log.error("lists not reloaded: the former ones hold", why=str(error))
            self._is_failing = True
        else:
            self._is_failing = False

    def _read(self) -> None:
        version = self._entries.version
        if version != self._version:
            held: Sequence[ListEntry] = self._entries.entries()
            self._lists.replace_entries(held, version)  # one assignment, seen whole by whoever looks up
            self._version, self.num_reloads = version, self.num_reloads + 1
        seen = signature(self._folder)
        if seen != self._seen and self._folder is not None:
            bulk: Sequence[BulkList] = load_bulk(self._folder)
            self._lists.replace_bulk(bulk)
            self._seen, self.num_reloads = seen, self.num_reloads + 1
