"""The micro-batcher under a clock that only moves when nothing else can happen."""

import asyncio
import selectors
import threading
from concurrent.futures import Executor, Future

import pytest

from inference.engine.batcher import BatcherConfig, MicroBatcher
from inference.errors import CapacityError, EngineError


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps over every wait instead of waiting."""

    def __init__(self):
        self.now_s = 0.0
        loop = self

        class Jumping(selectors.SelectSelector):
            def select(self, timeout=None):
                ready = super().select(0)
                if not ready and timeout:
                    loop.now_s += timeout
                assert ready or timeout is not None, "nothing will ever happen"
                return ready

        super().__init__(Jumping())

    def time(self):
        return self.now_s


class Inline(Executor):
    """Runs at once, or when told to."""

    def __init__(self, *, is_held=False):
        self.is_held, self.held = is_held, []

    def submit(self, fn, /, *args, **kwargs):
        future = Future()

        def work():
            try:
                future.set_result(fn(*args, **kwargs))
            except ValueError as error:
                future.set_exception(error)

        self.held.append(work) if self.is_held else work()
        return future

    def release(self):
        for work in self.held:
            work()
        self.held.clear()


def play(scenario):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario())


def recorder(batches):
    def run(items):
        batches.append(list(items))
        return [item * 10 for item in items]

    return run


def test_items_within_the_wait_share_a_batch():
    batches = []

    async def scenario():
        batcher = MicroBatcher(recorder(batches), BatcherConfig(max_wait_ms=10), executor=Inline())
        loop = asyncio.get_running_loop()

        async def at(second, item):
            await asyncio.sleep(second)
            return await batcher.submit(item), loop.time()

        return await asyncio.gather(at(0, 1), at(0.009, 2), at(0.02, 3))

    results = play(scenario)
    assert batches == [[1, 2], [3]]
    assert [value for value, _ in results] == [10, 20, 30]
    assert [when for _, when in results] == pytest.approx([0.01, 0.01, 0.03])


def test_a_full_batch_does_not_wait():
    batches = []

    async def scenario():
        batcher = MicroBatcher(recorder(batches), BatcherConfig(max_wait_ms=1000, max_items=2), executor=Inline())
        await asyncio.gather(*(batcher.submit(i) for i in range(4)))
        return asyncio.get_running_loop().time()

    assert play(scenario) == 0
    assert batches == [[0, 1], [2, 3]]


def test_what_comes_during_a_batch_is_the_next_one():
    batches = []

    async def scenario():
        executor = Inline(is_held=True)
        batcher = MicroBatcher(recorder(batches), BatcherConfig(max_wait_ms=1, max_items=8), executor=executor)
        tasks = [asyncio.create_task(batcher.submit(0))]
        await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(batcher.submit(i)) for i in (1, 2, 3)]
        await asyncio.sleep(0.01)
        assert len(executor.held) == 1
        executor.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        executor.release()
        return await asyncio.gather(*tasks)

    assert play(scenario) == [0, 10, 20, 30]
    assert batches == [[0], [1, 2, 3]]


def test_a_failed_batch_fails_its_items_and_no_others():
    def run(items):
        if 13 in items:
            raise ValueError("unlucky")
        return items

    async def scenario():
        batcher = MicroBatcher(run, BatcherConfig(max_items=2), executor=Inline())
        bad = await asyncio.gather(batcher.submit(12), batcher.submit(13), return_exceptions=True)
        return bad, await batcher.submit(14)

    bad, good = play(scenario)
    assert [str(error) for error in bad] == ["unlucky", "unlucky"]
    assert good == 14


def test_too_few_results_are_an_error():
    async def scenario():
        batcher = MicroBatcher(lambda items: items[1:], executor=Inline())
        return await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)

    assert all(isinstance(error, EngineError) for error in play(scenario))


def test_the_queue_is_bounded():
    async def scenario():
        executor = Inline(is_held=True)
        config = BatcherConfig(max_items=1, max_queued=2)
        batcher = MicroBatcher(lambda items: items, config, executor=executor)
        tasks = [asyncio.create_task(batcher.submit(i)) for i in range(3)]  # one runs, two wait
        await asyncio.sleep(0)
        with pytest.raises(CapacityError, match="2 requests wait"):
            await batcher.submit(3)
        closing = asyncio.create_task(batcher.close())
        for _ in range(12):
            executor.release()
            await asyncio.sleep(0)
        await closing
        return await asyncio.gather(*tasks)

    assert play(scenario) == [0, 1, 2]


def test_whoever_gave_up_is_left_out():
    batches = []

    async def scenario():
        batcher = MicroBatcher(recorder(batches), BatcherConfig(max_wait_ms=10), executor=Inline())
        impatient = asyncio.create_task(batcher.submit(1))
        patient = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0.001)
        impatient.cancel()
        return await patient

    assert play(scenario) == 20
    assert batches == [[2]]


def test_close_finishes_what_was_accepted_and_refuses_more():
    batches = []

    async def scenario():
        batcher = MicroBatcher(recorder(batches), BatcherConfig(max_wait_ms=1000), executor=Inline())
        task = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0)
        await batcher.close()
        await batcher.close()
        with pytest.raises(EngineError, match="closed"):
            await batcher.submit(2)
        return await task

    assert play(scenario) == 10
    assert batches == [[1]]


def test_its_own_threads_run_the_stage_and_end_with_it():
    async def scenario():
        batcher = MicroBatcher(lambda items: [threading.current_thread().name for _ in items])
        name = await batcher.submit(1)
        await batcher.close()
        return name

    assert asyncio.run(scenario()).startswith("batch")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batch")]
