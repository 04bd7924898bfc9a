"""Encrypted legs: only what verifies is heard, everything is accounted for as without encryption."""

import base64
import shutil
import subprocess
import time
from dataclasses import dataclass

import numpy as np
import pylibsrtp
import pytest
from pydantic import SecretStr

from inference.errors import CodecError
from inference.rtp import g711
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig
from inference.rtp.srtp import MAX_SSRCS, SrtpSession
from tests.peers import free_port
from tests.rtp.voices import PAYLOAD_TYPE, VOICES, likeness, packets, voice

PORT = 40000
SOURCE = ("192.0.2.7", 30000)
TONE = (np.sin(np.arange(16000) * 0.2) * 9000).astype(np.int16)
CODE = g711.encode_ulaw(TONE)
HEARD = g711.decode_ulaw(CODE)
PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}
SUITE = "AES_CM_128_HMAC_SHA1_80"


@dataclass(frozen=True)
class Key:
    suite: str
    key: SecretStr

    @classmethod
    def of(cls, seed: int, suite: str = SUITE, size: int = 30) -> "Key":
        return cls(suite, SecretStr(base64.b64encode(np.random.default_rng(seed).bytes(size)).decode()))

    def sender(self) -> pylibsrtp.Session:
        return pylibsrtp.Session(
            pylibsrtp.Policy(
                key=base64.b64decode(self.key.get_secret_value()),
                ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
                srtp_profile=PROFILES[self.suite],
            )
        )


def clear(number: int, ssrc: int = 9, **fields: object) -> bytes:
    values = {"payload_type": 0, "sequence_number": number % 65536, "timestamp": 160 * number, "ssrc": ssrc} | fields
    return bytes(RtpPacket(**values, payload=CODE[160 * (number % 100) : 160 * (number % 100) + 160]))


def datagrams(items: list[bytes], begin_s: float = 1.02, source: tuple[str, int] = SOURCE) -> list[Datagram]:
    return [Datagram(data, source, PORT, begin_s + 0.02 * i) for i, data in enumerate(items)]


@pytest.fixture(params=["numba", "numpy"])
def plane(request) -> PacketPlane:
    return PacketPlane(PlaneConfig(max_legs=4), backend=request.param)


@pytest.mark.parametrize("suite", PROFILES)
def test_an_encrypted_leg_is_heard_and_counted_like_a_clear_one(plane: PacketPlane, suite: str) -> None:
    key, other = Key.of(1, suite), ("192.0.2.8", 30000)
    leg = plane.register(PORT, SOURCE, srtp=key, now_s=1.0)
    open_leg = plane.register(PORT, other, now_s=1.0)
    numbers = [0, 1, 3, 2, 5, 6, 40]  # reordered, lost, silent
    sealing = key.sender()
    sent = {n: sealing.protect(clear(n, padding=b"\0\0\0\4" if n == 6 else b"")) for n in sorted(numbers)}
    plane.feed(datagrams([sent[n] for n in numbers]))
    plane.feed(datagrams([clear(n, padding=b"\0\0\0\4" if n == 6 else b"") for n in numbers], source=other))
    batch = plane.read([leg, open_leg], now_s=3)
    assert np.array_equal(batch.samples[0], batch.samples[1])
    assert np.array_equal(batch.samples[0, :640], HEARD[:640])
    ours, theirs = plane.counters(leg).to_json(), plane.counters(open_leg).to_json()
    assert ours == theirs
    assert (ours["lost"], ours["unverified"]) == (34, 0)


def test_wrong_key_tampered_replayed_and_clear_packets_are_counted_and_not_heard(plane: PacketPlane) -> None:
    key = Key.of(1)
    leg = plane.register(PORT, SOURCE, srtp=key, now_s=1.0)
    sealing = key.sender()
    good = [sealing.protect(clear(n)) for n in range(4)]
    wrong = [Key.of(2).sender().protect(clear(4))]
    tampered = [good[3][:at] + bytes([good[3][at] ^ 1]) + good[3][at + 1 :] for at in (1, 3, 5, 9, 12, 100, 181)]
    broken = [good[3][:20], good[3][:12], clear(4), bytes(1600)[:0] + good[3] + bytes(1390)]
    plane.feed(datagrams([*wrong, *tampered, *broken, good[0], good[1], good[1], good[0], good[2]]))
    counters = plane.counters(leg)
    assert counters.unverified == len(wrong) + len(tampered) + len(broken) + 2
    assert (counters.received, counters.duplicate, counters.unknown_payload, counters.ssrc_changes) == (3, 0, 0, 0)
    batch = plane.read([leg], now_s=3)
    assert np.array_equal(batch.samples[0][batch.present[0]], HEARD[:480])
    assert plane.counters(leg).to_json()["unverified"] == counters.unverified


def test_what_does_not_verify_keeps_no_call_alive(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, srtp=Key.of(1), now_s=1.0)
    plane.feed(datagrams([clear(n) for n in range(20)]))
    assert np.isnan(plane.last_arrivals_s([leg])).all()
    assert plane.counters(leg).received == 0


def test_the_sequence_number_wraps_and_ssrcs_change(plane: PacketPlane) -> None:
    """The rollover counter is the sender's of each SSRC: it goes on over the wrap, and begins at 0 with a new SSRC."""
    key = Key.of(3)
    leg = plane.register(PORT, SOURCE, srtp=key, now_s=1.0)
    sealing = key.sender()
    sent = [sealing.protect(clear(n)) for n in range(65530, 65545)]
    sent += [sealing.protect(clear(n, ssrc=10)) for n in range(100, 110)]
    sent += [sealing.protect(clear(n)) for n in range(65545, 65550)]  # back to the first, with its counter at 1
    for i in range(0, len(sent), 5):
        plane.feed(datagrams(sent[i : i + 5], begin_s=1.02 + 0.02 * i))
    counters = plane.counters(leg)
    assert (counters.received, counters.unverified, counters.ssrc_changes, counters.lost) == (30, 0, 2, 0)
    assert plane.read([leg], now_s=2).present.sum() == 30 * 160


def test_a_new_key_on_the_same_source(plane: PacketPlane) -> None:
    """As signalling changes it: released, registered anew, the SSRC and numbers go on."""
    old, new = Key.of(4), Key.of(5)
    leg = plane.register(PORT, SOURCE, srtp=old, now_s=1.0)
    before = old.sender()
    plane.feed(datagrams([before.protect(clear(n)) for n in range(5)]))
    plane.release(leg, now_s=1.1, goes_on=True)
    leg = plane.register(PORT, SOURCE, srtp=new, now_s=1.1)
    after = new.sender()
    plane.feed(datagrams([before.protect(clear(5)), *(after.protect(clear(n)) for n in range(6, 10))], begin_s=1.12))
    counters = plane.counters(leg)
    assert (counters.received, counters.unverified) == (4, 1)
    plane.release(leg, now_s=1.3, goes_on=True)
    leg = plane.register(PORT, SOURCE, now_s=1.3)  # in the clear from here on
    plane.feed(datagrams([clear(10)], begin_s=1.32))
    assert (plane.counters(leg).received, plane.counters(leg).unverified) == (1, 0)


def test_a_leg_of_unknown_source_latches_onto_what_verifies_only(plane: PacketPlane) -> None:
    key, stranger = Key.of(6), ("192.0.2.66", 9)
    leg = plane.register(PORT, None, srtp=key, now_s=1.0)
    plane.feed(datagrams([clear(n) for n in range(3)], source=stranger))
    sealing = key.sender()
    plane.feed(datagrams([sealing.protect(clear(n)) for n in range(3)], begin_s=1.08))
    plane.feed(datagrams([sealing.protect(clear(3))], begin_s=1.14, source=stranger))  # even one that would verify
    counters = plane.counters(leg)
    assert (counters.received, counters.unverified, counters.foreign) == (3, 3, 1)


def test_encrypted_compressed_speech_is_heard() -> None:
    key, spoken = Key.of(7), VOICES["AMR-WB aligned"]
    plane = PacketPlane(PlaneConfig(max_legs=1))
    leg = plane.register(
        *(PORT, SOURCE, {PAYLOAD_TYPE: spoken.name}), formats={PAYLOAD_TYPE: spoken.parameters}, srtp=key, now_s=1.0
    )
    sealing, samples, present = key.sender(), [], []
    for at_s, data in packets("AMR-WB aligned")[:100]:
        plane.feed([Datagram(sealing.protect(data), SOURCE, PORT, at_s)])
        batch = plane.read([leg], now_s=at_s)
        samples.append(batch.samples[0, : batch.num_samples[0]])
        present.append(batch.present[0, : batch.num_samples[0]])
    assert likeness(np.concatenate(samples), np.concatenate(present), voice(), range(100))[0] > spoken.fidelity
    assert plane.counters(leg).unverified == 0


def test_a_suite_that_cannot_be_opened_is_refused_in_one_line() -> None:
    plane = PacketPlane(PlaneConfig(max_legs=1))
    with pytest.raises(CodecError, match="SRTP suite AES_256_CM_HMAC_SHA1_80 cannot be opened: answer with one of"):
        plane.register(PORT, SOURCE, srtp=Key.of(1, "AES_256_CM_HMAC_SHA1_80", 46), now_s=1)
    assert plane.plane_counters().legs == 0


def test_the_reference_packet_of_the_standard_key() -> None:
    """Master key and salt of RFC 3711 appendix B.3, and the packet that implementations check themselves with."""
    master = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE41390EC675AD498AFEEBB6960B3AABE6")
    session = SrtpSession(Key(SUITE, SecretStr(base64.b64encode(master).decode())))
    header = bytes.fromhex("800f1234decafbadcafebabe")
    sealed = header + bytes.fromhex("4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb")
    assert session.open(sealed) == header + b"\xab" * 16
    assert session.open(sealed) is None  # seen before


def test_rtcp_and_the_bound_on_streams() -> None:
    key = Key.of(8)
    sealing, session = key.sender(), SrtpSession(key)
    report = bytes.fromhex("80c90001") + (9).to_bytes(4)
    sealed = sealing.protect_rtcp(report)
    assert session.open_rtcp(sealed) == report
    assert session.open_rtcp(sealed) is None
    for ssrc in range(100):
        assert session.open(sealing.protect(clear(1, ssrc=ssrc))) is not None
    assert len(session._ssrcs) == MAX_SSRCS


@pytest.mark.gateway
def test_ffmpeg_as_the_sender() -> None:
    """An implementation of its own, over real sockets."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("needs ffmpeg")
    key = Key.of(9)
    with PacketPlane(PlaneConfig(ports=(0,), max_legs=2)) as plane:
        local = free_port()
        leg = plane.register(plane.ports[0], ("127.0.0.1", local), srtp=key)
        command = [
            *(ffmpeg, "-v", "error", "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=8000:duration=1"),
            *("-c:a", "pcm_mulaw", "-f", "rtp", "-srtp_out_suite", key.suite),
            *("-srtp_out_params", key.key.get_secret_value()),
            f"srtp://127.0.0.1:{plane.ports[0]}?localport={local}&pkt_size=200",
        ]
        subprocess.run(command, check=True, timeout=90, stdout=subprocess.DEVNULL)
        until_s = time.monotonic() + 60
        while plane.counters(leg).received <= 30 and time.monotonic() < until_s:
            time.sleep(0.01)
        counters = plane.counters(leg)
        assert counters.received > 30
        assert (counters.unverified, counters.lost, counters.unknown_payload) == (0, 0, 0)
        batch = plane.read([leg], now_s=time.monotonic() + 1)
        heard = batch.samples[0][batch.present[0]]
        spectrum = np.abs(np.fft.rfft(heard.astype(float) * np.hanning(len(heard))))
        assert abs(spectrum.argmax() * 8000 / len(heard) - 440) < 5


def test_a_leg_registered_anew_under_its_key_goes_on(plane: PacketPlane) -> None:
    """A re-INVITE changes the codec and keeps the key, an hour into the call: the rollover counter is past 0."""
    key = Key.of(10)
    leg = plane.register(PORT, SOURCE, srtp=key, now_s=1.0)
    sealing = key.sender()
    plane.feed(datagrams([sealing.protect(clear(n)) for n in range(65534, 65538)]))
    plane.release(leg, now_s=1.1, goes_on=True)
    leg = plane.register(PORT, SOURCE, {9: "G722"}, srtp=key, now_s=1.1)
    plane.feed(datagrams([sealing.protect(clear(n, payload_type=9)) for n in range(65538, 65541)], begin_s=1.12))
    assert (plane.counters(leg).received, plane.counters(leg).unverified) == (3, 0)
