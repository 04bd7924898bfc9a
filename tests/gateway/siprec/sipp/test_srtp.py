"""An encrypted recording: keys by SDP (RFC 4568), packets by SRTP (RFC 3711), from SIPp to the alert."""

import asyncio
import base64
import socket

import pylibsrtp
import pytest

PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}


class Party:
    """A leg's sender: its socket and its key."""

    def __init__(self, seed, suite):
        self.key = bytes((seed + n) % 256 for n in range(30))
        self.suite = suite
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    def line(self, label):
        """Its part of the SDP."""
        port = self.socket.getsockname()[1]
        crypto = f"a=crypto:3 {self.suite} inline:{base64.b64encode(self.key).decode()}"
        return f"m=audio {port} RTP/SAVP 0\na=rtpmap:0 PCMU/8000\n{crypto}\na=sendonly\na=label:{label}\n"

    def sealed(self, packets, key=None):
        policy = pylibsrtp.Policy(
            key=key or self.key,
            ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND,
            srtp_profile=PROFILES[self.suite],
        )
        session = pylibsrtp.Session(policy)
        return [session.protect(packet) for packet in packets]


@pytest.fixture
def parties():
    """``parties(suite)``: far and near."""
    made = []

    def make(suite):
        made.extend((Party(7, suite), Party(99, suite)))
        return made[-2:]

    yield make
    for party in made:
        party.socket.close()


@pytest.fixture
def secure(scenarios, tmp_path):
    """Writes the scenario of an encrypted call; a folder of its own, so that SIPp reads no other."""

    def write(far, near):
        text = (scenarios / "src.xml").read_text()
        begin, end = text.index("m=audio [rtpstream"), text.index("--rec\nContent-Type: application/rs-metadata")
        text = text[:begin] + far.line(96) + near.line(97) + "\n" + text[end:]
        play = text[text.index("  <nop><action>") : text.index("  <pause/>")]
        path = tmp_path / "secure.xml"
        path.write_text(text.replace(play, ""))
        return path

    return write


async def play(party, port, packets):
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number, packet in enumerate(packets):
        party.socket.sendto(packet, ("127.0.0.1", port))
        await asyncio.sleep(max(0.0, began_s + 0.02 * (number + 1) - loop.time()))


@pytest.mark.gateway
@pytest.mark.parametrize("suite", list(PROFILES))
@pytest.mark.parametrize("is_right", [True, False])
def test_an_encrypted_call_is_heard_with_its_key_alone(live, src, doubles, parties, secure, following, suite, is_right):
    far, near = parties(suite)
    speech = doubles.packets(doubles.speech(doubles.HELLO, doubles.THREAT, None, doubles.ASK), ssrc=5)
    answer = doubles.packets(doubles.speech(None, None, doubles.FINE, None), ssrc=9)
    sent = far.sealed(speech, None if is_right else bytes(30)), near.sealed(answer)
    scenario = secure(far, near)

    async def run():
        async with live() as (worker, ports), following(worker) as events:
            media = worker.watch.media_ports[0]
            sipp = asyncio.create_task(src.run(scenario, ports["udp"], length_ms=3600))
            await doubles.until(lambda: worker.watch.call_ids)
            await asyncio.gather(play(far, media, sent[0]), play(near, media, sent[1]))
            assert await sipp == 0
            await doubles.until(lambda: any(event["type"] == "verdict" for event in events))
            return events

    events = asyncio.run(run())
    said = {(event["leg"], event["text"]) for event in events if event["type"] == "utterance"}
    assert ("near", doubles.FINE.text) in said
    heard_far = {text for leg, text in said if leg == "far"}
    assert heard_far == ({p.text for p in (doubles.HELLO, doubles.THREAT, doubles.ASK)} if is_right else set())
    assert [e["level"] for e in events if e["type"] == "alert"] == (["suspect", "danger"] if is_right else [])
