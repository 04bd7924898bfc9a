"""What of an offer is taken and how it is answered: codecs, redundancy, keys, lines that are refused."""

import base64

import pytest

from inference.gateway.sip.sdp import Description


def test_codecs_are_chosen_and_what_is_not_decoded_is_passed_over(rec):
    more = ["a=rtpmap:96 opus/48000/2", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=ptime:20"]
    server = rec.server()
    lines = [rec.Line(30000, "1", "96 9 8 101 13", more=more), rec.Line(30002, "2", "18 0")]
    (ok,) = server.send(offer=rec.sdp(*lines), metadata=rec.document(rec.ALICE, rec.BOB))
    first, second = Description.parse(ok.body).media
    assert (first.formats, second.formats) == (("8", "101", "13"), ("0",))
    assert ("fmtp", "101 0-15") in first.attributes
    assert ("ptime", "20") in first.attributes
    assert server.spec.far.payload_types == {101: "telephone-event"}

    opus_only = [rec.Line(30000, "1", "96", more=more[:1]), rec.Line(30002, "2", "96 9", more=more[:1])]
    document = rec.document(rec.ALICE, rec.BOB)
    (refused,) = rec.server().send(offer=rec.sdp(*opus_only), metadata=document)
    assert refused.status == 488
    server = rec.server(rec.Control(codecs=("opus", "G722")))
    (ok,) = server.send(offer=rec.sdp(*opus_only), metadata=document)
    assert Description.parse(ok.body).media[0].codecs()[0].channels == 2
    assert server.spec.far.payload_types == {96: "opus"}


@pytest.mark.parametrize(
    ("blocks", "clock_hz", "is_taken"),
    [
        ("8/8", 8000, True),
        ("8/8/8", 8000, True),
        ("8/0", 8000, False),
        ("96/96", 8000, False),
        ("8/8", 16000, False),
        ("", 8000, False),
    ],
)
def test_redundancy_is_taken_beside_the_codec_that_it_holds(rec, blocks, clock_hz, is_taken):
    more = [f"a=rtpmap:121 red/{clock_hz}", f"a=fmtp:121 {blocks}"]
    document = rec.document(rec.ALICE, rec.BOB)
    alone = [rec.Line(port, label, "121", more=more) for port, label in ((30000, "1"), (30002, "2"))]
    (refused,) = rec.server().send(offer=rec.sdp(*alone), metadata=document)
    assert refused.status == 488  # it holds nothing that is offered
    server = rec.server(rec.Control(codecs=("PCMU", "PCMA", "red")))
    (ok,) = server.send(offer=rec.sdp(rec.Line(30000, "1", "121 8", more=more), rec.TWO[1]), metadata=document)
    (first, _) = Description.parse(ok.body).media
    assert first.formats == (("8", "121") if is_taken else ("8",))
    assert (("fmtp", f"121 {blocks}") in first.attributes) == is_taken
    assert server.spec.far.payload_types == ({121: "red"} if is_taken else {})


@pytest.mark.parametrize(
    "line",
    [
        {"codecs": "110", "more": ["a=rtpmap:110 EVS/16000"]},
        {"codecs": "96", "more": ["a=rtpmap:96 PCMU/16000"]},
        {"codecs": "0", "protocol": "UDP/TLS/RTP/SAVP"},
        {"codecs": "0", "protocol": "RTP/SAVP"},
        {"codecs": "0", "protocol": "RTP/SAVP", "more": ["a=crypto:1 AEAD_AES_256_GCM inline:AAAA"]},
        {"codecs": "0", "kind": "video"},
    ],
)
def test_what_cannot_be_taken_is_488(rec, line):
    server = rec.server()
    lines = [rec.Line(30000, "1", **line), rec.Line(30002, "2", **line)]
    (refused,) = server.send(offer=rec.sdp(*lines), metadata=rec.document(rec.ALICE, rec.BOB))
    assert refused.status == 488
    assert "192.0.2" not in refused.headers.get("Warning")
    assert server.control.log == []
    assert server.agent.num_sessions == 0


def test_a_video_line_is_refused_beside_audio(rec):
    server = rec.server()
    lines = [rec.Line(30004, "3", "99", kind="video"), *rec.TWO]
    (ok,) = server.send(offer=rec.sdp(*lines), metadata=rec.document(rec.ALICE, rec.BOB))
    assert [m.port for m in Description.parse(ok.body).media] == [0, 40000, 40000]


def test_keys_go_to_the_legs_and_ours_come_back_with_the_offered_tag(rec):
    key = base64.b64encode(bytes(range(30))).decode()
    more = [
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20|1:4",  # with an MKI: not taken
        "a=crypto:5 AES_CM_128_HMAC_SHA1_80 inline:c2hvcnQ=",
        f"a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^31",
    ]
    server = rec.server()
    lines = [rec.Line(30000, "1", protocol="RTP/SAVP", more=more), rec.Line(30002, "2", protocol="RTP/SAVP", more=more)]
    offer, document = rec.sdp(*lines), rec.document(rec.ALICE, rec.BOB)
    (ok,) = server.send(offer=offer, metadata=document)
    (again,) = server.send(offer=offer)
    assert server.spec.far.srtp.key.get_secret_value() == key
    first, _ = Description.parse(ok.body).media
    (ours,) = first.crypto()
    assert (first.protocol, ours.tag, ours.suite) == ("RTP/SAVP", 7, "AES_CM_128_HMAC_SHA1_80")
    assert ours.key != key
    assert len(base64.b64decode(ours.key)) == 30
    assert Description.parse(again.body).media[0].crypto() == [ours]


def test_streams_over_ipv6(rec, clock):
    server = rec.server()
    server.ports.address = "2001:db8::1"
    (ok,) = server.send(offer=rec.sdp(*rec.TWO, address="2001:db8::20"), metadata=rec.document(rec.ALICE, rec.BOB))
    assert b"c=IN IP6 2001:db8::1\r\n" in ok.body
    assert server.spec.far.source_address == ("2001:db8::20", 30000)
