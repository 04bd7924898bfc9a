"""The leg table: bounded, filled by control only, and no row ever hears what was meant for its former owner."""

import random
import tracemalloc

import numpy as np
import pytest

from inference.errors import CapacityError, CodecError, ConfigError
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig

PORT = 40000
SOURCE = ("192.0.2.7", 30000)


def audio(number: int, ssrc: int = 1, payload_type: int = 0) -> bytes:
    packet = RtpPacket(
        payload_type=payload_type, sequence_number=number, timestamp=number * 160, ssrc=ssrc, payload=b"\x10" * 160
    )
    return bytes(packet)


def stream(
    source: tuple[str, int], first: int, num: int, begin_s: float, ssrc: int = 1, port: int = PORT
) -> list[Datagram]:
    return [Datagram(audio(first + i, ssrc), source, port, begin_s + 0.02 * i) for i in range(num)]


@pytest.fixture(params=["numba", "numpy"])
def plane(request) -> PacketPlane:
    return PacketPlane(PlaneConfig(max_legs=8), backend=request.param)


def test_legs_of_one_port_are_told_apart_by_source_alone(plane: PacketPlane) -> None:
    """Real gateways send the same SSRC on both legs of a call."""
    other = ("192.0.2.7", 30002)
    legs = [plane.register(PORT, source, now_s=1) for source in (SOURCE, other)]
    plane.feed(stream(SOURCE, 0, 10, 1.02) + stream(other, 0, 5, 1.02))
    assert [plane.counters(leg).received for leg in legs] == [10, 5]
    batch = plane.read(legs, now_s=2)
    assert batch.present.sum(axis=1).tolist() == [1600, 800]
    assert batch.start_samples.tolist() == [8000, 8000]


def test_the_same_source_on_another_port_is_another_leg(plane: PacketPlane) -> None:
    legs = [plane.register(port, SOURCE, now_s=1) for port in (PORT, PORT + 2)]
    plane.feed(stream(SOURCE, 0, 3, 1.02, port=PORT + 2))
    assert [plane.counters(leg).received for leg in legs] == [0, 3]


@pytest.mark.parametrize("host", ["::ffff:192.0.2.7", "192.0.2.7"])
def test_mapped_and_plain_ipv4_are_the_same_source(plane: PacketPlane, host: str) -> None:
    leg = plane.register(PORT, (host, 30000), now_s=1)
    plane.feed(stream(SOURCE, 0, 3, 1.02))
    assert plane.counters(leg).received == 3


def test_a_table_that_is_full_says_so_and_room_can_be_used_again(plane: PacketPlane) -> None:
    legs = [plane.register(PORT, ("192.0.2.7", 1000 + i), now_s=1) for i in range(8)]
    with pytest.raises(CapacityError, match="all 8 legs are in use"):
        plane.register(PORT, SOURCE, now_s=1)
    plane.release(legs[3], now_s=1)
    plane.register(PORT, SOURCE, now_s=1)
    assert plane.plane_counters().legs == 8


def test_wrong_registrations_are_refused_in_one_line(plane: PacketPlane) -> None:
    plane.register(PORT, SOURCE, now_s=1)
    for arguments, error, message in (
        ((PORT, SOURCE), ConfigError, "registered on UDP port 40000 already"),
        ((PORT, None), ConfigError, "has legs already"),
        ((PORT, ("gateway.invalid", 1)), ConfigError, "not a numeric IP address"),
        ((PORT, ("2001:db8::1", 1)), ConfigError, "bind it to '::'"),
        ((PORT, ("192.0.2.7", 0)), ConfigError, "port 0 is not within"),
        ((PORT, ("192.0.2.8", 1), {96: "EVS"}), CodecError, "payload type 96"),
        ((PORT, ("192.0.2.8", 1), {128: "PCMU"}), CodecError, "not within 0-127"),
    ):
        with pytest.raises(error, match=message) as caught:
            plane.register(*arguments, now_s=1)
        assert "\n" not in str(caught.value)
    assert plane.plane_counters().legs == 1


def test_a_released_handle_is_dead_and_its_row_starts_clean(plane: PacketPlane) -> None:
    old = plane.register(PORT, SOURCE, now_s=1)
    plane.feed(stream(SOURCE, 0, 10, 1.02))
    assert plane.release(old, now_s=1.3).received == 10
    new = plane.register(PORT, ("192.0.2.8", 30000), now_s=1.3)
    with pytest.raises(KeyError, match="released"):
        plane.counters(old)
    with pytest.raises(KeyError, match="released"):
        plane.release(old)
    batch = plane.read([old, new], now_s=2)
    assert batch.num_samples[0] == 0
    assert batch.num_samples[1] > 0
    assert not batch.present.any()
    assert plane.counters(new).received == 0
    assert np.isnan(plane.last_arrivals_s([old, new])).all()


def test_delayed_packets_of_the_old_call_do_not_reach_the_new_one(plane: PacketPlane) -> None:
    """Gateways use a port again while packets of the last call are still on their way."""
    old = plane.register(PORT, SOURCE, now_s=1)
    plane.feed(stream(SOURCE, 0, 10, 1.02, ssrc=1))
    plane.release(old, now_s=1.3)
    new = plane.register(PORT, SOURCE, now_s=1.4)
    plane.feed(stream(SOURCE, 10, 3, 1.41, ssrc=1) + stream(SOURCE, 500, 5, 1.5, ssrc=2))
    counters = plane.counters(new)
    assert (counters.stray, counters.received, counters.ssrc_changes, counters.lost) == (3, 8, 0, 0)
    assert plane.read([new], now_s=2).present.sum() == 5 * 160
    # Not for ever: after the guard the gateway may well go on with the SSRC it had.
    plane.release(new, now_s=2)
    again = plane.register(PORT, SOURCE, now_s=2)
    plane.feed(stream(SOURCE, 505, 4, 7.5, ssrc=2))
    assert (plane.counters(again).stray, plane.counters(again).lost) == (0, 0)


def test_a_leg_of_unknown_source_takes_the_first_valid_one_only(plane: PacketPlane) -> None:
    leg = plane.register(PORT, None, now_s=1)
    with pytest.raises(ConfigError, match="belongs to one leg alone"):
        plane.register(PORT, SOURCE, now_s=1)
    stranger = ("192.0.2.66", 9)
    plane.feed(
        [
            Datagram(b"GET / HTTP/1.1\r\n\r\n", stranger, PORT, 1.0),
            Datagram(audio(1, payload_type=96), stranger, PORT, 1.0),
            *stream(SOURCE, 0, 5, 1.02),
            *stream(stranger, 0, 4, 1.2),
        ]
    )
    counters = plane.counters(leg)
    assert (counters.received, counters.foreign, counters.ssrc_changes) == (5, 5, 0)
    assert plane.plane_counters().malformed == 1
    plane.release(leg, now_s=2)
    plane.register(PORT, SOURCE, now_s=2)  # the port is free for others


def test_spoofed_sources_and_ssrcs_only_count(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, now_s=1)
    plane.feed(stream(SOURCE, 0, 10, 1.02))
    dice = random.Random(1)

    def spoofed(num: int) -> list[Datagram]:
        return [
            Datagram(audio(0, dice.getrandbits(32)), (f"198.51.100.{i % 250 + 1}", i % 60000 + 1), PORT, 1.3)
            for i in range(num)
        ]

    flood = spoofed(2000)
    plane.feed(flood)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(49):
            plane.feed(flood)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert plane.plane_counters().unregistered == 100_000
    assert plane.plane_counters().legs == 1
    assert plane.counters(leg).received == 10
    assert grown < 100_000


def test_spoofed_ssrcs_from_the_leg_itself_stay_in_its_row(plane: PacketPlane) -> None:
    leg = plane.register(PORT, SOURCE, now_s=1)
    plane.feed(Datagram(audio(i % 65536, ssrc=i), SOURCE, PORT, 1 + i / 8000) for i in range(2000))
    assert plane.counters(leg).ssrc_changes == 1999
    assert plane.counters(leg).lost == 0


def test_many_legs_come_and_go_and_are_always_found() -> None:
    plane = PacketPlane(PlaneConfig(max_legs=64))
    dice = random.Random(2)
    legs: dict[tuple[str, int], int] = {}
    for turn in range(300):
        source = (f"192.0.2.{dice.randint(1, 250)}", 30000)
        if source in legs:
            plane.release(legs.pop(source), now_s=1)
        elif len(legs) < 64:
            legs[source] = plane.register(PORT, source, now_s=1)
        if turn % 20 == 0:
            plane.feed(Datagram(audio(turn % 7, ssrc=turn), source, PORT, 1 + turn) for source in legs)
            assert all(plane.last_arrivals_s(list(legs.values())) == 1 + turn)
    assert plane.plane_counters().unregistered == 0
