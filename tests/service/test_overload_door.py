"""Overload as an operator meets it: more calls than the models can bear, in virtual time, through the control API.

Packets come in real (virtual) time, the models take what they take, and what is asserted is what the API and /metrics
say: each step in turn, new calls refused, a call at suspect heard whole and at once, every second accounted for.
"""

import asyncio
import contextlib
import re
from itertools import pairwise

import httpx
import pytest

from inference.service.api import ApiConfig, create_app
from inference.service.due import DueConfig
from inference.service.events import UtteranceEvent
from inference.service.overload import STEPS, OverloadConfig
from inference.service.scheduler import SchedulerConfig
from tests.service import doubles
from tests.service.conftest import Bench
from tests.virtual import VirtualLoop

NUM_CALLS = 12
COST = 0.12  # seconds of the models for a second of window: they can bear six such calls
PHRASE_S = 0.75  # a phrase and its pause
THEIRS = (doubles.THREAT.text, doubles.HELLO.text)  # of the call at suspect; all others say one thing


class SlowLoop(VirtualLoop):
    """Models take their time, and answer at its end."""

    def run_in_executor(self, executor, understand, batch):
        window_s = sum(-(-len(due.segment.samples) // 8000) for due in batch)
        done = self.create_future()
        self.call_later(COST * window_s, lambda: done.set_result(understand(batch)))
        return done


class OnLoopTime(Bench):
    """A bench whose clock is the loop's."""

    now_s = property(lambda _: 1000.0 + asyncio.get_running_loop().time(), lambda _self, _value: None)


class Callers:
    """Calls that say one phrase after another, each starting when it is told to."""

    def __init__(self, bench, api, spec_of):
        self._bench, self._api, self._spec_of = bench, api, spec_of
        self._talking = {}
        self.num_said = dict.fromkeys(range(NUM_CALLS), 0)

    async def begin(self, number, *phrases):
        """Announce a call; it repeats ``phrases`` until it is ended."""
        port = 30000 + 4 * number
        answer = await self._api.post("/v1/calls", json=self._spec_of(f"c{number}", port, port + 2))
        if answer.status_code == 201:
            self._talking[number] = asyncio.create_task(self._talk(number, port, phrases))
        return answer

    async def _talk(self, number, port, phrases):
        loop, begun_s, sent = asyncio.get_running_loop(), asyncio.get_running_loop().time(), 0
        while True:
            said = doubles.speech(*phrases)
            for packet in doubles.packets(said, first=sent & 0xFFFF, ts=sent * 160):
                self._bench.feed(packet, port)
                sent += 1
                await asyncio.sleep(begun_s + 0.02 * sent - loop.time())
            self.num_said[number] += len(phrases)

    async def end(self, number):
        self._talking.pop(number).cancel()
        return (await self._api.delete(f"/v1/calls/c{number}")).json()


@contextlib.asynccontextmanager
async def overloadable(spec_of):
    config = SchedulerConfig(overload=OverloadConfig(calm_s=2), due={"max_wait_s": 6, "near_llr": 0.1})
    b = OnLoopTime(
        doubles, max_legs=2 * NUM_CALLS + 2, parts=doubles.gated_parts(),
        stages=doubles.gated_stages("overload", lambda: b.now_s), scheduler=config,
    )  # fmt: skip
    transport = httpx.ASGITransport(create_app(b.watch, b.bus, b.telemetry, ApiConfig()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as api:
        b.watch.start()
        yield b, api, Callers(b, api, spec_of)
        await b.watch.drain()


async def scenario(spec_of):
    told = {"steps": []}
    async with overloadable(spec_of) as (b, api, callers):
        events = b.bus.follow()

        async def look():
            while True:
                told["steps"].append((await api.get("/v1/load")).json()["step"])
                await asyncio.sleep(0.1)

        async def until(step):
            async with asyncio.timeout(90):
                while told["steps"][-1] != step:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

        looking = asyncio.create_task(look())
        await callers.begin(0, doubles.THREAT, doubles.HELLO)
        await asyncio.sleep(3 * PHRASE_S)
        told["victim_before"] = (await api.get("/v1/calls/c0")).json()
        for number in range(1, NUM_CALLS):
            assert (await callers.begin(number, doubles.FINE)).status_code == 201
        await until("refusing")
        told["refused"] = await callers.begin(99, doubles.FINE)
        await asyncio.sleep(15)
        told["calls"] = (await api.get("/v1/calls")).json()
        told["load"] = (await api.get("/v1/load")).json()
        told["metrics"] = (await api.get("/metrics")).text
        heard = [event.utterance for event in events._waiting if isinstance(event, UtteranceEvent)]
        told["victim_waited_s"] = [one.known_s - one.end_s for one in heard if one.text in THEIRS]
        told["num_said"] = callers.num_said[0]
        told["victim"] = await callers.end(0)
        for number in range(1, NUM_CALLS - 1):
            await callers.end(number)
        await until("normal")
        told["welcome"] = await callers.begin(5, doubles.FINE)
        looking.cancel()
    return told


@pytest.fixture(scope="module")
def told():
    def spec_of(call_id, far, near):
        source = "192.0.2.10"
        legs = {"far": far, "near": near}
        return {"id": call_id} | {leg: {"local_port": 40000, "source": f"{source}:{p}"} for leg, p in legs.items()}

    with asyncio.Runner(loop_factory=SlowLoop) as runner:
        return runner.run(scenario(spec_of))


def test_each_step_is_taken_in_turn_and_left_one_at_a_time(told):
    seen = [step for before, step in zip([None, *told["steps"]], told["steps"], strict=False) if step != before]
    assert tuple(dict.fromkeys(seen)) == STEPS, "each for the first time after the one before it"
    down = [(STEPS.index(a), STEPS.index(b)) for a, b in pairwise(seen) if STEPS.index(b) < STEPS.index(a)]
    assert all(after == before - 1 for before, after in down)
    assert seen[-1] == "normal"


def test_new_calls_are_refused_at_the_worst_and_welcome_again_after_it(told):
    assert told["refused"].status_code == 503
    assert told["refused"].headers["retry-after"]
    assert "add a worker" in told["refused"].json()["detail"]
    assert told["welcome"].status_code == 201


def test_a_call_at_suspect_is_heard_whole_and_soon_at_every_step(told):
    assert told["victim_before"]["level"] in ("suspect", "danger")
    (victim,) = [call for call in told["calls"] if call["id"] == "c0"]
    assert (victim["shed_s"], victim["held_s"]) == (0, 0)
    assert len(told["victim_waited_s"]) >= told["num_said"] - 5 > 20, "all but what is with the models now"
    longest_s = DueConfig().max_batch_s
    assert max(told["victim_waited_s"]) < 2 * longest_s + 0.5, "the batch under way, and its own"
    assert told["victim"]["level"] in ("suspect", "danger")


def test_every_second_that_was_not_heard_is_counted_and_shown(told):
    load = told["load"]
    shed_s = load["shed_late_s"] + load["shed_full_s"]
    assert shed_s > 10
    assert shed_s == pytest.approx(sum(call["shed_s"] for call in told["calls"]), abs=0.5)
    became = ("understood", "held", "failed", "given_up", "shed_late", "shed_full", "waiting", "under_way")
    assert load["offered_s"] == pytest.approx(sum(load[f"{what}_s"] for what in became), abs=0.01)
    in_metrics = re.findall(r'^scamtap_shed_speech_seconds_total{why="\w+"} (\S+)', told["metrics"], re.MULTILINE)
    assert sum(map(float, in_metrics)) == pytest.approx(shed_s, abs=0.5)


def test_the_steps_before_it_did_what_they_are_for(told):
    assert told["load"]["num_joined"] > 0, "long_hop joins what waits"
    assert told["load"]["held_s"] > 0, "gate_only reads what passes alone"
