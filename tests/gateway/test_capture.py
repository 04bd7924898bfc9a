import struct
from pathlib import Path

import dpkt
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import CodecError, ConfigError, MediaError
from inference.gateway import streams as streams_module
from inference.gateway.pcap import Address, Capture, Datagram
from inference.gateway.recording import open_recording
from inference.gateway.streams import find_streams
from inference.rtp.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from inference.rtp.packet import EventPayload, RtpPacket

RATE = 8000
GATEWAY, US = "10.0.0.1", "10.0.0.9"
CAPTURES = Path(__file__).parents[2].parent / "shared" / "pcap"


def test_both_directions_are_one_call_in_call_time(wire, two_way):
    (call,) = open_recording(two_way)
    assert (call.id, call.legs) == ("call", ("far", "near"))
    assert call.duration_s == pytest.approx(2.0)
    assert call.packets == {}, "complete only once the blocks were read"
    assert call.notices == ("call: far leg is 0x0000aaaa from 10.0.0.1:4000, the first to send; choose with --far",)
    legs = wire.heard(call)
    far, far_present = legs["far"]
    near, near_present = legs["near"]
    assert np.array_equal(far[:16000], decode_ulaw(encode_ulaw(wire.voice(2, 440))))
    assert np.array_equal(near[4000:16000], decode_alaw(encode_alaw(wire.voice(1.5, 300))))
    assert far_present[:16000].all()
    assert not near_present[:4000].any()
    assert near_present[4000:16000].all()
    counts = {leg: (of_leg.received, of_leg.lost, of_leg.gap_s) for leg, of_leg in call.packets.items()}
    assert counts == {"far": (100, 0, 0), "near": (75, 0, 0)}
    again = wire.heard(call)
    assert np.array_equal(again["far"][0], far)
    assert call.packets["far"].received == 100, "counters begin anew with each reading"


@pytest.mark.parametrize("far", ["0xBBBB", "48059", "10.0.0.2:6000"])
def test_the_far_leg_can_be_chosen(wire, two_way, far):
    (call,) = open_recording(two_way, far=far)
    assert call.notices == ()
    assert not wire.heard(call)["far"][1][:4000].any()


@pytest.mark.parametrize("far", ["0x1234", "1.2.3.4:5", "caller"])
def test_a_far_leg_that_is_not_there_is_named_with_those_that_are(two_way, far):
    with pytest.raises(ConfigError, match=r"no stream of this capture; it holds 0x0000aaaa from 10\.0\.0\.1:4000"):
        open_recording(two_way, far=far)


LINKS = [
    (0, 14, struct.pack("<I", 2)),
    (101, 14, b""),
    (228, 14, b""),
    (108, 14, struct.pack(">I", 2)),
    (113, 14, bytes(14) + b"\x08\x00"),
    (276, 14, b"\x08\x00" + bytes(18)),
    (1, 0, b""),
]


@pytest.mark.parametrize(("linktype", "strip", "prefix"), LINKS)
@pytest.mark.parametrize("ng", [False, True])
def test_link_types_in_pcap_and_pcapng(wire, tmp_path, linktype, strip, prefix, ng):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(0.5, 440), ssrc=1)
    path = wire.write_pcap(tmp_path / "x.pcap", frames, linktype=linktype, ng=ng, strip=strip, prefix=prefix)
    (call,) = open_recording(path)
    assert np.array_equal(wire.heard(call)["far"][0][:4000], decode_ulaw(encode_ulaw(wire.voice(0.5, 440))))


def test_vlan_and_ipv6(wire, tmp_path):
    frames = wire.rtp_frames(("fd00::1", 4000), ("fd00::2", 6000), wire.voice(0.5, 440), ssrc=1, vlan=7)
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    assert "from [fd00::1]:4000" in call.notices[0]
    assert call.packets is not None
    assert len(wire.heard(call)["far"][0]) >= 4000


def test_nanosecond_and_big_endian_pcap(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(0.5, 440), ssrc=1)
    out = struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    for arrival_s, frame in frames:
        out += struct.pack(">IIII", 1000 + int(arrival_s), round(arrival_s % 1 * 1e9), len(frame), len(frame)) + frame
    (tmp_path / "x.pcap").write_bytes(out)
    times = [datagram.arrival_s for datagram in Capture(tmp_path / "x.pcap").datagrams()]
    assert times == pytest.approx([1000 + arrival_s for arrival_s, _ in frames])


def test_a_fork_sends_both_legs_from_one_gateway(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(2, 440), ssrc=7)
    frames += wire.rtp_frames((GATEWAY, 4002), (US, 6002), wire.voice(2, 300), ssrc=7, began_s=0.1)
    frames += wire.rtp_frames((GATEWAY, 4100), (US, 6100), wire.voice(2, 200), ssrc=9, began_s=30)
    first, second = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    assert (first.id, first.legs, second.id, second.legs) == ("x-1", ("far", "near"), "x-2", ("far",))
    assert len(wire.heard(second)["far"][0]) == pytest.approx(16000, abs=320), (
        "time of a call starts at its first packet"
    )


def test_loss_reordering_duplicates_and_lateness(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(4, 440), ssrc=1, first=65500, ts=2**32 - 9000)
    times = [arrival_s for arrival_s, _ in frames]
    swapped = {10: times[11], 11: times[10], 150: times[199]}  # 150 comes a second late
    kept = [(swapped.get(i, arrival_s), frame) for i, (arrival_s, frame) in enumerate(frames) if i not in (50, 51, 52)]
    kept += [(times[81], frames[80][1]), (times[82], frames[80][1])]
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", kept))
    samples, present = wire.heard(call)["far"]
    expected = decode_ulaw(encode_ulaw(wire.voice(4, 440)))
    missing = np.zeros(32000, np.bool_)
    missing[50 * 160 : 53 * 160] = missing[150 * 160 : 151 * 160] = True
    assert np.array_equal(present[:32000], ~missing)
    assert np.array_equal(samples[:32000], np.where(missing, 0, expected))
    packets = call.packets["far"]
    assert (packets.lost, packets.duplicate, packets.late) == (3, 2, 1)
    assert packets.gap_s == pytest.approx(0.08)


def test_silence_that_is_not_sent_is_a_gap_and_no_loss(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    frames += wire.rtp_frames(
        (GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1, began_s=3, first=150, ts=5000 + 24000
    )
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    _, present = wire.heard(call)["far"]
    packets = call.packets["far"]
    assert (packets.lost, packets.gap_s, packets.silence_s) == (0, 2, 2)
    assert present[24000:32000].all()


def test_a_new_ssrc_goes_on_with_the_leg(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    frames += wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 300), ssrc=2, began_s=1, first=9000, ts=77)
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    samples, present = wire.heard(call)["far"]
    assert np.array_equal(samples[8000:16000], decode_ulaw(encode_ulaw(wire.voice(1, 300))))
    assert present[:16000].all()
    assert (call.packets["far"].lost, call.packets["far"].ssrc_changes) == (0, 1)


def test_a_timestamp_jump_is_anchored_on_arrival(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    frames += wire.rtp_frames(
        (GATEWAY, 4000), (US, 6000), wire.voice(1, 300), ssrc=1, began_s=1, first=150, ts=3_000_000_000
    )
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    assert np.array_equal(wire.heard(call)["far"][0][8000:16000], decode_ulaw(encode_ulaw(wire.voice(1, 300))))


def test_hours_of_hold_cost_no_blocks(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    hold_s = 40_000_000
    frames += wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1, began_s=hold_s, first=150)
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    blocks = list(call.blocks())
    assert len(blocks) < 500
    heard = {block.start_sample + int(at) for block in blocks for at in np.flatnonzero(block.present)}
    assert heard == {*range(8000), *range(hold_s * RATE, hold_s * RATE + 8000)}
    packets = call.packets["far"]
    assert (packets.received, packets.num_bytes, packets.lost, packets.gap_s) == (100, 100 * 172, 0, 0)


def test_one_leg_on_hold_is_read_with_the_other(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(14, 440), ssrc=1)
    near = wire.rtp_frames((US, 6000), (GATEWAY, 4000), wire.voice(14, 300), ssrc=2)
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames + near[:50] + near[-50:]))
    legs = wire.heard(call)
    assert legs["far"][1][: 14 * RATE].all()
    assert np.array_equal(np.flatnonzero(legs["near"][1]), [*range(RATE), *range(13 * RATE, 14 * RATE)])
    assert (call.packets["near"].lost, call.packets["near"].gap_s) == (600, 12)


def test_legs_told_apart_by_ssrc_alone(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(2, 440), ssrc=7)
    frames += wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(2, 300), ssrc=8, first=9, ts=77)
    frames += wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(0.04, 200), ssrc=9, began_s=0.5)
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    legs = wire.heard(call)
    for leg, hz in (("far", 440), ("near", 300)):
        assert np.array_equal(legs[leg][0][:16000], decode_ulaw(encode_ulaw(wire.voice(2, hz))))
    counts = [(call.packets[leg].received, call.packets[leg].ssrc_changes) for leg in ("far", "near")]
    assert counts == [(100, 0), (100, 0)]
    assert (call.packets["far"].foreign, call.packets["near"].foreign) == (2, 0)


def raw_pcap(path, frames):
    """In the order given; the fixture's writer sorts."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for arrival_s, frame in frames:
            writer.writepkt(frame, ts=1_700_000_000 + arrival_s)
    return path


def test_arrivals_that_go_back_a_little_change_nothing(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(2, 440), ssrc=1)
    merged = frames[:10] + [frame for at in range(10, 100, 10) for frame in reversed(frames[at : at + 10])]
    (call,) = open_recording(raw_pcap(tmp_path / "x.pcap", merged))
    samples, present = wire.heard(call)["far"]
    assert np.array_equal(samples[:16000], decode_ulaw(encode_ulaw(wire.voice(2, 440))))
    assert present[:16000].all()
    packets = call.packets["far"]
    assert (packets.received, packets.lost, packets.late, packets.reanchors) == (100, 0, 0, 0)


def test_a_clock_that_stands_still_loses_audio_and_nothing_else(wire, tmp_path):
    frames = [(0.0, frame) for _, frame in wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(9, 440), ssrc=1)]
    (call,) = open_recording(raw_pcap(tmp_path / "x.pcap", frames))
    assert len(wire.heard(call)["far"][0]) <= RATE
    assert (call.packets["far"].received, call.packets["far"].lost) == (450, 0)


def test_keys_pressed_are_counted_once_and_are_no_audio(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    for i in range(3):
        event = EventPayload(event=5, is_end=i > 0, volume=10, duration=160 * (i + 1))
        packet = RtpPacket(
            payload_type=101, sequence_number=150 + i, timestamp=5000 + 8000, ssrc=1, payload=bytes(event)
        )
        frames.append((1 + 0.02 * i, wire.ethernet((GATEWAY, 4000), (US, 6000), bytes(packet))))
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    assert wire.heard(call)["far"][1].sum() == RATE
    packets = call.packets["far"]
    assert (packets.received, packets.telephone_events, packets.unknown_payload) == (53, 1, 0)


def packets_of(wire, kind, count=50):
    packets = [
        RtpPacket(payload_type=kind, sequence_number=i, timestamp=i, ssrc=5, payload=bytes(50)) for i in range(count)
    ]
    return [(0.02 * i, wire.ethernet((GATEWAY, 4000), (US, 6000), bytes(packet))) for i, packet in enumerate(packets)]


def test_codecs_not_decoded_are_named_with_those_that_are(wire, tmp_path):
    with pytest.raises(CodecError, match=r"18 \(G.729\).*PCMU \(0\) and PCMA \(8\)"):
        open_recording(wire.write_pcap(tmp_path / "x.pcap", packets_of(wire, 18)))
    with pytest.raises(CodecError, match=r"111 \(dynamic"):
        open_recording(wire.write_pcap(tmp_path / "y.pcap", packets_of(wire, 111)))
    (call,) = open_recording(
        wire.write_pcap(
            tmp_path / "z.pcap", packets_of(wire, 9) + wire.rtp_frames((US, 1), (US, 2), wire.voice(1, 440), ssrc=1)
        )
    )
    assert any("skipped RTP of payload type 9 (G.722)" in notice for notice in call.notices)


def test_no_rtp_inside(wire, tmp_path):
    frames = [
        (0.02 * i, wire.ethernet((GATEWAY, 53), (US, 53), b"\x80" + bytes([i % 7, 3 * i % 251]) * 20))
        for i in range(90)
    ]
    frames += [(1, wire.ethernet((GATEWAY, 1), (US, 1), b"")), (1, wire.ethernet((GATEWAY, 1), (US, 1), bytes(65_000)))]
    with pytest.raises(MediaError, match="no RTP stream in the capture"):
        open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))


def test_odd_datagrams_beside_a_call_change_nothing(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    odd = [
        b"",
        bytes(65_507),
        b"\x80",
        b"\x80\x00" + bytes(9),
        b"\x8f\x00" + bytes(20),
        b"\xb0\x00" + bytes(11) + b"\xff",
    ]
    frames += [(0.3 + 0.01 * i, wire.ethernet((GATEWAY, 4000), (US, 6000), payload)) for i, payload in enumerate(odd)]
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    assert np.array_equal(wire.heard(call)["far"][0][:8000], decode_ulaw(encode_ulaw(wire.voice(1, 440))))


def test_ip_fragments_are_counted(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    cut = [(arrival_s, frame[:20] + b"\x20\x00" + frame[22:]) for arrival_s, frame in frames]
    with pytest.raises(MediaError, match="50 IP fragments"):
        open_recording(wire.write_pcap(tmp_path / "x.pcap", cut))


def test_spoofed_sources_leave_a_count_and_no_state(wire, tmp_path, monkeypatch):
    monkeypatch.setattr(streams_module, "MAX_ON_PROBATION", 64)
    rng = np.random.default_rng(0)
    real = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    path = Address(bytes([10, 0, 0, 1]), 4000), Address(bytes([10, 0, 0, 9]), 6000)
    flood = [
        Datagram(
            0.0, *path, bytes(RtpPacket(payload_type=0, sequence_number=int(s) & 0xFFFF, timestamp=0, ssrc=int(s)))
        )
        for s in rng.integers(2, 2**32, 1000)
    ]
    wire.write_pcap(tmp_path / "x.pcap", real)
    mixed = []
    for datagram in Capture(tmp_path / "x.pcap").datagrams():
        mixed += [datagram, *flood[:20]]
        flood = flood[20:]
    found = find_streams(mixed)
    assert [stream.ssrc for stream in found.streams] == [1]
    assert found.streams[0].num_packets == 50
    assert found.num_refused == 1000


def test_foreign_sources_on_a_calls_path_are_counted(wire, tmp_path):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(1, 440), ssrc=1)
    frames += wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(0.06, 300), ssrc=2, began_s=0.31)
    (call,) = open_recording(wire.write_pcap(tmp_path / "x.pcap", frames))
    wire.heard(call)
    assert (call.packets["far"].foreign, call.packets["far"].received) == (3, 50)


@pytest.mark.parametrize("ng", [False, True])
def test_a_capture_cut_short_gives_what_it_holds_and_says_so(wire, tmp_path, ng):
    path = wire.write_pcap(
        tmp_path / "x.pcap", wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(2, 440), ssrc=1), ng=ng
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (call,) = open_recording(path)
    assert any("breaks inside a record" in notice for notice in call.notices)
    assert 6000 < wire.heard(call)["far"][1].sum() < 10_000


@pytest.mark.parametrize(
    "content", [b"\xd4\xc3\xb2\xa1", b"\xd4\xc3\xb2\xa1" + bytes(20), b"\x0a\x0d\x0d\x0a" + bytes(90)]
)
def test_headers_without_a_capture(tmp_path, content):
    (tmp_path / "x.pcap").write_bytes(content)
    with pytest.raises(MediaError) as caught:
        open_recording(tmp_path / "x.pcap")
    assert "\n" not in str(caught.value)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_captures_never_end_in_a_traceback(wire, tmp_path, data):
    frames = wire.rtp_frames((GATEWAY, 4000), (US, 6000), wire.voice(0.4, 440), ssrc=1)
    path = wire.write_pcap(tmp_path / "x.pcap", frames, ng=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 30))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(4, len(content)))])
    try:
        for call in open_recording(path):
            assert sum(len(block.samples) for block in call.blocks()) < 100 * RATE
    except MediaError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures of real peers (../shared/pcap) are not here")
@pytest.mark.parametrize(
    ("name", "received", "lost", "keys", "heard_s"),
    [
        ("40msalaw.pcap", 826, 0, 0, 33.04),
        ("A_party_g711a.pcap", 5535, 0, 0, 110.7),
        ("CARRIER_G711U.pcap", 800, 14, 0, 16.0),
        ("crash-27382.pcap", 274, 0, 0, 5.48),
        ("ulaw-2013785496.pcap", 974, 0, 10, 17.08),
        ("ulaw-3125894607.pcap", 922, 0, 10, 16.04),
    ],
)
def test_captures_of_real_peers(wire, name, received, lost, keys, heard_s):
    (call,) = open_recording(CAPTURES / name)
    _, present = wire.heard(call)["far"]
    packets = call.packets["far"]
    assert (packets.received, packets.lost, packets.telephone_events) == (received, lost, keys)
    assert present.sum() / RATE == pytest.approx(heard_s)


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures of real peers (../shared/pcap) are not here")
def test_our_reader_and_dpkts_agree_on_real_captures():
    for path in sorted(CAPTURES.glob("*.pcap")):
        with path.open("rb") as file:
            reader = dpkt.pcap.Reader(file)
            if reader.datalink() != 1:
                continue
            theirs = [
                (float(arrival_s), bytes(frame.data.data.data))
                for arrival_s, frame in ((a, dpkt.ethernet.Ethernet(f)) for a, f in reader)
                if isinstance(frame.data, dpkt.ip.IP) and isinstance(frame.data.data, dpkt.udp.UDP)
            ]
        ours = [(datagram.arrival_s, datagram.payload) for datagram in Capture(path).datagrams()]
        assert [payload for _, payload in ours] == [payload for _, payload in theirs], path.name
        assert [a for a, _ in ours] == pytest.approx([a for a, _ in theirs])
