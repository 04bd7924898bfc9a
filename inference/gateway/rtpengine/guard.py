"""A second process that lets held callers be heard again when this one dies, and so must not die with it.

While a caller is blocked so that a warning is heard, ``unblock media`` must come, whatever happens to us: rtpengine
10.5 has no block that ends by itself. The guard is told before a caller is blocked, and unblocks when it is not told
otherwise in time, or when the pipe to us breaks: SIGKILL closes that too. What it cannot outlive is the host.

Run as a script it is that process, with nothing but the standard library: 20 MB, half of it shared with any Python.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from inference.gateway.rtpengine.config import NodeConfig

TRIES = 5
TRY_S = 0.2
LINE_BYTES = 4096
MAX_WATCHED = 4096


class Release(NamedTuple):
    """Whom to unblock, and where."""

    node: NodeConfig
    call_id: str
    far: str
    near: str


class Guard:
    """Our end of the pipe."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._names: dict[tuple[str, str, str], tuple[int, float]] = {}  # its number, when it is due
        self._count = 0

    async def start(self) -> None:
        """Start the process, or start it again where it died."""
        if self._process is not None and self._process.returncode is None:
            return
        self._names.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            __file__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # a signal to our process group must not reach it
        )

    async def watch(self, release: Release, within_s: float) -> bool:
        """Have ``release`` done after ``within_s``, unless it is forgotten before. False: it cannot be relied on."""
        self._count += 1
        message: dict[str, Any] = {
            "name": self._count,
            "within_s": within_s,
            "address": release.node.host_and_port,
            "is_tcp": release.node.transport == "tcp",
            "request": ["unblock media", release.call_id, release.far, release.near],
        }
        now_s = time.monotonic()
        self._names = {of: (name, due_s) for of, (name, due_s) in self._names.items() if due_s > now_s}
        before = self._names.get(_of(release))
        if len(self._names) >= MAX_WATCHED or not await self._tell(message):
            return False
        self._names[_of(release)] = (message["name"], now_s + within_s)
        if before is not None:
            await self._tell({"name": before[0]})
        return True

    async def forget(self, release: Release) -> None:
        """It is done."""
        watched = self._names.pop(_of(release), None)
        if watched is not None:
            await self._tell({"name": watched[0]})

    async def _tell(self, message: dict[str, Any]) -> bool:
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            return False
        line = json.dumps(message).encode() + b"\n"
        if len(line) > LINE_BYTES:
            return False
        try:
            process.stdin.write(line)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    async def aclose(self) -> None:
        """Close the pipe: what is still watched is released now."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        await process.wait()


def _of(release: Release) -> tuple[str, str, str]:
    return release.node.name, release.call_id, release.far


def _request(name: int, command: str, call_id: str, far: str, near: str) -> bytes:
    fields = ("command", command, "call-id", call_id, "from-tag", far, "to-tag", near)
    body = b"".join(b"%d:%s" % (len(field.encode()), field.encode()) for field in fields)
    return b"guard%d_%d d%se" % (time.time_ns(), name, body)


def _send(message: dict[str, Any]) -> None:
    """Unblock one caller; over UDP until the node answers."""
    data = _request(int(message["name"]), *message["request"])
    host, port = message["address"]
    kind = socket.SOCK_STREAM if message["is_tcp"] else socket.SOCK_DGRAM
    for _ in range(TRIES):
        began_s = time.monotonic()
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=kind)[0]
            with socket.socket(family, kind) as sock:
                sock.settimeout(TRY_S)
                sock.connect(address)
                sock.sendall(data)
                if sock.recv(65536):
                    return
        except OSError:  # also a timeout
            time.sleep(max(0.0, began_s + TRY_S - time.monotonic()))


def main() -> None:
    """Read what to watch until the pipe closes; unblock what is due, and at the end all."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, tuple[float, dict[str, Any]]] = {}
    pipe, waiting = sys.stdin.fileno(), b""
    is_open = True
    while is_open:
        now_s = time.monotonic()
        for name in [name for name, (due_s, _) in watched.items() if due_s <= now_s]:
            _send(watched.pop(name)[1])
        wait_s = min((due_s for due_s, _ in watched.values()), default=now_s + 3600) - time.monotonic()
        if not select.select([pipe], [], [], max(0.0, wait_s))[0]:
            continue
        data = os.read(pipe, 65536)
        is_open = bool(data)
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "request" in message:
                watched[message["name"]] = (time.monotonic() + message["within_s"], message)
            else:
                watched.pop(message["name"], None)
    for _, message in watched.values():
        _send(message)


if __name__ == "__main__":
    main()
