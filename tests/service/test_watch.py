"""All calls of a worker in virtual time: bounds, idleness, strangers' packets, failing and slow models."""

import asyncio

import pytest
from structlog.testing import capture_logs

from inference.errors import CapacityError, ConfigError, EngineError
from inference.gateway.spec import CallSpec
from inference.rtp.packet import RtpPacket


def collect(bus):
    follower = bus.follow()
    return lambda: [event.to_json() for event in list(follower._waiting)]


def test_both_legs_of_a_call_in_virtual_time(bench, spec_of, doubles):
    far = doubles.packets(doubles.speech(doubles.HELLO, None, doubles.THREAT))
    near = doubles.packets(doubles.speech(None, doubles.FINE), payload_type=8)

    async def run():
        async with bench() as b:
            events = collect(b.bus)
            b.watch.begin(CallSpec.model_validate(spec_of()))
            await b.play({30000: far, 30002: near})
            verdict = (await b.watch.end("c1")).to_json()
            return events(), verdict

    events, verdict = asyncio.run(run())
    said = [(e["leg"], e["text"]) for e in events if e["type"] == "utterance"]
    assert said == [("far", doubles.HELLO.text), ("near", doubles.FINE.text), ("far", doubles.THREAT.text)]
    assert verdict["packets"]["far"]["received"] == len(far)
    assert verdict["packets"]["near"]["received"] == len(near)
    assert verdict["speech_s"]["far"] == pytest.approx(2 * (doubles.SPOKEN_S + 0.2), abs=0.2)


def test_times_are_call_time_and_known_after_the_pause(bench, spec_of, doubles):
    far = doubles.packets(doubles.speech(None, doubles.THREAT, None))

    async def run():
        async with bench() as b:
            events = collect(b.bus)
            b.watch.begin(CallSpec.model_validate(spec_of()))
            b.now_s += 5.0  # it rang for five seconds
            await b.tick()
            await b.play({30000: far})
            return events()

    utterance, alert = asyncio.run(run())[:2]
    began_s = 5.0 + doubles.SPOKEN_S + doubles.PAUSE_S
    assert utterance["start_s"] == pytest.approx(began_s - doubles.SEGMENTS.lead_in_s, abs=0.08)
    assert utterance["end_s"] == pytest.approx(began_s + doubles.SPOKEN_S + doubles.SEGMENTS.tail_s, abs=0.08)
    # What the pause, the playout delay and the tick cost, and nothing more: the models take no virtual time.
    assert 0.2 <= alert["at_s"] - (began_s + doubles.SPOKEN_S) <= 0.2 + 0.06 + 0.06 + 0.1


def test_a_call_without_packets_ends_by_itself(bench, spec_of, doubles):
    async def run():
        async with bench(idle_timeout_s=30) as b:
            events = collect(b.bus)
            b.watch.begin(CallSpec.model_validate(spec_of("quiet")))
            b.watch.begin(CallSpec.model_validate(spec_of("talking", 30004, 30006)))
            b.now_s += 29.0
            for packet in doubles.packets(doubles.speech(None))[:1]:
                b.feed(packet, 30004)
            await b.tick()
            before = b.watch.call_ids
            b.now_s += 2.0
            await b.tick()
            after = b.watch.call_ids
            await doubles.until(lambda: events())
            b.now_s += 28.5
            await b.tick()
            return before, after, b.watch.call_ids, events()

    before, after, last, events = asyncio.run(run())
    assert before == ["quiet", "talking"]
    assert after == ["talking"]
    assert last == []
    assert (events[0]["type"], events[0]["call"], events[0]["level"]) == ("verdict", "quiet", "none")


def test_a_standing_call_begins_again_after_each_end(bench, spec_of, doubles):
    async def run():
        async with bench(idle_timeout_s=30) as b:
            events = collect(b.bus)
            b.watch.keep(CallSpec.model_validate(spec_of("line-1")))
            b.now_s += 100.0  # nobody calls
            await b.tick()
            unused = (b.watch.call_ids, events(), b.watch.describe("line-1")["age_s"])
            await b.play({30000: doubles.packets(doubles.speech(doubles.THREAT, None))})
            b.now_s += 31.0
            await b.tick()
            await doubles.until(lambda: events()[-1]["type"] == "verdict")
            b.now_s += 1.1
            await b.tick()
            again = (b.watch.call_ids, b.watch.describe("line-1")["level"], b.watch.media_counters()["legs"])
            await b.watch.end("line-1")
            b.now_s += 1.1
            await b.tick()
            return unused, events(), again, b.watch.call_ids

    unused, events, again, last = asyncio.run(run())
    assert unused == (["line-1"], [], 0.0)
    assert [event["type"] for event in events[:3]] == ["utterance", "alert", "verdict"]
    assert events[1]["at_s"] < 2  # of this call, not of the line
    assert again == (["line-1"], "none", 2)
    assert last == ["line-1"]


def test_a_standing_call_whose_place_was_taken_waits_for_it(bench, spec_of, doubles):
    async def run():
        async with bench(max_calls=1) as b:
            b.watch.keep(CallSpec.model_validate(spec_of("line-1")))
            await b.watch.end("line-1")
            b.watch.begin(CallSpec.model_validate(spec_of("other", 31000, 31002)))
            with capture_logs() as logs:
                for _ in range(3):
                    b.now_s += 1.1
                    await b.tick()
            taken = b.watch.call_ids
            await b.watch.end("other")
            b.now_s += 1.1
            await b.tick()
            return [line["event"] for line in logs], taken, b.watch.call_ids

    assert asyncio.run(run()) == (["standing call cannot begin"], ["other"], ["line-1"])


def test_draining_gives_up_what_takes_too_long_and_still_judges(bench, spec_of, doubles):
    import threading

    release, began = threading.Event(), threading.Event()

    async def run():
        async with bench(drain_timeout_s=0.05, scheduler={"due": {"max_rows": 1}}) as b:

            def slow(segments, _languages):
                began.set()
                release.wait(10)
                raise EngineError("the engine refused")

            b.stages.recogniser.transcribe = slow
            events = collect(b.bus)
            b.watch.begin(CallSpec.model_validate(spec_of()))
            for packet in doubles.packets(doubles.speech(doubles.HELLO, doubles.FINE, doubles.THREAT)):
                b.feed(packet, 30000)
                b.now_s += 0.02
            draining = asyncio.create_task(b.watch.drain())
            await doubles.until(lambda: [event["type"] for event in events()] == ["verdict"])
            waiting = b.watch.num_waiting
            release.set()
            await draining
            return waiting

    assert asyncio.run(run()) == 0
    assert began.is_set()


def test_a_full_worker_refuses_and_leaks_no_leg(bench, spec_of):
    async def run():
        async with bench(max_calls=2) as b:
            for number in range(2):
                b.watch.begin(CallSpec.model_validate(spec_of(f"c{number}", 30000 + 4 * number, 30002 + 4 * number)))
            with pytest.raises(CapacityError, match="2 calls are followed already"):
                b.watch.begin(CallSpec.model_validate(spec_of("c9", 31000, 31002)))
            await b.watch.end("c0")
            b.watch.begin(CallSpec.model_validate(spec_of("c9", 31000, 31002)))
            return b.watch.media_counters()["legs"]

    assert asyncio.run(run()) == 4


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"call_id": "c1", "far": 31000, "near": 31002}, "followed already"),
        ({"call_id": "c2", "far": 30000, "near": 31002}, "registered"),
        ({"call_id": "c2", "far": 31000, "near": 30002}, "registered"),
    ],
)
def test_what_another_call_has_is_refused_whole(bench, spec_of, second, why):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of("c1")))
            with pytest.raises(ConfigError, match=why):
                b.watch.begin(CallSpec.model_validate(spec_of(**second)))
            return b.watch.media_counters()["legs"], b.watch.call_ids

    assert asyncio.run(run()) == (2, ["c1"])


def test_no_room_for_the_second_leg_gives_the_first_back(bench, spec_of):
    async def run():
        async with bench(max_legs=3) as b:
            b.watch.begin(CallSpec.model_validate(spec_of("c1")))
            with pytest.raises(CapacityError, match="legs are in use"):
                b.watch.begin(CallSpec.model_validate(spec_of("c2", 31000, 31002)))
            return b.watch.media_counters()["legs"]

    assert asyncio.run(run()) == 2


def test_a_tail_longer_than_one_read_is_heard(bench, spec_of, doubles):
    said = doubles.packets(doubles.speech(doubles.HELLO, None, doubles.THREAT))  # 2.2 s, and no tick at all

    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            events = collect(b.bus)
            for packet in said:
                b.feed(packet, 30000)
                b.now_s += 0.02
            await b.watch.end("c1")
            return [event.get("text") for event in events() if event["type"] == "utterance"]

    assert asyncio.run(run()) == [doubles.HELLO.text, doubles.THREAT.text]


def test_calls_share_batches(bench, spec_of, doubles):
    async def run():
        async with bench() as b:
            ports = {}
            for number in range(4):
                b.watch.begin(CallSpec.model_validate(spec_of(f"c{number}", 30000 + 4 * number, 30002 + 4 * number)))
                ports[30000 + 4 * number] = doubles.packets(doubles.speech(doubles.HELLO, None))
            await b.play(ports)
            return b.stages.recogniser.batches

    assert asyncio.run(run()) == [4]


@pytest.mark.parametrize(("asked", "given"), [(None, "en"), ("zh", "zh"), ("auto", None)])
def test_a_call_may_choose_its_language(bench, spec_of, doubles, asked, given):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of(language=asked)))
            await b.play({30000: doubles.packets(doubles.speech(doubles.HELLO, None))})
            return b.stages.recogniser.languages

    assert asyncio.run(run()) == [given]


def test_keys_are_logged_without_which(bench, spec_of):
    spec = spec_of()
    spec["far"]["payload_types"] = {"101": "telephone-event"}

    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec))
            for number, flags in enumerate((10, 10, 0x80 | 10, 0x80 | 10)):
                payload = bytes([7, flags]) + (160 * (number + 1)).to_bytes(2, "big")
                packet = RtpPacket(payload_type=101, sequence_number=number, timestamp=4, ssrc=5, payload=payload)
                b.feed(bytes(packet), 30000)
                b.now_s += 0.02
            await b.tick()
            return b.watch.describe("c1")["packets"]["far"]["telephone_events"]

    with capture_logs() as lines:
        assert asyncio.run(run()) == 1
    (pressed,) = [line for line in lines if line["event"] == "key pressed"]
    assert pressed.keys() == {"event", "call", "leg", "log_level"}
    assert (pressed["call"], pressed["leg"]) == ("c1", "far")


def test_a_draining_worker_takes_no_calls(bench, spec_of):
    async def run():
        async with bench() as b:
            await b.watch.drain()
            with pytest.raises(CapacityError, match="draining"):
                b.watch.begin(CallSpec.model_validate(spec_of()))

    asyncio.run(run())


def test_calls_that_end_together_end_at_one_moment(bench, spec_of, monkeypatch):
    """Reading takes time: the last of many must not have to catch up with what passed while the others were read."""

    async def run():
        async with bench(max_legs=256) as b:
            for number in range(100):
                b.watch.begin(CallSpec.model_validate(spec_of(f"c{number}", 30000 + 4 * number, 30002 + 4 * number)))
            b.now_s += 1.0
            await b.tick()
            read, num_read = b.plane.read, []

            def slow_read(legs, *, now_s):
                batch = read(legs, now_s=now_s)
                num_read.append(batch.num_samples.max(initial=0))
                b.now_s += 0.05 * batch.num_samples.sum() / 8000  # a machine that needs a tenth of real time for a call
                return batch

            monkeypatch.setattr(b.plane, "read", slow_read)
            b.now_s += 0.1
            await b.watch.drain()
            return num_read, b.plane.config.playout_delay_ms

    num_read, held_back_ms = asyncio.run(run())
    assert max(num_read) <= (100 + held_back_ms) * 8
    assert sum(num_read) >= 100 * 800
