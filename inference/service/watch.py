"""All calls of one worker: from the packet plane through the stages to events and alerts.

One asyncio loop. Every tick it reads the new audio of every leg, cuts it into segments and hands the due ones of all
calls to the micro-batcher, which runs the models in a thread. Nothing here waits for the models: when they cannot keep
up, the newest speech is shed and counted, and the calls go on.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field

from inference.alerts.dispatcher import Dispatcher
from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.audio.segment import SpeechSegment
from inference.engine.batcher import MicroBatcher
from inference.errors import AlertError, CapacityError, ConfigError, ScamTapError
from inference.rtp.plane import LegHandle, PacketPlane
from inference.service.bus import EventBus
from inference.service.call import Call, CallParts, Heard, hear_all
from inference.service.events import AlertEvent, Event, VerdictEvent
from inference.service.spec import CallSpec
from inference.service.stages import DueSegment, Stages
from inference.service.telemetry import Telemetry

log = structlog.get_logger(__name__)


class WatchConfig(BaseModel):
    """How many calls, how often, how long.

    Attributes:
        max_calls: bound on calls at once.
        tick_ms: how often new audio is read; a segment waits at most this long to be noticed.
        max_batch: segments understood in one go.
        batch_delay_ms: how long the first of a batch waits for company.
        max_waiting: segments that may wait for the models; more is shed and counted.
        idle_timeout_s: a call without a packet on either leg for so long is over.
        drain_timeout_s: on SIGTERM, how long speech already heard may take to be understood.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_calls: int = Field(default=2000, ge=1)
    tick_ms: int = Field(default=60, ge=5, le=1000)
    max_batch: int = Field(default=64, ge=1, le=1024)
    batch_delay_ms: float = Field(default=10.0, ge=0, le=1000)
    max_waiting: int = Field(default=512, ge=1)
    idle_timeout_s: float = Field(default=120.0, gt=0)
    drain_timeout_s: float = Field(default=20.0, ge=0)


@dataclass(slots=True)
class _Followed:
    call: Call
    spec: CallSpec
    handles: dict[Leg, LegHandle]
    begun_s: float
    heard_s: float
    understanding: set[asyncio.Task[None]] = field(default_factory=set)
    last_segment: asyncio.Task[None] | None = None
    shed_s: float = 0.0


class Watch:
    """Follows every registered call.

    Args:
        plane: where audio comes from.
        parts: how to make a call's segmenters and verdict.
        stages: the models.
        config: bounds and times.
        dispatcher: where alerts go.
        bus: where events go.
        telemetry: what is counted.
        default_language: ISO code, or None to detect, for calls that do not say.
        clock: monotonic seconds, the plane's own.
    """

    def __init__(
        self,
        plane: PacketPlane,
        parts: CallParts,
        stages: Stages,
        config: WatchConfig,
        *,
        dispatcher: Dispatcher,
        bus: EventBus,
        telemetry: Telemetry,
        default_language: str | None = "en",
        clock: Callable[[], float],
    ) -> None:
        self._plane = plane
        self._parts = parts
        self._stages = stages
        self._config = config
        self._dispatcher = dispatcher
        self._bus = bus
        self._telemetry = telemetry
        self._default_language = default_language
        self._clock = clock
        self._calls: dict[str, _Followed] = {}
        self._batcher: MicroBatcher[DueSegment, list[Event]] = MicroBatcher(
            stages.understand,
            max_items=config.max_batch,
            max_delay_s=config.batch_delay_ms / 1000,
            max_waiting=config.max_waiting,
        )
        self.is_draining = False
'''+'' 2>/dev/null
