"""Packets injected into running calls: none is heard, all are counted, and it is said once a minute."""

import socket
import time

import numpy as np

from inference.rtp import g711
from inference.rtp.foreign import SAY_EVERY_S, ForeignNews, ForeignPackets
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig
from tests.peers import free_port

VOICE = (np.sin(np.arange(8000) * 0.2) * 9000).astype(np.int16)
CODE = g711.encode_ulaw(VOICE)
NOISE = b"\x00" * 160  # the loudest sample there is


def packet(number: int, ssrc: int, payload: bytes | None = None) -> bytes:
    spoken = CODE[160 * number : 160 * number + 160] if payload is None else payload
    return bytes(RtpPacket(payload_type=0, sequence_number=number, timestamp=160 * number, ssrc=ssrc, payload=spoken))


def test_every_port_sprayed_from_three_sources_with_the_right_ssrc() -> None:
    """Over real sockets: shared ports with signalled sources, an exclusive port that latched."""
    exclusive = free_port()
    plane = PacketPlane(PlaneConfig(ports=(0, 0), exclusive_ports=(exclusive, exclusive), max_legs=8, max_ahead_ms=900))
    gateways = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    strangers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for k, sock in enumerate([*gateways, *strangers]):
        sock.bind((f"127.0.0.{k + 1}", 0))
    with plane:
        ports = [*plane.ports, exclusive]
        sources = [gateways[0].getsockname(), gateways[1].getsockname(), None]
        legs = [plane.register(port, source) for port, source in zip(ports, sources, strict=True)]

        def send(sock: socket.socket, port: int, data: bytes) -> None:
            sock.sendto(data, ("127.0.0.1", port))

        def settle(num: int) -> None:
            deadline = time.monotonic() + 60
            while plane.plane_counters().datagrams < num:
                assert time.monotonic() < deadline
                time.sleep(0.002)

        for leg, (gateway, port) in enumerate(zip(gateways, ports, strict=True)):
            send(gateway, port, packet(0, ssrc=leg))
        settle(3)
        for number in range(1, 40):
            for leg, (gateway, port) in enumerate(zip(gateways, ports, strict=True)):
                for stranger in strangers:
                    send(stranger, port, packet(number, leg, NOISE))  # ahead of the real one, in its very place
                send(gateway, port, packet(number, ssrc=leg))
            if number % 10 == 0:
                settle(3 + 12 * number)
        settle(3 + 12 * 39)
        batch = plane.read(legs, now_s=time.monotonic() + 1)
        for k, leg in enumerate(legs):
            heard = batch.samples[k][batch.present[k]]
            assert np.array_equal(heard, g711.decode_ulaw(CODE)[: 40 * 160])
            counters = plane.counters(leg)
            assert (counters.received, counters.ssrc_changes, counters.lost, counters.stray) == (40, 0, 0, 0)
        assert plane.foreign_packets() == ForeignPackets(unregistered=2 * 3 * 39, foreign=3 * 39)
        assert plane.plane_counters().legs == 3
        plane.release(legs[2])
        assert plane.foreign_packets().foreign == 3 * 39  # told of the plane's whole life
    for sock in [*gateways, *strangers]:
        sock.close()


def test_the_signalled_source_alone_may_send_whatever_arrives_first() -> None:
    plane = PacketPlane(PlaneConfig(max_legs=1))
    leg = plane.register(40000, ("192.0.2.7", 30000), now_s=1.0)
    plane.feed([Datagram(packet(0, 1, NOISE), ("192.0.2.7", 30001), 40000, 1.01)])  # the right host, another port
    plane.feed([Datagram(packet(0, 1), ("192.0.2.7", 30000), 40000, 1.02)])
    assert plane.read([leg], now_s=2).present.sum() == 160
    assert plane.foreign_packets() == ForeignPackets(unregistered=1)


def test_it_is_said_at_once_and_then_once_a_minute() -> None:
    news = ForeignNews()
    assert news.since(ForeignPackets(), 0.0) is None
    assert news.since(ForeignPackets(unregistered=1), 1.0) == ForeignPackets(unregistered=1)
    told = [news.since(ForeignPackets(5, at, 0), float(at)) for at in range(2, 200)]
    assert [t for t in told if t] == [ForeignPackets(4, 61, 0), ForeignPackets(0, 60, 0), ForeignPackets(0, 60, 0)]
    assert SAY_EVERY_S == 60
    assert news.since(ForeignPackets(5, 199, 0), 500.0) == ForeignPackets(0, 18, 0)
    assert news.since(ForeignPackets(5, 199, 0), 900.0) is None
