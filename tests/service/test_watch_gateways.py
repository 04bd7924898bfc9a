"""What gateways tell the watch: streamed legs, calls with one leg, legs that change, keys."""

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import ConfigError
from inference.gateway.spec import CallSpec
from inference.service.events import AlertEvent, UtteranceEvent

STREAMED = {"id": "c1", "far": {}, "near": {}}


class Told:
    """A warner that remembers what it was told."""

    def __init__(self) -> None:
        self.alerts, self.keys, self.over = [], [], []

    def alerted(self, alert, reach, language) -> None:
        self.alerts.append((alert.call, alert.level, reach, language))

    def key_pressed(self, call, leg, digit) -> None:
        self.keys.append((call, leg, digit))

    def ended(self, call) -> None:
        self.over.append(call)


def utterances(events):
    return [(e.utterance.leg, e.utterance.text) for e in events if isinstance(e, UtteranceEvent)]


async def write(b, samples, leg="far", timestamp=0):
    """Chunks of 20 ms at the pace of speech, from ``timestamp`` on."""
    for at in range(0, len(samples), 160):
        b.now_s += 0.02
        b.watch.write("c1", leg, samples[at : at + 160], timestamp + at)
        if at % 480 == 0:
            await b.tick()
    return timestamp + len(samples)


def test_streamed_audio_is_heard_like_packets(bench, doubles):
    async def run():
        async with bench() as b:
            with_follower = b.bus.follow()
            b.watch.begin(CallSpec.model_validate(STREAMED))
            await write(b, doubles.speech(doubles.HELLO, doubles.THREAT, doubles.ASK, None))
            verdict = await b.watch.end("c1")
            return list(with_follower._waiting), verdict

    events, verdict = asyncio.run(run())
    assert utterances(events) == [("far", p.text) for p in (doubles.HELLO, doubles.THREAT, doubles.ASK)]
    assert any(isinstance(e, AlertEvent) for e in events)
    assert verdict.packets["far"]["lost"] == 0
    assert verdict.packets["far"]["received"] > 100


def test_a_call_may_have_the_far_leg_alone(bench, doubles):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate({"id": "c1", "far": {}}))
            await write(b, doubles.speech(doubles.HELLO, None))
            b.watch.write("c1", "near", np.zeros(160, np.int16), 0)  # nobody's
            return await b.watch.end("c1")

    verdict = asyncio.run(run())
    assert verdict.packets.keys() == {"far"}
    assert verdict.speech_s["far"] > 0
    assert verdict.speech_s["near"] == 0


def test_audio_of_a_call_that_ended_is_nobodys(bench):
    async def run():
        async with bench() as b:
            b.watch.write("gone", "far", np.zeros(160, np.int16), 0)
            b.watch.key_pressed("gone", "near", "5")
            return b.watch.call_ids

    assert asyncio.run(run()) == []


def test_a_leg_may_move_and_the_call_goes_on(bench, spec_of, doubles):
    """A re-INVITE: the far party's packets come from elsewhere, in another law; the near leg is left alone."""

    async def run():
        async with bench() as b:
            follower = b.bus.follow()
            b.watch.begin(CallSpec.model_validate(spec_of()))
            await b.play({30000: doubles.packets(doubles.speech(doubles.HELLO, None))})
            near = b.watch._calls["c1"].handles["near"]
            b.watch.change(CallSpec.model_validate(spec_of(far=31000)))
            assert b.watch._calls["c1"].handles["near"] == near
            await b.play({31000: doubles.packets(doubles.speech(doubles.THREAT, None), payload_type=8, ssrc=9)})
            counters = b.watch.leg_counters()["far"]
            verdict = await b.watch.end("c1")
            return list(follower._waiting), counters, verdict

    events, counters, verdict = asyncio.run(run())
    assert utterances(events) == [("far", doubles.HELLO.text), ("far", doubles.THREAT.text)]
    starts = [e.utterance.start_s for e in events if isinstance(e, UtteranceEvent)]
    assert starts == sorted(starts)  # one time line
    assert counters.received == verdict.packets["far"]["received"] > 100  # before and after the move


def test_a_new_codec_from_the_same_address_and_ssrc_is_taken_at_once(bench, spec_of, doubles):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            await b.play({30000: doubles.packets(doubles.speech(doubles.HELLO, None))})
            changed = spec_of()
            changed["far"]["payload_types"] = {"96": "PCMA"}
            b.watch.change(CallSpec.model_validate(changed))
            await b.play({30000: doubles.packets(doubles.speech(None), first=500, ts=1 << 20)})
            return (await b.watch.end("c1")).packets["far"]

    packets = asyncio.run(run())
    assert packets["stray"] == 0


def test_a_change_that_cannot_be_leaves_the_call_as_it_was(bench, spec_of, doubles):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            b.watch.begin(CallSpec.model_validate(spec_of("c2", 31000, 31002)))
            with pytest.raises(ConfigError):
                b.watch.change(CallSpec.model_validate(spec_of("c1", 31000, 30002)))  # c2's source
            with pytest.raises(KeyError):
                b.watch.change(CallSpec.model_validate(spec_of("c3", 32000, 32002)))
            follower = b.bus.follow()
            await b.play({30000: doubles.packets(doubles.speech(doubles.HELLO, None))})
            await b.watch.end("c1")
            return list(follower._waiting)

    assert ("far", "hello plantedwords one from your bank") in utterances(asyncio.run(run()))


def test_alerts_keys_and_ends_reach_the_warner(bench, spec_of, doubles):
    told = Told()
    spec = spec_of() | {"reach": {"via": "sbc", "call": "x", "subscriber": "+441632960000"}, "language": "en"}
    spec["near"]["payload_types"] = {"101": "telephone-event"}

    async def run():
        async with bench() as b:
            b.watch._publisher._warner = told
            b.watch.begin(CallSpec.model_validate(spec))
            await b.play({30000: doubles.packets(doubles.speech(doubles.HELLO, doubles.THREAT, doubles.ASK, None))})
            b.watch.key_pressed("c1", "near", "5")
            await b.watch.end("c1")

    asyncio.run(run())
    assert next((call, level) for call, level, _, _ in told.alerts) == ("c1", "suspect")
    assert {(reach.via, language) for _, _, reach, language in told.alerts} == {("sbc", "en")}
    assert told.keys == [("c1", "near", "5")]
    assert told.over == ["c1"]


def test_a_reach_is_not_printed():
    spec = CallSpec.model_validate(STREAMED | {"reach": {"subscriber": "+441632960000", "ear": "tag-7"}})
    assert "441632960000" not in repr(spec)
    assert "tag-7" not in repr(spec)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=12), st.randoms())
def test_chunks_of_any_size_are_the_same_audio(sizes, random):
    from inference.rtp.plane import PacketPlane, PlaneConfig

    plane = PacketPlane(PlaneConfig(max_legs=1))
    leg = plane.open_stream(now_s=10.0)
    whole = np.arange(1, sum(sizes) + 1, dtype=np.int16)
    at, origin = 0, random.randrange(1 << 40)
    for size in sizes:
        plane.write(leg, whole[at : at + size], origin + at, arrived_s=10.0 + (at + size) / 8000)
        at += size
    batch = plane.read([leg], now_s=10.0 + at / 8000 + plane.config.playout_delay_ms / 1000)
    heard = batch.samples[0, : batch.num_samples[0]][batch.present[0, : batch.num_samples[0]]]
    assert heard.tolist() == whole[: len(heard)].tolist()
    assert len(heard) == min(at, 8000)
