"""All calls of one worker: from the packet plane through the stages to events and alerts.

One asyncio loop. Every tick it reads the new audio of every leg, cuts it into segments and hands the due ones of all
calls to the scheduler, which runs the models in a thread. Nothing here waits for the models: what happens when they
cannot keep up is :mod:`inference.service.overload`, and the calls go on.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, Field

from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.audio.segment import PCM
from inference.errors import CapacityError, ConfigError, ScamTapError
from inference.gateway.spec import CallSpec
from inference.rtp.counters import LegCounters, sum_counters
from inference.rtp.foreign import ForeignNews
from inference.rtp.plane import PacketPlane
from inference.service.call import Call, CallParts
from inference.service.events import VerdictEvent
from inference.service.followed import Followed, hear_followed, packet_counters
from inference.service.opinions import Opinions
from inference.service.pace import Pace
from inference.service.publisher import Publisher
from inference.service.scheduler import Scheduler, SchedulerConfig
from inference.service.stages import Stages
from inference.service.standing import StandingCalls
from inference.service.understanding import Understanding

log = structlog.get_logger(__name__)

IDLE_CHECK_S = 1.0


class WatchConfig(BaseModel):
    """How many calls, how often, how long.

    Attributes:
        max_calls: bound on calls at once.
        tick_ms: how often new audio is read; a segment waits at most this long to be noticed.
        scheduler: how segments of all calls reach the models, and what happens when they cannot keep up.
        idle_timeout_s: a call without a packet on either leg for so long is over.
        drain_timeout_s: on SIGTERM, how long speech already heard may take to be understood.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_calls: int = Field(default=2000, ge=1)
    tick_ms: int = Field(default=60, ge=5, le=900)
    scheduler: SchedulerConfig = SchedulerConfig()
    idle_timeout_s: float = Field(default=120.0, gt=0)
    drain_timeout_s: float = Field(default=20.0, ge=0)


class Watch:
    """Follows every registered call.

    Args:
        plane: where audio comes from.
        parts: how to make a call's segmenters and verdict.
        stages: the models.
        config: bounds and times.
        publisher: where events and alerts go.
        default_language: ISO code, or None to detect, for calls that do not say.
        clock: monotonic seconds, the plane's own.
        wall_clock: seconds since the epoch.
        opinions: whom to ask about calls at ``suspect``; None: nobody.
    """

    def __init__(
        self,
        plane: PacketPlane,
        parts: CallParts,
        stages: Stages,
        config: WatchConfig,
        *,
        publisher: Publisher,
        default_language: str | None = "en",
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        opinions: Opinions | None = None,
    ) -> None:
        self._plane = plane
        self._parts = parts
        self._config = config
        self._publisher = publisher
        self._telemetry = publisher.telemetry
        self._default_language = default_language
        self._clock = clock
        self._wall_clock = wall_clock
        self._calls: dict[str, Followed] = {}
        self._ending: dict[asyncio.Task[VerdictEvent], Followed] = {}
        self._standing = StandingCalls(self.begin)
        self._of_ended: dict[Leg, LegCounters] = {}
        self._scheduler = Scheduler(stages, config.scheduler, clock=clock)
        self._understanding = Understanding(self._scheduler, publisher, opinions)
        self._ticking: asyncio.Task[None] | None = None
        self._is_failing = False
        self._late_s = 0.0  # of the tick under way
        self._idle_checked_s = clock()
        self._foreign = ForeignNews()
        self.is_draining = False

    @property
    def call_ids(self) -> list[str]:
        """Ids of the calls followed now, oldest first."""
        return list(self._calls)

    @property
    def is_full(self) -> bool:
        """Whether another call would be refused now."""
        return self.is_draining or self._scheduler.is_refusing or len(self._calls) >= self._config.max_calls

    @property
    def media_ports(self) -> tuple[int, ...]:
        """UDP ports that gateways may send to."""
        return self._plane.ports

    @property
    def num_waiting(self) -> int:
        """Segments with the models or waiting for them."""
        return sum(len(f.understanding) for f in (*self._calls.values(), *self._ending.values()))

    @property
    def ticking(self) -> "asyncio.Task[None]":
        """Runs from :meth:`start` to :meth:`drain`; done before that, it broke down."""
        if self._ticking is None:
            raise RuntimeError("the watch was not started")
        return self._ticking

    def use(self, parts: CallParts) -> None:
        """Calls that begin from now on are made of ``parts``; see :mod:`inference.service.renewal`."""
        self._parts = parts

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
        if self._scheduler.is_refusing:
            raise CapacityError("this worker cannot keep up with the calls it has: add a worker")
        self._calls[spec.id] = self._open(spec)
        log.info("call begins", call=spec.id)
        self._publisher.begun(spec.reach)

    def keep(self, spec: CallSpec, *, idle_s: float | None = None) -> None:
        """Follow a call that is always there, or a line; see :meth:`inference.gateway.control.CallControl.keep`."""
        self._standing.keep(spec, idle_s)

    def change(self, spec: CallSpec) -> None:
        """The call goes on with other legs; see :meth:`inference.gateway.control.CallControl.change`."""
        followed = self._calls[spec.id]
        now_s = self._clock()
        self._hear([followed], now_s)  # what a changed leg still holds
        followed.change(spec, self._plane, now_s)
        log.info("call changes", call=spec.id)

    def write(self, call_id: str, leg: Leg, samples: PCM, timestamp: int) -> None:
        """Audio over a connection; see :meth:`inference.gateway.control.CallControl.write`."""
        followed = self._calls.get(call_id)
        if followed is not None and leg in followed.handles:
            self._plane.write(followed.handles[leg], samples, timestamp, arrived_s=self._clock())

    def key_pressed(self, call_id: str, leg: Leg, digit: str) -> None:
        """A key told by signalling; see :meth:`inference.gateway.control.CallControl.key_pressed`."""
        if call_id in self._calls:
            self._publisher.key_pressed(call_id, leg, digit)

    def follow(self, call_id: str, told: Callable[[Mapping[str, Any]], None]) -> None:
        """What happens in a call; see :meth:`inference.gateway.control.CallControl.follow`."""
        self._calls[call_id].told = told

    def _open(self, spec: CallSpec) -> Followed:
        return Followed.register(spec, self._call(spec), self._plane, self._clock())

    def _call(self, spec: CallSpec) -> Call:
        language = self._default_language if spec.language is None else spec.language
        language = None if language == "auto" else language
        return Call(spec.id, self._parts, language=language, begun_at_s=self._wall_clock())

    async def end(self, call_id: str) -> VerdictEvent:
        """Stop following a call: what was heard is understood first, then the verdict is given.

        Raises:
            KeyError: no such call.
        """
        return await asyncio.shield(self._start_ending(call_id))  # a client that hangs up must not lose the verdict

    def _start_ending(self, call_id: str) -> asyncio.Task[VerdictEvent]:
        # Over now, and not when its turn comes: of many that end at once each would have all that passed while the ones
        # before it were understood to catch up with, and the last of a thousand would never come.
        followed = self._calls.pop(call_id)
        ending = asyncio.create_task(self._end(followed, self._clock()))
        self._ending[ending] = followed
        ending.add_done_callback(self._ending.pop)
        return ending

    async def _end(self, followed: Followed, now_s: float) -> VerdictEvent:
        # Asked for later than now, the plane gives what it still holds back against reordering.
        media = self._plane.config
        held_back_ms = media.playout_delay_ms + (media.codec_delay_ms if followed.is_decoded_apart else 0.0)
        until_s = now_s + held_back_ms / 1000
        try:
            while self._hear([followed], until_s):  # a second at a time, should the ticks have been late
                pass
            for segment in followed.call.hang_up():
                self._understanding.submit(followed, segment)
        except ScamTapError as error:
            self._failed(error)
        self._scheduler.hurry(followed.call)
        counters = followed.release(self._plane, self._clock())
        self._of_ended = {leg: sum_counters(self._of_ended.get(leg), of_leg) for leg, of_leg in counters.items()}
        if followed.understanding:
            await asyncio.wait(followed.understanding)
        verdict = followed.call.close(packet_counters(counters))
        log.info("call ends", call=verdict.call, call_level=verdict.level, risk=round(verdict.risk, 3))
        self._understanding.end(followed, verdict)
        self._publisher.ended(verdict.call)
        return verdict

    def describe(self, call_id: str) -> dict[str, Any]:
        """State of one call for operators: nothing of what was said.

        Raises:
            KeyError: no such call.
        """
        return self._calls[call_id].describe(self._plane, self._clock())

    def load(self) -> dict[str, Any]:
        """How the worker copes with its calls; see :meth:`inference.service.scheduler.Scheduler.describe`."""
        return {"calls": len(self._calls), **self._scheduler.describe()}

    def leg_counters(self) -> dict[Leg, LegCounters]:
        """What far and near legs received, each summed over the calls of this worker's life."""
        totals = {}
        for leg in LEGS:
            now = self._plane.total_counters([f.handles[leg] for f in self._calls.values() if leg in f.handles])
            earlier = [f.of_released[leg] for f in self._calls.values() if leg in f.of_released]
            totals[leg] = sum(earlier, sum_counters(self._of_ended.get(leg), now))
        return totals

    def media_counters(self) -> dict[str, int]:
        """What the plane counted that belongs to no call."""
        return asdict(self._plane.plane_counters())

    def tick(self) -> None:
        """Read what is new on every leg, send off what is due; end calls that fell silent.

        Raises:
            EngineError: speech could not be looked for.
        """
        now_s = self._clock()
        try:
            self._hear(list(self._calls.values()), now_s)
        finally:
            self._scheduler.dispatch(self._late_s)
        for line in self._standing.waiting():
            self._listen(line, now_s)
        for event in self._plane.telephone_events():
            owners = ((f.call.id, leg) for f in self._calls.values() for leg, h in f.handles.items() if h == event.leg)
            for call_id, leg in owners:
                self._publisher.key_pressed(call_id, leg, event.digit)
        if self._clock() - self._idle_checked_s >= IDLE_CHECK_S:
            self._idle_checked_s = self._clock()
            self._end_idle()
            under_way = {followed.call.id for followed in self._ending.values()} | self._calls.keys()
            self._standing.revive(under_way)
            self._tell_of_foreign()

    def _tell_of_foreign(self) -> None:
        """Packets from somewhere they should not come from: said at once, then once a minute."""
        news = self._foreign.since(self._plane.foreign_packets(), self._clock())
        if news is not None:
            log.warning("foreign packets", **asdict(news))

    def _listen(self, line: str, now_s: float) -> None:
        """Once a line is heard, its call gets an id and a time of its own; its second 0 is what is read next."""
        followed = self._calls.get(line)
        if followed is None or np.isnan(self._plane.last_arrivals_s(list(followed.handles.values()))).all():
            return
        del self._calls[line]
        spec = self._standing.heard(line)
        # In samples, as the plane rounds: what it reads next must not lie before second 0.
        held_back = round(self._plane.config.playout_delay_ms / 1000 * SAMPLE_RATE_HZ)
        read_s = (round(now_s * SAMPLE_RATE_HZ) - held_back) / SAMPLE_RATE_HZ
        self._calls[spec.id] = Followed(spec, self._call(spec), followed.handles, max(followed.begun_s, read_s))
        log.info("call begins", call=spec.id)
        self._publisher.begun(spec.reach)

    async def _run(self) -> None:
        pace = Pace(self._config.tick_ms / 1000, self._clock())
        while True:
            try:
                self._late_s = pace.begin(self._clock())
                self.tick()
                self._is_failing = False
            except ScamTapError as error:
                self._failed(error)
            await asyncio.sleep(pace.end(self._clock()))

    def _end_idle(self) -> None:
        now_s, calls = self._clock(), list(self._calls.items())
        every_s = self._plane.last_arrivals_s([handle for _, f in calls for handle in f.handles.values()])
        newest_s = iter(every_s.tolist())
        for call_id, followed in calls:
            arrivals_s = [at_s for at_s in islice(newest_s, len(followed.handles)) if not math.isnan(at_s)]
            idle_s = self._standing.idle_s(call_id) or self._config.idle_timeout_s
            if now_s - max([followed.begun_s, *arrivals_s]) < idle_s:
                continue
            if call_id in self._standing and not arrivals_s:
                followed.release(self._plane, now_s)  # nobody called yet: no call to speak of, only its clock is old
                self._calls[call_id] = self._open(followed.spec)
                continue
            log.warning("call ends for lack of packets", call=call_id, after_s=idle_s)
            self._start_ending(call_id)

    def _failed(self, error: ScamTapError) -> None:
        """Speech could not be looked for: counted every time, logged when it begins; the calls go on."""
        self._telemetry.failures.inc()
        if not self._is_failing:
            log.error("calls not heard", why=str(error))
        self._is_failing = True

    def _hear(self, calls: list[Followed], now_s: float) -> bool:
        """Take what is new up to ``now_s``; False where nothing was."""
        is_new, segments = hear_followed(calls, self._plane, now_s)
        for followed, segment in segments:
            self._understanding.submit(followed, segment)
        return is_new

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
                for followed in self._ending.values():  # what waits for the models is given up; verdicts follow
                    for coming in followed.understanding:
                        coming.cancel()
                await asyncio.wait(late)
        await self._scheduler.close()
