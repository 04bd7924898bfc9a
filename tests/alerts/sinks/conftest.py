"""Real servers on loopback, and what sinks are given."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.alerts.notice import Envelope, Notice
from tests.peers import Peer, free_port, listens, started


class Server:
    """A server process that can be killed and started again on its port.

    Args:
        command: without the program's own folder.
        port: where it listens, on 127.0.0.1.
        log: where it writes what it says.
    """

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.port = port
        self._command = list(command)
        self._log = log
        self._peer: Peer | None = None

    def start(self) -> None:
        self._peer = Peer(self._command, self._log, lambda: listens(self.port))

    def kill(self) -> None:
        if self._peer is not None:
            self._peer.kill()
            self._peer = None


def program(name: str) -> str:
    beside_python = Path(sys.executable).with_name(name)
    found = str(beside_python) if beside_python.is_file() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@dataclass(frozen=True)
class Certificates:
    """PEM files: an authority, a certificate of it for 127.0.0.1, and an authority that signed nothing."""

    ca: Path
    cert: Path
    key: Path
    other_ca: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    folder, openssl = tmp_path_factory.mktemp("tls"), program("openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    fresh = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        run("req", "-x509", *fresh, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    run("req", *fresh, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
    run("x509", "-req", "-in", "server.csr", *signed, "-out", "server.pem")
    return Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key", folder / "other.pem")


@pytest.fixture
def redis_server(tmp_path) -> Iterator[Server]:
    """Keeps what it acknowledged through a kill."""
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    command = [program("redis-server"), "--bind", "127.0.0.1", "--dir", str(tmp_path), *durable]
    server = started(lambda: begun([*command, "--port"], tmp_path / "redis.log"))
    yield server
    server.kill()


@pytest.fixture
def nats_server(tmp_path) -> Iterator[Server]:
    """With JetStream, on disk."""
    command = [program("nats-server"), "-a", "127.0.0.1", "-js", "-sd", str(tmp_path / "nats")]
    server = started(lambda: begun([*command, "-p"], tmp_path / "nats.log"))
    yield server
    server.kill()


def begun(command: Sequence[str], log: Path) -> Server:
    """A server whose command ends with its port."""
    port = free_port()
    server = Server([*command, str(port)], port, log)
    server.start()
    return server


@pytest.fixture
def make_server(tmp_path):
    """``make_server([program, ...options], port)``: for servers with TLS or passwords."""
    started = []

    def make(command: Sequence[str], port: int) -> Server:
        server = Server([program(command[0]), *command[1:]], port, tmp_path / "server.log")
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.kill()


@pytest.fixture
def a_free_port() -> int:
    return free_port()


@pytest.fixture
def letters():
    """``letters(n)``: n envelopes, each of a call of its own."""

    def make(num: int, first: int = 0) -> list[Envelope]:
        notices = (
            Notice("alert", f"alr_{n}", f"call-{n}", 0.0, {"level": "danger"}) for n in range(first, first + num)
        )
        return [notice.sealed("/scamtap") for notice in notices]

    return make
