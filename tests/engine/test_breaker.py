"""The circuit breaker under a clock that only moves when nothing else can happen."""

import asyncio

import pytest

from inference.engine.breaker import CircuitBreaker
from inference.errors import EngineError
from tests.virtual import VirtualLoop

PATIENCE_S = 10.0


class Server:
    """Is back at ``back_s``; counts canaries."""

    def __init__(self, back_s):
        self.back_s, self.asked = back_s, []

    async def canary(self):
        now_s = asyncio.get_running_loop().time()
        self.asked.append(now_s)
        return now_s >= self.back_s


def play(scenario, back_s=2.0):
    """Run ``scenario(breaker, loop, server)``; gives its result, the server and what was told."""
    told = []

    async def run():
        loop = asyncio.get_running_loop()
        server = Server(back_s)
        breaker = CircuitBreaker(
            server.canary,
            max_failures=3,
            probe_s=0.4,
            patience_s=PATIENCE_S,
            on_change=lambda is_open, why: told.append((is_open, why)),
            clock=loop.time,
        )
        try:
            return await scenario(breaker, loop), server, told
        finally:
            await breaker.aclose()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


def test_it_opens_after_refusals_in_a_row_and_closes_when_a_canary_is_answered():
    async def scenario(breaker, loop):
        for _ in range(2):
            breaker.refused("gone")
        breaker.succeeded()
        for _ in range(2):
            breaker.refused("gone")
        assert not breaker.is_open
        breaker.refused("gone")
        assert breaker.is_open
        await breaker.passed(loop.time() + 5)
        return loop.time()

    waited_s, server, told = play(scenario)
    assert 2.0 <= waited_s < 2.5
    assert 5 <= len(server.asked) <= 12  # one at a time, .2 to .4 s apart
    assert [is_open for is_open, _ in told] == [True, False]
    assert told[0][1] == "gone"


def test_a_silence_opens_it_at_once_and_a_quick_answer_closes_it_at_once():
    async def scenario(breaker, loop):
        breaker.timed_out("slow")
        assert breaker.is_open
        await breaker.passed(loop.time() + 5)
        return loop.time()

    waited_s, server, _ = play(scenario, back_s=0)
    assert waited_s == 0
    assert len(server.asked) == 1


def test_who_waits_is_turned_away_at_the_deadline():
    async def scenario(breaker, loop):
        breaker.timed_out("hung")
        with pytest.raises(EngineError, match=r"away for 3 s \(hung\)"):
            await breaker.passed(3.0)
        return loop.time()

    waited_s, *_ = play(scenario, back_s=100)
    assert waited_s == pytest.approx(3.0)


def test_after_long_absence_newcomers_are_turned_away_at_once():
    async def scenario(breaker, loop):
        breaker.timed_out("hung")
        await asyncio.sleep(PATIENCE_S + 1)
        asked_s = loop.time()
        with pytest.raises(EngineError, match="away for 11 s"):
            await breaker.passed(asked_s + 5)
        return loop.time() - asked_s

    waited_s, *_ = play(scenario, back_s=100)
    assert waited_s == 0


def test_all_who_wait_go_on_together_and_one_canary_asks():
    async def scenario(breaker, loop):
        breaker.timed_out("hung")
        await asyncio.gather(*(breaker.passed(9) for _ in range(50)))
        return loop.time()

    waited_s, server, told = play(scenario, back_s=1.0)
    assert 1.0 <= waited_s < 1.5
    assert len(server.asked) < 8
    assert len(told) == 2
