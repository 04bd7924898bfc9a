"""Each compressed codec, from the payloads of real encoders to what a reader hears: the same voice, in its place."""

import random

import numpy as np
import pytest

from inference.errors import CodecError
from inference.rtp.packet import EventPayload, RtpPacket
from inference.rtp.plane import PacketPlane, PlaneConfig
from tests.rtp.voices import PAYLOAD_TYPE, PORT, SOURCE, VOICES, as_datagrams, likeness, packets, voice

Sent = list[tuple[float, bytes]]


class Listener:
    """A plane with one leg, read every 20 ms."""

    def __init__(self, key: str, backend: str = "auto") -> None:
        self.plane = PacketPlane(PlaneConfig(max_legs=2), backend=backend)  # type: ignore[arg-type]
        spoken = VOICES[key]
        self.leg = self.plane.register(
            *(PORT, SOURCE, {PAYLOAD_TYPE: spoken.name, 101: "telephone-event"}),
            formats={PAYLOAD_TYPE: spoken.parameters},
            now_s=1.0,
        )

    def hear(self, sent: Sent) -> tuple[np.ndarray, np.ndarray]:
        """Samples and presence from second 1 of the clock on."""
        sent = sorted(sent, key=lambda item: item[0])
        samples, present, at = [], [], 0
        for tick in range(51, round(sent[-1][0] * 50) + 60):
            due = at
            while due < len(sent) and sent[due][0] <= tick / 50:
                due += 1
            self.plane.feed(as_datagrams(sent[at:due]))
            at = due
            batch = self.plane.read([self.leg], now_s=tick / 50)
            samples.append(batch.samples[0, : batch.num_samples[0]])
            present.append(batch.present[0, : batch.num_samples[0]])
        return np.concatenate(samples), np.concatenate(present)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("key", VOICES)
def test_the_voice_is_heard_in_its_place(key: str, backend: str) -> None:
    spoken, listener, sent = VOICES[key], Listener(key, backend), packets(key)
    samples, present = listener.hear(sent)
    fidelity, lag = likeness(samples, present, voice(), range(100))
    assert fidelity > spoken.fidelity
    assert lag in spoken.lag
    counters = listener.plane.counters(listener.leg)
    assert (counters.received, counters.lost, counters.late) == (len(sent), 0, 0)
    assert (counters.undecoded, counters.unknown_payload, counters.reanchors) == (0, 0, 0)
    # The loudness is that of the voice: what was narrowed did not fade.
    there = np.flatnonzero(present[: len(voice()) - 100])
    assert np.std(samples[there]) == pytest.approx(np.std(voice()[there - lag]), rel=0.25)
    if spoken.has_dtx:
        assert counters.silence_s > 0.5
        # Comfort noise is no audio that somebody sent; this Opus encoder sends it as ordinary packets now and then.
        assert present[21600:27000].mean() < (0.3 if key == "opus" else 0.001)
        assert counters.comfort_noise > 0 or key == "opus"
    else:
        assert present[: len(sent) * 160 - 20].all()


@pytest.mark.parametrize("key", VOICES)
def test_losses_are_bridged_and_reordering_is_healed(key: str) -> None:
    """A twentieth lost, in ones and twos; a tenth out of order by up to 30 ms."""
    dice, sent, lost = random.Random(3), [], 0
    for at_s, data in packets(key):
        if dice.random() < 0.04:
            lost += 1
            continue
        sent.append((at_s + dice.choice([0.0] * 9 + [0.03]), data))
    listener = Listener(key)
    samples, present = listener.hear(sent)
    counters = listener.plane.counters(listener.leg)
    assert abs(counters.lost - lost) <= 1  # one at the end is not missed
    assert (counters.undecoded, counters.reanchors, counters.late) == (0, 0, 0)
    fidelity, lag = likeness(samples, present, voice(), range(100))
    assert fidelity > VOICES[key].fidelity - 0.07
    assert lag in VOICES[key].lag
    if VOICES[key].name not in ("opus", "iLBC"):  # what was lost is silence, though a decoder would know a likely sound
        whole = sum(160 if len(data) > 20 else 0 for _, data in sent)
        assert present.sum() <= whole


def test_opus_brings_lost_packets_back_from_those_after_them() -> None:
    sent = packets("opus")
    holes = list(range(10, 100, 5))
    listener = Listener("opus")
    samples, present = listener.hear([item for i, item in enumerate(sent) if i not in holes])
    found = [present[i * 160 : i * 160 + 160].all() for i in holes]
    assert np.mean(found) > 0.7  # the encoder adds a copy where there is speech
    assert listener.plane.counters(listener.leg).lost == len(holes)
    filled = np.zeros(len(present), bool)
    for i, is_found in zip(holes, found, strict=True):
        filled[i * 160 : i * 160 + 160] = is_found
    fidelity, lag = likeness(samples, filled, voice(), range(100))
    assert fidelity > 0.6
    assert lag in VOICES["opus"].lag


def test_a_long_loss_and_a_new_sender_begin_anew() -> None:
    for key in ("AMR-WB", "opus", "G722"):
        sent = packets(key)
        listener = Listener(key)
        later = [(at_s + 3.0, data) for at_s, data in packets(key, ssrc=77)]
        samples, present = listener.hear(sent[:40] + sent[70:100] + later)
        counters = listener.plane.counters(listener.leg)
        assert (counters.lost, counters.ssrc_changes, counters.undecoded) == (30, 1, 0)
        assert not present[41 * 160 : 69 * 160].any()
        fidelity, lag = likeness(samples[24000:], present[24000:], voice(), range(100))
        assert fidelity > VOICES[key].fidelity
        assert lag in VOICES[key].lag


def test_keys_beside_a_compressed_codec_keep_their_time() -> None:
    sent = packets("opus")
    listener = Listener("opus")
    first = RtpPacket.parse(sent[50][1])
    keys = [
        RtpPacket(
            payload_type=101,
            sequence_number=first.sequence_number + i,
            timestamp=first.timestamp,
            ssrc=first.ssrc,
            payload=bytes(EventPayload(5, is_end=i == 2, volume=10, duration=960 * (i + 1))),
        )
        for i in range(3)
    ]
    listener.hear(sent[:50] + [(sent[50 + i][0], bytes(key)) for i, key in enumerate(keys)])
    (event,) = listener.plane.telephone_events()
    assert (event.digit, event.is_complete) == ("5", True)
    assert event.at_s == pytest.approx(1.0 + 50 * 0.02, abs=0.001)
    assert event.duration_s == pytest.approx(0.06)


def test_a_leg_changes_between_codecs_and_clocks() -> None:
    """The payload type alone says so; each begins on its arrival."""
    listener = Listener("AMR-WB")
    listener.plane.release(listener.leg, now_s=1.0)
    listener.leg = listener.plane.register(PORT, SOURCE, {97: "opus", 98: "G722"}, now_s=1.0)
    opus = packets("opus")[:50]
    last = RtpPacket.parse(opus[-1][1])
    tail = [
        (
            at_s,
            bytes(
                RtpPacket(
                    payload_type=98,
                    sequence_number=(last.sequence_number + 1 + i) % 65536,
                    timestamp=last.timestamp + 960 + 160 * i,
                    ssrc=last.ssrc,
                    payload=RtpPacket.parse(data).payload,
                )
            ),
        )
        for i, (at_s, data) in enumerate(packets("G722")[50:100])
    ]
    samples, present = listener.hear(opus + tail)
    assert likeness(samples[:8000], present[:8000], voice(), range(100))[0] > 0.8
    assert likeness(samples[8000:16000], present[8000:16000], voice()[8000:], range(100))[0] > 0.95
    counters = listener.plane.counters(listener.leg)
    assert (counters.lost, counters.reanchors, counters.undecoded) == (0, 1, 0)


@pytest.mark.parametrize("key", VOICES)
def test_mangled_payloads_are_counted_and_the_leg_goes_on(key: str) -> None:
    dice, sent = random.Random(5), []
    for i, (at_s, data) in enumerate(packets(key)[:80]):
        packet = RtpPacket.parse(data)
        payload = dice.randbytes(dice.randrange(0, 90)) if i % 5 == 3 and i < 60 else packet.payload
        fields = {"payload_type": 97, "sequence_number": packet.sequence_number, "timestamp": packet.timestamp}
        sent.append((at_s, bytes(RtpPacket(**fields, ssrc=packet.ssrc, payload=payload))))
    listener = Listener(key)
    samples, present = listener.hear(sent)
    counters = listener.plane.counters(listener.leg)
    assert counters.received == 80
    assert counters.undecoded + counters.unknown_payload + counters.overrun <= 24
    span = slice(66 * 160, 78 * 160)
    assert present[span].mean() > 0.85
    assert likeness(samples[span], present[span], voice()[span], range(100))[0] > 0.5


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("EVS", "", "codec EVS is not decoded here: offer one of"),
        ("speex", "", "codec speex is not decoded here"),
        ("a\nb", "", r"codec \(\?\) is not decoded here"),
        ("AMR", "octet-align=1;crc=1", "AMR with crc"),
        ("AMR-WB", "octet-align=1; interleaving=30", "AMR-WB with interleaving"),
        ("AMR", "robust-sorting=1", "AMR with robust-sorting"),
        ("AMR", "channels=2", "AMR with more than one channel"),
    ],
)
def test_what_cannot_be_decoded_is_refused(name: str, parameters: str, message: str) -> None:
    plane = PacketPlane(PlaneConfig(max_legs=1))
    with pytest.raises(CodecError, match=f"payload type 96: {message}") as caught:
        plane.register(PORT, SOURCE, {96: name}, formats={96: parameters}, now_s=1)
    assert "\n" not in str(caught.value)
    assert plane.plane_counters().legs == 0


def test_without_pyav_compressed_codecs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    plane = PacketPlane(PlaneConfig(max_legs=1))
    with pytest.raises(CodecError, match="pip install av"):
        plane.register(PORT, SOURCE, {96: "G722"}, now_s=1)
    plane.register(PORT, SOURCE, {96: "PCMU"}, now_s=1)
