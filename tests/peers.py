"""Servers of others' making on loopback: on ports that nobody takes in between, up once made, gone once closed.

A port that was bound to 0 and released is anybody's: until the server binds it, the kernel may give it to a connection
of somebody else's, or to the very socket that asks whether the server is there. A datagram to a port that is its own
comes back, a connection to it stands, and both look like an answer. Ports here are below those that kernels give out by
themselves (Linux 32768 on, macOS 49152 on), and each process of tests has a block of them to itself.
"""

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

HOST = "127.0.0.1"
FIRST, LAST, BLOCK = 10_000, 32_000, 1_000
UP_S = 60.0
"""A server is up in a second on an idle machine; on one with ten times as much to do it must not be given up."""
STOPPED_S = 15.0
LOG_TAIL = 2000  # characters

T = TypeVar("T")


class PeerError(AssertionError):
    """A peer did not start; with the end of what it said."""


class _Block:
    """Ports of this process: whoever listens on the first of a block has the others, and leaves them when it ends."""

    def __init__(self) -> None:
        for first in range(FIRST, LAST, BLOCK):
            lock = socket.socket()
            try:
                lock.bind((HOST, first))
                lock.listen(1)
            except OSError:
                lock.close()
            else:
                atexit.register(lock.close)
                self._ports = range(first + 1, first + BLOCK)
                self._next = 0
                return
        raise PeerError(f"every block of ports from {FIRST} to {LAST} is in use; wait until other runs of tests end")

    def take(self, num: int) -> int:
        """The first of ``num`` neighbours that are free for UDP and TCP; the one after the last taken comes first."""
        for _ in self._ports:
            if self._next + num > len(self._ports):
                self._next = 0
            first = self._ports[self._next]
            self._next += num
            if all(map(_is_free, range(first, first + num))):
                return first
        raise PeerError(f"no {num} ports beside each other are free in {self._ports}")


def _is_free(port: int) -> bool:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        try:
            for sock in (tcp, udp):
                sock.bind((HOST, port))
        except OSError:
            return False
        return True


_block: list[_Block] = []


def free_ports(num: int) -> int:
    """The first of ``num`` neighbouring ports that are free for UDP and TCP and stay so."""
    if not _block:
        _block.append(_Block())
    return _block[0].take(num)


def free_port() -> int:
    """A port that is free for UDP and TCP and stays so."""
    return free_ports(1)


def listens(port: int, kind: int = socket.SOCK_STREAM) -> bool:
    """Whether somebody has this port on 127.0.0.1: takes connections, or has bound it for UDP (Linux)."""
    if kind == socket.SOCK_DGRAM:
        return f":{port:04X} " in Path("/proc/net/udp").read_text()
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


class Peer:
    """A process in a session of its own, waited for until it is up.

    Args:
        command: the program and its options.
        log: where it writes what it says.
        is_up: asked until it says so; and once before there is anybody to answer.
        up_s: how long.
        options: of :class:`subprocess.Popen`.

    Raises:
        PeerError: it ended, or was not up in time; it is gone then.
    """

    def __init__(
        self, command: Sequence[object], log: Path, is_up: Callable[[], bool], up_s: float = UP_S, **options: Any
    ) -> None:
        self.log = log
        if is_up():
            raise PeerError(f"{Path(str(command[0])).name} is not started yet, and somebody answers on its port")
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, **options,
            )  # fmt: skip
        try:
            self._wait(is_up, time.monotonic() + up_s)
        except BaseException:
            self.kill()
            raise

    def _wait(self, is_up: Callable[[], bool], until_s: float) -> None:
        while True:
            is_answered = is_up()  # asked first: the answer to one that has ended was another's
            if self.process.poll() is not None:
                raise PeerError(f"{self._name} ended with {self.process.returncode}: {self.said()}")
            if is_answered:
                return
            if time.monotonic() > until_s:
                raise PeerError(f"{self._name} was not up in time: {self.said()}")
            time.sleep(0.02)

    @property
    def _name(self) -> str:
        return Path(str(self.process.args[0])).name

    def said(self) -> str:
        """The end of what it said."""
        return self.log.read_text(errors="replace")[-LOG_TAIL:].strip() or "nothing said"

    def kill(self) -> None:
        """As a crash; what it started goes with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Told to end, and made to."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOPPED_S)
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def started(make: Callable[[], T], tries: int = 3) -> T:
    """What ``make`` starts on ports that it takes anew each time: some server that is no test may sit on one."""
    for left in reversed(range(tries)):
        try:
            return make()
        except PeerError:
            if not left:
                raise
    raise AssertionError
