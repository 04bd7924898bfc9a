"""Who may connect, and what becomes of those who flood, dawdle, do not read, or send garbage."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import ssl

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed, InvalidStatus

from inference.gateway.websocket import server
from inference.gateway.websocket.config import WebSocketConfig

TOKEN = "a-long-enough-token"
URL = "wss://media.example.org/twilio"


def basic(password):
    return {"Authorization": "Basic " + base64.b64encode(f"scamtap:{password}".encode()).decode()}


async def status(open_, path, **more):
    """What the handshake answered; 101 where it was taken."""
    try:
        await open_(path, **more)
    except InvalidStatus as error:
        return error.response.status_code
    return 101


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


def test_no_more_connections_than_configured(websocket, run):
    async def attempt():
        async with websocket(session={}, max_connections=2) as (served, open_):
            answers = [await status(open_, "/session") for _ in range(4)]
            return answers, served.gateway.refused["too many connections"]

    assert run(attempt()) == ([101, 101, 503, 503], 2)


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
                await asyncio.wait_for(socket.recv(), 5)
            assert served.watch.call_ids == []
            assert await status(open_, "/session") == 101
            return closed.value.rcvd, logs

    closed, logs = run(attempt())
    assert closed.code in (1003, 1007, 1008)
    assert closed.reason
    assert "internal error" not in str(logs)


def test_messages_are_bounded(websocket, run):
    async def attempt():
        async with websocket(session={}) as (_, open_):
            socket = await open_("/session")
            await socket.send("x" * 70_000)
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            return closed.value.rcvd.code

    assert run(attempt()) == 1009


def test_dawdling_handshakes_are_cut(websocket, run):
    async def attempt():
        async with websocket(session={}, open_timeout_s=0.2) as (served, _):
            slow = [await asyncio.open_connection("127.0.0.1", served.gateway.port) for _ in range(5)]
            for _, writer in slow:
                writer.write(b"GET /session HTTP/1.1\r\nHost: x\r\nX-A: ")
            async with asyncio.timeout(5):
                answers = [await reader.read() for reader, _ in slow]
            for _, writer in slow:
                writer.close()
            return answers

    assert run(attempt()) == [b""] * 5


def test_handshakes_under_way_are_bounded(websocket, run, monkeypatch):
    monkeypatch.setattr(server, "MAX_HANDSHAKES", 3)

    async def attempt():
        async with websocket(session={}, max_connections=2) as (served, open_):
            opened = [await asyncio.open_connection("127.0.0.1", served.gateway.port) for _ in range(20)]
            await served.until(lambda: sum(reader.at_eof() for reader, _ in opened) == 15)
            for _, writer in opened:
                writer.close()
            await served.until(lambda: not served.gateway._made)
            return await status(open_, "/session")

    assert run(attempt()) == 101


def test_connections_that_owe_their_token_are_bounded(websocket, run, monkeypatch):
    monkeypatch.setattr(server, "MAX_HANDSHAKES", 3)

    async def attempt():
        async with websocket(twilio={}, session={}, token=TOKEN) as (_, open_):
            owing = [await status(open_, "/twilio") for _ in range(5)]
            return owing, await status(open_, f"/twilio?token={TOKEN}"), await status(open_, f"/session?token={TOKEN}")

    assert run(attempt()) == ([101, 101, 101, 503, 503], 101, 101)


@pytest.mark.parametrize("what", ["says nothing", "begins no call", "falls silent"])
def test_silent_connections_are_cut(websocket, dialects, run, monkeypatch, what):
    monkeypatch.setattr(server, "SWEEP_S", 0.01)
    dialect = dialects["Twilio"]()

    async def attempt():
        async with websocket(twilio={}, start_timeout_s=10, idle_timeout_s=60) as (served, open_):
            socket = await open_("/twilio")
            messages = {"says nothing": [], "begins no call": dialect.opening()[:1], "falls silent": dialect.opening()}
            for message in messages[what]:
                await socket.send(message)
            await served.until(lambda: bool(served.watch.call_ids) == (what == "falls silent"))
            await asyncio.sleep(0.05)
            served.now_s += 11 if what != "falls silent" else 61
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), 5)
            if what == "falls silent":
                served.now_s += 10
            return closed.value.rcvd.code

    assert run(attempt()) == 1008


def test_a_flood_of_messages_is_cut(websocket, dialects, run, monkeypatch):
    monkeypatch.setattr(server, "MAX_MESSAGES_PER_S", 50)
    dialect = dialects["Twilio"]()

    async def attempt():
        async with websocket(twilio={}) as (_, open_):
            socket = await open_("/twilio")
            for message in dialect.opening():
                await socket.send(message)
            mark = json.dumps({"event": "mark", "mark": {"name": "x"}})
            for _ in range(200):
                await socket.send(mark)
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), 5)
            return closed.value.rcvd.code

    assert run(attempt()) == 1008


def test_more_audio_than_can_be_spoken_is_dropped_and_then_cut(websocket, dialects, run):
    dialect = dialects["Session"]()

    async def attempt():
        async with websocket(session={}) as (served, open_):
            socket = await open_("/session")
            await socket.send(dialect.opening(channels=["far"])[0])
            second = bytes(16000)
            for _ in range(30):
                await socket.send(second)
            await served.until(lambda: served.received(dialect.call) >= 1)
            received = served.received(dialect.call)
            with contextlib.suppress(ConnectionClosed):
                for _ in range(60):
                    await socket.send(second)
            await asyncio.wait_for(socket.wait_closed(), 5)
            return received, socket.close_code

    received, code = run(attempt())
    assert received == 2, "a second that is due and one that waits, and not those that run further ahead"
    assert code == 1007


def test_a_slow_reader_is_dropped_and_its_call_goes_on_elsewhere(websocket, dialects, run):
    dialect = dialects["Session"]()

    async def attempt():
        async with websocket(session={}, max_waiting=8) as (served, open_):
            socket = await open_("/session", max_queue=1)
            await socket.send(dialect.opening()[0])
            await served.until(lambda: served.watch.call_ids)
            socket.transport.pause_reading()
            (opened,) = served.gateway._open
            for _ in range(20_000):  # what the sockets hold, and then the queue
                opened.session.told({"type": "alert", "call": dialect.call, "filler": "x" * 1000})
                if opened.outgoing.was_slow:
                    break
                await asyncio.sleep(0)
            assert opened.outgoing.was_slow
            await served.until(lambda: not served.gateway._open)
            return len(opened.outgoing._waiting)

    assert run(attempt()) == 0


def test_many_calls_leave_nothing_behind(websocket, dialects, run):
    dialect = dialects["Session"]()

    async def attempt():
        async with websocket(session={}, linger_s=0) as (served, open_):
            for number in range(100):
                socket = await open_("/session")
                await socket.send(dialect.opening(call=f"c{number}")[0])
                await socket.recv()
                await socket.send(bytes(640))
                if number % 2:
                    socket.transport.abort()
                else:
                    await socket.close()
                await served.until(lambda: not served.watch.call_ids)
            await served.until(lambda: not served.gateway._open)
            return served.watch.media_counters()["legs"], len(served.gateway.calls), len(served.gateway.calls._ending)

    assert run(attempt()) == (0, 0, 0)


def test_nothing_secret_is_logged(websocket, dialects, run):
    async def attempt():
        async with websocket(session={}, token=TOKEN) as (_, open_):
            assert await status(open_, "/session?token=guessed-secret") == 401
            socket = await open_(f"/session?token={TOKEN}&call=private-number")
            await socket.send('{"type":"private-number"}')
            await asyncio.wait_for(socket.wait_closed(), 5)

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
