"""Coverage-guided fuzzing of what an INVITE carries: ``python tests/fuzz/fuzz_siprec.py -max_total_time=30``.

Every input is a body: SDP, recording metadata, or a multipart of both. It is read, or refused; what was read is
answered and merged.
"""

import sys
import tempfile
from pathlib import Path

import atheris

import inference.rtp.plane  # noqa: F401 -- before the instrumentation: numba cannot compile what was instrumented

with atheris.instrument_imports(include=["inference.gateway.sip", "inference.gateway.siprec", "email", "defusedxml"]):
    from inference.errors import SignallingError
    from inference.gateway.sip.message import Headers, Request
    from inference.gateway.sip.sdp import Description
    from inference.gateway.siprec.body import read_body
    from inference.gateway.siprec.offer import Answerer, leg_spec, read_lines
    from inference.gateway.siprec.roles import Numbering, near_of

GOLDEN = Path(__file__).parents[1] / "golden" / "sip" / "metadata"
TYPES = (
    "application/sdp",
    "application/rs-metadata+xml",
    "multipart/mixed;boundary=b",
    'multipart/mixed;boundary="b b"',
)
NUMBERING = Numbering(["+1555", "@ims.example", "^0800[0-9]+"])


def one_input(data: bytes) -> None:
    """Read ``data`` as a body of the type its first byte chooses."""
    kind = TYPES[data[0] % len(TYPES)] if data else ""
    try:
        body = read_body(Request("INVITE", "sip:a@b", Headers([("Content-Type", kind)]), data[1:]))
    except SignallingError as error:
        if "\n" in str(error):
            raise RuntimeError("an error message of two lines") from error
        return
    if body.offer is not None:
        taken = {line.index: (line, line.choices[0], 40000) for line in read_lines(body.offer)}
        answer = Description.parse(Answerer("192.0.2.1", b"secret").answer(body.offer, taken))
        if len(answer.media) != len(body.offer.media):
            raise RuntimeError("an answer of other lines than its offer")
        for line, chosen, port in taken.values():
            leg_spec(line, chosen, port, line.source)
    if body.metadata is not None:
        try:
            merged = body.metadata.merged(body.metadata)
        except SignallingError:
            return
        for label in merged.labels.values():
            merged.senders(label)
        if merged.participants:
            near_of(list(merged.participants.values()), NUMBERING, "second")


def seeds() -> list[bytes]:
    """An offer with everything, the golden metadata, both together."""
    offer = (
        b"v=0\r\no=s 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\na=sendonly\r\n"
        b"m=audio 30000 RTP/SAVP 8 96 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\na=ptime:20\r\n"
        b"a=rtpmap:101 telephone-event/8000\r\na=label:1\r\na=rtcp-mux\r\n"
        b"a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd|2^20\r\n"
        b"m=audio 30002 RTP/AVP 0 13\r\nc=IN IP6 2001:db8::1\r\na=inactive\r\na=label:2\r\nm=video 0 RTP/AVP 99\r\n"
    )
    documents = [path.read_bytes() for path in sorted(GOLDEN.glob("*.xml"))]
    part = b"--b\r\nContent-Type: %s\r\nContent-Disposition: session;handling=required\r\n\r\n%s\r\n"
    both = [
        part % (b"application/sdp", offer) + part % (b"application/rs-metadata+xml", document) + b"--b--\r\n"
        for document in documents
    ]
    return [b"\0" + offer, *(b"\1" + document for document in documents), *(b"\2" + body for body in both)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, folder, "-max_len=16384"], one_input)
        atheris.Fuzz()
