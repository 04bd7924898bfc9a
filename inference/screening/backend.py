"""Keys with fields, counters and sets that expire: the little that screening asks of a place to remember in.

A request is a batch of commands, answered in order, in one round trip. The arithmetic over what comes back is
:mod:`inference.screening.windows`, the same for every backend, so decisions do not depend on where things are kept.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from inference.errors import StoreError

MAX_UNION = 512
"""Members beyond which no union is made any more, and those in two sets count twice: nobody so busy is told apart."""


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
    """Answers all fields of a key: ``{field: text}``."""

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
    """Where things are kept."""

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
        max_keys: bound; beyond it StoreError is raised, and screening goes on without memory of new numbers.
        max_members: of one counted set; beyond it, members are counted as seen. Redis estimates there.
        clock: seconds; decides when keys expire.
    """

    def __init__(
        self, *, max_keys: int = 4_000_000, max_members: int = 65_536, clock: Callable[[], float] = time.time
    ) -> None:
        self._max_keys = max_keys
        self._max_members = max_members
        self._clock = clock
        self.fields: dict[str, dict[str, str]] = {}
        self.sets: dict[str, set[str]] = {}
        self.expires_s: dict[str, float] = {}
        self._expiring: defaultdict[int, set[str]] = defaultdict(set)  # minute -> keys that may expire in it
        self._swept_minute = int(clock() // 60)

    def __len__(self) -> int:
        return len(self.fields) + len(self.sets)

    async def run(self, commands: Sequence[Command]) -> list[Answer]:
        """See :class:`Backend`; never waits."""
        self.sweep()
        return [self._one(command) for command in commands]

    def _one(self, command: Command) -> Answer:
        match command:
            case Add():
                held = self._of(command.key, command.ttl_s)
                held[command.field] = str(int(held.get(command.field, "0")) + command.number)
            case Put():
                self._put(command)
            case Fields():
                return dict(self.fields.get(command.key, {}))
            case Field():
                return self.fields.get(command.key, {}).get(command.field)
            case Drop():
                held = self.fields.get(command.key, {})
                for field in command.fields:
                    held.pop(field, None)
            case Include():
                members = self._set_of(command.key, command.ttl_s)
                if len(members) < self._max_members:
                    members.add(command.member)
            case Distinct():
                found = [self.sets[key] for key in command.keys if key in self.sets]
                total = sum(map(len, found))
                return len(set().union(*found)) if total <= MAX_UNION else total
        return None

    def _put(self, command: Put) -> None:
        if command.value is None:
            self.fields.get(command.key, {}).pop(command.field, None)
            return
        held = self._of(command.key, command.ttl_s)
        if command.field in held:
            if not command.is_first:
                held[command.field] = command.value
        elif len(held) < command.max_fields:
            held[command.field] = command.value

    def _of(self, key: str, ttl_s: int) -> dict[str, str]:
        held = self.fields.get(key)
        if held is None:
            self._refuse_when_full()
            held = self.fields[key] = {}
        self._keep(key, ttl_s)
        return held

    def _set_of(self, key: str, ttl_s: int) -> set[str]:
        held = self.sets.get(key)
        if held is None:
            self._refuse_when_full()
            held = self.sets[key] = set()
        self._keep(key, ttl_s)
        return held

    def _refuse_when_full(self) -> None:
        if len(self) >= self._max_keys:
            raise StoreError(
                f"screening remembers {self._max_keys} keys already: use Redis, or add memory and raise it"
            )

    def _keep(self, key: str, ttl_s: int) -> None:
        until_s = self._clock() + ttl_s
        known_s = self.expires_s.get(key)
        self.expires_s[key] = until_s
        if known_s is None or int(known_s // 60) != int(until_s // 60):
            self._expiring[int(until_s // 60)].add(key)

    def sweep(self) -> None:
        """Forget what has expired; costs nothing between two minutes."""
        now_s = self._clock()
        minute = int(now_s // 60)
        if minute <= self._swept_minute:
            return
        self._swept_minute = minute
        for past in [m for m in self._expiring if m < minute]:
            for key in self._expiring.pop(past):
                if self.expires_s.get(key, 0.0) < now_s:
                    self.expires_s.pop(key, None)
                    self.fields.pop(key, None)
                    self.sets.pop(key, None)

    async def aclose(self) -> None:
        """Nothing is held elsewhere."""
        await asyncio.sleep(0)
