"""Packets that nobody should have sent: how many, and when it is time to say so again."""

from dataclasses import astuple, dataclass

SAY_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class ForeignPackets:
    """Valid RTP that was not listened to.

    Attributes:
        unregistered: from a source that nobody registered. A few are usual: a gateway may send on after a call's end.
        foreign: from another source to a port that belongs to one leg alone.
        unverified: to an encrypted leg, from its own source, and not under its key.
    """

    unregistered: int = 0
    foreign: int = 0
    unverified: int = 0

    def __bool__(self) -> bool:
        return any(astuple(self))

    def __sub__(self, earlier: "ForeignPackets") -> "ForeignPackets":
        """What came since."""
        return ForeignPackets(*(now - before for now, before in zip(astuple(self), astuple(earlier), strict=True)))


class ForeignNews:
    """Tells of foreign packets at once, then of those since at most once a minute: a flood must not flood the log."""

    def __init__(self) -> None:
        self._told = ForeignPackets()
        self._next_s = -float("inf")

    def since(self, seen: ForeignPackets, now_s: float) -> ForeignPackets | None:
        """What is to be told now, if anything; ``seen`` is what came over the plane's life."""
        new = seen - self._told
        if not new or now_s < self._next_s:
            return None
        self._told, self._next_s = seen, now_s + SAY_EVERY_S
        return new
