"""Messages made to cost: each as large as it may be, none takes noticeably longer than an honest one of its size."""

import time

import pytest

N = 30_000
LIMIT_S = 2.0
"""On a machine that is busy with other things; quadratic reading would take minutes."""

HEADS = {
    "spaces": b"X: " + b" " * N + b"x",
    "folds": b"X: a" + b"\r\n " * (N // 3) + b"x",
    "commas": b"Contact: " + b"," * N,
    "quotes": b'Contact: "' + b"\\" * N,
    "angles": b"Contact: " + b"<" * N,
    "parameters": b"Via: SIP/2.0/UDP a" + b";a" * (N // 2),
    "semicolons": b"From: <sip:a@b>" + b";" * N,
    "routes": b"Record-Route: " + b"<sip:a@b>," * (N // 10),
    "digits": b"CSeq: " + b"1" * N,
    "words": b"Require: " + b"a," * (N // 2),
    "start": b"X: " + b"SIP/2.0 " * (N // 8),
}
BODIES = {
    "lines": ("application/sdp", b"v=0\r\n" + b"a=\r\n" * 15_000),
    "media": ("application/sdp", b"v=0\r\no=a\r\nm=audio 1 RTP/AVP" + b" 0" * 30_000),
    "rtpmaps": ("application/sdp", b"v=0\r\no=a\r\nm=audio 1 RTP/AVP " + b"96 " * 60 + b"\r\na=rtpmap:96 x/1" * 900),
    "depth": ("application/rs-metadata+xml", b"<recording>" + b"<a>" * 6_000 + b"</a>" * 6_000 + b"</recording>"),
    "attributes": (
        "application/rs-metadata+xml",
        b"<recording><session%s/></recording>" % b"".join(b' a%d=""' % n for n in range(4_000)),
    ),
    "boundary": ("multipart/mixed;boundary=b", b"--b\r\n" * 12_000),
    "part-type": ("multipart/mixed;boundary=b", b"--b\r\nContent-Type: " + b'a;"' * 18_000 + b"\r\n\r\nx\r\n--b--"),
    "part-head": ("multipart/mixed;boundary=b", b"--b\r\n" + b"X: a\r\n " * 7_000 + b"\r\n\r\nx\r\n--b--"),
    "base64": (
        "multipart/mixed;boundary=b",
        b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"=A" * 28_000 + b"\r\n--b--",
    ),
    "nested": ("multipart/mixed;boundary=b", b"--b\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n" * 1_000),
}


def seconds(server, data):
    began_s = time.process_time()
    server.agent.receive(data, server.wire)
    return time.process_time() - began_s


@pytest.mark.parametrize("name", HEADS)
def test_heads(rec, sip, name):
    server = rec.server(near_numbers=["+1555"])
    line = HEADS[name]
    field = line.partition(b":")[0].decode()
    data = sip.request(body=rec.sdp(*rec.TWO), more=["Content-Type: application/sdp"], **{field: None})
    assert seconds(server, data.replace(b"Max-Forwards", line + b"\r\nMax-Forwards")) < LIMIT_S


@pytest.mark.parametrize("name", BODIES)
def test_bodies(rec, sip, name):
    server = rec.server()
    kind, body = BODIES[name]
    assert seconds(server, sip.request(body=body, more=["Require: siprec", f"Content-Type: {kind}"])) < LIMIT_S
    assert {answer.status for answer in server.wire.take()} <= {400, 413, 415, 488}


def test_a_stream_of_single_bytes(rec):
    from inference.errors import SignallingError
    from inference.gateway.sip.framing import Framer

    began_s, framer = time.process_time(), Framer()
    for _ in range(N):
        framer.feed(b"x")
    with pytest.raises(SignallingError, match="longer than"):
        framer.feed(b"x" * 4000)
    assert time.process_time() - began_s < LIMIT_S
