"""Messages in a stream: however it is cut, the same messages come out."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import SignallingError
from inference.gateway.sip.framing import Framer

ONE = b"OPTIONS sip:a@b SIP/2.0\r\nl: 3\r\n\r\nabc"
TWO = b"BYE sip:a@b SIP/2.0\nContent-Length: 0\n\n"
PING = b"\r\n\r\n"


@given(st.lists(st.sampled_from([ONE, TWO]), max_size=5), st.lists(st.integers(1, 40), max_size=40))
def test_cuts_do_not_matter(messages, sizes):
    data = b"".join(messages)
    framer, got = Framer(), []
    for size in [*sizes, len(data)]:
        got += framer.feed(data[:size])
        data = data[size:]
    assert got == messages
    assert not framer.is_partial


def test_pings_are_told_from_blank_lines_between_messages():
    framer = Framer()
    assert framer.feed(ONE + b"\r\n" + ONE) == [ONE, ONE]
    assert framer.feed(PING) == [b""]
    assert framer.feed(b"\r\n") == []
    assert framer.feed(b"\r\n") == [b""]
    assert framer.feed(PING + ONE) == [b"", ONE]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"OPTIONS sip:a@b SIP/2.0\r\nX: 1\r\n\r\n", "no Content-Length"),
        (b"OPTIONS sip:a@b SIP/2.0\r\nl: 1\r\nl: 2\r\n\r\n", "differs from another"),
        (b"OPTIONS sip:a@b SIP/2.0\r\nl: 65535\r\n\r\n", "message is longer than"),
        (b"x" * 40_000, "message head is longer than"),
    ],
)
def test_where_framing_is_lost_the_connection_must_go(data, why):
    with pytest.raises(SignallingError, match=why):
        Framer().feed(data)


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_any_bytes_are_messages_or_a_signalling_error(parts):
    framer = Framer()
    with contextlib.suppress(SignallingError):
        for part in parts:
            framer.feed(part)
