"""Golden messages and bodies with something wrong, tens of thousands of them: none raises, none is answered twice."""

import random

import pytest

from inference.errors import SignallingError
from inference.gateway.sip.message import Headers, Request
from inference.gateway.sip.sdp import Description
from inference.gateway.siprec.body import read_body
from inference.gateway.siprec.offer import Answerer, read_lines
from tests.thorough import cases

CASES = cases(10_000, 35_000)
SPICE = [b"", b"\r\n", b"\n", b" ", b"\t", b":", b";", b",", b'"', b"<", b">", b"=", b"%00", b"\x00", b"\xff", b"-1",
         b"99999999999999999999", b"tag=", b"a" * 300, b"Content-Length: 5\r\n", b"<send>",
         b"</stream>", b"--b1"]  # fmt: skip


def mutated(rng, seeds):
    """One of the seeds, cut, joined, doubled or spiced a few times."""
    data = rng.choice(seeds)
    for _ in range(rng.randrange(1, 6)):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + 40)
        kind = rng.randrange(5)
        if kind == 0:
            data = data[:at] + rng.choice(SPICE) + data[at:]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:end] + data[at:]
        elif kind == 3:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        else:
            other = rng.choice(seeds)
            data = data[:at] + other[rng.randrange(len(other)) :]
    return data


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
def test_messages(rec, sip, clock, transport):
    rng = random.Random(1)
    golden = rec.METADATA.parent
    seeds = [path.read_bytes() for folder in ("canonical", "torture") for path in sorted((golden / folder).glob("*"))]
    body, kind = rec.multipart(rec.sdp(*rec.TWO), rec.document(rec.ALICE, rec.BOB))
    seeds += [sip.request(body=body, more=["Require: siprec", kind])] * 10
    server = rec.server()
    server.wire.transport = transport
    server.gateway.release = lambda recording, leases: server.control.specs.clear()
    num_answers = 0
    for number in range(CASES):
        server.agent.receive(mutated(rng, seeds), server.wire)
        assert len(server.wire.sent) <= 1
        num_answers += len(server.wire.sent)
        server.wire.sent.clear()
        if number % 500 == 499:
            clock.advance(120)
            server.wire.sent.clear()
    assert num_answers > CASES // 10
    assert server.agent.num_sessions == server.agent.num_transactions == clock.num_due == 0
    assert {what for what in server.agent.counts if what.startswith("refused")} >= {"refused: 400", "refused: 415"}


def test_bodies(rec):
    rng = random.Random(2)
    kinds = ["application/sdp", "application/rs-metadata+xml", "multipart/mixed;boundary=b1"]
    documents = [path.read_bytes() for path in sorted(rec.METADATA.glob("*.xml"))]
    offer = rec.sdp(*rec.TWO, rec.Line(5, "x", "96 101", protocol="RTP/SAVP", more=["a=rtpmap:96 opus/48000/2"]))
    seeds = {kinds[0]: [offer], kinds[1]: documents, kinds[2]: [rec.multipart(offer, d)[0] for d in documents]}
    num_read = 0
    for _ in range(CASES):
        kind = rng.choice(kinds)
        try:
            body = read_body(Request("INVITE", "sip:a@b", Headers([("c", kind)]), mutated(rng, seeds[kind])))
        except SignallingError:
            continue
        num_read += 1
        if body.offer is not None:
            taken = {line.index: (line, line.choices[0], 40000) for line in read_lines(body.offer)}
            answer = Description.parse(Answerer("192.0.2.1", b"secret").answer(body.offer, taken))
            assert len(answer.media) == len(body.offer.media)
        if body.metadata is not None:
            body.metadata.merged(body.metadata)
    assert num_read > CASES // 10
