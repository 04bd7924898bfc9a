"""Keys with fields, counters and sets that expire: the little that screening asks of a place to remember in.

A request is a batch of commands, answered in order, in one round trip. The arithmetic over what comes back is in
:mod:`inference.screening.callers` and :mod:`inference.screening.callees`, the same for every backend, so decisions do
not depend on where things are kept.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from inference.errors import StoreError
from inference.screening.lifetimes import Lifetimes

MAX_UNION = 512
"""Members beyond which no union is made any more, and those in two sets count twice: nobody so busy is told apart."""

COUNTED_KEYS = frozenset(("c:", "d:", "f:", "l:", "v:", "w:", "b:", "p:"))
"""What traffic alone makes: the longest idle goes when memory is full. What people said and decided never goes so."""


@dataclass(frozen=True, slots=True)
class Add:
    """Add to a counter of a key; the key lives for ``ttl_s`` from now on. Answers nothing."""

    key: str
    field: str
    number: int
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Put:
    """Set a field, unless it is there and ``is_first`` holds; None takes it away. Answers nothing.

    ``max_fields`` bounds the key: beyond it a new field is not taken.
    """

    key: str
    field: str
    value: str | None
    ttl_s: int
    is_first: bool = False
    max_fields: int = 4096


@dataclass(frozen=True, slots=True)
class Fields:
    """Answers all fields of a key: ``{field: text}``, to be read before the next request."""

    key: str


@dataclass(frozen=True, slots=True)
class Field:
    """Answers one field of a key, or None."""

    key: str
    field: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Take fields of a key away. Answers nothing."""

    key: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Include:
    """Put a member into a set that is only counted. Answers nothing."""

    key: str
    member: str
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Distinct:
    """Answers how many members the union of such sets has, or nearly."""

    keys: tuple[str, ...]


Command: TypeAlias = Add | Put | Fields | Field | Drop | Include | Distinct
Answer: TypeAlias = dict[str, str] | str | int | None


class Backend(Protocol):
    """Where things are kept.

    Attributes:
        waits: whether an answer may be long in coming; in this process none is.
    """

    waits: bool

    async def run(self, commands: Sequence[Command]) -> list[Answer]:
        """Answer every command, in order; commands without an answer give None.

        Raises:
            StoreError: it is away, or full. Some of the commands may have been carried out.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; what is to outlive the process is written."""
        ...


class MemoryBackend:
    """In this process.

    Args:
        max_keys: bound; beyond it the longest idle key of :data:`COUNTED_KEYS` goes for each new one, so a flood of
            spoofed numbers drives out itself first. StoreError where there is none left to go.
        max_members: of one counted set; beyond it, members are counted as seen. Redis estimates there.
        clock: seconds; decides when keys expire.

    Attributes:
        fields, sets: what is kept, by key.
        lifetimes: until when.
        num_evicted: keys that went before their time.
    """

    waits = False

    def __init__(
        self, *, max_keys: int = 2_000_000, max_members: int = 65_536, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_keys = max_keys
        self._max_members = max_members
        self._clock = clock
        self.fields: dict[str, dict[str, str]] = {}
        # Fields and members stand in dicts of nothing but strings, which the garbage collector leaves out of its
        # passes; it visits every set, and with a million of them a pass would hold calls up for tenths of a second.
        self.sets: dict[str, dict[str, None]] = {}
        self.num_evicted = 0
        self._now_s = clock()  # of the request under way
        self.lifetimes = Lifetimes(max_keys, self._now_s)

    def __len__(self) -> int:
        return len(self.fields) + len(self.sets)

    async def run(self, commands: Sequence[Command]) -> list[Answer]:
        """See :class:`Backend`; never waits."""
        self.sweep()
        return [self._one(command) for command in commands]

    def _one(self, command: Command) -> Answer:
        # The commonest first: this is most of what a decision costs.
        if isinstance(command, Add):
            held = self._of(command.key, command.ttl_s)
            held[command.field] = str(int(held.get(command.field, "0")) + command.number)
        elif isinstance(command, Field):
            found = self.fields.get(command.key)
            return None if found is None else found.get(command.field)
        elif isinstance(command, Fields):
            return self.fields.get(command.key, {})
        elif isinstance(command, Put):
            self._put(command)
        elif isinstance(command, Include):
            members = self._set_of(command.key, command.ttl_s)
            if len(members) < self._max_members:
                members[command.member] = None
        elif isinstance(command, Distinct):
            sets = [self.sets[key] for key in command.keys if key in self.sets]
            if len(sets) == 1:
                return len(sets[0])
            total = sum(map(len, sets))
            return len(set().union(*sets)) if total <= MAX_UNION else total
        else:
            held = self.fields.get(command.key, {})
            for field in command.fields:
                held.pop(field, None)
        return None

    def _put(self, command: Put) -> None:
        if command.value is None:
            self.fields.get(command.key, {}).pop(command.field, None)
            return
        known = self.fields.get(command.key)
        if known is not None and command.field not in known and len(known) >= command.max_fields:
            return
        held = self._of(command.key, command.ttl_s)
        if command.field not in held or not command.is_first:
            held[command.field] = command.value

    def _of(self, key: str, ttl_s: int) -> dict[str, str]:
        held = self.fields.get(key)
        if held is None:
            if len(self.fields) + len(self.sets) >= self._max_keys:
                self._make_room()
            held = self.fields[key] = {}
        self._keep(key, self._now_s + ttl_s)
        return held

    def _set_of(self, key: str, ttl_s: int) -> dict[str, None]:
        held = self.sets.get(key)
        if held is None:
            if len(self.fields) + len(self.sets) >= self._max_keys:
                self._make_room()
            held = self.sets[key] = {}
        self._keep(key, self._now_s + ttl_s)
        return held

    def _make_room(self) -> None:
        while len(self) >= self._max_keys and self.lifetimes.is_due:
            self.sweep()
        if len(self) < self._max_keys:
            return
        idle = self.lifetimes.longest_idle()
        if idle is None:
            raise StoreError(
                f"screening remembers {self._max_keys} keys already: use Redis, or add memory and raise it"
            )
        self.num_evicted += 1
        self._forget(idle)

    def _keep(self, key: str, until_s: float) -> None:
        self.lifetimes.keep(key, until_s, may_go=key[:2] in COUNTED_KEYS)

    def _forget(self, key: str) -> None:
        self.lifetimes.forget(key)
        self.fields.pop(key, None)
        self.sets.pop(key, None)

    def sweep(self) -> None:
        """Forget some of what has expired; nearly free where nothing has."""
        self._now_s = self._clock()
        for key in self.lifetimes.sweep(self._now_s):
            self._forget(key)

    async def aclose(self) -> None:
        """Nothing is held elsewhere."""
        await asyncio.sleep(0)
