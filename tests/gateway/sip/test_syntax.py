"""Header values: what they hold, and what is wrong with those that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import SignallingError
from inference.gateway.sip.syntax import Address, CSeq, SipUri, Via, parse_parameters, split_list


def test_via():
    via = Via.parse("SIP / 2.0 / udp  [2001:db8::1] : 5062 ; branch = z9hG4bKx ; rport")
    assert (via.transport, via.host, via.port, via.branch) == ("UDP", "[2001:db8::1]", 5062, "z9hG4bKx")
    assert str(via) == "SIP/2.0/UDP [2001:db8::1]:5062;branch=z9hG4bKx;rport"
    assert Via.parse(str(via)) == via
    assert Via.parse("SIP/2.0/UDP a;branch=z9hG4bK").branch is None
    assert Via.parse("SIP/2.0/UDP a;branch=1").branch is None


@pytest.mark.parametrize(
    ("read", "text", "why"),
    [
        (Via.parse, "SIP/3.0/UDP a", "Via is malformed"),
        (Via.parse, "SIP/2.0/UDP a:0", "Via has a port out of range"),
        (Via.parse, "SIP/2.0/UDP a:70000", "Via has a port out of range"),
        (Via.parse, "SIP/2.0/UDP a;;b", "Via has a malformed parameter"),
        (Via.parse, "SIP/2.0/UDP a" + ";b" * 65, "Via has more than 64 parameters"),
        (CSeq.parse, "1", "CSeq is malformed"),
        (CSeq.parse, "-1 INVITE", "CSeq is malformed"),
        (CSeq.parse, "2147483648 INVITE", "CSeq number is not below"),
        (CSeq.parse, "٣ INVITE", "CSeq is malformed"),
        (lambda text: Address.parse(text, "To"), '"a <sip:b@c>', "To has an unclosed quoted string"),
        (lambda text: Address.parse(text, "To"), "<sip:b@c", "To has an unclosed angle bracket"),
        (lambda text: Address.parse(text, "To"), "<sip: b@c>", "To has a malformed URI"),
        (lambda text: Address.parse(text, "To"), "<sip:b@c> x", "To has a malformed URI"),
        (lambda text: Address.parse(text, "To"), "b@c", "To has a malformed URI"),
        (lambda text: Address.parse(text, "To"), "sip:b@c?d=e", "To has an URI that must stand in angle brackets"),
        (SipUri.parse, "mailto:a@b", "URI is not of sip, sips or tel"),
        (SipUri.parse, "sip:a@b c", "URI has a malformed host"),
        (SipUri.parse, "sip:a@", "URI has a malformed host"),
    ],
)
def test_faults_are_named(read, text, why):
    with pytest.raises(SignallingError, match=why):
        read(text)


def test_addresses():
    address = Address.parse('"A \\"<b>\\"; c" <sip:d@e;lr> ; tag = f ;g', "From")
    assert address == Address("sip:d@e;lr", {"tag": "f", "g": None}, 'A "<b>"; c')
    assert address.tag == "f"
    assert Address.parse("sip:a@b;tag=c", "From") == Address("sip:a@b", {"tag": "c"})
    assert Address.parse("Doe, Jane <sip:a@b>", "From").name == "Doe, Jane"


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("sip:+15551230001@SBC.example:5060;user=phone", SipUri("sip", "+15551230001", "sbc.example", 5060)),
        ("sips:a%40b:pass@c", SipUri("sips", "a@b", "c")),
        ("sip:a;own=x%40y@c?h=i", SipUri("sip", "a", "c")),
        ("sip:c", SipUri("sip", "", "c")),
        ("SIP:a@[2001:db8::1]", SipUri("sip", "a", "[2001:db8::1]")),
        ("tel:+1-555-123-0001;phone-context=+1", SipUri("tel", "+1-555-123-0001", "")),
    ],
)
def test_uris(text, want):
    assert SipUri.parse(text) == want


def test_of_two_parameters_the_first_counts():
    assert parse_parameters(";a=1;A=2;b", "X") == {"a": "1", "b": None}


TEXTS = st.text(st.sampled_from('sip:tel<>";,=@\\?%4 a1[]\x00é/2.0UDP'), max_size=40)


@given(TEXTS)
def test_any_text_is_read_or_refused(text):
    for read in (Via.parse, CSeq.parse, SipUri.parse, lambda t: Address.parse(t, "To")):
        try:
            got = read(text)
        except SignallingError:
            continue
        if isinstance(got, Via | CSeq):
            assert read(str(got)) == got


def split_by_character(text, separator):
    """The same, one character after the other: slow, and plain to see."""
    parts, start, at, is_quoted, in_angle = [], 0, 0, False, False
    while at < len(text):
        char = text[at]
        if is_quoted:
            at += char == "\\"
            is_quoted = char != '"'
        elif char == '"' and not in_angle:
            is_quoted = True
        elif char in "<>":
            in_angle = char == "<"
        elif char == separator and not in_angle:
            parts.append(text[start:at].strip())
            start = at + 1
        at += 1
    return None if is_quoted or in_angle else [*parts, text[start:].strip()]


@given(st.text(alphabet='"<>;,\\a \n', max_size=24), st.sampled_from(";,"))
def test_lists_are_split_as_by_reading_each_character(text, separator):
    try:
        found = split_list(text, separator, "List")
    except SignallingError:
        found = None
    assert found == split_by_character(text, separator)


@given(st.lists(st.sampled_from(['"', "<", ">", ";", "a", "=", "sip:a@b", "tag=", "SIP/2.0/UDP h"]), max_size=8))
def test_what_is_remembered_is_what_is_read(parts):
    text = "".join(parts)
    for read in (lambda t: Address.parse(t, "From"), Via.parse):
        results = []
        for padded in (text, text + " " * 300, text):  # remembered, too long to be, remembered
            try:
                results.append(read(padded))
            except SignallingError as error:
                results.append(str(error))
        assert results[0] == results[2]
        assert results[0] == results[1]
