"""Which of our UDP ports a gateway is told to send to."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from inference.errors import CapacityError, ConfigError


class MediaPorts:
    """Gives out media ports: shared ones for senders whose address signalling tells, exclusive ones for the others.

    Args:
        address: numeric address of ours that gateways are told.
        shared: ports that many legs share, told apart by their source.
        exclusive: first and last port of a range that is leased, one leg at a time each; None for none.
        quarantine_s: how long a port rests between two legs.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        address: str,
        shared: Sequence[int],
        exclusive: tuple[int, int] | None,
        quarantine_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._shared = tuple(shared)
        self._next = 0
        self._quarantine_s = quarantine_s
        self._clock = clock
        ports = range(exclusive[0], exclusive[1] + 1) if exclusive is not None else ()
        self._resting = deque((port, -float("inf")) for port in ports)  # the longest rested first
        self._leased: set[int] = set()

    @property
    def num_leased(self) -> int:
        """Exclusive ports in use."""
        return len(self._leased)

    def shared(self) -> int:
        """A port for a leg whose source is known; in turn, so that legs spread.

        Raises:
            ConfigError: there is none.
        """
        if not self._shared:
            raise ConfigError("no media port is open: set media.ports")
        self._next = (self._next + 1) % len(self._shared)
        return self._shared[self._next]

    def lease(self) -> int:
        """A port for one leg alone; to be given back by :meth:`give_back`.

        Raises:
            CapacityError: all are in use or resting.
        """
        if not self._resting or self._clock() - self._resting[0][1] < self._quarantine_s:
            raise CapacityError("no exclusive media port is free: widen media.exclusive_ports")
        port, _ = self._resting.popleft()
        self._leased.add(port)
        return port

    def give_back(self, port: int) -> None:
        """The leg of a port is over; a port that was not leased is left alone (shared ones need no giving back)."""
        if port in self._leased:
            self._leased.remove(port)
            self._resting.append((port, self._clock()))
