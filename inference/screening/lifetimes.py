"""When each key expires, and which of those that may go was idle the longest.

Everything here is done a little at a time. A table that grows is rebuilt at once, which takes a twentieth of a second
for a million keys, and every call waits: so each share of the keys has tables of its own, grown at times of their own.
And they hold strings and numbers alone, which the garbage collector leaves out of its passes.
"""

from collections import OrderedDict, deque

SWEPT_AT_ONCE = 64
"""Expired keys handed out at once: a minute's worth would make a call wait."""

KEYS_A_SHARE = 4096
MAX_SHARES = 256


class _Share:
    """Those keys whose hash says so."""

    __slots__ = ("expires_s", "idle", "looked_at")

    def __init__(self) -> None:
        self.expires_s: dict[str, float] = {}
        self.looked_at: dict[str, int] = {}  # key -> minute in which its expiry is looked at
        self.idle: OrderedDict[str, None] = OrderedDict()  # keys that may go, the longest idle first


class Lifetimes:
    """Of the keys of one memory.

    Args:
        max_keys: how many there will be at most; so few that they are one share are let go in exact order.
        now_s: seconds.
    """

    def __init__(self, max_keys: int, now_s: float) -> None:
        self._shares = [_Share() for _ in range(max(1, min(MAX_SHARES, max_keys // KEYS_A_SHARE)))]
        self._num_shares = len(self._shares)
        self._turn = 0
        self._expiring: dict[int, dict[str, None]] = {}  # minute -> keys looked at then
        self._due: deque[str] = deque()
        self._swept_minute = int(now_s // 60)

    def __len__(self) -> int:
        return sum(len(share.expires_s) for share in self._shares)

    @property
    def num_looked_at(self) -> int:
        """Keys noted under a minute, or due: no more than there are keys, but for some that went meanwhile."""
        return len(self._due) + sum(map(len, self._expiring.values()))

    @property
    def is_due(self) -> bool:
        """Whether keys wait to be handed out by :meth:`sweep`."""
        return bool(self._due)

    def _of(self, key: str) -> _Share:
        return self._shares[hash(key) % self._num_shares]

    def expires_s(self, key: str) -> float | None:
        """When it expires; None for one that is not kept."""
        return self._of(key).expires_s.get(key)

    def keep(self, key: str, until_s: float, *, may_go: bool) -> None:
        """It was used, and is kept until then; one that ``may_go`` only while there is room."""
        share = self._of(key)
        share.expires_s[key] = until_s
        if key not in share.looked_at:
            self._look_at(share, key, until_s)
        if may_go:
            share.idle[key] = None
            share.idle.move_to_end(key)

    def _look_at(self, share: _Share, key: str, until_s: float) -> None:
        minute = max(int(until_s // 60), self._swept_minute)
        share.looked_at[key] = minute
        keys = self._expiring.get(minute)
        if keys is None:
            keys = self._expiring[minute] = {}
        keys[key] = None

    def forget(self, key: str) -> None:
        """It is gone."""
        share = self._of(key)
        minute = share.looked_at.pop(key, None)
        if minute is not None and minute in self._expiring:
            self._expiring[minute].pop(key, None)
        share.expires_s.pop(key, None)
        share.idle.pop(key, None)

    def longest_idle(self) -> str | None:
        """One that may go: the longest idle of one share after the other. None where no key may."""
        for _ in range(self._num_shares):
            self._turn = (self._turn + 1) % self._num_shares
            idle = self._shares[self._turn].idle
            if idle:
                return next(iter(idle))
        return None

    def sweep(self, now_s: float) -> list[str]:
        """Some expired keys, to be forgotten; nearly free where there are none. A clock that went back is followed."""
        minute = int(now_s // 60)
        if minute != self._swept_minute:
            for past in range(self._swept_minute, minute):
                self._due.extend(self._expiring.pop(past, ()))
            self._swept_minute = minute
        expired = []
        for _ in range(min(SWEPT_AT_ONCE, len(self._due))):
            key = self._due.popleft()
            share = self._of(key)
            share.looked_at.pop(key, None)
            until_s = share.expires_s.get(key)
            if until_s is not None and until_s < now_s:
                expired.append(key)
            elif until_s is not None:  # used since, or the clock went back
                self._look_at(share, key, until_s)
        return expired
