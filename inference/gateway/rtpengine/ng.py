"""Speaking to one rtpengine: requests by the ng protocol over UDP or TCP, bencode or JSON.

A request is a cookie, a space and a dictionary; the reply repeats the cookie. Over UDP a request is sent again under
the same cookie until its reply comes: rtpengine answers a repeated cookie from memory and does nothing twice.

Protocol: docs/ng_control_protocol.md, docs/tcpng_control_protocol.md of rtpengine; tried with 10.5.3.5.
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable
from typing import Any, Final

from inference.errors import GatewayError, SignallingError
from inference.gateway.rtpengine import bencode
from inference.gateway.rtpengine.config import NodeConfig

MAX_COOKIE_BYTES = 64
MAX_DATAGRAM_BYTES = 65_507  # what UDP over IPv4 carries
MAX_TCP_REPLY_BYTES = 8 << 20
MAX_PENDING = 4096
MAX_REASON = 80
FIRST_REPEAT_S: Final = 0.1  # then twice as long each time; a local node answers within a millisecond

Reply = dict[str, Any]


class RefusedError(GatewayError):
    """The node answered, and the answer is no; ``reason`` is one of rtpengine's own phrases."""

    def __init__(self, node: str, command: str, reason: str) -> None:
        super().__init__(f"rtpengine {node} refuses '{command}' ({reason})")
        self.reason = reason


class UnansweredError(GatewayError):
    """The node did not answer; asked again it may."""


def parse_message(data: bytes) -> tuple[str, Reply]:
    """Read a datagram: cookie and dictionary.

    Raises:
        SignallingError: it is neither bencode nor JSON, or no dictionary.
    """
    cookie, space, body = data.partition(b" ")
    if not space or not 0 < len(cookie) <= MAX_COOKIE_BYTES or not cookie.isascii():
        raise SignallingError("ng message has no cookie")
    if body[:1] != b"{":
        reply = bencode.decode(body)
    else:
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError):  # also what is not UTF-8
            raise SignallingError("ng message is no JSON") from None
    if not isinstance(reply, dict):
        raise SignallingError("ng message is no dictionary")
    return cookie.decode(), reply


def reason_of(reply: Reply) -> str:
    """Why the node refused, fit to be logged."""
    reason = reply.get("error-reason")
    is_plain = isinstance(reason, str) and len(reason) <= MAX_REASON and reason.isascii() and reason.isprintable()
    return str(reason) if is_plain else "no reason given"


class NgNode:
    """One rtpengine daemon.

    Args:
        config: where it listens.
        timeout_s: bound on a request.

    Attributes:
        name: of the node.
    """

    def __init__(self, config: NodeConfig, timeout_s: float) -> None:
        self.config = config
        self.name = config.name
        self.timeout_s = timeout_s
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count()
        self._pending: dict[str, asyncio.Future[Reply]] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Transport | None = None
        self._connecting = asyncio.Lock()

    async def request(self, command: str, *, is_binary: bool = False, **arguments: bencode.Value) -> Reply:
        """Ask, and return the answer.

        Args:
            command: of the ng protocol, e.g. ``subscribe request``.
            is_binary: an argument holds bytes, which JSON has no place for.
            arguments: with ``_`` for ``-``.

        Raises:
            RefusedError: the node says no.
            UnansweredError: it did not answer in time.
            GatewayError: it did not answer understandably.
        """
        message: dict[str, bencode.Value] = {"command": command}
        message |= {key.replace("_", "-"): value for key, value in arguments.items()}
        if len(self._pending) >= MAX_PENDING:
            raise GatewayError(
                f"rtpengine {self.name}: {MAX_PENDING} requests wait for answers: is the node overloaded?"
            )
        cookie = self.new_cookie()
        data = self._encode(cookie, message, is_binary)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[cookie] = answer
        try:
            async with asyncio.timeout(self.timeout_s):
                await self._send(data, answer)
                reply = await answer
        except TimeoutError:
            raise UnansweredError(
                f"rtpengine {self.name} does not answer '{command}' within {self.timeout_s:g} s: is it running?"
            ) from None
        except SignallingError as error:
            raise GatewayError(f"rtpengine {self.name} answers '{command}' with what is no reply ({error})") from None
        except OSError as error:
            raise UnansweredError(f"rtpengine {self.name} cannot be reached ({error.strerror or 'closed'})") from None
        finally:
            del self._pending[cookie]
        if reply.get("result") not in ("ok", "pong"):
            raise RefusedError(self.name, command, reason_of(reply))
        return reply

    def new_cookie(self) -> str:
        """A cookie that no request had before."""
        return f"{self._prefix}_{next(self._numbers)}"

    def _encode(self, cookie: str, message: bencode.Value, is_binary: bool) -> bytes:
        if self.config.encoding == "json" and not is_binary:
            body = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogateescape")
        else:
            body = bencode.encode(message)
        data = cookie.encode() + b" " + body
        if self.config.transport == "udp" and len(data) > MAX_DATAGRAM_BYTES:
            raise GatewayError(
                f"rtpengine {self.name}: a request does not fit a datagram: set the node's transport: tcp"
            )
        return data

    async def _send(self, data: bytes, answer: "asyncio.Future[Reply]") -> None:
        if self.config.transport == "tcp":
            (await self._stream()).write(data)
            return
        datagrams = await self._datagrams()
        wait_s = FIRST_REPEAT_S
        while True:
            datagrams.sendto(data)
            done, _ = await asyncio.wait({answer}, timeout=wait_s)
            if done:
                return
            wait_s *= 2

    async def _datagrams(self) -> asyncio.DatagramTransport:
        async with self._connecting:
            if self._udp is None or self._udp.is_closing():
                # Connected: the system drops what others send.
                self._udp, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Datagrams(self._answered), remote_addr=self.config.host_and_port
                )
            return self._udp

    async def _stream(self) -> asyncio.Transport:
        async with self._connecting:
            if self._tcp is None or self._tcp.is_closing():
                self._tcp, _ = await asyncio.get_running_loop().create_connection(
                    lambda: _Stream(self._answered, self._broken), *self.config.host_and_port
                )
            return self._tcp

    def _answered(self, data: bytes) -> None:
        cookie = data.partition(b" ")[0][:MAX_COOKIE_BYTES].decode("ascii", "replace")
        answer = self._pending.get(cookie)
        if answer is None or answer.done():
            return  # late, or repeated
        try:
            answer.set_result(parse_message(data)[1])
        except SignallingError as error:
            answer.set_exception(error)

    def _broken(self) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError())

    async def aclose(self) -> None:
        """Close the socket; requests under way fail."""
        for transport in (self._udp, self._tcp):
            if transport is not None:
                transport.close()
        self._broken()


class _Datagrams(asyncio.DatagramProtocol):
    """ng over UDP. Errors from the network (nobody listens there) are left to the timeout: nodes restart."""

    def __init__(self, on_message: Callable[[bytes], None]) -> None:
        self._on_message = on_message

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        self._on_message(data)


class _Stream(asyncio.Protocol):
    """ng over TCP: a message ends where its value ends."""

    def __init__(self, on_message: Callable[[bytes], None], on_broken: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_broken = on_broken
        self._waiting = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        try:
            messages, self._waiting = split_stream(self._waiting)
        except SignallingError:
            messages = []
            if self._transport is not None:
                self._transport.close()
        for message in messages:
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._on_broken()


def split_stream(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut what came over TCP into whole messages, and the beginning of one that is not yet whole.

    Raises:
        SignallingError: it is no row of ng messages, or one is longer than ``MAX_TCP_REPLY_BYTES``.
    """
    messages = []
    start = 0
    while start < len(data):
        space = data.find(b" ", start, start + MAX_COOKIE_BYTES + 1)
        if space < 0 and len(data) - start <= MAX_COOKIE_BYTES:
            break
        if space <= start:
            raise SignallingError("ng message has no cookie")
        try:
            _, end = bencode.decode_prefix(data, space + 1)
        except bencode.IncompleteError:
            break
        messages.append(data[start:end])
        start = end
    if len(data) - start > MAX_TCP_REPLY_BYTES:
        raise SignallingError("ng message is too long")
    return messages, data[start:]
