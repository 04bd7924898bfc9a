"""What one who connects may take: connections, handshakes, messages, audio, time."""

import asyncio
import contextlib
import json

import pytest
from websockets.exceptions import ConnectionClosed

from inference.gateway.websocket import server
from tests.gateway.websocket.conftest import status

TOKEN = "a-long-enough-token"


def test_no_more_connections_than_configured(websocket, run):
    async def attempt():
        async with websocket(session={}, max_connections=2) as (served, open_):
            answers = [await status(open_, "/session") for _ in range(4)]
            return answers, served.gateway.refused["too many connections"]

    assert run(attempt()) == ([101, 101, 503, 503], 2)


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
            async with asyncio.timeout(60):
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
                await asyncio.wait_for(socket.recv(), 60)
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
                await asyncio.wait_for(socket.recv(), 60)
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
            await asyncio.wait_for(socket.wait_closed(), 60)
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
            # The last ending may still be giving its verdict when its call is no longer followed.
            await served.until(lambda: not served.gateway._open and not served.gateway.calls._ending)
            return served.watch.media_counters()["legs"], len(served.gateway.calls), len(served.gateway.calls._ending)

    assert run(attempt()) == (0, 0, 0)
