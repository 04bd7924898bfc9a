"""When a worker reads its calls next, and how far behind it is with that.

A tick that takes longer than its period is followed by the next one nearly at once, which then reads more. So a worker
short of computing time ticks slower and slower, until a tick takes a second: a leg gives no more than that at once, and
what is beyond it is lost. New calls must be refused well before.
"""

from collections import deque

CONTROL_SHARE = 0.2
"""Of the loop's time, which ticks leave to signalling and HTTP however late they are: else nobody can be refused."""

STEADY_TICKS = 4
"""Only as many long ticks in a row are a shortage; one is a stall that the next makes good."""

LAG_PER_TICK_S = 4.0
"""Lag that a second of steady tick counts as: it is the worst there is, as models that are four seconds behind."""


class Pace:
    """Time is given, never read.

    Args:
        period_s: from tick to tick.
        now_s: when the first is due.
    """

    def __init__(self, period_s: float, now_s: float) -> None:
        self._period_s = period_s
        self._due_s = now_s
        self._began_s = now_s
        self._over_s = deque([0.0] * STEADY_TICKS, STEADY_TICKS)  # by which the last ticks took too long

    def begin(self, now_s: float) -> float:
        """A tick begins; returns the lag it stands for, seconds."""
        self._began_s = now_s
        return max(now_s - self._due_s, LAG_PER_TICK_S * min(self._over_s))

    def end(self, now_s: float) -> float:
        """The tick is over; returns how long to wait for the next. After a stall it comes at once, and only once."""
        took_s = now_s - self._began_s
        self._over_s.append(max(0.0, took_s - self._period_s))
        self._due_s = max(self._due_s + self._period_s, now_s + took_s * CONTROL_SHARE / (1 - CONTROL_SHARE))
        return self._due_s - now_s
