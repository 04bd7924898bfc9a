"""Lists of numbers: who is let through, who is not, who never originates a call, and who says so.

Two kinds of one shape. *Entries* are what people decide one at a time: kept in SQLite, with who, why, until when and
the state of an appeal. *Bulk lists* are what regulators and partners publish by the million: imported as a whole into
sorted arrays, swapped in one step, a few bytes a number. Looking up is a hash probe per prefix length, or a bisection.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

ListKind = Literal["allow", "deny", "do_not_originate", "business"]
"""``allow``/``deny``: of callers. ``do_not_originate``: numbers that never place calls, e.g. a bank's inbound hotline.
``business``: verified organisations, for contacts and labels."""

AppealState = Literal["none", "open", "granted", "refused"]

LIST_NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"

MAX_DIGITS = 15
"""E.164."""


class ListEntry(BaseModel):
    """One number, or all that begin with a prefix, on one list.

    Attributes:
        kind: which list.
        number: digits, E.164 without ``+``, or a short code.
        is_prefix: every number that begins so.
        category: what for, e.g. ``parcel``; shown in labels.
        who, why: decided by whom, on what ground.
        expires_s: seconds since the epoch; None for good.
        appeal: where an appeal of the number's owner stands; a granted one switches the entry off.
        of_list: name of the published list that an appeal is against: such an entry lists nobody by itself, and granted
            it takes this one number off that list, whatever is published under its name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ListKind
    number: Annotated[str, Field(pattern=r"^[0-9]{1,15}$")]
    is_prefix: bool = False
    category: Annotated[str, Field(pattern=r"^[A-Za-z0-9_ .-]{1,64}$")] = "other"
    who: Annotated[str, Field(min_length=1, max_length=200)]
    why: Annotated[str, Field(min_length=1, max_length=500)]
    expires_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    appeal: AppealState = "none"
    of_list: Annotated[str, Field(pattern=LIST_NAME)] | None = None

    def holds(self, at_s: float) -> bool:
        """Whether it applies at a time."""
        return self.of_list is None and self.appeal != "granted" and (self.expires_s is None or at_s < self.expires_s)


@dataclass(frozen=True, slots=True)
class Hit:
    """A number was found on a list.

    Attributes:
        kind: which list.
        list_name: ``entries``, or the bulk list's name.
        category: what for.
        num_digits: how many leading digits matched: the longer, the more particular.
        is_exact: the very number, not a prefix.
        version: of that list, shortened.
    """

    kind: ListKind
    list_name: str
    category: str
    num_digits: int
    is_exact: bool
    version: str = "0"

    def __str__(self) -> str:
        return f"{self.kind}:{self.list_name}@{self.version}"


@dataclass(frozen=True, slots=True)
class BulkList:
    """A published list, ready to be looked up.

    Attributes:
        name: whose.
        kind: which list it is part of.
        version: digest of its content.
        numbers: int64 ``[N]``, sorted, exact numbers.
        categories: uint8 ``[N]``, index into ``category_names``.
        prefixes: prefix -> category.
        category_names: at most 256.
    """

    name: str
    kind: ListKind
    version: str
    numbers: npt.NDArray[np.int64]
    categories: npt.NDArray[np.uint8]
    prefixes: Mapping[str, str]
    category_names: tuple[str, ...]

    def find(self, number: str) -> Hit | None:
        """The most particular match of a number (digits), or None."""
        if number[0] != "0":  # as an integer a leading zero would be lost: such short codes are prefixes or entries
            value = int(number)
            at = int(np.searchsorted(self.numbers, value))
            if at < len(self.numbers) and int(self.numbers[at]) == value:
                category = self.category_names[int(self.categories[at])]
                return Hit(self.kind, self.name, category, len(number), is_exact=True, version=self.version[:12])
        for size in range(len(number), 0, -1):
            named = self.prefixes.get(number[:size])
            if named is not None:
                return Hit(self.kind, self.name, named, size, is_exact=False, version=self.version[:12])
        return None


class NumberLists:
    """All lists of a worker, as they are now; replaced part by part, looked up without a lock.

    Args:
        entries: decided one at a time.
        bulk: published lists.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        entries: Iterable[ListEntry] = (),
        bulk: Iterable[BulkList] = (),
        *,
        entries_version: str = "0",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._bulk: tuple[BulkList, ...] = tuple(bulk)
        self._by_number: dict[tuple[str, bool], tuple[ListEntry, ...]] = {}
        self._sizes: tuple[int, ...] = ()
        self._taken_off: frozenset[tuple[str, str]] = frozenset()
        self._entries_version = entries_version
        self.replace_entries(entries, entries_version)

    @property
    def entries_version(self) -> str:
        """Names the entries that are held."""
        return self._entries_version

    @property
    def version(self) -> str:
        """Names the content of all lists: equal versions, equal answers."""
        return "+".join([f"entries:{self._entries_version}", *(f"{b.name}:{b.version[:12]}" for b in self._bulk)])

    @property
    def bulk(self) -> tuple[BulkList, ...]:
        """Published lists, as they are now."""
        return self._bulk

    def replace_entries(self, entries: Iterable[ListEntry], version: str) -> None:
        """Swap all entries at once."""
        found: dict[tuple[str, bool], tuple[ListEntry, ...]] = {}
        taken_off = set()
        for entry in entries:
            if entry.of_list is not None:
                if entry.appeal == "granted":
                    taken_off.add((entry.of_list, entry.number))
                continue
            key = (entry.number, entry.is_prefix)
            found[key] = (*found.get(key, ()), entry)
        # Lengths of numbers first: whoever looks up meanwhile probes one too many, never one too few.
        sizes = {len(number) for number, _ in found}
        self._sizes = tuple(sorted(sizes.union(self._sizes), reverse=True))
        self._by_number, self._entries_version = found, version
        self._sizes = tuple(sorted(sizes, reverse=True))
        self._taken_off = frozenset(taken_off)

    def replace_bulk(self, bulk: Iterable[BulkList]) -> None:
        """Swap all published lists at once."""
        self._bulk = tuple(bulk)

    def find(self, number: str | None, at_s: float | None = None) -> list[Hit]:
        """Every list that the number is on, the most particular match of each kind first.

        Args:
            number: digits; None is on no list.
            at_s: seconds since the epoch; None for now.
        """
        if not number or len(number) > MAX_DIGITS:
            return []
        now_s = self._clock() if at_s is None else at_s
        hits = [
            hit
            for bulk in self._bulk
            if (hit := bulk.find(number)) is not None and (bulk.name, number) not in self._taken_off
        ]
        for size in self._sizes:
            if size > len(number):
                continue
            for is_exact in (True, False) if size == len(number) else (False,):
                hits += [
                    Hit(entry.kind, "entries", entry.category, size, is_exact, self._entries_version)
                    for entry in self._by_number.get((number[:size], not is_exact), ())
                    if entry.holds(now_s)
                ]
        return sorted(hits, key=lambda hit: (-hit.num_digits, not hit.is_exact))
