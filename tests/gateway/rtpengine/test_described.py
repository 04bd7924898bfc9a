"""What rtpengine says of a call, true or hostile."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import SignallingError
from inference.gateway.rtpengine.described import (
    CallState,
    Note,
    Party,
    Roles,
    listed_calls,
    media_owners,
    sdp_of,
)


def party(tag, label=None, *, hears=(), listens=False, codec="PCMU/8000", created=1):
    return {
        "tag": tag,
        "label": label,
        "created": created,
        "subscriptions": [{"tag": of, "type": "pub/sub" if listens else "offer/answer"} for of in hears],
        "subscribers": [],
        "medias": [{"index": 1, "codec": codec}],
    }


def state(*parties):
    return CallState.parse({"tags": {of["tag"]: of for of in parties}})


ROLES = Roles("A", "B")
NOTE = Note("op-1", ROLES, "zh")


def test_who_is_who_by_labels():
    two = state(party("A", "far", hears=["B"]), party("B", "near", hears=["A"]))
    assert two.roles("far", "near") == ROLES
    assert two.roles("near", "far") == Roles("B", "A")
    assert two.roles("x", "y") is None
    assert two.codecs(ROLES) == ("PCMU", "PCMU")


def test_a_phone_that_only_rings_has_no_tag():
    ringing = {"A": party("A", "far", hears=[""]), "<untagged 1>": party("", None, hears=["A"])}
    found = CallState.parse({"tags": ringing})
    assert [phone.tag for phone in found.phones] == ["A"]
    assert found.roles("far", "near") is None


def test_of_several_the_one_that_is_connected():
    several = state(
        party("A", "far", hears=["B2"]), party("B1", "near", hears=["A"]), party("B2", "near", hears=["A"], created=9)
    )
    assert several.roles("far", "near") == Roles("A", "B2")


def test_our_own_subscription_is_known_by_its_note():
    ours = party("scamtap-1", str(NOTE), hears=["A", "B"], listens=True)
    found = state(party("A", hears=["B"]), party("B", hears=["A"]), ours)
    assert found.ours("scamtap") == ("scamtap-1", NOTE)
    assert found.is_heard_by("scamtap-1")
    assert [phone.tag for phone in found.phones] == ["A", "B"]
    assert found.ours("other") is None


def test_a_caller_with_a_tag_like_ours_is_a_caller():
    found = state(party("scamtap-1", str(NOTE), hears=["B"]), party("B", hears=["scamtap-1"]))
    assert found.ours("scamtap") is None


@settings(deadline=None)
@given(st.text(max_size=60) | st.none())
def test_any_label_is_a_note_or_none(label):
    note = Note.parse(label)
    assert note is None or Note.parse(str(note)) == note


@pytest.mark.parametrize(
    "label",
    ["[", "[1]", "[2, 'a', null, 'A', 'B']", '[1, "a", "xx", "A", "B"]', '[1, "a", null, "A", 5]', "[" * 1000,
     '[1, "a", null, "", "B"]', '[1, "' + "a" * 3000 + '", null, "A", "B"]', '{"1": 2}'],
)  # fmt: skip
def test_what_is_no_note(label):
    assert Note.parse(label) is None


@settings(deadline=None)
@given(
    st.builds(
        Note,
        st.text(min_size=1, max_size=40),
        st.builds(Roles, *[st.text(min_size=1, max_size=40)] * 2),
        st.sampled_from([None, "en", "zh", "auto"]),
    )
)
def test_a_note_comes_back(note):
    assert Note.parse(str(note)) == note


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["offer/answer", "pub/sub"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["tags", "tag", "label", "subscriptions", "type", "medias", "codec", "calls", "sdp", "A"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["tags", "calls", "media-labels", "sdp"]), JSON, max_size=4))
def test_any_reply_is_read_or_refused(reply):
    assert all(isinstance(call_id, str) for call_id in listed_calls(reply))
    assert all(isinstance(tag, str) for tag in media_owners(reply).values())
    try:
        assert isinstance(sdp_of(reply), str)
        found = CallState.parse(reply)
    except SignallingError:
        return
    assert all(isinstance(of, Party) for of in found.phones)
    found.roles("far", "near")
    found.ours("scamtap")


def test_bounds():
    with pytest.raises(SignallingError, match="too many tags"):
        state(*(party(f"t{number}") for number in range(100)))
    assert listed_calls({"calls": ["a", "", "x" * 300, "\udc80", 5, None]}) == ["a"]
