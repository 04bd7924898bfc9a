"""The WebSocket server: one port, a dialect a path. Whoever connects is hostile until a token says otherwise.

The server is ``websockets``. uvicorn's WebSocket side, which the control API could have lent, is a little dearer for a
message (benchmarks/websocket.py) and bounds neither a handshake's time nor what is sent to a slow reader.
"""

import asyncio
import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from inference.alerts.ear import Ear
from inference.errors import CapacityError, CodecError, ConfigError, ScamTapError
from inference.gateway.connected import ConnectedCalls, reason
from inference.gateway.control import CallControl
from inference.gateway.narrow import warm
from inference.gateway.websocket.asterisk import AsteriskSession
from inference.gateway.websocket.auth import has_token, is_signed_by_twilio, is_token
from inference.gateway.websocket.config import DIALECTS, WebSocketConfig
from inference.gateway.websocket.duplex import DuplexSession
from inference.gateway.websocket.fork import ForkSession
from inference.gateway.websocket.line import CLOSE_TIMEOUT_S, Outgoing
from inference.gateway.websocket.media_streams import MediaStreamsSession
from inference.gateway.websocket.session import Session

log = structlog.get_logger(__name__)

SUBPROTOCOLS = ("audio.jambonz.org", "audio.drachtio.org", "audiostream.drachtio.org", "media")
MAX_MESSAGES_PER_S = 2000
"""A party speaks 50 to 100 messages a second; a backlog of seconds may come at once."""

SWEEP_S = 1.0
MAX_HANDSHAKES = 256
"""Handshakes under way, beside the connections that are open; and of these, those that still owe their token."""

_IN_PARAMETERS = {"twilio", "telnyx", "signalwire"}  # their start message may carry the token
_SESSIONS: Mapping[str, Callable[..., Session]] = {
    "twilio": MediaStreamsSession,
    "telnyx": MediaStreamsSession,
    "signalwire": MediaStreamsSession,
    "jambonz": ForkSession,
    "freeswitch": ForkSession,
    "asterisk": AsteriskSession,
    "session": DuplexSession,
}
_SILENT = logging.getLogger("scamtap.websockets")  # the library's log holds paths and headers: tokens, numbers
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_SILENT.setLevel(logging.CRITICAL + 1)


class _Connection(ServerConnection):
    """A connection that is counted from its first byte: handshakes that dawdle must not use up descriptors.

    Attributes:
        made: all of this server's.
        max_made: one more is cut at once.
    """

    made: set["_Connection"]
    max_made: int

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self.made.add(self)
        if len(self.made) > self.max_made:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self.made.discard(self)
        super().connection_lost(exc)


class _Open:
    """One open connection."""

    def __init__(self, connection: ServerConnection, max_waiting: int, now_s: float) -> None:
        self.outgoing = Outgoing(connection, max_waiting)
        self.opened_s = self.heard_s = now_s
        self.num_messages = 0
        self.num_before = 0
        self.session: Session | None = None

    @property
    def is_without_call(self) -> bool:
        """Whether it has not begun a call yet."""
        return self.session is None or self.session.place is None


class WebSocketGateway:
    """Listens; every connection becomes a session of its dialect.

    Attributes:
        name: of the gateway.
        calls: the calls that came this way.
        ear: speaks over their connections.
        refused: connections that were refused or cut, by why.
    """

    name = "websocket"

    def __init__(
        self, config: WebSocketConfig, control: CallControl, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config
        self.calls = ConnectedCalls(self.name, control, linger_s=config.linger_s, clock=clock)
        self.ear: Ear = self.calls
        self.refused: Counter[str] = Counter()
        self._control = control
        self._clock = clock
        self._open: set[_Open] = set()
        self._made: set[_Connection] = set()
        self._server: Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._num_said = 0
        self._is_closing = False

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise RuntimeError("the gateway was not started")
        return int(next(iter(self._server.sockets)).getsockname()[1])

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address cannot be had, the certificate cannot be read.
        """
        config = self.config
        await asyncio.to_thread(warm)
        try:
            self._server = await serve(
                self._serve,
                config.host,
                config.port,
                ssl=self._tls(),
                origins=[None, *map(Origin, config.allowed_origins)],
                select_subprotocol=_select_subprotocol,
                process_request=self._admit,
                server_header=None,
                create_connection=self._counted(),
                compression=None,
                max_size=config.max_message_bytes,
                open_timeout=config.open_timeout_s,
                close_timeout=CLOSE_TIMEOUT_S,
                logger=_SILENT,
            )
        except OSError as error:
            where = f"{config.host}:{config.port}"
            raise ConfigError(f"gateways.websocket: {where} cannot be used ({error.strerror})") from error
        self._sweeping = asyncio.create_task(self._sweep())
        served = [name for name in DIALECTS if getattr(config, name) is not None]
        log.info("websocket gateway listens", port=self.port, dialects=served, tls=config.certificate is not None)

    def _counted(self) -> type[_Connection]:
        """The class of this server's connections."""
        limits = {"made": self._made, "max_made": self.config.max_connections + MAX_HANDSHAKES}
        return type("_Connection", (_Connection,), limits)

    def _tls(self) -> ssl.SSLContext | None:
        if self.config.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.config.certificate, self.config.certificate_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError("gateways.websocket: certificate or certificate_key cannot be read") from error
        return context

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake, or let it pass (None)."""
        name, query = _target(request.path)
        if _dialect(self.config, name) is None:
            return self._refuse(connection, HTTPStatus.NOT_FOUND, "unknown path")
        is_believed = self._is_believed(name, request, query)
        if not is_believed and name not in _IN_PARAMETERS:
            return self._refuse(connection, HTTPStatus.UNAUTHORIZED, "no token")
        if self._is_forged(name, request):
            return self._refuse(connection, HTTPStatus.FORBIDDEN, "bad signature")
        if not is_believed and sum(opened.is_without_call for opened in self._open) >= MAX_HANDSHAKES:
            return self._refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE, "too many without a token yet")
        if len(self._open) >= self.config.max_connections:
            return self._refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        # A second connection of a call needs no room for another call, so only a full worker without any refuses here.
        if self._is_closing or (self._control.is_full and not len(self.calls)):
            return self._refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE, "no room for another call")
        return None

    def _is_believed(self, name: str, request: Request, query: Mapping[str, str]) -> bool:
        if self.config.token is None or self._signing_key(name) is not None:
            return True
        authorization = ", ".join(request.headers.get_all("Authorization")) or None
        return has_token(self.config.token.get_secret_value(), authorization, query)

    def _signing_key(self, name: str) -> str | None:
        signed_with = getattr(_dialect(self.config, name), "signed_with", None)
        return None if signed_with is None else str(signed_with.get_secret_value())

    def _is_forged(self, name: str, request: Request) -> bool:
        key = self._signing_key(name)
        if key is None:
            return False
        url = str(getattr(_dialect(self.config, name), "public_url", ""))
        signatures = request.headers.get_all("X-Twilio-Signature")
        return len(signatures) != 1 or not is_signed_by_twilio(key, url, signatures[0])

    def _refuse(self, connection: ServerConnection, status: HTTPStatus, why: str) -> Response:
        self.refused[why] += 1
        return connection.respond(status, f"{why}\n")

    async def _serve(self, connection: ServerConnection) -> None:
        """One connection, from its handshake to its end."""
        opened = _Open(connection, self.config.max_waiting, self._clock())
        self._open.add(opened)
        try:
            await self._converse(connection, opened)
        finally:
            self._open.discard(opened)
            if opened.session is not None:
                opened.session.closed(is_clean=connection.close_code in (1000, 1001))
            await opened.outgoing.aclose()

    async def _converse(self, connection: ServerConnection, opened: _Open) -> None:
        session = opened.session = self._session(connection, opened)
        try:
            async for message in connection:
                opened.num_messages += 1
                opened.heard_s = self._clock()
                if session.is_over:
                    continue  # said goodbye, and is heard out
                if isinstance(message, str):
                    session.text(message)
                else:
                    session.binary(message)
        except ConnectionClosed:
            pass
        except ScamTapError as error:
            self.refused[reason(error)] += 1
            opened.outgoing.abort(_close_code(error), str(error)[:120])
            await connection.wait_closed()

    def _session(self, connection: ServerConnection, opened: _Open) -> Session:
        assert connection.request is not None  # noqa: S101 (the handshake is over)
        name, query = _target(connection.request.path)
        believed = self._is_believed(name, connection.request, query)

        def check(parameters: Mapping[str, str]) -> None:
            if self._is_closing:
                raise CapacityError("the service stops")
            token = self.config.token
            given = parameters.get("token", "")
            if not believed and token is not None and not is_token(token.get_secret_value(), given):
                raise ConfigError("no token")

        return _SESSIONS[name](name, _dialect(self.config, name), self.calls, query, opened.outgoing, check)

    async def _sweep(self) -> None:
        """Cut whoever says nothing, or far too much; say once in a while what was refused."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = self._clock()
            for opened in list(self._open):
                if opened.is_without_call and now_s - opened.opened_s > self.config.start_timeout_s:
                    self._cut(opened, 1008, "no call began")
                elif now_s - opened.heard_s > self.config.idle_timeout_s:
                    self._cut(opened, 1008, "nothing was said")
                elif opened.num_messages - opened.num_before > MAX_MESSAGES_PER_S * SWEEP_S:
                    self._cut(opened, 1008, "too many messages")
                opened.num_before = opened.num_messages
            total = self.refused.total()
            if total > self._num_said:
                self._num_said = total
                log.warning("connections refused or cut", num_by_reason=dict(self.refused.most_common(8)))
            if len(self.refused) > 64:  # reasons are ours, but let no mistake make them grow
                self.refused.clear()
                self._num_said = 0

    def _cut(self, opened: _Open, code: int, why: str) -> None:
        self.refused[why] += 1
        opened.outgoing.abort(code, why)

    async def aclose(self) -> None:
        """Refuse new connections, end the calls, close what is open."""
        self._is_closing = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        await self.calls.aclose()
        if self._server is not None:
            self._server.close(code=1001, reason="the service stops")
            await self._server.wait_closed()


def _select_subprotocol(_connection: ServerConnection, offered: Any) -> Subprotocol | None:
    """The first we know; those who offer others are served without."""
    return next((name for name in offered if name in SUBPROTOCOLS), None)


def _dialect(config: WebSocketConfig, name: str) -> Any:
    return getattr(config, name) if name in DIALECTS else None


def _target(path: str) -> tuple[str, dict[str, str]]:
    """Dialect and parameters of a request's path; an empty dialect where it cannot be read."""
    try:
        parts = urlsplit(path)
        query = dict(parse_qsl(parts.query, max_num_fields=32))
    except ValueError:
        return "", {}
    return parts.path.strip("/"), query


def _close_code(error: ScamTapError) -> int:
    if isinstance(error, CodecError):
        return 1003  # unsupported data
    if isinstance(error, CapacityError):
        return 1013  # try again later
    return 1008 if isinstance(error, ConfigError) else 1007  # policy; not what the protocol says
