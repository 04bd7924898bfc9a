"""Peers that start, that do not, and whose port is somebody else's."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import peers
from tests.peers import Peer, PeerError, free_port, free_ports, listens, started

SERVER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"


def server(port: int) -> list[object]:
    return [sys.executable, "-c", SERVER, port]


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_ports_are_no_two_times_the_same_and_none_that_the_kernel_gives_out():
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        assert max(ports) < peers.LAST < given.getsockname()[1]


def test_a_port_in_use_is_left_out():
    first = free_ports(4)
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", first + 5))
        udp.bind(("127.0.0.1", first + 9))
        for _ in range(5):
            got = free_ports(4)
            assert not {first + 5, first + 9} & set(range(got, got + 4))


def test_two_runs_at_once_have_different_ports():
    code = "from tests.peers import free_port; print(free_port())"
    said = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[1],
    ).stdout
    block = (free_port() - peers.FIRST) // peers.BLOCK
    assert (int(said) - peers.FIRST) // peers.BLOCK != block


def test_up_once_made_and_gone_once_closed(tmp_path):
    port = free_port()
    with Peer(server(port), tmp_path / "log", lambda: listens(port)) as peer:
        assert is_alive(peer.process.pid)
    assert not listens(port)


def test_one_that_ends_tells_why_and_one_that_is_never_up_is_gone(tmp_path):
    with pytest.raises(PeerError, match=r"ended with 3: no such thing"):
        Peer([sys.executable, "-c", "import sys; print('no such thing'); sys.exit(3)"], tmp_path / "log", lambda: False)
    code = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
    pid = tmp_path / "pid"
    with pytest.raises(PeerError, match="was not up in time"):
        Peer([sys.executable, "-c", code], pid, lambda: False, up_s=1.0)
    assert not pid.read_text() or not is_alive(int(pid.read_text()))


def test_a_failing_question_leaves_no_process_behind(tmp_path):
    log = tmp_path / "log"

    def asks_wrongly():
        if not log.exists() or not log.read_text():
            return False
        raise KeyError("result")

    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(KeyError):
        Peer([sys.executable, "-c", code], log, asks_wrongly)
    assert not is_alive(int(log.read_text()))


def test_an_answer_of_somebody_else_on_that_port_is_none(tmp_path):
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(PeerError, match="somebody answers on its port"):
        Peer(server(taken), tmp_path / "log", lambda: listens(taken))


def test_a_taken_port_is_tried_again_elsewhere(tmp_path):
    taken = free_port()
    ports = iter([taken, free_port()])

    def make():
        port = next(ports)
        return Peer(server(port), tmp_path / "log", lambda: listens(port))

    with socket.create_server(("127.0.0.1", taken)), started(make) as peer:
        assert is_alive(peer.process.pid)
    with pytest.raises(PeerError):
        started(lambda: Peer([sys.executable, "-c", "raise SystemExit(1)"], tmp_path / "log", lambda: False))


def test_a_hung_one_that_hears_no_signal_is_gone_too(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "STOPPED_S", 0.2)
    log = tmp_path / "log"
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    peer = Peer([sys.executable, "-c", code], log, lambda: log.exists() and "up" in log.read_text())
    peer.close()
    assert not is_alive(peer.process.pid)
