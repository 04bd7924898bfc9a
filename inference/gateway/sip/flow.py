"""How messages travel: our sockets, and which peers are cut off."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from inference.errors import ConfigError, SignallingError
from inference.gateway.sip.framing import Framer

MAX_UNSENT_BYTES = 262_144
"""A peer that reads so slowly is cut off."""

PARTIAL_S = 10.0
"""A message that began must be whole within this."""

FIRST_S = 30.0
"""A connection on which nothing was asked yet is cut off after this."""

IDLE_S = 3600.0
"""One that carried a message before, after this: SBCs keep connections, and ping with CRLF (RFC 5626)."""

TransportName = Literal["UDP", "TCP", "TLS"]


class Timer(Protocol):
    """A call that is due."""

    def cancel(self) -> None:
        """It shall not happen."""


class Timers(Protocol):
    """A clock: an asyncio loop, or a virtual one in tests."""

    def time(self) -> float:
        """Monotonic seconds."""
        ...

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Timer:
        """Call back ``delay`` seconds from now."""
        ...


class Flow(Protocol):
    """A way to one peer, and back to us."""

    @property
    def transport(self) -> TransportName:
        """UDP, TCP or TLS."""
        ...

    @property
    def peer(self) -> tuple[str, int]:
        """Numeric address and port of the other side."""
        ...

    @property
    def local(self) -> tuple[str, int]:
        """Ours."""
        ...

    @property
    def is_verified(self) -> bool:
        """Whether the peer showed a certificate of our client CA."""
        ...

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        ...

    def send(self, data: bytes) -> None:
        """Send a message; nothing where the peer is gone."""
        ...

    def to_port(self, port: int) -> "Flow":
        """The flow to another port of the peer (UDP); a connection is its own."""
        ...


Receive = Callable[[bytes, Flow], None]


@dataclass(frozen=True, slots=True)
class UdpFlow:
    """To a peer by datagrams."""

    socket: asyncio.DatagramTransport
    peer: tuple[str, int]
    local: tuple[str, int]
    transport: TransportName = "UDP"
    is_verified: bool = False

    @property
    def is_open(self) -> bool:
        """Whether our socket is."""
        return not self.socket.is_closing()

    def send(self, data: bytes) -> None:
        """Send a datagram."""
        if self.is_open:
            self.socket.sendto(data, self.peer)

    def to_port(self, port: int) -> "UdpFlow":
        """To another port of the same host."""
        return UdpFlow(self.socket, (self.peer[0], port), self.local)


class Datagrams(asyncio.DatagramProtocol):
    """Our UDP socket."""

    def __init__(self, receive: Receive, admits: Callable[[str], bool]) -> None:
        self._receive = receive
        self._admits = admits
        self.num_turned_away = 0
        self.socket: asyncio.DatagramTransport
        self.local: tuple[str, int]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound."""
        self.socket = transport  # type: ignore[assignment]
        self.local = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """A message, a ping, or noise."""
        if not self._admits(addr[0]):
            self.num_turned_away += 1
        elif data.strip(b"\r\n\x00"):
            self._receive(data, self.flow_to((addr[0], addr[1])))

    def error_received(self, exc: Exception) -> None:
        """A peer's port is closed: its timers will tell."""

    def flow_to(self, peer: tuple[str, int]) -> UdpFlow:
        """To a numeric address."""
        return UdpFlow(self.socket, peer, self.local)


class Connection(asyncio.Protocol):
    """A peer on TCP or TLS; its own flow.

    TLS begins only once the peer was let in: asyncio's own TLS servers count no handshakes, so a flood of silent
    connections would not be bounded.
    """

    def __init__(self, server: "StreamServer", receive: Receive) -> None:
        self._server = server
        self._receive = receive
        self._framer = Framer()
        self._was_asked = False
        self._cut: Timer | None = None
        self._stream: asyncio.Transport | None = None
        self._securing: asyncio.Task[None] | None = None
        self._early = bytearray()
        self.transport: TransportName = "TCP" if server.context is None else "TLS"
        self.peer = self.local = ("", 0)
        self.is_verified = False

    @property
    def is_open(self) -> bool:
        """Whether it is."""
        return self._stream is not None and not self._stream.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._stream = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self.local = transport.get_extra_info("sockname")[:2]
        if peer is None:  # gone already
            self.close()
            return
        self.peer = peer[:2]
        if not self._server.admit(self):
            self.close()
        elif self._server.context is None:
            self._cut_after(FIRST_S)
        else:
            self._stream.pause_reading()  # type: ignore[union-attr]
            self._securing = asyncio.get_running_loop().create_task(self._secure(self._server.context))

    async def _secure(self, context: ssl.SSLContext) -> None:
        """The TLS handshake."""
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                self._stream,  # type: ignore[arg-type]
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=PARTIAL_S,
                ssl_shutdown_timeout=2.0,
            )
        except OSError:  # ssl.SSLError and timeouts are such: a stranger, or half of a connection
            secured = None
        if secured is None:
            self._server.forget(self)
            return
        self._stream, self._securing = secured, None
        self.is_verified = bool(secured.get_extra_info("peercert"))
        self._cut_after(FIRST_S)
        self.data_received(bytes(self._early))
        self._early.clear()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Gone."""
        self._cut_after(None)
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        """Some of a message, or several."""
        if self._securing is not None:
            # A request that came with the last words of the handshake: asyncio hands it over before it tells us of the
            # stream that is encrypted, and an answer now would go out in the clear.
            self._early += data
            return
        was_partial = self._framer.is_partial
        try:
            messages = self._framer.feed(data)
        except SignallingError:
            self.close()
            return
        for message in messages:
            if not self.is_open:
                return
            if message:
                self._was_asked = True
                self._receive(message, self)
            else:
                self.send(b"\r\n")
        if self._framer.is_partial:
            if messages or not was_partial:  # a slow drip does not move the deadline
                self._cut_after(PARTIAL_S)
        elif self._was_asked:  # pings alone do not earn a stranger his place
            self._cut_after(IDLE_S)

    def send(self, data: bytes) -> None:
        """Write, or cut off a peer that does not read."""
        if self._stream is None or not self.is_open:
            return
        self._stream.write(data)
        if self._stream.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._stream.abort()

    def to_port(self, port: int) -> "Connection":  # noqa: ARG002
        """Itself: answers take the connection that asked (section 18.2.2)."""
        return self

    def close(self) -> None:
        """Cut it off."""
        if self._stream is not None:
            self._stream.abort()

    def _cut_after(self, seconds: float | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        self._cut = None if seconds is None else self._server.timers.call_later(seconds, self.close)


@dataclass(slots=True)
class StreamServer:
    """Connections of one listening port, in a bounded number, of which one host gets at most a quarter."""

    timers: Timers
    admits: Callable[[str], bool]
    max_connections: int
    context: ssl.SSLContext | None = None
    num_turned_away: int = 0
    _open: set[Connection] = field(default_factory=set)
    _of_host: Counter[str] = field(default_factory=Counter)

    def admit(self, connection: Connection) -> bool:
        """Whether it may stay."""
        host = connection.peer[0]
        per_host = max(1, self.max_connections // 4)
        if not self.admits(host) or len(self._open) >= self.max_connections or self._of_host[host] >= per_host:
            self.num_turned_away += 1
            return False
        self._open.add(connection)
        self._of_host[host] += 1
        return True

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        if connection in self._open:
            self._open.remove(connection)
            self._of_host -= Counter([connection.peer[0]])

    @property
    def num_open(self) -> int:
        """Connections there are."""
        return len(self._open)

    def close(self) -> None:
        """Cut all off."""
        for connection in list(self._open):
            connection.close()


async def open_datagrams(
    host: str, port: int, receive: Receive, admits: Callable[[str], bool], *, reuse_port: bool = False
) -> Datagrams:
    """Bind a UDP socket; with ``reuse_port``, other processes may have the same address.

    Raises:
        ConfigError: the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    try:
        _, protocol = await loop.create_datagram_endpoint(
            lambda: Datagrams(receive, admits), local_addr=(host, port), reuse_port=reuse_port or None
        )
    except OSError as error:
        raise _cannot_listen("udp", host, port, error) from error
    return protocol


async def open_stream_server(
    host: str, port: int, receive: Receive, server: StreamServer, *, reuse_port: bool = False
) -> asyncio.Server:
    """Listen for TCP, or for TLS where the server has a context; ``reuse_port`` as above.

    Raises:
        ConfigError: the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(
            lambda: Connection(server, receive), host, port, backlog=128, reuse_port=reuse_port or None
        )
    except OSError as error:
        raise _cannot_listen("tcp" if server.context is None else "tls", host, port, error) from error


def _cannot_listen(transport: str, host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"sip: {transport} {host}:{port} cannot be listened on ({error.strerror}); choose another address or port"
    )
