"""What signalling says of codecs and keys reaches the packet plane, at the beginning of a call and when it changes."""

import base64

import numpy as np
import pylibsrtp
import pytest

from inference.audio import LEGS
from inference.errors import CodecError
from inference.gateway.spec import CallSpec
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig
from inference.service.followed import Followed
from tests.rtp import voices

PORT = 40000
FAR, _ = LEGS


def spec(codec: str, parameters: str, key: bytes | None) -> CallSpec:
    srtp = None
    if key is not None:
        srtp = {"suite": "AES_CM_128_HMAC_SHA1_80", "key": base64.b64encode(key).decode()}
    leg = {"local_port": PORT, "source": "192.0.2.7:30000", "payload_types": {97: codec}, "formats": {97: parameters}}
    return CallSpec.model_validate({"id": "call-1", "far": leg | {"srtp": srtp}})


def sender(key: bytes) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND))


def test_codecs_formats_and_keys_arrive_and_change() -> None:
    plane = PacketPlane(PlaneConfig(max_legs=2))
    first, second = bytes(range(30)), bytes(range(30, 60))
    followed = Followed.register(spec("AMR-WB", "octet-align=1", first), None, plane, 1.0)
    assert plane.plane_counters().legs == 1
    sealing = sender(first)
    for at_s, data in voices.packets("AMR-WB aligned")[:50]:
        plane.feed([Datagram(sealing.protect(data), voices.SOURCE, PORT, at_s)])
    counters = followed.counters(plane)[FAR]
    assert (counters.received, counters.unverified, counters.undecoded) == (50, 0, 0)
    batch = plane.read([followed.handles[FAR]], now_s=2.2)
    heard, present = batch.samples[0, : batch.num_samples[0]], batch.present[0, : batch.num_samples[0]]
    assert voices.likeness(heard, present, voices.voice(), range(100))[0] > 0.9

    followed.change(spec("G722", "", second), plane, 2.2)
    sealing = sender(second)
    for at_s, data in voices.packets("G722", begin_s=2.2)[:50]:
        plane.feed([Datagram(sealing.protect(data), voices.SOURCE, PORT, at_s)])
    counters = followed.counters(plane)[FAR]
    assert (counters.received, counters.unverified, counters.undecoded) == (100, 0, 0)
    batch = plane.read([followed.handles[FAR]], now_s=3.1)
    assert np.count_nonzero(batch.present) > 4000

    refused = spec("G722", "", second).model_dump(mode="json")
    refused["far"]["payload_types"] = {97: "AMR"}
    refused["far"]["formats"] = {97: "crc=1"}
    refused["far"]["srtp"] = None
    with pytest.raises(CodecError, match="AMR with crc"):
        followed.change(CallSpec.model_validate(refused), plane, 3.2)
    for at_s, data in voices.packets("G722", begin_s=2.2)[50:60]:  # the old leg goes on, key and all
        plane.feed([Datagram(sealing.protect(data), voices.SOURCE, PORT, at_s)])
    assert followed.counters(plane)[FAR].received == 110
    followed.release(plane, 4.0)
    assert plane.plane_counters().legs == 0
