"""The ng client against a node that loses, repeats, lies and stalls."""

import asyncio
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import GatewayError, SignallingError
from inference.gateway.rtpengine import bencode
from inference.gateway.rtpengine.config import NodeConfig
from inference.gateway.rtpengine.ng import NgNode, RefusedError, parse_message, split_stream

pytestmark = pytest.mark.anyio


class Node(asyncio.DatagramProtocol):
    """Answers as it is told: ``reply(number, cookie, fields)`` -> datagrams."""

    def __init__(self, reply) -> None:
        self.reply = reply
        self.seen = []

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data, source) -> None:
        cookie, fields = parse_message(data)
        self.seen.append((cookie, fields))
        for answer in self.reply(len(self.seen), cookie.encode(), fields):
            self.transport.sendto(answer, source)


async def asked(reply, *, encoding="bencode", timeout_s=0.5, times=1):
    """What the client makes of it, and what the node saw."""
    loop = asyncio.get_running_loop()
    transport, node = await loop.create_datagram_endpoint(lambda: Node(reply), local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    client = NgNode(NodeConfig(address=f"127.0.0.1:{port}", encoding=encoding), timeout_s)
    try:
        answers = await asyncio.gather(
            *(client.request("query", call_id=f"c{number}") for number in range(times)), return_exceptions=True
        )
    finally:
        await client.aclose()
        transport.close()
    return answers, node.seen


def ok(cookie, **more):
    return cookie + b" " + bencode.encode({"result": "ok", **more})


async def test_a_lost_request_is_repeated_under_its_cookie():
    answers, seen = await asked(lambda number, cookie, _: [ok(cookie)] if number == 3 else [])
    assert answers == [{"result": "ok"}]
    assert len({cookie for cookie, _ in seen}) == 1
    assert len(seen) == 3


async def test_answers_find_their_questions_in_any_order_and_twice():
    waiting = []

    def reply(number, cookie, fields):
        waiting.append(ok(cookie, is_for=fields["call-id"]))
        return [] if number < 20 else [*reversed(waiting), *waiting]

    answers, _ = await asked(reply, times=20)
    assert [answer["is_for"] for answer in answers] == [f"c{number}" for number in range(20)]


@pytest.mark.parametrize("encoding", ["bencode", "json"])
async def test_both_encodings(encoding):
    answers, seen = await asked(
        lambda _number, cookie, _fields: [cookie + b' {"result":"ok","sdp":"v=0"}'], encoding=encoding
    )
    assert answers == [{"result": "ok", "sdp": "v=0"}]
    assert seen[0][1] == {"command": "query", "call-id": "c0"}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b" d6:result5:error12:error-reason15:Unknown call-ide", "Unknown call-id"),
        (b" d6:result5:error12:error-reason5:\x1b[31me", "no reason given"),
        (b" d6:result5:errore", "no reason given"),
        (b" de", "no reason given"),
        (b' {"result": "error", "error-reason": "' + b"x" * 500 + b'"}', "no reason given"),
    ],
)
async def test_refused(answer, says):
    (error,), _ = await asked(lambda _number, cookie, _fields: [cookie + answer])
    assert isinstance(error, RefusedError)
    assert says in str(error)
    assert "c0" not in str(error)


@pytest.mark.parametrize("answer", [b" l", b" i1e", b" {", b" [1]", b" " + b"[" * 50_000, b" \xff", b" {\xff}", b" "])
async def test_no_reply(answer):
    (error,), _ = await asked(lambda _number, cookie, _fields: [cookie + answer])
    assert isinstance(error, GatewayError)
    assert "what is no reply" in str(error)


async def test_strangers_cookies_are_nothing():
    answers, _ = await asked(
        lambda _n, cookie, _f: [b"", b"x", b"other d6:result2:oke", b" d6:result2:oke", ok(cookie)]
    )
    assert answers == [{"result": "ok"}]


async def test_silence_is_one_line():
    (error,), seen = await asked(lambda *_: [], timeout_s=0.35)
    assert str(error) == "rtpengine rtpengine does not answer 'query' within 0.35 s: is it running?"
    assert len(seen) in (2, 3)  # at once, after .1 s, after .3 s


async def test_a_sound_too_long_for_a_datagram():
    client = NgNode(NodeConfig(address="127.0.0.1:9"), 0.1)
    with pytest.raises(GatewayError, match="transport: tcp"):
        await client.request("play media", blob=b"x" * 70_000)
    await client.aclose()


async def test_nobody_listens_over_tcp():
    client = NgNode(NodeConfig(address="127.0.0.1:1", transport="tcp"), 0.5)
    with pytest.raises(GatewayError, match="cannot be reached"):
        await client.request("ping")
    await client.aclose()


@pytest.mark.parametrize("rubbish", [b"no cookie in these many bytes".replace(b" ", b"_") * 5, b"c x", b""])
async def test_a_tcp_node_that_breaks_off_is_asked_anew(rubbish):
    connections = 0

    async def serve(reader, writer):
        nonlocal connections
        connections += 1
        data = await reader.read(65536)
        cookie = data.split(b" ")[0]
        answer = rubbish if connections == 1 else ok(cookie)
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            for part in (answer[:5], answer[5:]):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = NgNode(NodeConfig(address=f"127.0.0.1:{port}", transport="tcp"), 2)
    with pytest.raises(GatewayError, match="cannot be reached"):
        await client.request("ping")
    assert await client.request("ping") == {"result": "ok"}
    await client.aclose()
    server.close()
    await server.wait_closed()


COOKIES = st.from_regex(rb"\A[a-z0-9_]{1,20}\Z")
MESSAGES = st.builds(
    lambda cookie, fields: cookie + b" " + bencode.encode(fields),
    COOKIES,
    st.dictionaries(st.text("abc", max_size=5), st.integers() | st.text("xyz", max_size=30), max_size=5).filter(
        lambda fields: all(isinstance(v, str) or abs(v) < 2**60 for v in fields.values())
    ),
)


@settings(deadline=None)
@given(st.lists(MESSAGES, max_size=6), st.data())
def test_a_stream_is_cut_where_messages_end(messages, data):
    stream = b"".join(messages)
    got, waiting = [], b""
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        new, waiting = split_stream(waiting + stream[:size])
        got += new
        stream = stream[size:]
    assert (got, waiting) == (messages, b"")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_cut_or_refused(data):
    try:
        messages, rest = split_stream(data)
    except SignallingError:
        return
    assert b"".join(messages) + rest == data


@settings(deadline=None)
@given(
    st.binary(max_size=100)
    | st.builds(
        lambda v: b"c " + json.dumps(v).encode(),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda i: st.lists(i) | st.dictionaries(st.text(max_size=3), i),
        ),
    )
)
def test_any_datagram_is_a_message_or_refused(data):
    try:
        _, fields = parse_message(data)
    except SignallingError:
        return
    assert isinstance(fields, dict)
