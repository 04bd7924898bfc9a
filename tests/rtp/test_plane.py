"""The plane: real sockets once, and its reading rules on a virtual clock."""

import socket
import time

import numpy as np
import pytest
from pydantic import ValidationError

from inference.errors import ConfigError
from inference.rtp import g711
from inference.rtp.packet import EventPayload, RtpPacket
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig

PORT = 40000
SOURCE = ("192.0.2.7", 30000)
TONE = (np.sin(np.arange(16000) * 0.2) * 9000).astype(np.int16)
CODE = g711.encode_ulaw(TONE)
HEARD = g711.decode_ulaw(CODE)


def packet(number: int, payload: bytes | None = None, **fields: int) -> bytes:
    values = {"payload_type": 0, "sequence_number": number, "timestamp": number * 160, "ssrc": 9} | fields
    return bytes(RtpPacket(**values, payload=CODE[160 * number : 160 * number + 160] if payload is None else payload))


def arrivals(*items: tuple[float, bytes]) -> list[Datagram]:
    return [Datagram(data, SOURCE, PORT, at_s) for at_s, data in items]


@pytest.fixture(params=["numba", "numpy"])
def plane(request) -> PacketPlane:
    return PacketPlane(PlaneConfig(max_legs=4), backend=request.param)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize(("host", "peer"), [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "::1")])
def test_over_real_sockets(backend: str, host: str, peer: str) -> None:
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    plane = PacketPlane(PlaneConfig(host=host, ports=(0,), max_legs=4), backend=backend)  # type: ignore[arg-type]
    try:
        plane.start()
    except ConfigError:
        pytest.skip("no IPv6 on this machine")
    with plane_stopped_after(plane), socket.socket(family, socket.SOCK_DGRAM) as gateway:
        gateway.bind((peer, 0))
        (port,) = plane.ports
        with pytest.raises(ConfigError, match="not one of the plane's"):
            plane.register(port ^ 1, (peer, 5))
        leg = plane.register(port, (peer, gateway.getsockname()[1]))
        datagrams = [packet(i) for i in range(10)] + [b"", b"\0" * 9000, b"\x80\xc9\0\1\0\0\0\1"]
        for data in datagrams:
            gateway.sendto(data, (peer, port))
        wait_for(lambda: plane.plane_counters().datagrams == len(datagrams))
        seen = plane.plane_counters()
        assert (seen.malformed, seen.oversized, seen.rtcp, seen.unregistered) == (1, 1, 1, 0)
        assert (seen.queue_drops, seen.socket_errors) == (0, 0)
        assert plane.counters(leg).received == 10
        batch = plane.read([leg], now_s=time.monotonic() + 1)
        heard = batch.samples[0][batch.present[0]]
        assert np.array_equal(heard, HEARD[:1600])
        other = PacketPlane(PlaneConfig(host=host, ports=(port,), max_legs=1), backend=backend)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=f"UDP port {port} on {host} is in use: stop the program"):
            other.start()
        with pytest.raises(ConfigError, match="running already"):
            plane.start()
    assert plane.ports == ()
    plane.start()
    plane.stop()
    plane.stop()


class plane_stopped_after:  # noqa: N801 - reads as a sentence
    def __init__(self, plane: PacketPlane) -> None:
        self.plane = plane

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.plane.stop()


def wait_for(condition, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the datagrams did not arrive"
        time.sleep(0.002)


def test_a_wrong_address_or_setting_is_one_line() -> None:
    with pytest.raises(ConfigError, match="check plane host"):
        PacketPlane(PlaneConfig(host="192.0.2.1", max_legs=1)).start()
    for wrong in ({"ring_samples": 10000}, {"ports": ()}, {"tick": 5}, {"max_legs": 0}):
        with pytest.raises(ValidationError):
            PlaneConfig.model_validate(wrong)


def test_both_legs_share_one_axis_and_reading_has_no_seams(plane: PacketPlane) -> None:
    near = ("192.0.2.7", 30002)
    legs = [plane.register(PORT, source, now_s=1.0) for source in (SOURCE, near)]
    heard, positions = [], []
    for i in range(60):
        now_s = 1.0 + 0.02 * (i + 1)
        plane.feed(arrivals((now_s, packet(i))))
        if i >= 20:
            plane.feed([Datagram(packet(i - 20, ssrc=3, timestamp=7000 + i * 160), near, PORT, now_s)])
        batch = plane.read(legs, now_s=now_s)
        heard.append(batch.samples[:, : batch.num_samples[0]])
        positions += batch.start_samples.tolist()
    tail = plane.read(legs, now_s=2.26)
    whole = np.concatenate([*heard, tail.samples], axis=1)
    assert np.array_equal(whole[0, : 60 * 160], HEARD[: 60 * 160])
    # The near leg spoke 20 packets later; it lies 20 packets later.
    assert not whole[1, : 20 * 160].any()
    assert np.array_equal(whole[1, 20 * 160 : 60 * 160], HEARD[: 40 * 160])
    assert positions[0] == 8000
    assert plane.counters(legs[0]).gap_s == 0


def test_reordering_within_the_playout_delay_is_healed(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, now_s=1.0)
    order = [0, 2, 1, 3, 3, 5, 4]
    plane.feed(arrivals(*((1.02 + 0.01 * i, packet(n)) for i, n in enumerate(order))))
    batch = plane.read([leg], now_s=2)
    assert np.array_equal(batch.samples[0][batch.present[0]], HEARD[: 6 * 160])
    counters = plane.counters(leg)
    assert (counters.duplicate, counters.lost, counters.late) == (1, 0, 0)


def test_late_loss_and_silence_are_told_apart(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, now_s=1.0)
    plane.feed(arrivals((1.02, packet(0)), (1.04, packet(1))))
    plane.feed(arrivals((1.12, packet(5))))  # 2, 3 and 4 are missing
    plane.read([leg], now_s=1.16)
    plane.feed(arrivals((1.165, packet(2))))  # comes when 1.04-1.06 has been read
    after = {"sequence_number": 6, "timestamp": 30 * 160}
    plane.feed(arrivals((1.62, packet(6, **after))))  # 24 packets of silence, nothing missing
    plane.read([leg], now_s=1.7)
    counters = plane.counters(leg)
    assert (counters.lost, counters.late, counters.reanchors) == (2, 1, 0)
    assert counters.silence_s == pytest.approx(24 * 0.02)
    assert counters.gap_s == pytest.approx((3 + 24) * 0.02 + 0.02)


def test_a_stall_and_a_hold_lose_no_audio(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, now_s=1.0)
    plane.feed(arrivals((1.02, packet(0)), (1.04, packet(1))))
    plane.read([leg], now_s=1.5)
    plane.feed(arrivals(*((1.5, packet(n)) for n in range(2, 12))))  # the network held ten packets back
    first = plane.read([leg], now_s=2.0)
    assert np.array_equal(first.samples[0][first.present[0]], HEARD[2 * 160 : 12 * 160])
    plane.read([leg], now_s=9.0)
    for _ in range(8):
        plane.read([leg], now_s=9.0)
    plane.feed(arrivals((9.0, packet(12)), (9.02, packet(13))))  # back from hold, timestamps did not go on
    second = plane.read([leg], now_s=9.5)
    assert np.array_equal(second.samples[0][second.present[0]], HEARD[12 * 160 : 14 * 160])
    counters = plane.counters(leg)
    assert (counters.lost, counters.late, counters.reanchors) == (0, 0, 2)


def test_sequence_and_timestamp_wrap(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, now_s=1.0)
    plane.feed(
        arrivals(
            *(
                (
                    1.02 + 0.02 * i,
                    packet(i, sequence_number=(65533 + i) % 65536, timestamp=(2**32 - 400 + 160 * i) % 2**32),
                )
                for i in range(8)
            )
        )
    )
    batch = plane.read([leg], now_s=2)
    assert np.array_equal(batch.samples[0][batch.present[0]], HEARD[: 8 * 160])
    assert (plane.counters(leg).lost, plane.counters(leg).reanchors) == (0, 0)


def test_a_reader_that_stands_still_is_counted_and_catches_up_by_seconds(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, now_s=1.0)
    plane.feed(arrivals(*((1.02 + 0.02 * i, packet(i, CODE[:160])) for i in range(300))))
    counters = plane.counters(leg)
    assert counters.overrun == 300 - 32768 // 160
    nums = [int(plane.read([leg], now_s=7.0).num_samples[0]) for _ in range(8)]
    assert nums == [8000] * 5 + [7520, 0, 0]


def test_keys_are_told_once_with_their_time(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, {96: "telephone-event"}, now_s=1.0)
    plane.feed(arrivals((1.02, packet(0))))
    updates = [EventPayload(7, is_end=False, volume=10, duration=160 * i) for i in (1, 2, 3)]
    updates += [EventPayload(7, is_end=True, volume=10, duration=640)] * 3
    for i, update in enumerate(updates):
        data = packet(i + 1, bytes(update), payload_type=96, timestamp=160)
        plane.feed(arrivals((1.04 + 0.02 * min(i, 3), data)))
    lost_end = packet(7, bytes(EventPayload(11, is_end=False, volume=0, duration=320)), payload_type=96, timestamp=2000)
    next_key = packet(8, bytes(EventPayload(0, is_end=True, volume=0, duration=400)), payload_type=96, timestamp=4000)
    plane.feed(arrivals((1.3, lost_end), (1.5, next_key)))
    seven, pound, zero = plane.telephone_events()
    assert (seven.leg, seven.digit, seven.duration_s, seven.is_complete) == (leg, "7", 0.08, True)
    assert seven.at_s == pytest.approx(1.02)
    assert (pound.digit, pound.duration_s, pound.is_complete) == ("#", 0.04, False)
    assert (zero.digit, zero.is_complete) == ("0", True)
    assert plane.telephone_events() == []
    assert plane.counters(leg).telephone_events == 3
    batch = plane.read([leg], now_s=2)
    assert batch.present.sum() == 160  # events are not audio


def test_events_nobody_fetches_give_way(plane: PacketPlane) -> None:
    plane.register(PORT, SOURCE, now_s=1.0)
    end = bytes(EventPayload(1, is_end=True, volume=0, duration=160))
    plane.feed(arrivals(*((1.0, packet(i, end, payload_type=101, timestamp=i * 400)) for i in range(1500))))
    assert len(plane.telephone_events()) == 1024
    assert plane.plane_counters().events_dropped == 1500 - 1024


def test_reading_one_leg_or_none(plane: PacketPlane) -> None:
    assert plane.read([], now_s=5).samples.shape == (0, 0)
    leg = plane.register(PORT, SOURCE, now_s=5)
    assert plane.read([leg], now_s=5).num_samples.tolist() == [0]
    assert plane.read([leg], now_s=5.1).num_samples.tolist() == [320]
