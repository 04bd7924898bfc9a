"""Recordings of real peers through the very kernel that live calls use. Skipped where the captures are not at hand."""

from pathlib import Path

import dpkt
import numpy as np
import pytest

from inference.rtp import g711
from inference.rtp.counters import LegCounters
from inference.rtp.packet import RtpPacket, is_rtcp
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig
from inference.rtp.rtcp import RtcpPacket

CAPTURES = Path(__file__).parents[3] / "shared" / "pcap"


def datagrams(name: str) -> list[Datagram]:
    """UDP of a capture, on a clock that begins at 1 s."""
    path = CAPTURES / name
    if not path.exists():
        pytest.skip("the captures are not part of the repository")
    found = []
    with path.open("rb") as file:
        reader = dpkt.pcapng.Reader(file) if path.suffix == ".pcapng" else dpkt.pcap.Reader(file)
        layer = {1: dpkt.ethernet.Ethernet, 113: dpkt.sll.SLL}[reader.datalink()]
        for at_s, frame in reader:
            ip = layer(frame).data
            if isinstance(ip.data, dpkt.udp.UDP):
                source = (".".join(str(byte) for byte in ip.src), ip.data.sport)
                found.append(Datagram(bytes(ip.data.data), source, ip.data.dport, at_s))
    begin_s = min(datagram.arrived_s for datagram in found) - 1
    return [Datagram(d.data, d.source, d.local_port, d.arrived_s - begin_s) for d in found]


class Heard:
    """What a plane made of a capture, read every 20 ms of its time."""

    def __init__(self, name: str, backend: str = "auto", payload_types: dict[int, str] | None = None) -> None:
        self.sent = datagrams(name)
        self.plane = PacketPlane(PlaneConfig(max_legs=8), backend=backend)  # type: ignore[arg-type]
        keys = list(dict.fromkeys((d.local_port, d.source) for d in self.sent))
        self.legs = [
            self.plane.register(port, source, payload_types or {101: "telephone-event"}, now_s=0.9)
            for port, source in keys
        ]
        samples, present, at = [], [], 0
        for tick in range(46, round(self.sent[-1].arrived_s * 50) + 30):
            now_s = tick / 50
            due = at
            while due < len(self.sent) and self.sent[due].arrived_s <= now_s:
                due += 1
            self.plane.feed(self.sent[at:due])
            at = due
            batch = self.plane.read(self.legs, now_s=now_s)
            samples.append(batch.samples)
            present.append(batch.present)
        self.samples, self.present = np.concatenate(samples, axis=1), np.concatenate(present, axis=1)

    @property
    def counters(self) -> LegCounters:
        return self.plane.counters(self.legs[0])


BACKENDS = pytest.mark.parametrize("backend", ["numba", "numpy"])


@BACKENDS
@pytest.mark.parametrize(
    ("name", "num_packets", "num_lost", "num_samples"),
    [
        ("40msalaw.pcap", 826, 0, 320),
        ("g711a.pcap", 236, 0, 240),
        ("CARRIER_G711U.pcap", 800, 14, 160),
    ],
)
def test_plain_calls(name: str, num_packets: int, num_lost: int, num_samples: int, backend: str) -> None:
    heard = Heard(name, backend)
    counters = heard.counters
    assert (counters.received, counters.lost, counters.unknown_payload) == (num_packets, num_lost, 0)
    packets = [RtpPacket.parse(datagram.data) for datagram in heard.sent]
    decode = g711.decode_alaw if packets[0].payload_type == 8 else g711.decode_ulaw
    assert all(len(packet.payload) == num_samples for packet in packets)
    assert np.array_equal(
        heard.samples[0][heard.present[0]], np.concatenate([decode(packet.payload) for packet in packets])
    )
    assert counters.late + counters.duplicate + counters.stray + counters.overrun + counters.reanchors == 0


@pytest.mark.slow
def test_a_long_call() -> None:
    heard = Heard("A_party_g711a.pcap")
    assert (heard.counters.received, heard.counters.lost, heard.counters.reanchors) == (5535, 0, 0)
    assert heard.present.sum() == 5535 * 160


@pytest.mark.parametrize("name", ["ulaw-2013785496.pcap", "ulaw-3125894607.pcap", "dtmf_2833_1.pcap"])
def test_keys(name: str) -> None:
    heard = Heard(name)
    packets = [RtpPacket.parse(datagram.data) for datagram in heard.sent]
    pressed = {packet.timestamp: packet.payload[0] for packet in packets if packet.payload_type == 101}
    events = heard.plane.telephone_events()
    assert [event.code for event in events] == list(pressed.values())
    assert all(event.is_complete and 0.03 < event.duration_s < 1 for event in events)
    assert heard.counters.lost == 0


def test_what_once_crashed_a_server_is_an_ordinary_call() -> None:
    heard = Heard("crash-27382.pcap")
    assert heard.counters.received == 274
    assert heard.plane.plane_counters().rtcp == 2
    assert heard.plane.plane_counters().malformed == 0


def test_ssrc_change_and_formats_nobody_negotiated() -> None:
    first, second = datagrams("ssrc1.pcap"), datagrams("ssrc2.pcap")
    plane = PacketPlane(PlaneConfig(max_legs=2))
    leg = plane.register(first[0].local_port, first[0].source, now_s=0.9)
    plane.feed(first + second)
    counters = plane.counters(leg)
    assert (counters.received, counters.ssrc_changes, counters.unknown_payload) == (3, 1, 3)
    assert not plane.read([leg], now_s=2).present.any()


OPUS = [("16_bit_48khz_60_fec_rtp.pcapng", 107, 0), ("16_bit_48khz_60_fec_dropped.pcapng", 107, 29)]
OPUS += [("opus-2013785496.pcap", 96, 0)]


@pytest.mark.parametrize(("name", "payload_type", "num_lost"), OPUS)
def test_codecs_nobody_negotiated_are_counted_and_not_heard(name: str, payload_type: int, num_lost: int) -> None:
    heard = Heard(name)
    packets = [RtpPacket.parse(datagram.data) for datagram in heard.sent]
    assert heard.counters.unknown_payload == sum(packet.payload_type == payload_type for packet in packets) > 100
    assert heard.counters.lost == num_lost
    assert not heard.present.any()


def test_opus_with_in_band_fec_is_heard_whole_though_packets_are_missing() -> None:
    """The same minute twice; 29 packets are missing from the second, and those after them hold copies."""
    (whole, *_), (dropped, _, num_lost), _ = OPUS
    first, second = (Heard(name, payload_types={107: "opus"}) for name in (whole, dropped))
    assert second.counters.lost == num_lost
    assert (second.counters.undecoded, second.counters.reanchors) == (0, 0)
    assert first.present.sum() == second.present.sum() == 3000 * 160
    ours, theirs = (heard.samples[0][heard.present[0]].astype(float) for heard in (first, second))
    assert ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)) > 0.999


def test_opus_of_asterisk_with_keys() -> None:
    heard = Heard("opus-2013785496.pcap", payload_types={96: "opus", 101: "telephone-event"})
    assert heard.counters.unknown_payload == heard.counters.undecoded == heard.counters.reanchors == 0
    assert "".join(event.digit for event in heard.plane.telephone_events()) == "2013785496"  # as its name says
    assert heard.present.mean() > 0.9


def test_compound_rtcp_is_whole_and_recognised() -> None:
    heard = Heard("rtcp_multiple_pkts_in_the_same_datagram.pcap")
    assert heard.plane.plane_counters().rtcp == len(heard.sent) == 5
    for datagram in heard.sent:
        assert is_rtcp(datagram.data)
        packets = RtcpPacket.parse_compound(datagram.data)
        assert b"".join(bytes(packet) for packet in packets) == datagram.data


def test_sip_on_the_port_is_garbage() -> None:
    sent = datagrams("sip.pcap")
    plane = PacketPlane(PlaneConfig(max_legs=1))
    plane.feed(sent)
    seen = plane.plane_counters()
    assert seen.datagrams == len(sent) == seen.malformed + seen.unregistered + seen.rtcp + seen.oversized
    assert seen.malformed > 60
