"""The sending half of a connection: a bounded queue, so that a slow reader costs nobody anything."""

import asyncio
from collections import deque

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

SLOW_READER = 1013  # try again later
CLOSE_TIMEOUT_S = 2.0
"""How long a peer may take to answer that it closes too; one that does not read cannot."""


class Outgoing:
    """Messages to one peer. Made idle: most gateways are never sent anything.

    Args:
        connection: to whom.
        max_waiting: messages kept; one more, and the connection is dropped.

    Attributes:
        was_slow: it was dropped for that.
    """

    def __init__(self, connection: ServerConnection, max_waiting: int) -> None:
        self.was_slow = False
        self._connection = connection
        self._max_waiting = max_waiting
        self._waiting: deque[str | bytes] = deque()
        self._closing: tuple[int, str] | None = None
        self._task: asyncio.Task[None] | None = None

    def send(self, message: str | bytes) -> None:
        """Queue a message; nothing waits."""
        if self._closing is not None:
            return
        if len(self._waiting) >= self._max_waiting:
            self.was_slow = True
            self._waiting.clear()
            self.abort(SLOW_READER, "messages are not read")
            return
        self._waiting.append(message)
        self._work()

    def close(self, code: int, reason: str) -> None:
        """Close once what waits is sent."""
        if self._closing is None:
            self._closing = code, reason
            self._work()

    def abort(self, code: int, reason: str) -> None:
        """Close now, whatever is stuck in the socket."""
        # The library's own close timeout begins only when what waits in the socket was taken.
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._connection.transport.abort)
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self._closing = code, reason
        self._work()

    def _work(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._connection.send(self._waiting.popleft())
        except ConnectionClosed:
            self._waiting.clear()
        if self._closing is not None:
            await self._connection.close(*self._closing)

    async def aclose(self) -> None:
        """Wait until the writer has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
