"""Fuzz what rtpengine may answer: ``python tests/fuzz/fuzz_ng.py -max_total_time=30``.

Any bytes are a reply or a SignallingError; any reply is read as what each command wants, or refused; any SDP in it is
answered in kind. Bencode and JSON, datagrams and streams. Needs the extra ``fuzz`` (atheris).
"""

import json
import sys
import tempfile
from pathlib import Path

import atheris

import inference.rtp.plane  # noqa: F401 -- before the instrumentation: numba cannot compile what was instrumented

with atheris.instrument_imports(include=["inference.gateway.rtpengine"]):
    from inference.gateway.rtpengine import bencode
    from inference.gateway.rtpengine.described import CallState, Note, listed_calls, media_owners, sdp_of
    from inference.gateway.rtpengine.ng import parse_message, reason_of, split_stream
    from inference.gateway.rtpengine.sdp import parse_offer, write_answer

from inference.errors import SignallingError

SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 30000 RTP/SAVP 0 101\r\nc=IN IP4 127.0.0.1\r\n"
    "a=label:1\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\na=sendonly\r\n"
)
PARTY = {
    "tag": "A",
    "label": "far",
    "created": 1,
    "subscriptions": [{"tag": "B", "type": "offer/answer"}],
    "subscribers": [{"tag": "s-1", "type": "pub/sub"}],
    "medias": [{"codec": "PCMU/8000"}],
}
OURS = {"tag": "s-1", "label": '[1, "id", null, "A", "B"]', "subscriptions": [{"tag": "A", "type": "pub/sub"}]}
REPLIES = [
    {"result": "ok", "sdp": SDP, "media-labels": {"1": {"tag": "A"}}, "to-tag": "s-1"},
    {"result": "ok", "tags": {"A": PARTY, "B": PARTY | {"tag": "B", "label": "near"}, "s-1": OURS}},
    {"result": "ok", "calls": ["c1", "c2"]},
    {"result": "error", "error-reason": "Unknown call-id"},
]


def seeds() -> list[bytes]:
    """True replies in both encodings, and a stream of two."""
    packed = [b"k1 " + bencode.encode(reply) for reply in REPLIES]
    return [*packed, *(b"k1 " + json.dumps(reply).encode() for reply in REPLIES), packed[2] + packed[3]]


def one_input(data: bytes) -> None:
    """Read ``data`` in every way that an answer is read."""
    try:
        messages, rest = split_stream(data)
    except SignallingError:
        pass
    else:
        assert b"".join(messages) + rest == data
    try:
        _, reply = parse_message(data)
    except SignallingError:
        return
    assert reason_of(reply).isprintable()
    assert all(isinstance(call_id, str) for call_id in listed_calls(reply))
    media_owners(reply)
    try:
        state = CallState.parse(reply)
    except SignallingError:
        pass
    else:
        roles = state.roles("far", "near")
        ours = state.ours("s")
        assert roles is None or state.are_talking(roles)
        assert ours is None or Note.parse(str(ours[1])) == ours[1]
    try:
        offer = parse_offer(sdp_of(reply))
    except SignallingError:
        return
    chosen = [next(iter(media.crypto), None) for media in offer]
    answer = write_answer(offer, "127.0.0.1", [40000] * len(offer), chosen)
    assert len(parse_offer(answer)) == len(offer)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, folder, "-max_len=4096"], one_input)
        atheris.Fuzz()
