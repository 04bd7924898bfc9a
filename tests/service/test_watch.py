"""All calls of a worker in virtual time: bounds, idleness, strangers' packets, failing and slow models."""

import asyncio
import gc
import sys

import pytest
from structlog.testing import capture_logs

from inference.errors import CapacityError, ConfigError, EngineError
from inference.gateway.spec import CallSpec
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import Datagram


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


def test_a_hundred_thousand_spoofed_sources_create_nothing(bench, spec_of, doubles):
    packet = doubles.packets(doubles.speech(None))[0]

    def spoofed(number, now_s):
        data = packet[:8] + number.to_bytes(4, "big") + packet[12:]
        return Datagram(
            data, (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1024 + number % 60_000), 40000, now_s
        )

    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            b.plane.feed(spoofed(n, b.now_s) for n in range(20_000))  # more than fill the rows once
            b.watch.tick()
            gc.collect()
            reserved, before = b.plane.memory_bytes, sys.getallocatedblocks()
            b.plane.feed(spoofed(n, b.now_s) for n in range(20_000, 100_000))
            b.watch.tick()
            gc.collect()
            return (
                b.watch.media_counters(),
                b.watch.call_ids,
                sys.getallocatedblocks() - before,
                b.plane.memory_bytes - reserved,
            )

    counters, call_ids, grown, reserved = asyncio.run(run())
    assert counters["unregistered"] == 100_000
    assert (counters["legs"], call_ids) == (2, ["c1"])
    assert reserved == 0
    assert grown < 800  # Python objects: one kept per source would be 80,000


def test_spoofed_ssrcs_from_the_right_address_neither_grow_nor_end_the_call(bench, spec_of, doubles):
    far = doubles.packets(doubles.speech(doubles.THREAT))

    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            events = collect(b.bus)
            await b.play({30000: far})
            for number in range(2000):
                b.feed(far[0][:8] + number.to_bytes(4, "big") + far[0][12:], 30000)
            await b.tick()
            return events(), (await b.watch.end("c1")).to_json()

    events, verdict = asyncio.run(run())
    assert [event["type"] for event in events[:2]] == ["utterance", "alert"]
    assert verdict["level"] == "suspect"
    far_counters = verdict["packets"]["far"]
    assert far_counters["received"] == len(far) + 2000
    assert far_counters["stray"] + far_counters["late"] + far_counters["ssrc_changes"] >= 1999


def test_datagrams_of_no_and_of_much_length_are_counted(bench, spec_of):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            for data in (b"", b"\x80" + b"\0" * 65_000, b"GET / HTTP/1.1", b"\x80\x00"):
                b.feed(data, 30000)
            await b.tick()
            return b.watch.media_counters(), b.watch.describe("c1")["packets"]["far"]["received"]

    counters, received = asyncio.run(run())
    assert counters["datagrams"] == 4
    assert counters["malformed"] + counters["oversized"] == 4
    assert received == 0


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


def test_speech_beyond_capacity_is_shed_and_counted(bench, spec_of, doubles):
    import threading

    release = threading.Event()

    async def run():
        async with bench(scheduler={"due": {"max_waiting_s": 1.0, "max_rows": 1}}) as b:
            transcribe = b.stages.recogniser.transcribe

            def slow(*arguments):
                release.wait(10)
                return transcribe(*arguments)

            b.stages.recogniser.transcribe = slow
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
    import threading

    release = threading.Event()

    async def run():
        async with bench() as b:
            transcribe = b.stages.recogniser.transcribe

            def slow(*arguments):
                release.wait(10)
                return transcribe(*arguments)

            b.stages.recogniser.transcribe = slow
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
