"""Session descriptions: what an offer says of each line, and exact errors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import SignallingError
from inference.gateway.sip.sdp import Crypto, Description, RtpMap

HEAD = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"
OFFER = HEAD + (
    b"c=IN IP4 192.0.2.9\r\nt=0 0\r\na=sendonly\r\n"
    b"m=audio 30000/2 RTP/SAVP 8 18 96 101 200 x\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n"
    b"a=fmtp:96 useinbandfec=1\r\na=label:far 1\r\na=rtcp-mux\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:QUJD|2^20|1:4\r\n"
    b"a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:QUJD|2^20 WSH=64\r\na=crypto:broken\r\n"
    b"m=audio 30002 RTP/AVP 0\r\nc=IN IP6 2001:db8::9/1\r\na=inactive\r\n"
    b"m=video 0 RTP/AVP 99\r\nc=IN IP4 media.example\r\n"
)


def test_an_offer():
    offer = Description.parse(OFFER)
    first, second, video = offer.media
    assert first.codecs() == [
        RtpMap(8, "PCMA", 8000),
        RtpMap(18, "G729", 8000),
        RtpMap(96, "opus", 48000, 2),
        RtpMap(101, "telephone-event", 8000),
    ]
    assert (first.port, first.label, first.is_rtcp_mux, first.is_secure) == (30000, "far 1", True, True)
    assert first.format_parameters(96) == "useinbandfec=1"
    assert first.format_parameters(9) is None
    assert [(c.tag, c.is_plain) for c in first.crypto()] == [(1, False), (2, True)]
    assert [offer.address(m) for m in offer.media] == ["192.0.2.9", "2001:db8::9", None]
    assert [offer.direction(m) for m in offer.media] == ["sendonly", "inactive", "sendonly"]
    assert (second.port, video.kind, video.port) == (30002, "video", 0)


def test_keys_are_not_printed():
    assert "QUJD" not in repr(Crypto(1, "AES", "QUJD", is_plain=True))


def test_written_it_is_read_again():
    offer = Description.parse(OFFER)
    again = Description.parse(bytes(offer))
    assert again == offer
    assert bytes(again) == bytes(offer)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "does not begin with v=0"),
        (b"v=1\r\n", "does not begin with v=0"),
        (b"v=0\r\ns=-\r\n", "has no o= line"),
        (HEAD + b"nonsense\r\n", "a line that is not type=value"),
        (HEAD + b"m=audio RTP/AVP 0\r\n", "a malformed m= line"),
        (HEAD + b"m=audio -1 RTP/AVP 0\r\n", "a malformed m= line"),
        (HEAD + b"m=audio 70000 RTP/AVP 0\r\n", "a port or a number of formats out of range"),
        (HEAD + b"m=audio 1 RTP/AVP" + b" 0" * 65 + b"\r\n", "a port or a number of formats out of range"),
        (HEAD + b"m=audio 1 RTP/AVP 0\r\n" * 17, "more than 16 media lines"),
        (HEAD + b"a=x\r\n" * 1000, "more than 1000 lines"),
    ],
)
def test_faults_are_named(data, why):
    with pytest.raises(SignallingError, match=why):
        Description.parse(data)


LINES = st.sampled_from(OFFER.split(b"\r\n")) | st.binary(max_size=30)


@given(st.lists(LINES, max_size=25).map(lambda lines: HEAD + b"\r\n".join(lines)))
def test_any_lines_are_a_description_or_a_signalling_error(data):
    try:
        offer = Description.parse(data)
    except SignallingError:
        return
    for media in offer.media:
        media.codecs(), media.crypto(), media.label, offer.address(media), offer.direction(media)
    assert Description.parse(bytes(offer)).media == offer.media
