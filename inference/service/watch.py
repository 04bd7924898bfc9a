"""All calls of one worker: from the packet plane through the stages to events and alerts.

One asyncio loop. Every tick it reads the new audio of every leg, cuts it into segments and hands the due ones of all
calls to the micro-batcher, which runs the models in a thread. Nothing here waits for the models: when they cannot keep
up, the newest speech is shed and counted, and the calls go on.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, Field

from inference.alerts.dispatcher import Dispatcher
from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.audio.segment import SpeechSegment
from inference.engine.batcher import BatcherConfig, MicroBatcher
from inference.errors import AlertError, CapacityError, ConfigError, ScamTapError
from inference.rtp.counters import LegCounters
from inference.rtp.plane import PacketPlane
from inference.service.bus import EventBus
from inference.service.call import Call, CallParts, Heard, hear_all
from inference.service.events import AlertEvent, Event, VerdictEvent
from inference.service.spec import CallSpec
from inference.service.stages import DueSegment, Stages
from inference.service.telemetry import Telemetry

log = structlog.get_logger(__name__)

IDLE_CHECK_S = 1.0


class WatchConfig(BaseModel):
    """How many calls, how often, how long.

    Attributes:
        max_calls: bound on calls at once.
        tick_ms: how often new audio is read; a segment waits at most this long to be noticed.
        batcher: how segments of all calls are gathered for the models; what does not fit its queue is shed.
        idle_timeout_s: a call without a packet on either leg for so long is over.
        drain_timeout_s: on SIGTERM, how long speech already heard may take to be understood.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_calls: int = Field(default=2000, ge=1)
    tick_ms: int = Field(default=60, ge=5, le=900)
    batcher: BatcherConfig = BatcherConfig(max_queued=512)
    idle_timeout_s: float = Field(default=120.0, gt=0)
    drain_timeout_s: float = Field(default=20.0, ge=0)


@dataclass(slots=True)
class _Followed:
    call: Call
    handles: dict[Leg, int]
    begun_s: float  # the plane's clock
    understanding: set[asyncio.Task[None]] = field(default_factory=set)
    shed_s: float = 0.0


def packet_counters(counters: dict[Leg, LegCounters]) -> dict[str, Any]:
    """Counters per leg as they are printed."""
    return {leg: of_leg.to_json() for leg, of_leg in counters.items()}


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plane = plane
        self._parts = parts
        self._config = config
        self._dispatcher = dispatcher
        self._bus = bus
        self._telemetry = telemetry
        self._default_language = default_language
        self._clock = clock
        self._calls: dict[str, _Followed] = {}
        self._ending: set[asyncio.Task[VerdictEvent]] = set()
        self._batcher: MicroBatcher[DueSegment, list[Event]] = MicroBatcher(stages.understand, config.batcher)
        self._ticking: asyncio.Task[None] | None = None
        self._is_failing = False
        self._idle_checked_s = clock()
        self.is_draining = False

    @property
    def call_ids(self) -> list[str]:
        """Ids of the calls followed now, oldest first."""
        return list(self._calls)

    @property
    def media_ports(self) -> tuple[int, ...]:
        """UDP ports that gateways may send to."""
        return self._plane.ports

    @property
    def num_waiting(self) -> int:
        """Segments with the models or waiting for them."""
        return sum(len(followed.understanding) for followed in self._calls.values())

    @property
    def ticking(self) -> "asyncio.Task[None]":
        """Runs from :meth:`start` to :meth:`drain`; done before that, it broke down."""
        if self._ticking is None:
            raise RuntimeError("the watch was not started")
        return self._ticking

    def start(self) -> None:
        """Begin to tick."""
        self._ticking = asyncio.create_task(self._run())

    def begin(self, spec: CallSpec) -> None:
        """Follow a call from now on; now is second 0 of its time.

        Raises:
            ConfigError: the id is in use, a port is not ours, or a source belongs to another call.
            CapacityError: no room for another call.
        """
        if self.is_draining:
            raise CapacityError("this worker is draining and takes no new calls")
        if spec.id in self._calls:
            raise ConfigError(f"call {spec.id} is followed already: end it first")
        if len(self._calls) >= self._config.max_calls:
            raise CapacityError(f"{self._config.max_calls} calls are followed already: add a worker")
        now_s = self._clock()
        handles: dict[Leg, int] = {}
        try:
            for leg in LEGS:
                wanted = spec.leg(leg)
                handles[leg] = self._plane.register(
                    wanted.local_port, wanted.source_address, wanted.payload_types, now_s=now_s
                )
        except ScamTapError:
            for handle in handles.values():
                self._plane.release(handle, now_s=now_s)
            raise
        language = self._default_language if spec.language is None else spec.language
        call = Call(spec.id, self._parts, language=None if language == "auto" else language)
        self._calls[spec.id] = _Followed(call, handles, now_s)
        log.info("call begins", call=spec.id)

    async def end(self, call_id: str) -> VerdictEvent:
        """Stop following a call: what was heard is understood first, then the verdict is given.

        Raises:
            KeyError: no such call.
        """
        return await asyncio.shield(self._start_ending(call_id))  # a client that hangs up must not lose the verdict

    def _start_ending(self, call_id: str) -> asyncio.Task[VerdictEvent]:
        ending = asyncio.create_task(self._end(self._calls.pop(call_id)))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    async def _end(self, followed: _Followed) -> VerdictEvent:
        now_s = self._clock()
        # Asked for later than now, the plane gives what it still holds back against reordering.
        until_s = now_s + self._plane.config.playout_delay_ms / 1000
        try:
            while self._hear([followed], until_s):  # a second at a time, should the ticks have been late
                pass
            for segment in followed.call.hang_up():
                self._submit(followed, segment)
        except ScamTapError as error:
            self._failed(error)
        counters = {leg: self._plane.release(handle, now_s=now_s) for leg, handle in followed.handles.items()}
        if followed.understanding:
            await asyncio.wait(followed.understanding)
        verdict = followed.call.close(packet_counters(counters))
        log.info("call ends", call=verdict.call, call_level=verdict.level, risk=round(verdict.risk, 3))
        self._publish(verdict)
        return verdict

    def describe(self, call_id: str) -> dict[str, Any]:
        """State of one call for operators: nothing of what was said.

        Raises:
            KeyError: no such call.
        """
        followed = self._calls[call_id]
        return {
            "id": call_id,
            "age_s": round(self._clock() - followed.begun_s, 1),
            "language": followed.call.language,
            "level": followed.call.level,
            "risk": round(followed.call.risk, 4),
            "shed_s": round(followed.shed_s, 2),
            "packets": packet_counters({leg: self._plane.counters(handle) for leg, handle in followed.handles.items()}),
        }

    def media_counters(self) -> dict[str, int]:
        """What the plane counted that belongs to no call."""
        return asdict(self._plane.plane_counters())

    def tick(self) -> None:
        """Read what is new on every leg; end calls that fell silent."""
        self._hear(list(self._calls.values()), self._clock())
        for event in self._plane.telephone_events():
            owner = next((f.call.id for f in self._calls.values() if event.leg in f.handles.values()), None)
            log.info("key pressed", call=owner, is_complete=event.is_complete)  # not which: it may be a PIN
        if self._clock() - self._idle_checked_s >= IDLE_CHECK_S:
            self._idle_checked_s = self._clock()
            for call_id in self._idle_calls():
                log.warning("call ends for lack of packets", call=call_id, after_s=self._config.idle_timeout_s)
                self._start_ending(call_id)

    async def _run(self) -> None:
        period_s = self._config.tick_ms / 1000
        due_s = self._clock()
        while True:
            try:
                self.tick()
                self._is_failing = False
            except ScamTapError as error:
                self._failed(error)
            due_s = max(due_s + period_s, self._clock())  # after a stall: catch up at once, do not tick twice
            await asyncio.sleep(due_s - self._clock())

    def _idle_calls(self) -> list[str]:
        idle = []
        for call_id, followed in self._calls.items():
            last_s = float(np.nanmax([followed.begun_s, *self._plane.last_arrivals_s(list(followed.handles.values()))]))
            if self._clock() - last_s >= self._config.idle_timeout_s:
                idle.append(call_id)
        return idle

    def _failed(self, error: ScamTapError) -> None:
        """Speech could not be looked for: counted every time, logged when it begins; the calls go on."""
        self._telemetry.failures.inc()
        if not self._is_failing:
            log.error("calls not heard", why=str(error))
        self._is_failing = True

    def _hear(self, calls: list[_Followed], now_s: float) -> bool:
        """Take what is new up to ``now_s``; False where nothing was."""
        rows = [(followed, leg) for followed in calls for leg in LEGS]
        batch = self._plane.read([followed.handles[leg] for followed, leg in rows], now_s=now_s)
        heard, owners = [], []
        for row, (followed, leg) in enumerate(rows):
            num = int(batch.num_samples[row])
            if num:
                start = int(batch.start_samples[row]) - round(followed.begun_s * SAMPLE_RATE_HZ)
                heard.append(Heard(followed.call, leg, batch.samples[row, :num], start, batch.present[row, :num]))
                owners.append(followed)
        for followed, segments in zip(owners, hear_all(heard), strict=True):
            for segment in segments:
                self._submit(followed, segment)
        return bool(heard)

    def _submit(self, followed: _Followed, segment: SpeechSegment) -> None:
        task = asyncio.create_task(self._understand(followed, segment))
        followed.understanding.add(task)
        task.add_done_callback(followed.understanding.discard)

    async def _understand(self, followed: _Followed, segment: SpeechSegment) -> None:
        due = DueSegment(followed.call, segment, followed.begun_s + segment.known_s)
        try:
            events = await self._batcher.submit(due)
        except CapacityError:
            followed.shed_s += segment.end_s - segment.start_s
            self._telemetry.shed_s.inc(segment.end_s - segment.start_s)
        except ScamTapError as error:
            self._telemetry.failures.inc()
            log.error("segment not understood", call=followed.call.id, why=str(error))
        else:
            for event in events:
                self._publish(event)

    def _publish(self, event: Event) -> None:
        self._telemetry.count(event)
        self._bus.publish(event)
        if isinstance(event, AlertEvent):
            alert = event.alert
            log.warning(
                "alert", call=alert.call, call_level=alert.level, risk=round(alert.risk, 3), family=alert.family
            )
            try:
                self._dispatcher.send(alert)
            except AlertError as error:
                log.error("alert not kept", call=alert.call, alert=alert.id, why=str(error))

    async def drain(self) -> None:
        """Take no new calls, end those there are, understand what was heard; within ``drain_timeout_s``."""
        self.is_draining = True
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        for call_id in self.call_ids:
            self._start_ending(call_id)
        if self._ending:
            _, late = await asyncio.wait(self._ending, timeout=self._config.drain_timeout_s)
            if late:
                log.error("calls not understood to their end", calls=len(late))
        await self._batcher.close()
