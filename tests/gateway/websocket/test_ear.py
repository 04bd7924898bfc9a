"""A warning back over the connection, where that reaches the subscriber alone."""

import asyncio
import base64
import json

import numpy as np
import pytest

from inference.alerts.ear import Announcement
from inference.errors import AlertError
from inference.rtp.g711 import decode_alaw, decode_ulaw, encode_ulaw


def warning(samples):
    return Announcement("en-danger-x", "danger", "en", "", samples)


def reach_of(served, call):
    return served.watch._calls[call].spec.reach


@pytest.mark.parametrize(("name", "decode"), [("Telnyx", decode_alaw), ("SignalWire", decode_ulaw)])
def test_a_bidirectional_stream_plays_to_its_own_leg(websocket, doubles, dialects, run, name, decode):
    dialect, tone = dialects[name](), doubles.tone(900, 1.5)

    async def call():
        config = {name.lower(): {"near": "inbound", "plays": True}}
        async with websocket(**config) as (served, open_):
            socket = await open_(dialect.path)
            for message in dialect.opening():
                await socket.send(message)
            await served.until(lambda: served.watch.call_ids)
            reach = reach_of(served, dialect.call)
            assert reach.via == served.gateway.calls.name
            await served.gateway.calls.play(reach, warning(tone))
            await served.gateway.calls.stop(reach)
            return [json.loads(await socket.recv()) for _ in range(3)]

    *media, clear = run(call())
    heard = decode(b"".join(base64.b64decode(m["media"]["payload"]) for m in media))
    assert np.corrcoef(heard, tone)[0, 1] > 0.999
    assert clear["event"] == "clear"
    assert [m.get("streamSid") for m in media] == [None if name == "Telnyx" else "MZ1"] * 2


@pytest.mark.parametrize("as_json", [False, True])
def test_asterisk_whispers_over_the_near_connection(websocket, doubles, dialects, run, as_json):
    dialect, tone = dialects["Asterisk"](), doubles.tone(900, 5.0)

    async def call():
        async with websocket(asterisk={"plays": True}) as (served, open_):
            far, near = await open_(dialect.path), await open_(dialect.other_path)
            start = json.dumps({"event": "MEDIA_START", "format": "ulaw"}) if as_json else dialect.opening()[0]
            for socket in (far, near):
                await socket.send(start)
            await served.until(lambda: dialect.call in served.watch.call_ids)
            await served.until(lambda: served.gateway.calls._calls[dialect.call].lines.keys() == {"far", "near"})
            reach = reach_of(served, dialect.call)
            await served.gateway.calls.play(reach, warning(tone))
            await served.gateway.calls.stop(reach)
            heard = [await near.recv() for _ in range(5)]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(far.recv(), 0.05)
            return heard

    first, *audio, last, flush = run(call())
    assert b"".join(audio) == encode_ulaw(tone)
    names = ["START_MEDIA_BUFFERING", "STOP_MEDIA_BUFFERING", "FLUSH_MEDIA"]
    assert [first, last, flush] == ([f'{{"command":"{name}"}}' for name in names] if as_json else names)


CHANNEL = "0aa00a00-0000-4000-8000-0000000000aa"


@pytest.mark.parametrize(
    ("name", "config", "more", "via", "ear"),
    [
        # What the connection hangs on is the caller's: a warning there would be heard by the wrong party.
        ("Twilio", {"twilio": {"plays": True}}, {}, None, None),
        ("Twilio", {"twilio": {}}, {}, None, None),
        ("Twilio", {"twilio": {}}, {"ear": "CA1", "conference": "CF1"}, "twilio", "CA1"),
        ("Twilio", {"twilio": {"near": "inbound"}}, {}, "twilio", "call"),
        ("Jambonz", {"jambonz": {}}, {}, None, None),
        ("Jambonz", {"jambonz": {"near": "left"}}, {}, "jambonz", "call"),
        ("Jambonz", {"jambonz": {}}, {"ear": CHANNEL}, "jambonz", CHANNEL),
        ("FreeSwitch", {"freeswitch": {}}, {}, None, None),
        ("Asterisk", {"asterisk": {}}, {}, None, None),
        ("Session", {"session": {}}, {}, None, None),
    ],
)
def test_otherwise_the_gateway_is_asked_if_the_subscribers_channel_is_known(
    websocket, dialects, run, name, config, more, via, ear
):
    dialect = dialects[name]()

    async def call():
        async with websocket(**config) as (served, open_):
            socket = await open_(dialect.path)
            for message in dialect.opening(**more) or [bytes(640)]:
                await socket.send(message)
            await served.until(lambda: served.watch.call_ids)
            reach = reach_of(served, dialect.call)
            with pytest.raises(AlertError, match="cannot be reached"):
                await served.gateway.calls.play(reach, warning(np.zeros(160, np.int16)))
            return reach

    reach = run(call())
    assert reach.via == via
    assert (reach.ear and reach.ear.get_secret_value()) == (dialect.call if ear == "call" else ear)
    if "conference" in more:
        assert reach.call.get_secret_value() == "CF1"


def test_either_connection_of_a_call_may_say_which_channel_is_the_subscribers(websocket, dialects, run):
    dialect = dialects["Asterisk"]()

    async def call():
        async with websocket(asterisk={}) as (served, open_):
            far = await open_(dialect.path)
            near = await open_(f"{dialect.other_path}&ear=1790617675.21&subscriber=%2B1")
            await far.send(dialect.opening()[0])
            await served.until(lambda: served.watch.call_ids)
            before = reach_of(served, dialect.call).via
            await near.send(dialect.opening()[0])
            await served.until(lambda: reach_of(served, dialect.call).via)
            reach = reach_of(served, dialect.call)
            return before, reach.via, reach.ear.get_secret_value(), reach.subscriber.get_secret_value()

    assert run(call()) == (None, "asterisk", "1790617675.21", "+1")
