"""A line of calls, told by its packets alone."""

import asyncio

import pytest
from pydantic import ValidationError

from inference.errors import ConfigError
from inference.gateway.static import StaticGateway, StaticLine
from inference.rtp.plane import Datagram

LINE = {
    "name": "span-1",
    "far": {"local_port": 40000, "source": "192.0.2.10:30000"},
    "near": {"local_port": 40000, "source": "192.0.2.10:30002"},
    "idle_s": 5,
}


@pytest.fixture
def lines(serving):
    """``async with lines(LINE, ...) as served``."""

    def make(*lines):
        parsed = tuple(StaticLine.model_validate(line) for line in lines)
        return serving(lambda watch, _clock: StaticGateway(parsed, watch))

    return make


async def play(served, packets, port=30000):
    for number, packet in enumerate(packets):
        served.plane.feed([Datagram(packet, ("192.0.2.10", port), 40000, served.now_s)])
        served.now_s += 0.02
        if number % 3 == 2:
            await served.pass_time(0)


async def silence(served, seconds):
    for _ in range(round(seconds)):
        await served.pass_time(1.01)


def test_each_call_of_a_line_has_an_id_and_a_time_of_its_own(lines, doubles):
    async def run():
        async with lines(LINE) as served:
            await silence(served, 200)
            assert served.watch.call_ids == ["span-1"], "waits, and is no call yet"
            assert served.events == []
            for ssrc in (1, 2):
                await play(served, doubles.packets(doubles.speech(doubles.THREAT), ssrc=ssrc))
                (call,) = served.watch.call_ids
                assert call.startswith("span-1-")
                await silence(served, 7)
                await served.verdict(call)
                await silence(served, 3)
                assert served.watch.call_ids == ["span-1"]
            return served.events

    events = asyncio.run(run())
    verdicts = [event for event in events if event["type"] == "verdict"]
    assert len({event["call"] for event in verdicts}) == 2
    assert [event["level"] for event in verdicts] == ["suspect", "suspect"]
    alerts = [event for event in events if event["type"] == "alert"]
    assert all(0.3 < alert["at_s"] < 1.5 for alert in alerts), "of the call's time, not of the line's"
    heard = [event for event in events if event["type"] == "utterance"]
    assert [event["text"] for event in heard] == [doubles.THREAT.text] * 2


def test_a_line_that_is_not_ours_is_said_at_once(lines, doubles):
    async def run():
        other = LINE | {"name": "span-2"}
        async with lines(LINE, other):
            pass

    with pytest.raises(ConfigError):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"far": {}}, "local_port"),
        ({"name": "with space"}, "pattern"),
        ({"near": {"local_port": 40000, "source": "192.0.2.10:30000"}}, "own source"),
        ({"idle_s": 0}, "greater"),
    ],
)
def test_lines_that_would_be_a_mistake(change, why):
    with pytest.raises(ValidationError, match=why):
        StaticLine.model_validate(LINE | change)
