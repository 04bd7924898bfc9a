"""Bencode: there and back, strict, bounded, never an exception that is not ours."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import SignallingError
from inference.gateway.rtpengine.bencode import MAX_DEPTH, IncompleteError, decode, decode_prefix, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_is_read(value):
    assert decode(encode(value)) == value


@settings(deadline=None)
@given(VALUES, st.binary(max_size=10))
def test_it_knows_where_it_ends(value, more):
    data = encode(value)
    assert decode_prefix(b"xy" + data + more, 2) == (value, 2 + len(data))


@settings(deadline=None)
@given(VALUES, st.data())
def test_a_beginning_is_incomplete_and_no_error(value, data):
    whole = encode(value)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(IncompleteError):
        decode(whole[:cut])


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes(data):
    try:
        value = decode(data)
    except SignallingError:
        return
    assert encode(value) == data, "one value, one form"


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_go_back_as_they_came(data):
    assert encode(decode(b"%d:%s" % (len(data), data))) == b"%d:%s" % (len(data), data)


def test_keys_in_any_order_as_rtpengine_writes_them():
    assert decode(b"d6:result2:ok3:sdp0:e") == {"result": "ok", "sdp": ""}


@pytest.mark.parametrize(
    "data",
    [b"i01e", b"i-0e", b"ie", b"i--1e", b"i1 e", b"01:a", b"x", b"di1ei2ee", b"d1:ai1e1:ai2ee", b"1:ab", b"i+1e",
     b"i" + b"9" * 30 + b"e", b"9" * 30 + b":", b"-1:a", "i\u0661e".encode()],
)  # fmt: skip
def test_what_is_not_bencode(data):
    with pytest.raises(SignallingError) as refused:
        decode(data)
    assert not isinstance(refused.value, IncompleteError)


def test_bounds():
    deep = b"l" * (MAX_DEPTH + 2) + b"e" * (MAX_DEPTH + 2)
    with pytest.raises(SignallingError, match="too deep"):
        decode(deep)
    with pytest.raises(SignallingError, match="too deep or too large"):
        decode(b"l" + b"i0e" * 300_000 + b"e")
    assert decode(b"l" * MAX_DEPTH + b"e" * MAX_DEPTH)


def test_a_type_it_does_not_have():
    with pytest.raises(TypeError, match="float"):
        encode({"a": [1.5]})
