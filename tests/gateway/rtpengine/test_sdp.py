"""The SDP of forks: what rtpengine offers, what we answer."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import SignallingError
from inference.gateway.rtpengine.sdp import parse_offer, write_answer

KEY_30 = base64.b64encode(bytes(range(30))).decode()
KEY_46 = base64.b64encode(bytes(range(46))).decode().rstrip("=")  # as rtpengine writes it
OFFER = f"""v=0\r
o=- 77 77 IN IP4 192.0.2.9\r
s=rtpengine\r
t=0 0\r
m=audio 36024 RTP/SAVP 0 96 101\r
c=IN IP4 192.0.2.9\r
a=label:1\r
a=rtpmap:0 PCMU/8000\r
a=rtpmap:96 opus/48000/2\r
a=fmtp:96 useinbandfec=1; stereo=0\r
a=rtpmap:101 telephone-event/8000\r
a=sendonly\r
a=rtcp:36025\r
a=crypto:1 AEAD_AES_256_GCM inline:{KEY_46}\r
a=crypto:3 AES_256_CM_HMAC_SHA1_80 inline:{KEY_46}\r
a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}\r
a=crypto:8 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}|2^31|1:4\r
m=video 9 RTP/AVP 97\r
a=label:9\r
m=audio 36040 RTP/AVP 8\r
c=IN IP6 2001:db8::9\r
a=label:0\r
a=sendonly\r
"""


def test_an_offer_is_read():
    first, second = parse_offer(OFFER)
    assert (first.address, first.port, first.protocol, first.label) == ("192.0.2.9", 36024, "RTP/SAVP", "1")
    assert first.codecs == {0: "PCMU", 96: "opus", 101: "telephone-event"}
    assert first.formats == {96: "useinbandfec=1; stereo=0"}
    assert [(crypto.tag, crypto.suite) for crypto in first.crypto] == [("7", "AES_CM_128_HMAC_SHA1_80")]
    assert len(base64.b64decode(first.crypto[0].key, validate=True)) == 30
    assert (second.address, second.label, second.codecs) == ("2001:db8::9", "0", {8: "PCMA"})
    assert KEY_30 not in repr(first)


def test_the_answer_repeats_what_was_offered_and_the_tag_of_the_suite():
    offer = parse_offer(OFFER)
    answer = write_answer(offer, "198.51.100.7", [40000, 0], [offer[0].crypto[0], None])
    lines = answer.split("\r\n")
    assert "m=audio 40000 RTP/SAVP 0 96 101" in lines
    assert "a=rtpmap:96 opus/48000/2" in lines
    assert "m=audio 0 RTP/AVP 8" in lines
    (crypto,) = [line for line in lines if line.startswith("a=crypto")]
    assert crypto.startswith("a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:")
    assert KEY_30 not in crypto, "our own key"
    assert lines.count("a=recvonly") == lines.count("a=rtcp-mux") == 2
    again = parse_offer(answer)
    assert [(media.port, media.label) for media in again] == [(40000, "1"), (0, "0")]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("36024", "70000", "port or payload type"),
        ("36024", "-1", "port or payload type"),
        ("0 96 101", "0 300", "port or payload type"),
        ("RTP/SAVP 0 96 101", "RTP/SAVP", "m-line lacks"),
        ("c=IN IP4 192.0.2.9", "c=IN IP4 evil.example", "numeric address"),
        ("c=IN IP4 192.0.2.9\r\n", "", "no c-line"),
        ("a=rtpmap:0 ", "a=rtpmap:x ", "port or payload type"),
        ("v=0\r\n", "m=audio 1 RTP/AVP 0\r\n" * 40, "too many"),
        ("v=0\r\n", "a=x\r\n" * 20_000, "too long"),
    ],
)
def test_damage_is_named(old, new, says):
    with pytest.raises(SignallingError, match=says) as refused:
        parse_offer(OFFER.replace(old, new, 1))
    assert "evil" not in str(refused.value)


LINES = st.sampled_from(OFFER.split("\r\n")) | st.text(max_size=30)


@settings(deadline=None)
@given(st.lists(LINES, max_size=40))
def test_any_lines_are_read_or_refused(lines):
    try:
        offer = parse_offer("\r\n".join(lines))
    except SignallingError:
        return
    answer = write_answer(offer, "127.0.0.1", [1] * len(offer), [next(iter(m.crypto), None) for m in offer])
    assert len(parse_offer(answer)) == len(offer)
