"""Who may connect, and what becomes of those who send garbage; how much one may take: test_bounds."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed

from inference.gateway.websocket.config import WebSocketConfig
from tests.gateway.websocket.conftest import status

TOKEN = "a-long-enough-token"
URL = "wss://media.example.org/twilio"


def basic(password):
    return {"Authorization": "Basic " + base64.b64encode(f"scamtap:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("path", "headers", "answer"),
    [
        ("/session", {}, 401),
        ("/session", {"Authorization": "Bearer wrong"}, 401),
        ("/session", {"Authorization": "Basic !!!"}, 401),
        ("/session", basic("wrong"), 401),
        ("/session?token=wrong", {}, 401),
        ("/session", {"Authorization": f"Bearer {TOKEN}"}, 101),
        ("/session", basic(TOKEN), 101),
        (f"/session?token={TOKEN}", {}, 101),
        (f"/asterisk?token={TOKEN}", {}, 404),
        (f"/?token={TOKEN}", {}, 404),
        (f"/_open?token={TOKEN}", {}, 404),
        (f"/session/x?token={TOKEN}", {}, 404),
    ],
)
def test_a_token_opens_a_configured_path(websocket, run, path, headers, answer):
    async def attempt():
        async with websocket(session={}, token=TOKEN) as (_, open_):
            return await status(open_, path, additional_headers=headers)

    assert run(attempt()) == answer


@pytest.mark.parametrize(("token", "is_taken"), [(TOKEN, True), ("wrong", False), (None, False)])
def test_a_stream_that_can_carry_no_token_says_it_when_it_starts(websocket, dialects, run, token, is_taken):
    dialect = dialects["Twilio"]()

    async def attempt():
        async with websocket(twilio={}, token=TOKEN) as (served, open_):
            socket = await open_("/twilio")
            for message in dialect.opening(**({} if token is None else {"token": token})):
                await socket.send(message)
            if is_taken:
                await served.until(lambda: served.watch.call_ids)
                return 101
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert served.watch.call_ids == []
            return closed.value.rcvd.code

    assert run(attempt()) == (101 if is_taken else 1008)


@pytest.mark.parametrize(
    ("signed", "key", "answer"),
    [(URL, "secret", 101), (URL + "/", "secret", 101), (URL + "?a=b", "secret", 403), (URL, "other", 403)],
)
def test_twilio_signs_its_url(websocket, dialects, run, signed, key, answer):
    signature = base64.b64encode(hmac.new(key.encode(), signed.encode(), hashlib.sha1).digest()).decode()

    async def attempt(headers):
        config = {"signed_with": "secret", "public_url": URL}
        async with websocket(twilio=config, token=TOKEN) as (_, open_):
            return await status(open_, "/twilio", additional_headers=headers)

    assert run(attempt({"X-Twilio-Signature": signature})) == answer
    assert run(attempt({})) == 403


def test_the_signature_is_that_of_twilios_own_libraries():
    # The example of Twilio's helper libraries, without parameters: a known answer.
    from inference.gateway.websocket.auth import is_signed_by_twilio

    known = base64.b64encode(hmac.new(b"12345", b"wss://mycompany.com/myapp", hashlib.sha1).digest()).decode()
    assert is_signed_by_twilio("12345", "wss://mycompany.com/myapp", known)
    assert not is_signed_by_twilio("12345", "wss://mycompany.com/myapp", "\udcff")


def test_web_pages_may_not_connect_unless_allowed(websocket, run):
    async def attempt(origin):
        async with websocket(session={}, allowed_origins=["https://console.example.org"]) as (_, open_):
            return await status(open_, "/session", origin=origin)

    assert run(attempt("https://evil.example.org")) == 403
    assert run(attempt("https://console.example.org")) == 101


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["audio.jambonz.org"], "audio.jambonz.org"), (["x", "media"], "media"), (["x"], None)]
)
def test_subprotocols_of_gateways_are_agreed_to(websocket, run, offered, chosen):
    async def attempt():
        async with websocket(session={}) as (_, open_):
            return (await open_("/session", subprotocols=offered)).subprotocol

    assert run(attempt()) == chosen


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"host": "192.0.2.1", "session": {}}, "needs a token"),
        ({"host": "0.0.0.0", "session": {}}, "needs a token"),
        ({}, "no dialect"),
        ({"session": {}, "certificate": "a.pem"}, "go together"),
        ({"twilio": {"signed_with": "x"}}, "go together"),
        ({"session": {}, "token": "short"}, "at least 8"),
    ],
)
def test_configuration_that_would_be_a_mistake(config, why):
    with pytest.raises(ValidationError, match=why):
        WebSocketConfig(**config)


def test_a_full_worker_says_so(websocket, dialects, run):
    async def attempt():
        async with websocket(max_calls=1, session={}) as (served, open_):
            first, second = await open_("/session"), await open_("/session")
            await first.send(dialects["Session"]().opening()[0])
            await served.until(lambda: served.watch.call_ids)
            await second.send(json.dumps({"type": "start", "call": "c2", "channels": ["far"]}))
            with pytest.raises(ConnectionClosed) as closed:
                await second.recv()
            return closed.value.rcvd.code

    assert run(attempt()) == 1013


GARBAGE = {
    "/twilio": ["", "{", "[]", "null", '{"event":5}', '{"event":"media"}', '{"event":"start"}', b"\x00", "[" * 60000,
                '{"event":"media","media":{"payload":"AAAA"}}', '{"event":"media","media":{"payload":"%%"}}',
                '{"event":"start","start":{"callSid":"../x","mediaFormat":{"encoding":"PCMU"}}}',
                '{"event":"start","start":{"callSid":"c","mediaFormat":{"encoding":"AMR-WB"}}}'],
    "/jambonz": ["{x", '{"callSid":"c","sampleRate":"fast"}', '{"callSid":"c","sampleRate":7999}', b"\x00\x00", "{}",
                 '{"callSid":"c","mixType":"mixed"}'],
    "/freeswitch": [b"\x00\x00", "{"],
    "/asterisk": ["MEDIA_START", "MEDIA_START format:opus", b"\x00", "{x"],
    "/asterisk?call=c&leg=middle": ["MEDIA_START format:ulaw"],
    "/session": ["{}", b"\x00", '{"type":"end"}', '{"type":"start","call":"c"}', '{"type":"x"}',
                 '{"type":"start","call":"c","channels":["near"]}',
                 '{"type":"start","call":"c","channels":["far","far"]}',
                 '{"type":"start","call":"c d","channels":["far"]}',
                 '{"type":"start","call":"c","channels":["far"],"rate":123}'],
}  # fmt: skip


@pytest.mark.parametrize(("path", "message"), [(p, m) for p, messages in GARBAGE.items() for m in messages])
def test_garbage_ends_its_connection_and_nothing_else(websocket, run, path, message):
    async def attempt():
        async with websocket() as (served, open_):
            socket = await open_(path)
            await socket.send(message)
            with capture_logs() as logs, pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), 60)
            assert served.watch.call_ids == []
            assert await status(open_, "/session") == 101
            return closed.value.rcvd, logs

    closed, logs = run(attempt())
    assert closed.code in (1003, 1007, 1008)
    assert closed.reason
    assert "internal error" not in str(logs)


def test_nothing_secret_is_logged(websocket, dialects, run):
    async def attempt():
        async with websocket(session={}, token=TOKEN) as (_, open_):
            assert await status(open_, "/session?token=guessed-secret") == 401
            socket = await open_(f"/session?token={TOKEN}&call=private-number")
            await socket.send('{"type":"private-number"}')
            await asyncio.wait_for(socket.wait_closed(), 60)

    with capture_logs() as logs:
        run(attempt())
    assert not any(word in str(logs) for word in (TOKEN, "guessed-secret", "private-number"))


def test_stopping_ends_the_calls_and_closes_the_connections(websocket, dialects, run):
    async def attempt():
        async with websocket(session={}) as (served, open_):
            socket, idle = await open_("/session"), await open_("/session")
            await socket.send(dialects["Session"]().opening()[0])
            await served.until(lambda: served.watch.call_ids)
            await served.gateway.aclose()
            assert served.watch.call_ids == []
            told = [json.loads(message)["type"] async for message in socket]
            await idle.wait_closed()
            return told, socket.close_code, idle.close_code

    assert run(attempt()) == (["started", "verdict"], 1000, 1001)


def test_tls(websocket, run, tmp_path):
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("needs openssl")

    async def attempt():
        from websockets.asyncio.client import connect

        async with websocket(session={}, certificate=certificate, certificate_key=key) as (served, _):
            context = ssl.create_default_context(cafile=certificate)
            url = f"wss://127.0.0.1:{served.gateway.port}/session"
            async with connect(url, ssl=context, proxy=None) as socket:
                await socket.send(json.dumps({"type": "start", "call": "c", "channels": ["far"]}))
                return json.loads(await socket.recv())["type"]

    assert run(attempt()) == "started"
