"""Hands events to whoever follows them, without ever waiting for a slow reader."""

import asyncio
from collections import deque

from inference.errors import CapacityError
from inference.service.events import Event

MAX_WAITING = 1024
"""Events kept for one follower; a slower one loses the oldest, and the call path never notices."""


class Follower:
    """One reader's bounded view of the events since it began to follow."""

    def __init__(self, bus: "EventBus") -> None:
        self._bus = bus
        self._waiting: deque[Event] = deque(maxlen=MAX_WAITING)
        self._ready = asyncio.Event()
        self._is_closed = False

    def put(self, event: Event) -> None:
        """Called by the bus."""
        self._bus.num_missed += len(self._waiting) == MAX_WAITING
        self._waiting.append(event)
        self._ready.set()

    async def get(self) -> Event | None:
        """The next event; None when the bus has closed and everything was read."""
        while not self._waiting:
            if self._is_closed:
                return None
            self._ready.clear()
            await self._ready.wait()
        return self._waiting.popleft()

    def finish(self) -> None:
        """No more events will come."""
        self._is_closed = True
        self._ready.set()

    def close(self) -> None:
        """Stop following."""
        self._bus.forget(self)


class EventBus:
    """Fan-out of events to a bounded number of followers.

    Attributes:
        num_missed: events that slow followers lost.
    """

    def __init__(self, max_followers: int = 16) -> None:
        self._followers: set[Follower] = set()
        self._max_followers = max_followers
        self.num_missed = 0

    @property
    def is_full(self) -> bool:
        """Whether nobody more may follow."""
        return len(self._followers) >= self._max_followers

    def publish(self, event: Event) -> None:
        """Give ``event`` to every follower."""
        for follower in self._followers:
            follower.put(event)

    def follow(self) -> Follower:
        """Begin to follow.

        Raises:
            CapacityError: too many followers.
        """
        if self.is_full:
            raise CapacityError(f"{self._max_followers} event streams are open already: raise api.max_followers")
        follower = Follower(self)
        self._followers.add(follower)
        return follower

    def forget(self, follower: Follower) -> None:
        """Drop a follower."""
        self._followers.discard(follower)

    def close(self) -> None:
        """End every stream after what it still has to read."""
        for follower in self._followers:
            follower.finish()
