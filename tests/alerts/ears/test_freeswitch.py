"""The event socket client against a double written from FreeSWITCH's published interface, not against FreeSWITCH."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.alerts.ear import Reach
from inference.alerts.ears.freeswitch import FreeswitchConfig, FreeswitchEar, read_message
from inference.alerts.ears.http import Sounds
from inference.errors import AlertError

CHANNEL = "a2c1b1de-0f0f-4d1c-9d1e-6d6d6d6d6d6d"
REACH = Reach(via="freeswitch", call=CHANNEL)


class Socket:
    """An inbound event socket: auth, api uuid_displace."""

    def __init__(self) -> None:
        self.channels = {CHANNEL}
        self.displaced: dict[tuple[str, str], list[str]] = {}
        self.commands: list[str] = []
        self.num_connected = 0
        self.script: list[bytes] | None = None  # sent instead of what belongs there

    async def serve(self, reader, writer) -> None:
        self.num_connected += 1
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            if self.script is not None:
                for part in self.script:
                    writer.write(part)
                    await writer.drain()
                await reader.read()
                return
            writer.write(b"Content-Type: auth/request\n\n")
            is_in = False
            while True:
                command = (await reader.readuntil(b"\n\n")).decode().strip()
                if command.startswith("auth "):
                    is_in = command == "auth ClueCon"
                    reply = "+OK accepted" if is_in else "-ERR invalid"
                    writer.write(f"Content-Type: command/reply\nReply-Text: {reply}\n\n".encode())
                elif is_in and command.startswith("api "):
                    body = self.api(command.removeprefix("api ")).encode()
                    writer.write(b"Content-Type: text/event-plain\nContent-Length: 3\n\nxyz")  # an event comes between
                    writer.write(b"Content-Type: api/response\nContent-Length: %d\n\n%s" % (len(body), body))

    def api(self, command: str) -> str:
        self.commands.append(command)
        name, channel, action, path, *more = command.split(" ")
        if name != "uuid_displace":
            return "-ERR command not found\n"
        if channel not in self.channels:
            return "-ERR Cannot locate session!\n"
        if action == "start":
            self.displaced[channel, path] = more
        elif self.displaced.pop((channel, path), None) is None:
            return "-ERR Cannot stop displace session!\n"
        return "+OK Success\n"


@pytest.fixture
def with_socket():
    """``with_socket(scenario)``: run ``scenario(double, ear)``; gives the double."""

    def run(scenario, *, sounds=None, timeout_s=2.0, **config):
        async def whole():
            double = Socket()
            server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            values = {"host": host, "port": port, "password": "ClueCon", "file": "/s/{name}.wav", **config}
            ear = FreeswitchEar(FreeswitchConfig(**values), sounds or Sounds(None), timeout_s=timeout_s)
            async with server:
                await scenario(double, ear)
            await ear.aclose()
            return double

        return asyncio.run(whole())

    return run


def test_the_sound_is_mixed_into_the_subscribers_channel_and_stopped(with_socket, danger):
    async def run(double, ear):
        await ear.play(REACH, danger)
        assert double.displaced == {(CHANNEL, "/s/en-danger-card_otp.wav"): ["2", "mux"]}
        await ear.stop(REACH)
        assert not double.displaced
        await ear.stop(REACH)

    assert len(with_socket(run).commands) == 2


def test_the_subscribers_own_channel_is_taken_where_both_are_known(with_socket, danger):
    async def run(double, ear):
        await ear.play(Reach(call="not-a-uuid", ear=CHANNEL.upper()), danger)

    assert with_socket(run).displaced


def test_the_sound_may_be_fetched_from_us(with_socket, danger, sounds):
    async def run(double, ear):
        await ear.play(REACH, danger)

    path = "http_cache://https://sounds.example/v1/announcements/en-danger-card_otp.wav"
    assert (CHANNEL, path) in with_socket(run, sounds=sounds, file="http_cache://{url}").displaced


@pytest.mark.parametrize(
    "channel", ["", "x", f"{CHANNEL} stop /x", f"{CHANNEL}\n\napi shutdown", f"{CHANNEL}\nfoo: x", "all", "${uuid}"]
)
def test_nothing_but_a_uuid_reaches_the_command_line(with_socket, danger, channel):
    async def run(double, ear):
        for work in (ear.play(Reach(call=channel), danger), ear.stop(Reach(call=channel))):
            with pytest.raises(AlertError, match="without the uuid"):
                await work

    assert with_socket(run).num_connected == 0


@pytest.mark.parametrize("wrapped", ["{%s}", "urn:uuid:%s"])
def test_a_uuid_in_another_dress_is_put_plainly(with_socket, danger, wrapped):
    async def run(double, ear):
        await ear.play(Reach(call=wrapped % CHANNEL), danger)

    assert with_socket(run).commands == [f"uuid_displace {CHANNEL} start /s/en-danger-card_otp.wav 2 mux"]


def test_a_call_that_is_gone_and_a_wrong_password_are_one_line(with_socket, danger):
    async def gone(double, ear):
        double.channels.clear()
        with pytest.raises(AlertError, match="the channel is gone"):
            await ear.play(REACH, danger)

    with_socket(gone)

    async def wrong(_double, ear):
        with pytest.raises(AlertError, match="refuses the password"):
            await ear.play(REACH, danger)

    assert not with_socket(wrong, password="nope").commands


AUTH = b"Content-Type: auth/request\n\n"
ACCEPTED = b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([], "TimeoutError"),
        ([b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"], "refuses us"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "ValueError"),
        ([b"\n"], "refuses us"),
        ([b"x" * 10_000], "LimitOverrunError"),
        ([AUTH, b"Content-Type: command/reply\nContent-Length: -5\n\n"], "ValueError"),
        ([AUTH, b"Content-Type: command/reply\nContent-Length: 99999999999999999999\n\n"], "ValueError"),
        ([AUTH, b"Content-Type: a\n\n" * 200], "ValueError"),
        ([AUTH, b"a: b\n" * 200], "ValueError"),
        ([AUTH, ACCEPTED, b"Content-Type: api/response\nContent-Length: 0\n\n"], "refuses to play"),
        ([AUTH, ACCEPTED, b"Content-Type: api/response\nContent-Length: 4\n\n\xff\xfe\xfd\xfc"], "refuses to play"),
        ([AUTH, ACCEPTED, b"Content-Type: api/response\nContent-Length: 9\n\n+OK"], "TimeoutError"),
    ],
)
def test_hostile_answers_are_one_line(with_socket, danger, script, words):
    async def run(double, ear):
        double.script = script
        with pytest.raises(AlertError, match=words) as refused:
            await ear.play(REACH, danger)
        assert CHANNEL not in str(refused.value)

    with_socket(run, timeout_s=0.15)


def test_hanging_up_mid_answer_and_nobody_there_are_one_line(danger):
    async def hang_up(_reader, writer):
        writer.write(AUTH[:10])
        writer.close()

    async def run():
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ear = FreeswitchEar(FreeswitchConfig(host="127.0.0.1", port=port, password="p", file="{name}"), Sounds(None))
        async with server:
            with pytest.raises(AlertError, match=r"not reached \(IncompleteReadError\)"):
                await ear.play(REACH, danger)
        with pytest.raises(AlertError, match=r"not reached \(ConnectionRefusedError\)"):
            await ear.play(REACH, danger)

    asyncio.run(run())


@given(data=st.binary(max_size=400) | st.text("Content-Type: \n0123:", max_size=200).map(str.encode))
def test_reading_anything_ends_in_a_message_or_a_named_error(data):
    async def run():
        reader = asyncio.StreamReader(limit=4096)
        reader.feed_data(data)
        reader.feed_eof()
        with contextlib.suppress(ValueError, EOFError, asyncio.LimitOverrunError):
            await read_message(reader)

    asyncio.run(run())


@pytest.mark.parametrize(
    "values",
    [{"password": "a\nb"}, {"password": ""}, {"file": "beep.wav"}, {"file": "a {name}"}, {"port": 0}, {"x": 1}],
)
def test_config_refuses(values):
    with pytest.raises(ValidationError):
        FreeswitchConfig(**{"host": "h", "password": "p"} | values)
