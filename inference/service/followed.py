"""What a worker keeps of one call that it follows, beside the call itself."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.audio import Leg
from inference.rtp.counters import LegCounters
from inference.rtp.plane import PacketPlane
from inference.service.call import Call
from inference.service.spec import CallSpec


@dataclass(slots=True)
class Followed:
    """One call with its place in the packet plane.

    Attributes:
        spec: how it was announced.
        call: what is thought of it.
        handles: its legs in the plane.
        begun_s: when its time began, seconds of the plane's clock.
        understanding: its segments with the models or waiting for them.
        shed_s: speech that was not understood for lack of capacity, seconds.
    """

    spec: CallSpec
    call: Call
    handles: dict[Leg, int]
    begun_s: float
    understanding: set[asyncio.Task[None]] = field(default_factory=set)
    shed_s: float = 0.0

    def counters(self, plane: PacketPlane) -> dict[Leg, LegCounters]:
        """What its legs have received so far.

        Raises:
            KeyError: they were released.
        """
        return {leg: plane.counters(handle) for leg, handle in self.handles.items()}

    def release(self, plane: PacketPlane, now_s: float) -> dict[Leg, LegCounters]:
        """Give its legs back; returns their last counters.

        Raises:
            KeyError: they were released before.
        """
        return {leg: plane.release(handle, now_s=now_s) for leg, handle in self.handles.items()}

    def describe(self, plane: PacketPlane, now_s: float) -> dict[str, Any]:
        """Its state for operators: nothing of what was said."""
        return {
            "id": self.call.id,
            "age_s": round(now_s - self.begun_s, 1),
            "language": self.call.language,
            "level": self.call.level,
            "risk": round(self.call.risk, 4),
            "shed_s": round(self.shed_s, 2),
            "packets": packet_counters(self.counters(plane)),
        }


def packet_counters(counters: Mapping[Leg, LegCounters]) -> dict[str, Any]:
    """Counters per leg as they are printed."""
    return {leg: of_leg.to_json() for leg, of_leg in counters.items()}
