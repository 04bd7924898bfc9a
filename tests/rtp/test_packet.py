"""Bytes to RTP and RTCP and back, golden and random, and the exact words for what is wrong."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import PacketError
from inference.rtp.packet import ComfortNoise, EventPayload, RtpExtension, RtpPacket, is_rtcp
from inference.rtp.rtcp import APP, BYE, RECEIVER_REPORT, SENDER_REPORT, SOURCE_DESCRIPTION, RtcpPacket

GOLDEN = Path(__file__).parents[1] / "golden" / "rtp"
VALID = sorted(path.stem for path in GOLDEN.glob("*.bin") if not path.stem.startswith("bad_"))
RTP = [name for name in VALID if not name.startswith("rtcp_")]
RTCP = [name for name in VALID if name.startswith("rtcp_")]

WRONG_RTP = {
    "bad_empty": "RTP packet length is 0 bytes, less than 12",
    "bad_short": "RTP packet length is 10 bytes, less than 12",
    "bad_version": "RTP packet has version 1, not 2",
    "bad_csrc": "RTP packet has truncated CSRC",
    "bad_extension_header": "RTP packet has truncated extension header",
    "bad_extension_value": "RTP packet has truncated extension value",
    "bad_padding_zero": "RTP packet has invalid padding length",
    "bad_padding_long": "RTP packet has invalid padding length",
    "bad_padding_none": "RTP packet has invalid padding length",
}
WRONG_RTCP = {
    "bad_empty": "RTCP datagram is empty",
    "bad_rtcp_header": "RTCP packet has truncated header",
    "bad_rtcp_length": "RTCP packet is shorter than its length field says",
    "bad_rtcp_version": "RTCP packet has version 0, not 2",
    "bad_rtcp_type": "RTCP packet type 100 is not within 192-223",
    "bad_rtcp_sr": "RTCP sender report is truncated",
    "bad_rtcp_bye_reason": "RTCP BYE has truncated reason",
    "bad_rtcp_sdes": "RTCP source description is truncated",
    "bad_rtcp_padding_inside": "RTCP padding is only allowed on the last packet",
    "bad_rtcp_padding_length": "RTCP packet has invalid padding length",
}


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.bin").read_bytes()


def test_every_golden_packet_is_used() -> None:
    names = {path.stem for path in GOLDEN.glob("*.bin")}
    assert names == {*RTP, *RTCP, *WRONG_RTP, *WRONG_RTCP}
    assert len(RTP) >= 10
    assert len(RTCP) >= 4


@pytest.mark.parametrize("name", RTP)
def test_golden_rtp_survives_byte_for_byte(name: str) -> None:
    data = golden(name)
    assert not is_rtcp(data)
    assert bytes(RtpPacket.parse(data)) == data


@pytest.mark.parametrize("name", RTCP)
def test_golden_rtcp_survives_byte_for_byte(name: str) -> None:
    data = golden(name)
    assert is_rtcp(data)
    assert b"".join(bytes(packet) for packet in RtcpPacket.parse_compound(data)) == data


@pytest.mark.parametrize(("name", "message"), WRONG_RTP.items())
def test_invalid_rtp_names_the_field(name: str, message: str) -> None:
    with pytest.raises(PacketError) as caught:
        RtpPacket.parse(golden(name))
    assert str(caught.value) == message


@pytest.mark.parametrize(("name", "message"), WRONG_RTCP.items())
def test_invalid_rtcp_names_the_field(name: str, message: str) -> None:
    with pytest.raises(PacketError) as caught:
        RtcpPacket.parse_compound(golden(name))
    assert str(caught.value) == message


def test_fields_of_a_full_packet() -> None:
    packet = RtpPacket.parse(golden("csrc_extension_padding"))
    assert packet == RtpPacket(
        payload_type=8,
        sequence_number=0x1234,
        timestamp=0x01020304,
        ssrc=0x0A0B0C0D,
        payload=b"\xd5" * 4,
        csrc=(0x11111111, 0x22222222),
        extension=RtpExtension(0xBEDE, bytes.fromhex("10aa0000")),
        padding=bytes.fromhex("00000004"),
    )
    assert RtpPacket.parse(golden("padding_with_content")).payload == b"\xff\xffc"
    assert RtpPacket.parse(golden("pcma_marker")).marker


def test_rtcp_kinds_senders_and_goodbyes() -> None:
    report, description = RtcpPacket.parse_compound(golden("rtcp_sr_sdes"))
    assert (report.packet_type, report.count, report.ssrc) == (SENDER_REPORT, 1, 0x0A0B0C0D)
    assert description.packet_type == SOURCE_DESCRIPTION
    receiver, bye = RtcpPacket.parse_compound(golden("rtcp_rr_bye"))
    assert (receiver.packet_type, receiver.sources) == (RECEIVER_REPORT, (0x0A0B0C0D,))
    assert (bye.packet_type, bye.sources) == (BYE, (0x0A0B0C0D, 0x0A0B0C0E))
    (app,) = RtcpPacket.parse_compound(golden("rtcp_app_padding"))
    assert (app.packet_type, app.count, app.padding) == (APP, 5, b"\0\0\0\4")


def test_payload_formats() -> None:
    start, end = (RtpPacket.parse(golden(name)).payload for name in ("event_start", "event_end"))
    assert EventPayload.parse(start) == EventPayload(5, is_end=False, volume=10, duration=160)
    assert EventPayload.parse(end) == EventPayload(11, is_end=True, volume=10, duration=1600)
    for name in ("event_start", "event_end", "event_reserved_bit"):
        payload = RtpPacket.parse(golden(name)).payload
        assert bytes(EventPayload.parse(payload)) == payload
    noise = RtpPacket.parse(golden("comfort_noise")).payload
    assert ComfortNoise.parse(noise) == ComfortNoise(64, b"\x7f\0")
    assert bytes(ComfortNoise.parse(noise)) == noise
    with pytest.raises(PacketError, match="telephone-event payload length is 3 bytes, less than 4"):
        EventPayload.parse(b"\1\2\3")
    with pytest.raises(PacketError, match="comfort noise payload is empty"):
        ComfortNoise.parse(b"")
    with pytest.raises(PacketError, match="first bit"):
        ComfortNoise.parse(b"\x80")


def test_fields_that_do_not_fit_are_refused() -> None:
    def packet(**fields: object) -> RtpPacket:
        return RtpPacket(**{"payload_type": 0, "sequence_number": 0, "timestamp": 0, "ssrc": 0} | fields)  # type: ignore[arg-type]

    for wrong, message in (
        ({"payload_type": 128}, "payload type 128"),
        ({"csrc": tuple(range(16))}, "16 CSRC"),
        ({"padding": b"\0\0"}, "its own length"),
        ({"extension": RtpExtension(1, b"123")}, "multiple of 4"),
    ):
        with pytest.raises(PacketError, match=message):
            bytes(packet(**wrong))


words = st.integers(0, 2**32 - 1)


@given(
    st.builds(
        RtpPacket,
        payload_type=st.integers(0, 127),
        sequence_number=st.integers(0, 65535),
        timestamp=words,
        ssrc=words,
        payload=st.binary(max_size=40),
        marker=st.booleans(),
        csrc=st.lists(words, max_size=15).map(tuple),
        extension=st.none()
        | st.builds(RtpExtension, st.integers(0, 65535), st.binary(max_size=4).map(lambda value: value * 4)),
        padding=st.binary(max_size=20).map(lambda fill: fill and fill + bytes([len(fill) + 1])),
    )
)
@settings(deadline=None, max_examples=200)
def test_any_packet_survives(packet: RtpPacket) -> None:
    assert RtpPacket.parse(bytes(packet)) == packet


@given(st.binary(max_size=80))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_read_exactly_or_refused(data: bytes) -> None:
    data = b"\x80" + data if len(data) % 2 else data
    for parse in (
        lambda: bytes(RtpPacket.parse(data)),
        lambda: b"".join(bytes(packet) for packet in RtcpPacket.parse_compound(data)),
    ):
        try:
            again = parse()
        except PacketError:
            continue
        assert again == data
