"""The scheduler on a virtual clock: models that take as long as a test says, and never a real wait."""

import asyncio
import math
import threading
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.audio.segment import SpeechSegment
from inference.errors import CapacityError, EngineError, ScamTapError
from inference.service.scheduler import Scheduler, SchedulerConfig
from inference.service.stages import DueSegment, Outcome
from tests.virtual import VirtualLoop

RATE_HZ = 8000


@dataclass(eq=False)
class FakeCall:
    """What the scheduler looks at of a call."""

    level: str = "none"
    suspect_in_llr: float = 3.0


class Models(Executor):
    """Stages and their executor in one: a batch takes ``cost`` virtual seconds a second of window."""

    def __init__(self, cost=0.1, gates="never"):
        self.cost, self.gates = cost, gates
        self.batches, self.failure = [], None
        self.out, self.max_out = [], 0

    is_mixing = False

    def window_samples(self, num_samples):
        return math.ceil((num_samples + RATE_HZ) / 4000) * 4000

    def understand(self, batch):
        if self.failure is not None:
            raise self.failure
        return [Outcome([due.segment.start_s], is_held=due.is_gated) for due in batch]

    def submit(self, fn, batch):
        self.batches.append(batch)
        calls = [due.call for due in batch]
        assert not set(calls) & {call for other in self.out for call in other}, "a call in two batches at once"
        self.out.append(calls)
        self.max_out = max(self.max_out, len(self.out))
        future = Future()

        def done():
            self.out.remove(calls)
            if future.cancelled():
                return
            try:
                future.set_result(fn(batch))
            except ScamTapError as error:
                future.set_exception(error)

        window_s = sum(self.window_samples(len(due.segment.samples)) for due in batch) / RATE_HZ
        asyncio.get_running_loop().call_later(self.cost * window_s, done)
        return future


def due(call, spoken_s=2.0):
    now_s = asyncio.get_running_loop().time()
    samples = np.zeros(round(spoken_s * RATE_HZ), np.int16)
    return DueSegment(call, SpeechSegment("far", now_s, now_s + spoken_s, now_s, samples), now_s)


def play(scenario, models=None, **config):
    """Run ``scenario(scheduler, models)`` in virtual time."""
    models = models or Models()

    async def run():
        clock = asyncio.get_running_loop().time
        scheduler = Scheduler(models, SchedulerConfig(**config), clock=clock, executor=models)
        try:
            return await scenario(scheduler, models)
        finally:
            await scheduler.close()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


async def tick(scheduler, seconds, period_s=0.06):
    """Dispatch every tick for so long."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + seconds
    while loop.time() < until_s - 1e-9:
        scheduler.dispatch()
        await asyncio.sleep(period_s)


def conserved(scheduler):
    """What was offered is what became of it."""
    c, q = scheduler.counters, scheduler._queue
    ended = c.understood + c.held + c.failed + c.given_up + c.shed_late + c.shed_full
    assert c.offered == ended + q.num_samples + scheduler._under_way
    return c


def test_all_that_is_due_on_a_tick_shares_a_batch():
    async def scenario(scheduler, models):
        coming = [scheduler.submit(due(FakeCall())) for _ in range(4)]
        assert models.batches == []
        scheduler.dispatch()
        return await asyncio.gather(*coming), [len(batch) for batch in models.batches]

    outcomes, batches = play(scenario)
    assert [outcome.events for outcome in outcomes] == [[0.0]] * 4
    assert batches == [4]


def test_what_comes_meanwhile_goes_as_soon_as_the_models_are_free():
    async def scenario(scheduler, models):
        first = scheduler.submit(due(FakeCall()))
        scheduler.dispatch()
        await asyncio.sleep(0.01)
        second = scheduler.submit(due(FakeCall()))
        await asyncio.gather(first, second)
        return asyncio.get_running_loop().time()

    assert play(scenario) == pytest.approx(0.6)  # two windows of 3 s at .1


def test_batches_at_once_are_of_different_calls():
    async def scenario(scheduler, models):
        calls = [FakeCall() for _ in range(4)]
        coming = [scheduler.submit(due(call)) for _ in range(5) for call in calls]
        scheduler.dispatch()
        await asyncio.gather(*coming)
        return models.max_out

    assert play(scenario, max_running=2, due={"max_rows": 2}) == 2  # Models asserts that no call is in both


def test_a_failed_batch_fails_its_segments_and_no_others():
    async def scenario(scheduler, models):
        models.failure = EngineError("refused")
        bad = scheduler.submit(due(FakeCall()))
        scheduler.dispatch()
        await asyncio.wait([bad])
        models.failure = None
        good = scheduler.submit(due(FakeCall()))
        scheduler.dispatch()
        await good
        return str(bad.exception()), conserved(scheduler)

    why, counters = play(scenario)
    assert why == "refused"
    assert (counters.failed, counters.understood) == (16000, 16000)


def test_an_engine_without_room_costs_low_risk_speech_and_suspects_are_offered_again_in_order():
    async def scenario(scheduler, models):
        models.failure = CapacityError("the server's queue is full")
        low, suspect = FakeCall(), FakeCall("suspect")
        coming = [scheduler.submit(due(call, spoken_s)) for call in (suspect, low) for spoken_s in (1.0, 2.0)]
        await tick(scheduler, 1.5)
        refused = [future.done() for future in coming], conserved(scheduler).shed_full
        models.failure = None
        await tick(scheduler, 2.0)
        return refused, [future.result() for future in coming], [len(b) for b in models.batches], conserved(scheduler)

    (done, shed), outcomes, batches, counters = play(scenario)
    assert done == [False, False, True, True]
    assert [outcome.shed for outcome in outcomes] == [None, None, "full", "full"]
    assert (shed, counters.understood, counters.failed) == (24000, 24000, 0)
    assert len(batches) < 30  # a tick apart, not as fast as they are refused


def test_too_few_results_are_an_error():
    async def scenario(scheduler, models):
        models.understand = lambda batch: []
        coming = scheduler.submit(due(FakeCall()))
        scheduler.dispatch()
        await asyncio.wait([coming])
        return coming.exception()

    assert "a bug in them" in str(play(scenario))


def test_whoever_gave_up_is_left_out_and_counted():
    async def scenario(scheduler, models):
        patient, impatient = scheduler.submit(due(FakeCall())), scheduler.submit(due(FakeCall()))
        impatient.cancel()
        await asyncio.sleep(0)
        scheduler.dispatch()
        await patient
        return len(models.batches[0]), conserved(scheduler).given_up

    assert play(scenario) == (1, 16000)


def test_close_finishes_what_was_accepted_hopping_or_not_and_refuses_more():
    async def scenario(scheduler, models):
        call = FakeCall()
        scheduler.dispatch(late_s=1)  # overloaded: what comes waits
        coming = [scheduler.submit(due(call)) for _ in range(3)]
        await scheduler.close()
        with pytest.raises(EngineError, match="closed"):
            scheduler.submit(due(call))
        return all(future.done() for future in coming), conserved(scheduler).understood

    assert play(scenario) == (True, 3 * 16000)


def test_a_call_that_ends_waits_no_longer():
    async def scenario(scheduler, models):
        call = FakeCall()
        scheduler.dispatch(late_s=1)
        coming = scheduler.submit(due(call))
        scheduler.dispatch()
        assert models.batches == []
        scheduler.hurry(call)
        await coming
        return asyncio.get_running_loop().time()

    assert play(scenario) == pytest.approx(0.3)


def test_a_tick_that_comes_late_is_overload_too():
    async def scenario(scheduler, models):
        scheduler.dispatch(late_s=4.5)
        return scheduler.is_refusing, scheduler.describe()["step"]

    assert play(scenario) == (True, "refusing")


def test_models_that_hang_are_overload_long_before_the_queue_is_full():
    async def scenario(scheduler, models):
        models.cost = 20  # a minute for a segment
        scheduler.submit(due(FakeCall()))
        steps = {}
        for second in range(6):
            await tick(scheduler, 1.0)
            steps.setdefault(scheduler.overload.step, second + 1)
        return steps

    steps = play(scenario)
    assert list(steps) == ["normal", "long_hop", "gate_only", "refusing"]
    assert steps["refusing"] <= 5


@pytest.mark.parametrize(
    ("gates", "late_s", "held"),
    [
        ("never", 9, 0),
        ("overload", 0, 0),
        ("overload", 1, 0),
        ("overload", 2.5, 1),
        ("overload", 9, 1),
        ("always", 0, 1),
    ],
)
def test_the_gate_holds_back_low_risk_calls_alone_and_when_told(gates, late_s, held):
    async def scenario(scheduler, models):
        scheduler.dispatch(late_s)
        low, suspect = FakeCall(), FakeCall("suspect")
        coming = [scheduler.submit(due(call)) for call in (low, suspect)]
        for call in (low, suspect):
            scheduler.hurry(call)  # no hop
        return [outcome.is_held for outcome in await asyncio.gather(*coming)], conserved(scheduler).held

    assert play(scenario, Models(gates=gates)) == ([bool(held), False], held * 16000)


def test_joined_segments_are_one_window_and_each_is_answered():
    async def scenario(scheduler, models):
        scheduler.dispatch(late_s=1.2)
        call = FakeCall()
        first = scheduler.submit(due(call))
        await asyncio.sleep(2.5)
        second = scheduler.submit(due(call))
        await tick(scheduler, 5)
        return await asyncio.gather(first, second), [len(batch) for batch in models.batches], scheduler.counters

    (first, second), batches, counters = play(scenario)
    assert (first.events, second.events) == ([], [0.0])  # the whole, from where it began
    assert batches == [1]
    assert (counters.num_joined, counters.understood, counters.windows) == (1, 32000, 5.5 * RATE_HZ)


def test_its_own_threads_run_the_models_and_end_with_it():
    class Threads(Models):
        def understand(self, batch):
            return [Outcome([threading.current_thread().name]) for _ in batch]

    async def run():
        scheduler = Scheduler(Threads(), SchedulerConfig(), clock=asyncio.get_running_loop().time)
        coming = scheduler.submit(due(FakeCall()))
        scheduler.dispatch()
        outcome = await coming
        await scheduler.close()
        return outcome.events[0]

    assert asyncio.run(run()).startswith("models")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("models")]


@dataclass
class Talker:
    """A call of the simulation: how often it speaks, how long, and when it becomes suspect."""

    every_s: float
    spoken_s: float
    suspect_from_s: float
    call: FakeCall = field(default_factory=FakeCall)


TALKER = st.builds(
    Talker,
    every_s=st.sampled_from([1.5, 3.0, 6.0]),
    spoken_s=st.sampled_from([0.5, 1.5, 4.0]),
    suspect_from_s=st.sampled_from([0.0, 5.0, 1e9, 1e9, 1e9]),
)


@settings(max_examples=60, deadline=None)
@given(
    talkers=st.lists(TALKER, min_size=1, max_size=10),
    cost=st.sampled_from([0.01, 0.1, 0.3, 1.0]),
    gates=st.sampled_from(["never", "overload", "always"]),
    fails=st.booleans(),
)
def test_laws_of_the_scheduler_under_any_load(talkers, cost, gates, fails):
    """Half a minute of talk, models fast or hopeless: every second accounted for, bounds hold, no suspect is shed."""
    bound_s, max_wait_s = 60.0, 8.0

    async def scenario(scheduler, models):
        loop = asyncio.get_running_loop()
        answers = []

        def speak(talker):
            if loop.time() >= 30:
                return
            if loop.time() >= talker.suspect_from_s:
                talker.call.level = "suspect"
            asked_s, level = loop.time(), talker.call.level
            coming = scheduler.submit(due(talker.call, talker.spoken_s))
            coming.add_done_callback(lambda done: answers.append((done, asked_s, loop.time(), level)))
            loop.call_later(talker.every_s, speak, talker)

        for talker in talkers:
            speak(talker)
        for second in range(30):
            models.failure = EngineError("refused") if fails and second % 7 == 3 else None
            await tick(scheduler, 1.0)
            counters = conserved(scheduler)
            assert scheduler._queue.waiting_s <= bound_s
            assert len(scheduler._running) <= 1
        suspects_alone_fill_it = sum(
            30 / t.every_s * t.spoken_s for t in talkers if t.suspect_from_s < 30
        ) > bound_s - max(t.spoken_s for t in talkers)
        for done, asked_s, answered_s, level in answers:
            outcome = None if done.exception() else done.result()
            if outcome is None:
                continue
            if outcome.shed == "late":
                assert level == "none"
                longest_s = max_wait_s + 0.06 + cost * 16 * 9  # a tick, and the batch under way
                assert answered_s - asked_s <= longest_s
            if outcome.shed is not None and level == "suspect":
                assert suspects_alone_fill_it
            assert not (outcome.is_held and level == "suspect")
        shed = sum(round(t_done.result().shed is not None) for t_done, *_ in answers if not t_done.exception())
        assert bool(shed) == bool(counters.shed_late + counters.shed_full)
        models.failure, models.cost = None, 0.001
        return counters

    play(scenario, Models(cost, gates), due={"max_waiting_s": bound_s, "max_wait_s": max_wait_s})
