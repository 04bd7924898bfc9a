"""When audio that came over a connection was said: bursts, gaps and clocks that jump."""

from inference.audio import SAMPLE_RATE_HZ
from inference.errors import SignallingError

MAX_AHEAD = SAMPLE_RATE_HZ * 19 // 10
"""A connection that hung brings its audio late and all at once. So much of it is kept, and heard late by as much; the
ring of a leg holds a little more. Of a longer backlog the newest is dropped: the call must not be heard ever later."""

MAX_DROPPED = SAMPLE_RATE_HZ * 60
"""Whoever sends so much more than can be spoken does not fork a call."""

SNAP = SAMPLE_RATE_HZ // 100
"""Timestamps in milliseconds jitter: a step this close to where the last chunk ended is none."""

MAX_JUMP = SAMPLE_RATE_HZ // 2
MAX_BACK = 2 * SAMPLE_RATE_HZ


class Timeline:
    """One leg's audio on one time axis that only moves forward, whatever the sender's timestamps do.

    Its sample numbers are for :meth:`inference.gateway.control.CallControl.write`.

    Attributes:
        num_dropped: samples refused since audio last came as it was spoken.
    """

    def __init__(self) -> None:
        self.num_dropped = 0
        self._next = 0
        self._shift: int | None = None  # from the sender's timestamps to ours
        self._base: int | None = None  # when sample 0 is due, samples of the clock

    def place(self, num: int, now_s: float, timestamp: int | None = None) -> int | None:
        """Where ``num`` samples belong that came at ``now_s``; None where they are one too many.

        Args:
            num: how many.
            now_s: monotonic seconds.
            timestamp: number of the first one in the sender's time; None: they follow the last ones.

        Raises:
            SignallingError: more audio than could be spoken, for a minute.
        """
        now = round(now_s * SAMPLE_RATE_HZ)
        if self._base is None:
            self._base = now - num
        at = self._next
        if timestamp is not None:
            at = self._from_timestamp(timestamp, now - self._base - num)
        ahead = at + num - (now - self._base)
        if ahead > MAX_AHEAD:
            self.num_dropped += num
            if self.num_dropped > MAX_DROPPED:
                raise SignallingError("audio comes faster than it can be spoken")
            if self._shift is not None:
                self._shift -= num  # what follows takes its place
            return None
        if ahead < 0 and at >= self._next:
            self._base -= ahead  # it came late, and so will the rest
            self.num_dropped = 0
        self._next = max(self._next, at + num)
        return at

    def _from_timestamp(self, timestamp: int, due: int) -> int:
        if self._shift is None:
            self._shift = self._next - timestamp
        at = timestamp + self._shift
        step = at - self._next
        if abs(step) <= SNAP:
            at = self._next
        elif step < -MAX_BACK or (step > 0 and at > due + MAX_JUMP):  # the sender's clock was set anew
            at = max(self._next, due)
        self._shift = at - timestamp
        return at
