"""Calls of a recording client: roles, warnings, holds, refusals; through sockets, to legs and alerts."""

import asyncio

import pytest
from structlog.testing import capture_logs

from inference.rtp.plane import PlaneConfig


@pytest.mark.gateway
@pytest.mark.parametrize(("name", "transport"), [("udp", "u1"), ("tcp", "t1")])
def test_a_recorded_call_is_heard_with_its_roles_and_warned_of(live, src, doubles, name, transport, following):
    near = doubles.packets(doubles.speech(None, None, doubles.FINE, None), ssrc=9)

    async def run():
        async with live() as (worker, ports), following(worker) as events:
            media = worker.watch.media_ports[0]
            sipp = asyncio.create_task(src.run("src", ports[name], transport=transport, length_ms=3600))
            await doubles.until(lambda: worker.watch.call_ids)
            await src.play_near(media, near)
            assert await sipp == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            return events, worker.gateways[0].num_recordings

    events, num_left = asyncio.run(run())
    said = [(e["leg"], e["text"]) for e in events if e["type"] == "utterance"]
    assert sorted(said) == sorted(
        [("far", p.text) for p in (doubles.HELLO, doubles.THREAT, doubles.ASK)] + [("near", doubles.FINE.text)]
    )
    assert [event["level"] for event in events if event["type"] == "alert"] == ["suspect", "danger"]
    verdict = events[-1]
    assert verdict["packets"]["far"]["received"] > 140
    assert verdict["packets"]["near"]["received"] == len(near)
    assert num_left == 0


def warnings_of(worker):
    """How often what became of warnings, by way."""
    (family,) = worker.telemetry.warnings.collect()
    return {
        (sample.labels["ear"], sample.labels["outcome"]): sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }


@pytest.mark.gateway
@pytest.mark.parametrize(("name", "transport"), [("udp", "u1"), ("tcp", "t1")])
def test_the_sbc_is_asked_to_warn_and_to_stop(live, src, doubles, name, transport, scenarios):
    """SIPp checks what each INFO says: a beep, the line, and the stop when the subscriber presses the key."""
    steps = (scenarios / "info.xml").read_text()

    async def run():
        async with live(info={}) as (worker, ports):
            sipp = asyncio.create_task(src.run("src", ports[name], transport=transport, steps=steps))
            await doubles.until(lambda: warnings_of(worker).get(("siprec", "played")) == 2)
            (call_id,) = worker.watch.call_ids
            worker.warner.key_pressed(call_id, "near", "9")
            assert await sipp == 0
            return warnings_of(worker)

    outcomes = asyncio.run(run())
    assert outcomes == {("siprec", "played"): 2, ("siprec", "not a scam"): 1, ("siprec", "stopped"): 1}


@pytest.mark.gateway
@pytest.mark.parametrize("status", [415, 481])
def test_an_sbc_that_does_not_take_info(live, src, doubles, status, following, scenarios):
    """The warnings fail, in one line; the recording and the alerts go on to the call's own end."""
    steps = (scenarios / "info_refused.xml").read_text().replace("STATUS", str(status))

    async def run():
        with capture_logs() as logs:
            async with live(info={}) as (worker, ports), following(worker) as events:
                code = await src.run("src", ports["udp"], steps=steps)
                await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
                return code, logs, events, warnings_of(worker), worker.gateways[0].agent.counts["ended: bye"]

    code, logs, events, outcomes, ended = asyncio.run(run())
    assert (code, ended) == (0, 1)
    assert [event["level"] for event in events if event["type"] == "alert"] == ["suspect", "danger"]
    assert outcomes == {("siprec", "failed"): 2}
    whys = [entry["why"] for entry in logs if entry["event"] == "warning not played"]
    assert whys == [f"siprec answered {status}"] * 2


@pytest.mark.gateway
def test_roles_follow_the_operators_numbers(live, src, doubles, following):
    """The same call, the caller being our subscriber: its voice is the near one."""

    async def run():
        async with live(near_numbers=["+155501000"]) as (worker, ports), following(worker) as events:
            assert await src.run("src", ports["udp"], length_ms=3600) == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            return events

    events = asyncio.run(run())
    assert {event["leg"] for event in events if event["type"] == "utterance"} == {"near"}


@pytest.mark.gateway
def test_latched_streams_are_heard_from_wherever_they_come(live, src, doubles, following):
    """The SDP names other ports than the second stream is sent from; each stream has a port of its own."""
    media = PlaneConfig(ports=(0,), exclusive_ports=(46100, 46103), max_legs=16)
    near = doubles.packets(doubles.speech(None, doubles.FINE), ssrc=9)

    async def run():
        async with live({"media": media}, latch=True) as (worker, ports), following(worker) as events:
            sipp = asyncio.create_task(src.run("src", ports["udp"], near_port=9, length_ms=3600))
            await doubles.until(lambda: worker.watch.call_ids)
            await src.play_near(46101, near)
            assert await sipp == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            await doubles.until(lambda: worker.gateways[0].ports.num_leased == 0)
            return events

    events = asyncio.run(run())
    said = {(event["leg"], event["text"]) for event in events if event["type"] == "utterance"}
    assert {("far", doubles.THREAT.text), ("near", doubles.FINE.text)} <= said


@pytest.mark.gateway
def test_hold_codec_change_and_update(live, src, doubles, following):
    async def run():
        async with live() as (worker, ports), following(worker) as events:
            sipp = asyncio.create_task(src.run("changes", ports["udp"], length_ms=700))
            await doubles.until(lambda: worker.watch.call_ids)
            (call_id,) = worker.watch.call_ids
            assert await sipp == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            return call_id, [event for event in events if event["type"] == "verdict"]

    call_id, verdicts = asyncio.run(run())
    assert [verdict["call"] for verdict in verdicts] == [call_id]


@pytest.mark.gateway
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_cancel_and_options(live, src, transport):
    async def run():
        async with live() as (worker, ports):
            codes = [
                await src.run(scenario, ports[transport], transport={"udp": "u1", "tcp": "t1"}[transport])
                for scenario in ("options", "cancel")
            ]
            await asyncio.sleep(0.1)
            return codes, worker.watch.call_ids

    assert asyncio.run(run()) == ([0, 0], [])


@pytest.mark.gateway
def test_digest(live, src, source_ports):
    async def run():
        async with live(digest={"users": {"sbc1": "correct-horse-battery"}, "algorithms": ["MD5"]}) as (worker, ports):
            code = await src.run("digest", ports["udp"])
            refused = await src.run("load", ports["udp"], "-inf", source_ports, timeout_s=3)
            return code, refused, worker.gateways[0].agent.counts["ended: bye"]

    code, refused, ended = asyncio.run(run())
    assert (code, ended) == (0, 1)
    assert refused != 0


@pytest.mark.gateway
def test_full_is_503(live, src, doubles):
    from inference.service.watch import WatchConfig

    async def run():
        async with live({"watch": WatchConfig(max_calls=1)}) as (worker, ports):
            first = asyncio.create_task(src.run("src", ports["udp"], length_ms=2500))
            await doubles.until(lambda: worker.watch.call_ids)
            return await src.run("full", ports["udp"]), await first

    assert asyncio.run(run()) == (0, 0)
