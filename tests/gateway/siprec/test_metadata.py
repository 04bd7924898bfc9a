"""Metadata as SBCs write it: who is on the call, who is the subscriber; and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import SignallingError
from inference.gateway.sip.message import RefusedError
from inference.gateway.siprec.metadata import MAX_BYTES, Metadata
from inference.gateway.siprec.roles import Numbering, address_of, near_of

CALLER, CALLED = "+15550100001", "+15550199002"

SHAPES = {
    # vendor: (label of the caller, of the called, the recorded call's id, numbers as written)
    "opensips": ("1", "2", "7a3c21f0@proxy.example", (CALLER, CALLED)),
    "oracle": ("16777220", "16777219", "00AB0077C0FFEE", (CALLER[2:], CALLED[2:])),
    "audiocodes": ("1", "2", "AB0077C0FFEE00000017", (CALLER[2:], CALLED[2:])),
    "cube": ("1", "2", "4b2f9d6a77c05e1b8a3355d0e1f20c44;remote=90d1c2b3a4958677f0e1d2c3b4a59687", (CALLER, CALLED)),
}


@pytest.mark.parametrize("vendor", SHAPES)
def test_vendors(rec, vendor):
    caller_label, called_label, call_id, (caller, called) = SHAPES[vendor]
    metadata = Metadata.parse((rec.METADATA / f"{vendor}.xml").read_bytes())
    people = [metadata.participants[key] for label in (caller_label, called_label) for key in metadata.senders(label)]
    assert [address_of(person.aors[0])[0] for person in people] == [caller, called]
    assert (metadata.sip_session_ids + metadata.vendor_ids)[0] == call_id
    in_order = list(metadata.participants.values())
    for side, near in (("second", people[1]), ("first", people[0])):
        assert in_order[near_of(in_order, Numbering(()), side)] == near
    for numbers, near in ((called[:-3], people[1]), (caller[:-3], people[0])):
        assert in_order[near_of(in_order, Numbering((numbers,)), "second")] == near


def test_every_shape_is_there(rec):
    assert {path.stem for path in rec.METADATA.glob("*.xml")} == SHAPES.keys()


@pytest.mark.parametrize(
    ("aor", "want"),
    [
        ("sip:+1-555-010-0001@Sbc.example;user=phone", ("+15550100001", "sbc.example")),
        ("tel:+1(555)010.0001;ext=7", ("+15550100001", "")),
        ("5550100001@192.0.2.1", ("5550100001", "192.0.2.1")),
        ("+15550100001", ("+15550100001", "")),
        ("sips:jane.doe@sbc.example", ("jane.doe", "sbc.example")),
        ("<sip:jane@b>", ("jane", "b")),
        ("sip:anonymous@anonymous.invalid", ("anonymous", "anonymous.invalid")),
        ("mailto:a@b", ("mailto", "b")),
        ("", ("", "")),
        ("sip:@", ("", "")),
    ],
)
def test_addresses(aor, want):
    assert address_of(aor) == want


def test_numbering():
    def person(*aors):
        return Metadata.parse(
            b'<recording><participant participant_id="p">%s</participant></recording>'
            % b"".join(b'<nameID aor="%s"/>' % aor.encode() for aor in aors)
        ).participants["p"]

    ours = Numbering(["+1 555", "@ims.example", r"^0800\d+"])
    for aor in ("sip:+15550001@a", "sip:x@IMS.example", "tel:0800-123"):
        assert ours.is_ours(person(aor)), aor
        assert ours.is_ours(person("sip:else@else", aor)), aor
    for aor in ("sip:15550001@a", "tel:+44", "sip:x@ims.example.org", "tel:0800", "sip:+1 x", ""):
        assert not ours.is_ours(person(aor)), aor


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not XML"),
        (b"<recording>", "not XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><recording/>', "not XML"),
        (b"<other/>", "is not a recording element"),
        (b'<!DOCTYPE recording [<!ENTITY a "b">]><recording>&a;</recording>', "has a DTD"),
        (b'<!DOCTYPE recording SYSTEM "file:///etc/passwd"><recording/>', "has a DTD"),
    ],
)
def test_what_is_no_metadata(data, why):
    with pytest.raises(SignallingError, match=why):
        Metadata.parse(data)


@pytest.mark.parametrize(
    "data",
    [
        b" " * (MAX_BYTES + 1),
        b"<recording>%s</recording>" % b"".join(b'<participant participant_id="%d"/>' % i for i in range(65)),
        b"<recording>%s</recording>" % b"".join(b'<stream stream_id="%d"/>' % i for i in range(65)),
    ],
)
def test_what_is_beyond_the_bounds_is_413(data):
    with pytest.raises(RefusedError) as raised:
        Metadata.parse(data)
    assert raised.value.status == 413


def test_changes_gather_within_bounds(rec):
    known = Metadata.parse(rec.document(rec.ALICE, rec.BOB))
    more = [
        Metadata.parse(rec.document((f"x{number}", "sip:x@y", f"l{number}"), mode="partial")) for number in range(63)
    ]
    for newer in more[:-1]:
        known = known.merged(newer)
    with pytest.raises(RefusedError, match="413"):
        known.merged(more[-1])


def test_a_partial_document_changes_only_what_it_names(rec):
    known = Metadata.parse(rec.document(rec.ALICE, rec.BOB))
    newer = b'<recording><datamode>partial</datamode><participant participant_id="p1"><nameID aor="sip:new@b"/>'
    newer += b"</participant></recording>"
    merged = known.merged(Metadata.parse(newer))
    assert merged.participants["p1"].aors == ("sip:new@b",)
    assert merged.senders("1") == ["p1"]
    assert merged.participants["p2"] == known.participants["p2"]
    assert merged.sip_session_ids == known.sip_session_ids
    over = b'<recording><datamode>Partial</datamode><participantstreamassoc participant_id="p1"><send>st1</send>'
    over += b"<disassociate-time>t</disassociate-time></participantstreamassoc></recording>"
    assert known.merged(Metadata.parse(over)).senders("1") == []
    complete = Metadata.parse(rec.document(rec.BOB))
    assert known.merged(complete) == complete


def test_depth_is_no_trouble():
    depth = 7000
    assert Metadata.parse(b"<recording>" + b"<a>" * depth + b"</a>" * depth + b"</recording>").participants == {}


WORDS = st.sampled_from(
    [
        "recording",
        "datamode",
        "session",
        "participant",
        "nameID",
        "stream",
        "label",
        "send",
        "recv",
        "aor",
        "ucid",
        "participantstreamassoc",
        "participantsessionassoc",
        "disassociate-time",
        "sipSessionID",
        "callerOrig",
        "x:y",
    ]
)
ATTRIBUTES = st.sampled_from(["", ' participant_id="p"', ' id="p"', ' stream_id="s"', ' aor="sip:a@b"', ' xmlns:x="u"'])
TREES = st.recursive(
    st.sampled_from(["", "s", "partial", "true", "&amp;", "é"]),
    lambda inner: st.builds(
        lambda name, attribute, parts: f"<{name}{attribute}>{''.join(parts)}</{name}>",
        WORDS,
        ATTRIBUTES,
        st.lists(inner, max_size=4),
    ),
    max_leaves=20,
)


@given(TREES.map(lambda text: f"<recording>{text}</recording>".encode()) | st.binary(max_size=80))
def test_any_document_is_metadata_or_a_signalling_error(data):
    try:
        metadata = Metadata.parse(data)
    except SignallingError:
        return
    merged = metadata.merged(metadata)
    for label in merged.labels.values():
        merged.senders(label)
    people = list(merged.participants.values())
    if people:
        near_of(people, Numbering(["+1"]), "second")
