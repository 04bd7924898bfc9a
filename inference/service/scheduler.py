"""From due segments to what came of them: batches for the models, and what to do when they are too slow.

Everything happens on one event loop; only the models run elsewhere, in threads. Nobody waits here for the models: a
caller gets a future, and the queue in between has a bound (:mod:`inference.service.due`).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field

from inference.audio import SAMPLE_RATE_HZ
from inference.errors import CapacityError, EngineError
from inference.service.call import Call
from inference.service.due import DueConfig, DueQueue, Row, Waiting
from inference.service.overload import STEPS, Overload, OverloadConfig
from inference.service.stages import DueSegment, Outcome, Stages, is_gated

log = structlog.get_logger(__name__)

FIRST_COST = 0.03  # seconds that a second of window takes, until it was measured: about what one core takes
COST_WEIGHT = 0.2  # of the newest batch in the running mean


class SchedulerConfig(BaseModel):
    """How due segments reach the models.

    Attributes:
        due: bounds of the queue, and what a batch is.
        overload: what happens when the models cannot keep up.
        max_running: batches under way at once, never two with one call; more than one pays where an engine has more
            than one core or a server of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    due: DueConfig = DueConfig()
    overload: OverloadConfig = OverloadConfig()
    max_running: int = Field(default=1, ge=1, le=64)


@dataclass(slots=True)
class SchedulerCounters:
    """Speech by what became of it, in samples at 8 kHz, so that sums are exact; and how much the models heard for it.

    ``offered`` is always the sum of the others and of what waits or is under way.
    """

    offered: int = 0
    understood: int = 0
    held: int = 0
    failed: int = 0
    given_up: int = 0
    shed_late: int = 0
    shed_full: int = 0
    windows: int = 0
    num_batches: int = 0
    num_rows: int = 0
    num_joined: int = 0


class Scheduler:
    """Feeds the models from the queue.

    Args:
        stages: the models.
        config: bounds and steps.
        clock: monotonic seconds.
        executor: where the models run; stays the caller's to shut down. Default: threads of its own.
    """

    def __init__(
        self,
        stages: Stages,
        config: SchedulerConfig,
        *,
        clock: Callable[[], float],
        executor: Executor | None = None,
    ) -> None:
        self._stages = stages
        self._config = config
        self._clock = clock
        self._owned = None if executor else ThreadPoolExecutor(config.max_running, thread_name_prefix="models")
        self._executor = executor or self._owned
        self._queue = DueQueue(config.due, stages.window_samples, is_mixing=stages.is_mixing)
        self._running: dict[asyncio.Future[list[Outcome]], float] = {}  # -> when it began
        self._under_way = 0  # samples with the models
        self._late_s = 0.0
        self._is_closed = False
        self.overload = Overload(config.overload, clock())
        self.counters = SchedulerCounters()
        self.cost = FIRST_COST

    @property
    def is_refusing(self) -> bool:
        """Whether new calls are to be refused."""
        return self.overload.step == "refusing"

    def submit(self, due: DueSegment) -> "asyncio.Future[Outcome]":
        """Take a segment; it goes to the models with the next :meth:`dispatch` at the earliest.

        A future that is cancelled takes its segment out of the queue.

        Raises:
            EngineError: the scheduler is closed.
        """
        if self._is_closed:
            raise EngineError("a segment came after its scheduler was closed")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        waiting = Waiting(due, future)
        self.counters.offered += waiting.num_samples
        is_hopping = self.overload.step != "normal"
        for gone in self._queue.add(waiting, self._clock(), is_hopping=is_hopping):
            self.counters.shed_full += gone.num_samples
            gone.settle(Outcome(shed="full"))
        future.add_done_callback(partial(self._given_up, waiting))
        return future

    def hurry(self, call: Call) -> None:
        """``call`` is over: what it said need not wait for more."""
        self._queue.hurry(call)
        self.dispatch()

    def dispatch(self, late_s: float = 0.0) -> None:
        """Send off what is due. To be called every tick.

        Args:
            late_s: the lag that late or long ticks stand for (:mod:`inference.service.pace`): a worker that cannot even
                read its calls is overloaded too.
        """
        now_s = self._clock()
        self._late_s = late_s
        for gone in self._queue.shed_late(now_s):
            self.counters.shed_late += gone.num_samples
            gone.settle(Outcome(shed="late"))
        before = self.overload.step
        if self.overload.update(self._lag_s(now_s), now_s):
            tell = log.warning if STEPS.index(self.overload.step) > STEPS.index(before) else log.info
            tell("overload", step=self.overload.step, before=before, lag_s=round(self.overload.lag_s, 2))
        while len(self._running) < self._config.max_running:
            rows = self._queue.take(now_s, self.cost, self.overload.lag_s)
            if not rows:
                return
            self._start(rows, now_s)

    def describe(self) -> dict[str, Any]:
        """How the worker copes, for operators; seconds are of speech but for those of lag and steps."""
        counted = asdict(self.counters)
        numbers = {name: counted.pop(name) for name in list(counted) if name.startswith("num_")}
        return {
            "step": self.overload.step,
            "lag_s": round(self.overload.lag_s, 3),
            "waiting_s": round(self._queue.waiting_s, 3),
            "under_way_s": round(self._under_way / SAMPLE_RATE_HZ, 3),
            "cost": round(self.cost, 5),
            "step_s": {step: round(seconds, 1) for step, seconds in self.overload.seconds.items()},
            **{f"{name}_s": round(samples / SAMPLE_RATE_HZ, 3) for name, samples in counted.items()},
            **numbers,
        }

    async def close(self) -> None:
        """Refuse new segments, finish those accepted, release the threads; may be called twice."""
        self._is_closed = True
        while self._running or len(self._queue):
            for call in self._queue.calls:
                self._queue.hurry(call)
            self.dispatch()
            if self._running:
                await asyncio.wait(self._running.keys())
                await asyncio.sleep(0)  # its callbacks
        if self._owned is not None:
            self._owned.shutdown(wait=True)

    def _lag_s(self, now_s: float) -> float:
        """How long a segment that comes now would wait for the models."""
        ahead_s = self.cost * self._queue.ready_window_s(now_s) / self._config.max_running
        under_way_s = now_s - min(self._running.values(), default=now_s)
        return max(ahead_s + under_way_s, self._late_s)

    def _start(self, rows: list[Row], now_s: float) -> None:
        is_overloaded = self.overload.step in ("gate_only", "refusing")
        gates = self._stages.gates
        batch = [replace(row.due, is_gated=is_gated(gates, row.due.call, is_overloaded=is_overloaded)) for row in rows]
        counters = self.counters
        counters.num_batches += 1
        counters.num_rows += len(rows)
        counters.num_joined += sum(len(row.parts) - 1 for row in rows)
        counters.windows += sum(self._stages.window_samples(len(due.segment.samples)) for due in batch)
        self._under_way += _num_samples(rows)
        running = asyncio.get_running_loop().run_in_executor(self._executor, self._stages.understand, batch)
        self._running[running] = now_s
        running.add_done_callback(partial(self._finish, rows, batch))

    def _finish(self, rows: list[Row], batch: list[DueSegment], running: "asyncio.Future[list[Outcome]]") -> None:
        took_s = self._clock() - self._running.pop(running)
        window_s = sum(self._stages.window_samples(len(due.segment.samples)) for due in batch) / SAMPLE_RATE_HZ
        self.cost += COST_WEIGHT * (took_s / window_s - self.cost)
        self._under_way -= _num_samples(rows)
        failure = asyncio.CancelledError() if running.cancelled() else running.exception()
        outcomes = [] if failure is not None else running.result()
        if failure is None and len(outcomes) != len(rows):
            failure = EngineError(f"stages returned {len(outcomes)} results for {len(rows)} segments: a bug in them")
        if isinstance(failure, CapacityError):
            self._refused(rows)
            return
        self._queue.give_back(rows)
        for index, row in enumerate(rows):
            if failure is not None:
                self.counters.failed += _num_samples([row])
            elif outcomes[index].is_held:
                self.counters.held += _num_samples([row])
            else:
                self.counters.understood += _num_samples([row])
            for part in row.parts:
                if failure is not None:
                    part.fail(failure)
                elif part is row.parts[-1]:  # of joined segments, the last brings the events
                    part.settle(outcomes[index])
                else:
                    part.settle(Outcome(is_held=outcomes[index].is_held))
        self.dispatch(self._late_s)

    def _refused(self, rows: list[Row]) -> None:
        """The engine had no room: low-risk speech is shed, that of a call at suspect is offered again next tick."""
        again = [row for row in rows if row.due.call.level != "none" and not self._is_closed]
        self._queue.put_back(again)
        self._queue.give_back(rows)
        for row in rows:
            if row not in again:
                self.counters.shed_full += _num_samples([row])
                for part in row.parts:
                    part.settle(Outcome(shed="full"))

    def _given_up(self, waiting: Waiting, future: "asyncio.Future[Outcome]") -> None:
        if future.cancelled() and self._queue.withdraw(waiting):
            self.counters.given_up += waiting.num_samples


def _num_samples(rows: list[Row]) -> int:
    return sum(part.num_samples for row in rows for part in row.parts)
