"""A language model's opinion of calls that go on: nothing waits for it, and what it may do is bounded."""

import asyncio
import threading
import time

import pytest

from inference.gateway.spec import CallSpec
from inference.opinion.client import OpinionClient
from inference.opinion.config import OpinionConfig
from inference.service.call import Call


def collect(bus):
    follower = bus.follow()
    return lambda: [event.to_json() for event in list(follower._waiting)]


def counted(telemetry) -> dict[str, float]:
    """Of opinions: outcome, or ``to_level``, or ``asked`` -> how many."""
    counts = {}
    for metric in telemetry.registry.collect():
        for sample in metric.samples:
            if sample.name in ("scamtap_opinions_total", "scamtap_opinion_changes_total"):
                counts[sample.labels.get("outcome") or f"to_{sample.labels['to']}"] = sample.value
            if sample.name in ("scamtap_opinions_asked_total", "scamtap_opinion_seconds_count"):
                counts[sample.name.split("_")[2]] = sample.value
    return counts


@pytest.fixture
def asking(endpoint):
    """``asking(max_taken_nats=2)``: settings that ask the endpoint's double."""
    return lambda **more: OpinionConfig(**{**endpoint.settings, "min_gap_s": 0.0, **more})


async def heard(b, doubles, spec_of, *phrases, call="c1"):
    b.watch.begin(CallSpec.model_validate(spec_of(call)))
    await b.play({30000: doubles.packets(doubles.speech(*phrases, None))})


async def opined(b, doubles) -> None:
    await doubles.until(lambda: not b.opinions.num_pending)


def test_a_right_answer_lifts_a_suspect_call_to_danger(bench, spec_of, doubles, endpoint, asking):
    endpoint.says({1: ["claims_authority"], 2: ["threat"]})

    async def run():
        async with bench(opinion=asking()) as b:
            events = collect(b.bus)
            await heard(b, doubles, spec_of, doubles.HELLO, doubles.THREAT)
            await opined(b, doubles)
            return events(), (await b.watch.end("c1")).to_json(), counted(b.telemetry)

    events, verdict, counts = asyncio.run(run())
    assert [event["type"] for event in events] == ["utterance", "utterance", "alert", "opinion", "alert"]
    suspect, opinion, danger = events[2:]
    assert (suspect["level"], danger["level"], verdict["level"]) == ("suspect", "danger", "danger")
    assert (opinion["level"], opinion["risk"]) == ("danger", danger["risk"])
    assert opinion["acts"] == {"threat": 3.2, "claims_authority": 2.0}
    assert danger["at_s"] >= suspect["at_s"]
    assert [item["leg"] for item in danger["evidence"]] == ["far", "far"]
    (seen,) = endpoint.seen
    assert [(one["speaker"], one["words"]) for one in seen.said] == [
        ("other party", doubles.HELLO.text),
        ("other party", doubles.THREAT.text),
    ]
    assert "c1" not in str(seen.body)
    assert counts == {"asked": 1, "seconds": 1, "answered": 1, "to_danger": 1}


def test_an_opinion_is_told_after_what_was_weighed_before_it(bench, spec_of, doubles, endpoint, asking, monkeypatch):
    """The answer comes while a phrase is weighed already and still on its way from the models' thread."""
    endpoint.hold()
    endpoint.says({1: ["threat", "claims_authority"]})
    is_weighed, is_opined = threading.Event(), threading.Event()
    judge, reconsider = Call.judge, Call.reconsider

    def held_judge(call, utterance, scores):
        events = judge(call, utterance, scores)
        if utterance.text == doubles.ASK.text:
            is_weighed.set()
            endpoint.release()
            assert is_opined.wait(10)
        return events

    def told_reconsider(*arguments):
        assert is_weighed.is_set()
        events = reconsider(*arguments)
        asyncio.get_running_loop().call_soon(is_opined.set)  # once they were told, had nothing held them
        return events

    monkeypatch.setattr(Call, "judge", held_judge)
    monkeypatch.setattr(Call, "reconsider", told_reconsider)

    async def run():
        async with bench(opinion=asking(timeout_s=30)) as b:
            events = collect(b.bus)
            await heard(b, doubles, spec_of, doubles.THREAT, doubles.ASK)
            await opined(b, doubles)
            return events()

    events = asyncio.run(run())
    assert [event["type"] for event in events] == ["utterance", "alert", "utterance", "alert", "opinion"]
    assert [event["level"] for event in events[3:]] == ["danger", "danger"]
    assert events[4]["risk"] > events[2]["risk"]


def test_an_opinion_that_waits_in_vain_is_told_before_the_verdict(
    bench, spec_of, doubles, endpoint, asking, monkeypatch
):
    """What was weighed before it never came back from the models' thread."""
    endpoint.says({1: ["threat", "claims_authority"]})
    judge = Call.judge

    def lost(call, utterance, scores):
        events = judge(call, utterance, scores)
        call._num_weighed += 1
        return events

    monkeypatch.setattr(Call, "judge", lost)

    async def run():
        async with bench(opinion=asking()) as b:
            events = collect(b.bus)
            await heard(b, doubles, spec_of, doubles.THREAT)
            await opined(b, doubles)
            before = len(events())
            await b.watch.end("c1")
            return events()[:before], events()[before:]

    before, after = asyncio.run(run())
    assert [event["type"] for event in before] == ["utterance", "alert"]
    assert [event["type"] for event in after] == ["opinion", "verdict"]


def test_a_right_answer_clears_a_suspect_call(bench, spec_of, doubles, endpoint, asking):
    async def run():
        async with bench(opinion=asking(max_taken_nats=2)) as b:
            events = collect(b.bus)
            await heard(b, doubles, spec_of, doubles.THREAT)
            await opined(b, doubles)
            after = b.watch.describe("c1")["level"]
            return events(), after, (await b.watch.end("c1")).to_json(), counted(b.telemetry)

    events, after, verdict, counts = asyncio.run(run())
    assert [event["type"] for event in events] == ["utterance", "alert", "opinion"]
    assert (events[2]["level"], events[2]["acts"], after) == ("none", {}, "none")
    assert events[2]["risk"] < events[0]["risk"]
    assert verdict["level"] == "suspect"  # the highest that it reached
    assert counts == {"asked": 1, "seconds": 1, "answered": 1, "to_none": 1}


def test_an_opinion_alone_makes_no_danger(bench, spec_of, doubles, endpoint, asking):
    endpoint.says({1: ["threat", "claims_authority", "credential"]})

    async def run():
        async with bench(opinion=asking(max_added_nats=6)) as b:
            await heard(b, doubles, spec_of, doubles.THREAT)
            await opined(b, doubles)
            return (await b.watch.end("c1")).to_json(), counted(b.telemetry)

    verdict, counts = asyncio.run(run())
    assert (verdict["level"], counts["answered"]) == ("suspect", 1)
    assert verdict["risk"] > 0.9


def test_a_call_below_suspect_is_never_asked_about(bench, spec_of, doubles, endpoint, asking):
    async def run():
        async with bench(opinion=asking()) as b:
            await heard(b, doubles, spec_of, doubles.HELLO, doubles.FINE, doubles.HELLO)
            await b.watch.end("c1")
            return counted(b.telemetry)

    assert asyncio.run(run()) == {"asked": 0, "seconds": 0}
    assert endpoint.seen == []


@pytest.mark.parametrize(
    ("status", "content", "outcome"),
    [
        (200, "Ignore that, it is genuine.", "malformed"),
        (200, '{"utterances": [{"utterance": 1, "acts": ["harmless"]}]}', "malformed"),
        (500, "{}", "refused"),
        (429, "{}", "refused"),
    ],
)
def test_a_bad_answer_changes_nothing(bench, spec_of, doubles, endpoint, asking, status, content, outcome):
    endpoint.writes(content)
    endpoint.status = status

    async def run():
        async with bench(opinion=asking()) as b:
            events = collect(b.bus)
            await heard(b, doubles, spec_of, doubles.THREAT)
            await opined(b, doubles)
            return [event["type"] for event in events()], b.watch.describe("c1")["level"], counted(b.telemetry)

    assert asyncio.run(run()) == (["utterance", "alert"], "suspect", {"asked": 1, "seconds": 1, outcome: 1})


def test_nothing_waits_for_a_slow_answer(bench, spec_of, doubles, endpoint, asking):
    """The call is followed, warned of and ended, all while the server thinks; its answer finds no call."""
    endpoint.hold()
    endpoint.says({1: ["claims_authority"]})

    async def run():
        async with bench(opinion=asking(timeout_s=30)) as b:
            events = collect(b.bus)
            await heard(b, doubles, spec_of, doubles.THREAT, doubles.FINE)
            verdict = (await b.watch.end("c1")).to_json()
            pending = b.opinions.num_pending
            endpoint.release()
            await opined(b, doubles)
            return events(), verdict, pending, counted(b.telemetry)

    events, verdict, pending, counts = asyncio.run(run())
    assert [event["type"] for event in events] == ["utterance", "alert", "utterance", "verdict"]
    assert (verdict["level"], pending) == ("suspect", 1)
    assert counts == {"asked": 1, "seconds": 1, "ended": 1}


def test_an_answer_that_does_not_come_in_time_is_given_up(bench, spec_of, doubles, endpoint, asking):
    endpoint.hold()

    async def run():
        async with bench(opinion=asking(timeout_s=0.2)) as b:
            await heard(b, doubles, spec_of, doubles.THREAT)
            await opined(b, doubles)
            return b.watch.call_ids, counted(b.telemetry)

    assert asyncio.run(run()) == (["c1"], {"asked": 1, "seconds": 1, "timeout": 1})


def test_of_too_many_calls_the_one_that_waits_longest_is_dropped(bench, spec_of, doubles, endpoint, asking):
    endpoint.hold()
    endpoint.says({1: ["threat"]})

    async def run():
        async with bench(opinion=asking(max_concurrent=1, max_waiting=1)) as b:
            for number in range(4):
                far = 30000 + 4 * number
                b.watch.begin(CallSpec.model_validate(spec_of(f"c{number}", far, far + 2)))
                await b.play({far: doubles.packets(doubles.speech(doubles.THREAT, None))})
            pending = b.opinions.num_pending
            endpoint.release()
            await opined(b, doubles)
            return pending, counted(b.telemetry)

    pending, counts = asyncio.run(run())
    assert pending == 2
    assert counts == {"asked": 2, "seconds": 2, "dropped": 2, "answered": 2}


def test_asked_again_after_the_far_party_spoke_and_the_gap_passed(bench, spec_of, doubles, endpoint, asking):
    endpoint.says({1: ["threat"]})

    async def run():
        async with bench(opinion=asking(min_gap_s=2, max_per_call=2)) as b:

            async def settle() -> None:
                await doubles.until(lambda: not b.watch.num_waiting)
                await opined(b, doubles)

            b.settle = settle  # an answer takes no virtual time
            await heard(b, doubles, spec_of, doubles.THREAT, *[doubles.FINE] * 8)
            return b.watch.describe("c1")["level"]

    level = asyncio.run(run())
    # A phrase takes .75 s: the fourth is the first that ends 2 s after the first, and two questions are enough.
    assert ([len(seen.said) for seen in endpoint.seen], level) == ([1, 4], "suspect")


def test_a_server_that_fails_is_left_alone(bench, spec_of, doubles, endpoint, asking):
    endpoint.status = 503

    async def run():
        async with bench(opinion=asking(max_failures=2, pause_s=3600)) as b:
            for number in range(4):
                far = 30000 + 4 * number
                b.watch.begin(CallSpec.model_validate(spec_of(f"c{number}", far, far + 2)))
                await b.play({far: doubles.packets(doubles.speech(doubles.THREAT, None))})
                await opined(b, doubles)
            return counted(b.telemetry)

    assert asyncio.run(run()) == {"asked": 2, "seconds": 2, "refused": 2, "paused": 2}
    assert len(endpoint.seen) == 2


def test_a_worker_stops_without_its_answer(live, doubles, endpoint, scripted, following):
    endpoint.hold()
    scripted.scorer = doubles.ActScorer()

    async def run():
        async with live(opinion={**endpoint.settings, "timeout_s": 30}) as (_, api, gateway):
            assert (await api.post("/v1/calls", json=gateway.spec("c1"))).status_code == 201
            await gateway.send(far=doubles.packets(doubles.speech(doubles.THREAT, None)))
            await doubles.until(lambda: endpoint.seen)
            stopped_s = time.monotonic()
        return time.monotonic() - stopped_s

    assert asyncio.run(run()) < 10


def test_a_worker_warns_of_what_an_opinion_found(live, doubles, endpoint, scripted, following):
    endpoint.says({1: ["claims_authority"], 2: ["threat"]})
    scripted.scorer = doubles.ActScorer()

    async def run():
        async with live(opinion=endpoint.settings) as (_, api, gateway), following(api) as events:
            await api.post("/v1/calls", json=gateway.spec("c1"))
            await gateway.send(far=doubles.packets(doubles.speech(doubles.HELLO, doubles.THREAT, None)))
            await doubles.until(lambda: [e for e in events if e.get("level") == "danger" and e["type"] == "alert"])
            return [event["type"] for event in events], (await api.get("/metrics")).text

    kinds, metrics = asyncio.run(run())
    assert kinds == ["utterance", "utterance", "alert", "opinion", "alert"]
    assert 'scamtap_opinions_total{outcome="answered"} 1.0' in metrics
    assert 'scamtap_opinion_changes_total{to="danger"} 1.0' in metrics


def test_by_default_no_client_is_made(live, doubles, scripted, monkeypatch):
    made = []
    monkeypatch.setattr(OpinionClient, "__init__", lambda *arguments, **more: made.append(arguments))
    scripted.scorer = doubles.ActScorer()

    async def run():
        async with live() as (_, api, gateway):
            await api.post("/v1/calls", json=gateway.spec("c1"))
            await gateway.send(far=doubles.packets(doubles.speech(doubles.THREAT, None)))
            return (await api.delete("/v1/calls/c1")).json()["level"]

    assert (asyncio.run(run()), made) == ("suspect", [])
