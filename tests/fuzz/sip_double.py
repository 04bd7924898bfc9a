"""Virtual time and a peer that takes everything, for what fuzzes SIP."""

import math
from typing import Any


class Clock:
    """Virtual time.

    Args:
        run_out_s: :meth:`run_out` goes no further.
    """

    def __init__(self, run_out_s: float = math.inf) -> None:
        self.now_s = 0.0
        self._run_out_s = run_out_s
        self.due: list[tuple[float, Any]] = []

    def time(self) -> float:
        """See :class:`inference.gateway.sip.flow.Timers`."""
        return self.now_s

    def call_later(self, delay: float, callback: Any, *args: Any) -> Any:
        """See :class:`inference.gateway.sip.flow.Timers`."""
        timer = _Timer(callback, args)
        self.due.append((self.now_s + delay, timer))
        return timer

    def run_out(self) -> None:
        """Let everything that is due happen."""
        while self.due and self.now_s < self._run_out_s:
            self.due.sort(key=lambda due: due[0])
            self.now_s, timer = self.due.pop(0)
            if timer.callback is not None:
                timer.callback(*timer.args)


class _Timer:
    def __init__(self, callback: Any, args: Any) -> None:
        self.callback, self.args = callback, args

    def cancel(self) -> None:
        self.callback = None


class Wire:
    """A peer that takes everything."""

    transport, peer, local, is_verified, is_open = "UDP", ("192.0.2.10", 5060), ("192.0.2.1", 5060), False, True

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        """Keep it."""
        self.sent.append(data)

    def to_port(self, port: int) -> "Wire":
        """The same."""
        return self
