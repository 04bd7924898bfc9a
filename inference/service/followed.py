"""What a worker keeps of one call that it follows, beside the call itself: its legs in the packet plane."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from inference.audio import SAMPLE_RATE_HZ, Leg
from inference.audio.segment import SpeechSegment
from inference.audio.segmenter import push_rows
from inference.errors import ScamTapError
from inference.gateway.spec import CallSpec, LegSpec
from inference.rtp.counters import LegCounters, sum_counters
from inference.rtp.plane import PacketPlane
from inference.service.call import Call
from inference.service.events import Event
from inference.service.stages import Outcome

PLAIN_CODECS = frozenset(("PCMU", "PCMA", "CN", "telephone-event", "red"))  # red holds another, which counts itself
"""What the packet plane itself makes of a packet, at once."""


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
        held_s: speech that the gate of the cascade held back, seconds.
        of_released: what legs received before signalling changed them.
        told_to: number of the last utterance that was told of.
        opined: what opinions brought, not told yet.
        told: its gateway, told whatever happens in it; None where it does not care.
    """

    spec: CallSpec
    call: Call
    handles: dict[Leg, int]
    begun_s: float
    understanding: "set[asyncio.Future[Outcome]]" = field(default_factory=set)
    shed_s: float = 0.0
    held_s: float = 0.0
    of_released: dict[Leg, LegCounters] = field(default_factory=dict)
    told_to: int = 0
    opined: deque[Event] = field(default_factory=deque)
    told: Callable[[Mapping[str, Any]], None] | None = None

    @classmethod
    def register(cls, spec: CallSpec, call: Call, plane: PacketPlane, now_s: float) -> Self:
        """Admit all legs to the plane, or none; ``now_s`` is second 0 of the call.

        Raises:
            ConfigError: a port is not ours, or a source belongs to another call.
            CapacityError: no room for another leg.
            CodecError: a codec that is not decoded here.
        """
        return cls(spec, call, _register(spec.legs, plane, now_s), now_s)

    @property
    def is_decoded_apart(self) -> bool:
        """Whether a leg is compressed or encrypted, and its audio therefore comes later than its packets."""
        return any(
            leg.srtp is not None or not PLAIN_CODECS.issuperset(leg.payload_types.values())
            for leg in self.spec.legs.values()
        )

    def change(self, spec: CallSpec, plane: PacketPlane, now_s: float) -> None:
        """Register anew the legs that ``spec`` changes; their time goes on. All are changed, or none.

        Raises:
            ConfigError, CapacityError, CodecError: as for :meth:`register`; the old legs go on.
        """
        before = {leg: old for leg, old in self.spec.legs.items() if spec.legs.get(leg) != old}
        wanted = {leg: new for leg, new in spec.legs.items() if self.spec.legs.get(leg) != new}
        # Released first: a leg may keep its address, and only its codec or key is new.
        released = {leg: plane.release(self.handles.pop(leg), now_s=now_s, goes_on=True) for leg in before}
        try:
            self.handles |= _register(wanted, plane, now_s)
        except ScamTapError:
            self.handles |= _register(before, plane, now_s)
            raise
        finally:
            for leg, counters in released.items():
                self.of_released[leg] = sum_counters(self.of_released.get(leg), counters)
        self.spec = spec

    def counters(self, plane: PacketPlane) -> dict[Leg, LegCounters]:
        """What its legs have received so far.

        Raises:
            KeyError: they were released.
        """
        return self._with_earlier({leg: plane.counters(handle) for leg, handle in self.handles.items()})

    def release(self, plane: PacketPlane, now_s: float) -> dict[Leg, LegCounters]:
        """Give its legs back; returns their last counters.

        Raises:
            KeyError: they were released before.
        """
        return self._with_earlier({leg: plane.release(handle, now_s=now_s) for leg, handle in self.handles.items()})

    def _with_earlier(self, now: Mapping[Leg, LegCounters]) -> dict[Leg, LegCounters]:
        both = {leg: sum_counters(self.of_released.get(leg), counters) for leg, counters in now.items()}
        return {**self.of_released, **both}

    def describe(self, plane: PacketPlane, now_s: float) -> dict[str, Any]:
        """Its state for operators: nothing of what was said."""
        return {
            "id": self.call.id,
            "age_s": round(now_s - self.begun_s, 1),
            "language": self.call.language,
            "level": self.call.level,
            "risk": round(self.call.risk, 4),
            "shed_s": round(self.shed_s, 2),
            "held_s": round(self.held_s, 2),
            "packets": packet_counters(self.counters(plane)),
        }


def _register(legs: Mapping[Leg, LegSpec], plane: PacketPlane, now_s: float) -> dict[Leg, int]:
    handles: dict[Leg, int] = {}
    try:
        for leg, wanted in legs.items():
            if wanted.local_port is None:
                handles[leg] = plane.open_stream(now_s=now_s)
            else:
                handles[leg] = plane.register(
                    *(wanted.local_port, wanted.source_address, wanted.payload_types),
                    formats=wanted.formats,
                    srtp=wanted.srtp,
                    now_s=now_s,
                )
    except ScamTapError:
        for handle in handles.values():
            plane.release(handle, now_s=now_s)
        raise
    return handles


def hear_followed(
    calls: Sequence[Followed], plane: PacketPlane, now_s: float
) -> tuple[bool, list[tuple[Followed, SpeechSegment]]]:
    """Take what is new of every call up to ``now_s``, seconds of the plane's clock; at most a second of each leg.

    Returns:
        Whether anything was new, and the speech that ended with it.

    Raises:
        EngineError: speech could not be looked for.
    """
    rows = [(followed, leg) for followed in calls for leg in followed.handles]
    batch = plane.read([followed.handles[leg] for followed, leg in rows], now_s=now_s)
    starts = batch.start_samples - [round(followed.begun_s * SAMPLE_RATE_HZ) for followed, _ in rows]
    segmenters = [followed.call.segmenter(leg) for followed, leg in rows]
    ended = push_rows(segmenters, batch.samples, starts.astype(np.int64), batch.num_samples, batch.present)
    return bool(batch.num_samples.any()), [(rows[place][0], segment) for place, segment in ended]


def packet_counters(counters: Mapping[Leg, LegCounters]) -> dict[str, Any]:
    """Counters per leg as they are printed."""
    return {leg: of_leg.to_json() for leg, of_leg in counters.items()}
