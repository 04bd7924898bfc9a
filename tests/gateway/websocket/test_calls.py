"""A call in each dialect, from the socket to the verdict."""

import asyncio
import json

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from inference.audio import LEGS
from inference.rtp.g711 import encode_alaw


async def connected(open_, dialect, **more):
    """The sockets that the dialect's call needs, opened and introduced."""
    paths = [dialect.path, *([dialect.other_path] if hasattr(dialect, "other_path") else [])]
    sockets = [await open_(path) for path in paths]
    for socket in sockets:
        for message in dialect.opening(**more):
            await socket.send(message)
    return sockets


def parties(doubles):
    far = doubles.speech(doubles.HELLO, None, doubles.THREAT)
    near = doubles.speech(None, doubles.FINE, None)
    return far, near


def expected(doubles, call, far="far", near="near"):
    return {(call, far, doubles.HELLO.text), (call, far, doubles.THREAT.text), (call, near, doubles.FINE.text)}


def test_each_party_is_heard_on_its_leg(websocket, doubles, dialect, run):
    far, near = parties(doubles)

    async def call():
        async with websocket() as (served, open_):
            sockets = await connected(open_, dialect)
            rounds = dialect.rounds(far, near)
            if not dialect.opening():  # told by its URL: the first audio begins the call
                await sockets[0].send(rounds[0][0][1][:4])
            await served.until(lambda: dialect.call in served.watch.call_ids)
            await served.play(sockets, rounds, dialect.call)
            await served.pass_time(0.4)
            await sockets[-1].send(dialect.key("9"))
            await served.until(lambda: served.keys)
            if dialect.closing is not None:
                await sockets[0].send(dialect.closing)
            else:
                for socket in sockets:
                    await socket.close()
            verdict = await served.verdict(dialect.call)
            await served.until(lambda: not served.watch.call_ids)
            return served.said(), served.keys, verdict

    said, keys, verdict = run(call())
    assert said == expected(doubles, dialect.call)
    leg_of_key = "far" if type(dialect).__name__ in ("Jambonz", "FreeSwitch") else "near"
    assert keys == [(dialect.call, leg_of_key, "9")]
    assert verdict["level"] == "suspect"
    assert verdict["packets"]["far"]["gap_s"] < 0.45, "what passed after the last chunk"


@pytest.mark.parametrize(
    ("name", "config", "more"),
    [
        ("Twilio", {"twilio": {"near": "inbound"}}, {}),
        ("Twilio", {"twilio": {}}, {"near": "inbound", "call": "my-own-id", "language": "zh"}),
        ("Jambonz", {"jambonz": {"near": "left"}}, {}),
        ("Jambonz", {"jambonz": {}}, {"near": "left"}),
    ],
)
def test_which_party_is_near_is_configured_or_said_by_the_call(websocket, doubles, dialects, run, name, config, more):
    dialect = dialects[name]()
    far, near = parties(doubles)

    async def call():
        async with websocket(**config) as (served, open_):
            sockets = await connected(open_, dialect, **more)
            await served.until(lambda: served.watch.call_ids)
            (call_id,) = served.watch.call_ids
            await served.play(sockets, dialect.rounds(near, far), call_id)  # the other way round
            await served.pass_time(0.4)
            return call_id, served.said(), served.stages.recogniser.languages

    call_id, said, languages = run(call())
    assert call_id == more.get("call", dialect.call)
    assert said == expected(doubles, call_id)
    assert set(languages) == {more.get("language", "en")}


def test_a_lost_chunk_is_a_gap_and_a_late_one_fills_its_place(websocket, doubles, dialects, run):
    dialect = dialects["Telnyx"]()
    voice = doubles.tone(440, 1.0)

    async def call():
        async with websocket(telnyx={}) as (served, open_):
            (socket,) = await connected(open_, dialect)
            messages = [dialect.media("inbound", voice[i : i + 160], encode_alaw) for i in range(0, 8000, 160)]
            order = [*range(10), 11, 10, 12, *range(15, 40)]  # one late, two lost
            for number, which in enumerate(order, 1):
                await socket.send(messages[which])
                await served.until(lambda number=number: served.received(dialect.call) >= number)
                served.now_s += 0.06 if which == 12 else 0.02
            await served.pass_time(0.5)
            await socket.send(dialect.closing)
            return await served.verdict(dialect.call)

    counters = run(call())["packets"]["far"]
    assert counters["late"] == 0
    assert counters["gap_s"] == pytest.approx(0.54, abs=0.005), "two chunks, and half a second after the last"


def test_a_connection_that_hung_is_heard_late_and_whole(websocket, doubles, dialects, run):
    dialect = dialects["Session"]()
    far = doubles.speech(doubles.HELLO, doubles.THREAT)
    silence = np.zeros_like(far)

    async def call():
        async with websocket(session={}) as (served, open_):
            sockets = await connected(open_, dialect)
            rounds = dialect.rounds(far, silence)
            await served.play(sockets, rounds[:20], dialect.call)
            await served.pass_time(0.6)
            await served.pass_time(0.6)  # nothing comes for 1.2 s, then everything at once
            for ((_, message),) in rounds[20:]:
                await sockets[0].send(message)
            await served.until(lambda: served.received(dialect.call) == len(rounds))
            for _ in range(40):
                await served.pass_time(0.06)
            return served.said()

    said = run(call())
    assert (dialect.call, "far", doubles.THREAT.text) in said


def test_a_call_outlives_a_broken_connection_for_a_while(websocket, doubles, dialects, run):
    dialect = dialects["Twilio"]()

    async def call():
        async with websocket(twilio={}, linger_s=60) as (served, open_):
            (socket,) = await connected(open_, dialect)
            await served.until(lambda: served.watch.call_ids)
            socket.transport.abort()
            (again,) = await connected(open_, dialects["Twilio"]())
            await served.play([again], dialect.rounds(*parties(doubles)), dialect.call)
            await served.pass_time(0.4)
            await again.send(dialect.closing)
            await served.verdict(dialect.call)
            return served.said(), [e for e in served.events if e["type"] == "verdict"]

    said, verdicts = run(call())
    assert said == expected(doubles, dialect.call)
    assert len(verdicts) == 1


def test_a_broken_connection_ends_its_call_when_none_follows(websocket, dialects, run):
    dialect = dialects["Twilio"]()

    async def call():
        async with websocket(twilio={}, linger_s=0.05) as (served, open_):
            (socket,) = await connected(open_, dialect)
            await served.until(lambda: served.watch.call_ids)
            socket.transport.abort()
            return await served.verdict(dialect.call)

    assert run(call())["level"] == "none"


def test_one_leg_is_brought_once(websocket, dialects, run):
    dialect = dialects["Twilio"]()

    async def call():
        async with websocket(twilio={}) as (served, open_):
            await connected(open_, dialect)
            await served.until(lambda: served.watch.call_ids)
            (second,) = await connected(open_, dialect)
            with pytest.raises(ConnectionClosed) as closed:
                await second.recv()
            return closed.value.rcvd.code, served.watch.call_ids

    assert run(call()) == (1008, [dialect.call])


def test_the_operator_can_end_a_call_and_its_connections_are_closed(websocket, dialect, run):
    async def call():
        async with websocket() as (served, open_):
            sockets = await connected(open_, dialect)
            if not dialect.opening():
                await sockets[0].send(bytes(640))
            await served.until(lambda: served.watch.call_ids)
            if len(sockets) == 2:
                await served.until(lambda: served.gateway.calls._calls[dialect.call].lines.keys() == set(LEGS))
            await served.watch.end(dialect.call)
            async with asyncio.timeout(60):
                for socket in sockets:
                    await socket.wait_closed()
            return [socket.close_code for socket in sockets], len(served.gateway.calls)

    codes, left = run(call())
    assert set(codes) == {1000}
    assert left == 0


def test_a_session_hears_what_is_thought_of_its_call(websocket, doubles, dialects, run):
    dialect = dialects["Session"]()
    far, near = parties(doubles)

    async def call(include_text):
        async with websocket(session={"include_text": include_text}) as (served, open_):
            (socket,) = await connected(open_, dialect)
            await served.play([socket], dialect.rounds(far, near), dialect.call)
            await served.pass_time(0.4)
            await socket.send(dialect.closing)
            return [json.loads(message) async for message in socket], socket.close_code

    told, code = run(call(True))
    kinds = [message["type"] for message in told]
    assert code == 1000
    assert (kinds[0], kinds[-1]) == ("started", "verdict")
    assert {m["text"] for m in told if m["type"] == "transcript"} == {
        p.text for p in (doubles.HELLO, doubles.THREAT, doubles.FINE)
    }
    assert [m["level"] for m in told if m["type"] == "alert"] == ["suspect"]
    risks = [m["risk"] for m in told if m["type"] == "risk"]
    assert len(risks) == 3
    assert max(risks) > min(risks)
    silent, _ = run(call(False))
    assert [m["type"] for m in silent].count("risk") == 3
    assert doubles.PLANTED not in json.dumps(silent)
    assert "transcript" not in {m["type"] for m in silent}


def test_a_fork_of_one_channel_is_refused_unless_configured(websocket, doubles, dialects, run):
    dialect = dialects["Jambonz"]()

    async def call(**config):
        async with websocket(jambonz=config) as (served, open_):
            socket = await open_(dialect.path)
            await socket.send(dialect.opening(mixType="mono", sampleRate=8000)[0])
            if not config:
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
                return closed.value.rcvd.code
            await served.until(lambda: served.watch.call_ids)
            far = doubles.speech(doubles.HELLO)
            rounds = [[(0, far[i : i + 160].tobytes())] for i in range(0, len(far), 160)]
            await served.play([socket], rounds, dialect.call, ("far",))
            await served.pass_time(0.4)
            return served.said()

    assert run(call()) == 1003
    assert run(call(mono="far")) == {(dialect.call, "far", doubles.HELLO.text)}


def test_metadata_of_mod_audio_stream_may_be_any_text(websocket, doubles, dialects, run):
    dialect = dialects["FreeSwitch"]()

    async def call():
        async with websocket(freeswitch={}) as (served, open_):
            socket = await open_(dialect.path)
            await socket.send("caller=whoever")
            await socket.send(bytes(640))
            await served.until(lambda: served.watch.call_ids)
            await socket.send("so far")
            await socket.send(json.dumps({"later": "more"}))
            await socket.send(bytes(640))
            await served.until(lambda: served.received(dialect.call) == 2)

    run(call())
