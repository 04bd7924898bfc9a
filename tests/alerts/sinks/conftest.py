"""Real servers on loopback, and what sinks are given."""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from inference.alerts.notice import Envelope, Notice


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until_s = time.monotonic() + 15
        while time.monotonic() < until_s and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError(self._log.read_text(errors="replace"))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


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
    port = free_port()
    durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    command = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(tmp_path), *durable]
    server = Server(command, port, tmp_path / "redis.log")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def nats_server(tmp_path) -> Iterator[Server]:
    """With JetStream, on disk."""
    port = free_port()
    command = [program("nats-server"), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(tmp_path / "nats")]
    server = Server(command, port, tmp_path / "nats.log")
    server.start()
    yield server
    server.kill()


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
