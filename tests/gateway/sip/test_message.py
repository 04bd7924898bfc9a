"""Messages: golden ones byte for byte, exact errors, and whatever is written is read again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import SignallingError
from inference.gateway.sip.message import (
    MAX_HEADERS,
    MAX_LIST,
    Headers,
    RefusedError,
    Request,
    Response,
    parse_message,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "sip"
HEAD = b"INVITE sip:a@b SIP/2.0\r\n"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("canonical/*.sip")), ids=lambda path: path.stem)
def test_golden_messages_come_back_byte_for_byte(path):
    data = path.read_bytes()
    message = parse_message(data)
    assert bytes(message) == data


def test_compact_names_folds_and_bare_line_feeds_read_as_their_long_form():
    plain = parse_message(HEAD + b"Via: SIP/2.0/UDP a\r\nCall-ID: x\r\nSubject: one two\r\n\r\n")
    other = parse_message(HEAD + b"v : SIP/2.0/UDP a\ni:x\ns:\r\n one\r\n\ttwo\n\n")
    assert other.headers == plain.headers


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no empty line after its headers"),
        (HEAD + b"Via: x\r\n", "no empty line after its headers"),
        (b"GET / HTTP/1.1\r\n\r\n", "start line is of no SIP message"),
        (b"SIP/2.0 0200 OK\r\n\r\n", "start line is of no SIP message"),
        (HEAD + b"nameless\r\n\r\n", "a header line without a name"),
        (HEAD + b"Z: a\rb\r\n\r\n", "a header line without a name"),
        (HEAD + b"Z: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n", f"more than {MAX_HEADERS} header lines"),
        (HEAD + b"Z: " + b"a" * 40_000 + b"\r\n\r\n", "message head is longer than 32768 bytes"),
        (HEAD + b"\r\n" + b"a" * 65_536, "message is longer than 65535 bytes"),
        (b"SIP/2.0 200 OK\r\nContent-Length: 5\r\n\r\n", "Content-Length is larger than the body"),
    ],
)
def test_what_is_no_message_is_told_exactly(data, why):
    with pytest.raises(SignallingError, match=why) as raised:
        parse_message(data)
    assert not isinstance(raised.value, RefusedError)


@pytest.mark.parametrize(
    ("data", "status", "why"),
    [
        (b"INVITE  sip:a@b SIP/2.0\r\nZ: 1\r\n\r\n", 400, "request line is malformed"),
        (b"INVITE sip:a@b SIP/3.0\r\nZ: 1\r\n\r\n", 505, "only SIP/2.0"),
        (HEAD + b"Z: 1\r\nContent-Length: -1\r\n\r\n", 400, "Content-Length is malformed"),
        (HEAD + b"Z: 1\r\nContent-Length: 0\r\nl: 1\r\n\r\nab", 400, "Content-Length differs from another"),
        (HEAD + b"Z: 1\r\nContent-Length: 3\r\n\r\nab", 400, "Content-Length is larger than the body"),
    ],
)
def test_a_faulty_request_can_still_be_answered(data, status, why):
    with pytest.raises(RefusedError, match=why) as raised:
        parse_message(data)
    assert raised.value.status == status
    assert raised.value.request.headers.get("z") == "1"


def test_octets_beyond_the_content_length_are_no_part():
    assert parse_message(HEAD + b"Content-Length: 2\r\n\r\nabcd").body == b"ab"
    assert parse_message(HEAD + b"\r\nabcd").body == b"abcd"


def test_lists_are_split_outside_quotes_and_brackets():
    headers = Headers([("Contact", '"a, b" <sip:a,b@c>, <sip:d@e>'), ("m", "sip:f@g")])
    assert headers.items("contact") == ['"a, b" <sip:a,b@c>', "<sip:d@e>", "sip:f@g"]
    with pytest.raises(SignallingError, match="Contact has an empty element"):
        Headers([("Contact", "<sip:a@b>,,")]).items("Contact")
    with pytest.raises(SignallingError, match=f"Via has more than {MAX_LIST} elements"):
        Headers([("Via", "x," * MAX_LIST + "x")]).items("Via")


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<>"), min_size=1, max_size=12)
NAMES = st.text("abcdefghijklmnopqrstuvwxyzABC-.!%*_+`'~0123456789", min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=30).map(
    lambda text: text.strip(" \t")
)
FIELDS = st.lists(st.tuples(NAMES, VALUES).filter(lambda f: f[0].lower() not in ("content-length", "l")), max_size=8)


@given(NAMES, WORDS, FIELDS, st.binary(max_size=60))
def test_a_request_written_is_read_again(method, uri, fields, body):
    made = Request(method, uri, Headers(fields), body)
    got = parse_message(bytes(made))
    assert (got.method, got.uri, got.body) == (method, uri, body)
    assert got.headers.fields[:-1] == made.headers.fields
    assert bytes(parse_message(bytes(got))) == bytes(got)


@given(st.integers(100, 699), VALUES, FIELDS, st.binary(max_size=60))
def test_a_response_written_is_read_again(status, reason, fields, body):
    got = parse_message(bytes(Response(status, Headers(fields), body, reason.strip())))
    assert (got.status, got.reason, got.body) == (status, reason.strip(), body)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: HEAD + tail))
def test_any_bytes_are_a_message_or_a_signalling_error(data):
    try:
        message = parse_message(data)
    except SignallingError:
        return
    again = parse_message(bytes(message)).headers.fields[:-1]
    assert again == tuple(field for field in message.headers.fields if field[0] != "Content-Length")
