"""Captures that hold their calls' SIP: who is who comes from it, and so do payload types."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ConfigError, MediaError
from inference.gateway.pcap import Address, Capture, Datagram
from inference.gateway.recording import open_recording
from inference.gateway.signalled import MAX_CALLS, Signalling
from inference.rtp.g711 import decode_ulaw, encode_ulaw

CALLER, CALLEE = "10.0.0.1", "10.0.0.2"
CAPTURES = Path(__file__).parents[2].parent / "shared" / "pcap"


def sdp(host, port, formats="0 101", more=("a=rtpmap:101 telephone-event/8000",)):
    lines = ["v=0", f"o=- 1 1 IN IP4 {host}", "s=-", f"c=IN IP4 {host}", "t=0 0", f"m=audio {port} RTP/AVP {formats}"]
    return "\r\n".join([*lines, *more, ""])


def message(start, method, call="a@x", body="", to_tag="", caller="+442079460001", callee="+15551234567", turned=False):
    """A SIP message as text; ``turned``: the callee is the one that asks."""
    party = {True: f"<sip:{caller}@x>;tag=one", False: f"<sip:{callee}@y>" + (f";tag={to_tag}" if to_tag else "")}
    head = [
        start, "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1", f"From: {party[not turned]}", f"To: {party[turned]}",
        f"Call-ID: {call}", f"CSeq: 1 {method}", "Max-Forwards: 70",
    ]  # fmt: skip
    head += ["Content-Type: application/sdp"] if body else []
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", body]).encode()


@pytest.fixture
def capture(wire, tmp_path):
    """``capture(frames)``; and makers of the frames of one call."""

    class Make:
        def sip(self, at_s, text, source=CALLER, destination=CALLEE):
            return [(at_s, wire.ethernet((source, 5060), (destination, 5060), text))]

        def call(self, at_s=0.0, call="a@x", ports=(4000, 6000), seconds=1.0, offer=None, answer=None, **more):
            offer = offer or sdp(CALLER, ports[0])
            answer = answer or sdp(CALLEE, ports[1])
            ok = message("SIP/2.0 200 OK", "INVITE", call, answer, "two", **more)
            frames = self.sip(at_s, message("INVITE sip:x@y SIP/2.0", "INVITE", call, offer, **more))
            frames += self.sip(at_s + 0.1, ok, CALLEE, CALLER)
            bye = message("BYE sip:x@y SIP/2.0", "BYE", call, to_tag="two", **more)
            return frames + self.sip(at_s + 0.2 + seconds, bye)

        def voices(self, at_s=0.2, ports=(4000, 6000), seconds=1.0, hz=(440, 300), ssrc=(1, 2), **more):
            """The callee speaks first, so that who speaks first tells the wrong thing."""
            a, b = (CALLER, ports[0]), (CALLEE, ports[1])
            late = wire.rtp_frames(a, b, wire.voice(seconds, hz[0]), ssrc=ssrc[0], began_s=at_s + 0.1, **more)
            return late + wire.rtp_frames(b, a, wire.voice(seconds, hz[1]), ssrc=ssrc[1], began_s=at_s, **more)

        def write(self, *frames):
            return wire.write_pcap(tmp_path / "call.pcap", [frame for part in frames for frame in part])

    return Make()


def pitch(wire, call, leg):
    samples, present = wire.heard(call)[leg]
    power = np.abs(np.fft.rfft(samples[present]))
    return round(int(power.argmax()) * 8000 / present.sum() / 10) * 10


def test_the_caller_is_far_whoever_speaks_first(wire, capture):
    (call,) = open_recording(capture.write(capture.call(), capture.voices()))
    assert call.notices == ("call: far leg is 0x00000001 from 10.0.0.1:4000, the caller in the call's SIP",)
    assert (pitch(wire, call, "far"), pitch(wire, call, "near")) == (440, 300)


@pytest.mark.parametrize(("near", "far_hz"), [("+44", 300), ("0044", 300), ("+1555", 440), ("+49", 440)])
def test_the_subscriber_is_told_by_number(wire, capture, near, far_hz):
    (call,) = open_recording(capture.write(capture.call(), capture.voices()), near=near)
    assert pitch(wire, call, "far") == far_hz
    assert not any("207946" in notice or "555123" in notice for notice in call.notices)


def test_a_stream_that_is_named_wins(wire, capture):
    (call,) = open_recording(capture.write(capture.call(), capture.voices()), far="0x2")
    assert pitch(wire, call, "far") == 300
    assert call.notices == ()


def test_calls_one_after_another_at_the_same_ports_stay_apart(wire, capture):
    path = capture.write(
        capture.call(0.0, "a@x"), capture.voices(0.2),
        capture.call(4.0, "b@x"), capture.voices(4.2, hz=(700, 900), ssrc=(3, 4)),
        capture.call(4.0, "c@x", (4010, 6010)), capture.voices(4.2, (4010, 6010), hz=(500, 600), ssrc=(5, 6)),
    )  # fmt: skip
    calls = open_recording(path)
    heard = [(pitch(wire, call, "far"), pitch(wire, call, "near")) for call in calls]
    assert heard[0] == (440, 300)
    assert sorted(heard[1:]) == [(500, 600), (700, 900)]
    assert [call.id for call in calls] == ["call-1", "call-2", "call-3"]


def test_payload_types_are_as_negotiated(wire, capture):
    dynamic = {"formats": "97", "more": ("a=rtpmap:97 PCMU/8000",)}
    talk = capture.call(offer=sdp(CALLER, 4000, **dynamic), answer=sdp(CALLEE, 6000, **dynamic))
    (call,) = open_recording(capture.write(talk, capture.voices(payload_type=97)))
    samples, present = wire.heard(call)["far"]
    assert np.array_equal(samples[present], decode_ulaw(encode_ulaw(wire.voice(1.0, 440))))


def test_an_offer_of_the_callee_is_the_callees(wire, capture):
    offer = message("INVITE sip:x@y SIP/2.0", "INVITE", body=sdp(CALLEE, 7000), to_tag="two", turned=True)
    answer = message("SIP/2.0 200 OK", "INVITE", body=sdp(CALLER, 5000), to_tag="two", turned=True)
    moved = capture.sip(1.3, offer, CALLEE, CALLER) + capture.sip(1.4, answer)
    (call,) = open_recording(
        capture.write(capture.call(seconds=3), moved, capture.voices(1.5, (5000, 7000), hz=(700, 900)))
    )
    assert (pitch(wire, call, "far"), pitch(wire, call, "near")) == (700, 900)


def test_rtp_without_its_sip_is_paired_as_ever(wire, capture):
    path = capture.write(
        capture.call(), capture.voices(), capture.voices(0.2, (8000, 8002), hz=(500, 600), ssrc=(7, 8))
    )
    calls = open_recording(path)
    assert len(calls) == 2
    assert sum("the first to send" in notice for call in calls for notice in call.notices) == 1
    with pytest.raises(ConfigError, match="--near needs the SIP"):
        open_recording(capture.write(capture.voices()), near="+44")


def test_a_voice_on_both_sides_of_a_proxy_is_heard_once(wire, capture):
    copy = wire.rtp_frames(("10.0.0.9", 9000), (CALLEE, 6000), wire.voice(0.5, 440), ssrc=1, began_s=0.3)
    (call,) = open_recording(capture.write(capture.call(), capture.voices(), copy))
    assert call.packets is not None
    assert pitch(wire, call, "far") == 440
    assert call.notices[0] == "1 further streams of the same voices were left out"


def test_a_flood_of_invites_leaves_a_bounded_table():
    signalling = Signalling()
    address = Address(bytes(4), 5060)
    invites = (message("INVITE sip:x@y SIP/2.0", "INVITE", f"{i}@x", sdp(CALLER, 4000)) for i in range(MAX_CALLS + 50))
    for _ in signalling.watch(Datagram(0.0, address, address, text) for text in invites):
        pass
    assert len(signalling.calls) == MAX_CALLS


@given(st.data())
def test_whatever_looks_like_sip_is_survived(data):
    good = message("INVITE sip:x@y SIP/2.0", "INVITE", body=sdp(CALLER, 4000))
    start = data.draw(st.integers(0, len(good)))
    bad = good[:start] + data.draw(st.binary(max_size=20)) + good[start + data.draw(st.integers(0, 20)) :]
    signalling, address = Signalling(), Address(bytes(4), 5060)
    payloads = [bad, b"BYE " + data.draw(st.binary(max_size=100)), bad + struct.pack("!Q", 1)]
    assert len(list(signalling.watch(Datagram(1.0, address, address, payload) for payload in payloads))) == 3


def test_sip_of_real_peers_is_understood():
    path = CAPTURES / "sip.pcap"
    if not path.exists():
        pytest.skip("needs the captures of real peers in ../shared/pcap")
    signalling = Signalling()
    num = sum(1 for _ in signalling.watch(Capture(path).datagrams()))
    assert num > 50
    assert signalling.num_malformed == 0
    assert len(signalling.calls) >= 3
    assert {"caller", "callee"} <= {role for call in signalling.calls.values() for role in call.receives.values()}
    with pytest.raises(MediaError, match="no RTP stream"):  # it holds signalling alone
        open_recording(path)
