"""Models that fail or are slow cost what they were given, and no call."""

import asyncio
import threading

import pytest

from inference.errors import CapacityError, EngineError
from inference.gateway.spec import CallSpec


def collect(bus):
    follower = bus.follow()
    return lambda: [event.to_json() for event in list(follower._waiting)]


def test_an_engine_that_fails_costs_a_segment_and_not_the_call(bench, spec_of, doubles):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            events = collect(b.bus)
            b.stages.recogniser.failure = EngineError("the engine refused")
            await b.play({30000: doubles.packets(doubles.speech(doubles.HELLO))})
            b.stages.recogniser.failure = None
            again = doubles.packets(doubles.speech(doubles.HELLO, doubles.THREAT), first=200, ts=90000)
            await b.play({30000: again[len(again) // 2 :]})
            verdict = (await b.watch.end("c1")).to_json()
            return events(), verdict, b.telemetry.failures._value.get()

    events, verdict, failures = asyncio.run(run())
    assert [event.get("text") for event in events if event["type"] == "utterance"] == [doubles.THREAT.text]
    assert verdict["level"] == "suspect"
    assert failures == 1


def test_a_vad_that_fails_leaves_the_worker_hearing_afterwards(bench, spec_of, doubles, monkeypatch):
    score = doubles.EnergyVad.score
    failing = [True]

    def fail(self, frames, states):
        if failing[0]:
            raise EngineError("the engine refused")
        return score(self, frames, states)

    monkeypatch.setattr(doubles.EnergyVad, "score", fail)

    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            b.watch.start()
            for packet in doubles.packets(doubles.speech(doubles.HELLO)):
                b.feed(packet, 30000)
                b.now_s += 0.02
            await doubles.until(lambda: b.telemetry.failures._value.get() >= 1)
            was_up = not b.watch.ticking.done()
            failing[0] = False
            events = collect(b.bus)
            await b.play({30000: doubles.packets(doubles.speech(doubles.THREAT), ssrc=9)})
            verdict = await b.watch.end("c1")
            return was_up, events(), verdict.to_json()

    was_up, events, verdict = asyncio.run(run())
    assert was_up
    assert doubles.THREAT.text in [event.get("text") for event in events]
    assert verdict["level"] == "suspect"


def held_up(recogniser):
    """The recogniser waits until the event returned is set."""
    release, transcribe = threading.Event(), recogniser.transcribe

    def slow(*arguments):
        release.wait(10)
        return transcribe(*arguments)

    recogniser.transcribe = slow
    return release


def test_speech_beyond_capacity_is_shed_and_counted(bench, spec_of, doubles):
    async def run():
        async with bench(scheduler={"due": {"max_waiting_s": 1.0, "max_rows": 1}}) as b:
            release = held_up(b.stages.recogniser)
            b.watch.begin(CallSpec.model_validate(spec_of()))
            said = doubles.speech(doubles.HELLO, doubles.FINE, doubles.THREAT, doubles.ASK)
            for number, packet in enumerate(doubles.packets(said)):
                b.feed(packet, 30000)
                b.now_s += 0.02
                if number % 3 == 2:
                    b.watch.tick()
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting = b.watch.num_waiting
            shed_s, load = b.watch.describe("c1")["shed_s"], b.watch.load()
            release.set()
            await b.watch.end("c1")
            b.telemetry.observe(b.watch, b.bus)
            return waiting, shed_s, load, b.watch.load(), b.telemetry.registry.get_sample_value

    waiting, shed_s, load, after, metric = asyncio.run(run())
    assert waiting == 2  # one with the models, one in the queue
    assert shed_s > 0
    assert load["shed_full_s"] == pytest.approx(shed_s, abs=0.02)
    assert load["offered_s"] == pytest.approx(load["shed_full_s"] + load["waiting_s"] + load["under_way_s"])
    assert metric("scamtap_shed_speech_seconds_total", {"why": "full"}) == pytest.approx(after["shed_full_s"], abs=0.01)
    of = {"what": "understood"}
    assert metric("scamtap_scheduled_speech_seconds_total", of) == pytest.approx(after["understood_s"], abs=0.01)
    assert after["offered_s"] == pytest.approx(after["understood_s"] + after["shed_full_s"])


def test_a_worker_that_falls_behind_refuses_calls_and_takes_them_again(bench, spec_of, doubles):
    async def run():
        async with bench() as b:
            release = held_up(b.stages.recogniser)
            b.watch.begin(CallSpec.model_validate(spec_of()))
            for packet in doubles.packets(doubles.speech(doubles.HELLO, doubles.FINE)):
                b.feed(packet, 30000)
                b.now_s += 0.02
            b.watch.tick()
            b.now_s += 5.0  # and the models still have not answered
            b.watch.tick()
            behind = (b.watch.load()["step"], b.watch.is_full)
            with pytest.raises(CapacityError, match="cannot keep up"):
                b.watch.begin(CallSpec.model_validate(spec_of("c2", 31000, 31002)))
            release.set()
            await b.settle()
            steps = []
            for _ in range(20):
                b.now_s += 1.0
                await b.tick()
                steps.append(b.watch.load()["step"])
            b.watch.begin(CallSpec.model_validate(spec_of("c2", 31000, 31002)))
            return behind, steps, b.watch.load()["step_s"]

    behind, steps, step_s = asyncio.run(run())
    assert behind == ("refusing", True)
    assert list(dict.fromkeys(steps)) == ["refusing", "gate_only", "long_hop", "normal"]  # one at a time
    assert step_s["refusing"] >= 5
