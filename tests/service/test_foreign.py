"""Packets that nobody should have sent are said, and not for every one of them."""

import asyncio

from structlog.testing import capture_logs

from inference.gateway.spec import CallSpec


def test_a_spray_from_elsewhere_is_one_security_event_and_no_sample(bench, spec_of, doubles):
    async def run():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of()))
            speech = doubles.packets(doubles.speech(doubles.HELLO, None))
            for number, packet in enumerate(speech):
                b.feed(packet, 30000)
                for stranger in ("192.0.2.66", "198.51.100.7", "203.0.113.9"):  # with the right SSRC, too
                    b.feed(doubles.packets(doubles.speech(doubles.ASK))[number % 20], 30000, host=stranger)
                b.now_s += 0.02
                if number % 3 == 2:
                    await b.tick()
            b.now_s += 30
            await b.tick()
            return b.stages.recogniser, await b.watch.end("c1")

    with capture_logs() as lines:
        _, verdict = asyncio.run(run())
    events = [line for line in lines if line["event"] == "foreign packets"]
    assert len(events) == 1
    assert events[0]["unregistered"] > 0
    assert verdict.packets["far"]["lost"] == 0
    assert verdict.level == "none"
