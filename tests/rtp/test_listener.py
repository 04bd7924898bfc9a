"""Ports for one leg alone, over real sockets: bound, emptied when ready, latched once."""

import socket
import time

import pytest
from pydantic import ValidationError

from inference.errors import ConfigError
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import PacketPlane, PlaneConfig
from tests.peers import free_ports


def packet(number: int, ssrc: int = 1) -> bytes:
    return bytes(
        RtpPacket(payload_type=0, sequence_number=number, timestamp=160 * number, ssrc=ssrc, payload=b"\x10" * 160)
    )


def free_range(num: int) -> tuple[int, int]:
    """The first and last of some ports in a row that nobody has."""
    first = free_ports(num)
    return first, first + num - 1


def wait_for(condition, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the datagrams did not arrive"
        time.sleep(0.002)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_unknown_senders_latch_each_to_its_own_port(backend: str) -> None:
    first, last = free_range(40)
    plane = PacketPlane(PlaneConfig(ports=(0,), exclusive_ports=(first, last), max_legs=50), backend=backend)
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(41)]
    with plane:
        assert len(plane.ports) == 1  # those that may be shared
        ports = range(first, last + 1)
        legs = [plane.register(port, None) for port in ports]
        with pytest.raises(ConfigError, match="belongs to one leg alone"):
            plane.register(first, ("127.0.0.1", 9))
        for i in range(5):
            for port, sender in zip(ports, senders[:40], strict=True):
                sender.sendto(packet(i), ("127.0.0.1", port))
        wait_for(lambda: plane.plane_counters().datagrams == 200)
        for port in ports:
            senders[40].sendto(packet(5), ("127.0.0.1", port))  # a stranger with the right SSRC and number
        wait_for(lambda: plane.plane_counters().datagrams == 240)
        counters = [plane.counters(leg) for leg in legs]
        assert {(c.received, c.foreign, c.ssrc_changes) for c in counters} == {(5, 1, 0)}
        assert plane.read(legs, now_s=time.monotonic() + 1).present.sum() == 40 * 5 * 160
        # A leg whose source signalling does tell may have such a port too; when it is released, the next one latches.
        plane.release(legs[0])
        known = plane.register(first, ("127.0.0.1", senders[1].getsockname()[1]))
        senders[1].sendto(packet(7, ssrc=2), ("127.0.0.1", first))
        wait_for(lambda: plane.counters(known).received == 1)
    for sender in senders:
        sender.close()


def test_a_range_that_cannot_be_had_is_one_line() -> None:
    first, last = free_range(3)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", last))
        plane = PacketPlane(PlaneConfig(ports=(0,), exclusive_ports=(first, last), max_legs=1))
        with pytest.raises(ConfigError, match=f"UDP port {last} on 127.0.0.1 is in use"):
            plane.start()
        assert plane.ports == ()
    plane.start()  # nothing was left open
    plane.stop()
    for wrong in ((5, 4), (0, 10), (60000, 70000)):
        with pytest.raises(ValidationError, match="first and last UDP port"):
            PlaneConfig(exclusive_ports=wrong)


def test_no_more_descriptors_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    plane = PacketPlane(PlaneConfig(ports=(0,), max_legs=1))
    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(ConfigError, match=r"ulimit -n\) or narrow media.exclusive_ports"):
        plane.start()
