"""The recording server: listens for SBCs, lets the right ones in, and keeps their recordings."""

import asyncio
import contextlib
import ssl
from typing import Any

import structlog

from inference.alerts.ear import Ear, Reach
from inference.errors import ConfigError
from inference.gateway.control import CallControl
from inference.gateway.ports import MediaPorts
from inference.gateway.sip.agent import Accepted, Agent
from inference.gateway.sip.application import AgentConfig, busy
from inference.gateway.sip.auth import DigestAuth
from inference.gateway.sip.dialog import option_tags
from inference.gateway.sip.flow import Datagrams, Flow, StreamServer, open_datagrams, open_stream_server
from inference.gateway.sip.message import RefusedError, Request
from inference.gateway.sip.transaction import ServerTransaction
from inference.gateway.siprec.admission import AllowList
from inference.gateway.siprec.body import ACCEPT, read_body
from inference.gateway.siprec.config import Listener, SiprecConfig, TlsConfig
from inference.gateway.siprec.ear import InfoEar
from inference.gateway.siprec.recording import Recording
from inference.gateway.siprec.roles import Numbering

log = structlog.get_logger(__name__)

SWEEP_S = 5.0
GOODBYE_S = 2.0
"""How long BYEs of ours may take to be answered when we stop."""


class SiprecGateway:
    """Implements :class:`inference.gateway.control.Gateway`.

    Args:
        config: see there.
        control: the service.
        ports: where media goes.

    Attributes:
        name: of the gateway, and of the ear that calls through it name where no other is configured.
        numbering: tells whose numbers are subscribers'.
        ear: warns through the SBC; there where ``config.info`` is.
    """

    name = "siprec"

    def __init__(self, config: SiprecConfig, control: CallControl, ports: MediaPorts) -> None:
        self.config = config
        self.control = control
        self.ports = ports
        self.numbering = Numbering(config.near_numbers)
        self._allowed = AllowList(config.allow_from)
        self._digest = None if config.digest is None else DigestAuth(config.digest)
        self._recordings: dict[Recording, Accepted] = {}
        self._ending: set[asyncio.Task[Any]] = set()
        self._datagrams: list[Datagrams] = []
        self._streams: list[tuple[asyncio.Server, StreamServer]] = []
        self._sweeping: asyncio.Task[None] | None = None
        self._refused_before = self._turned_away_before = 0
        self.agent: Agent
        self.ear: Ear
        if config.info is not None:
            self.ear = InfoEar(config.info, self)

    @property
    def addresses(self) -> list[tuple[str, str, int]]:
        """(transport, host, port) listened on, in the order of the configuration for each kind."""
        out = [("udp", *datagrams.local) for datagrams in self._datagrams]
        for server, streams in self._streams:
            name = "tcp" if streams.context is None else "tls"
            out += [(name, *socket.getsockname()[:2]) for socket in server.sockets]
        return out

    @property
    def num_recordings(self) -> int:
        """Recordings going on."""
        return len(self._recordings)

    @property
    def num_connections(self) -> int:
        """TCP and TLS connections."""
        return sum(streams.num_open for _, streams in self._streams)

    @property
    def num_turned_away(self) -> int:
        """Datagrams and connections from hosts that may not send, or beyond the bounds."""
        by_datagram = sum(datagrams.num_turned_away for datagrams in self._datagrams)
        return by_datagram + sum(streams.num_turned_away for _, streams in self._streams)

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: an address cannot be had, a certificate cannot be read.
        """
        self.agent = Agent(self, asyncio.get_running_loop(), self.agent_config())
        for listener in self.config.listeners:
            await self._listen(listener)
        self._sweeping = asyncio.create_task(self._sweep())
        log.info("siprec listens", addresses=[f"{name}:{host}:{port}" for name, host, port in self.addresses])

    def agent_config(self) -> AgentConfig:
        """Who we say we are."""
        return AgentConfig(
            extensions=("siprec", "timer"),
            contact_parameters=("+sip.srs",),
            accept=ACCEPT,
            advertised=self.config.advertised,
            max_sessions=self.config.max_sessions,
            longest_interval_s=self.config.session_interval_s,
        )

    async def _listen(self, listener: Listener) -> None:
        host, port = listener.host, listener.port
        if listener.transport == "udp":
            self._datagrams.append(await open_datagrams(host, port, self.agent.receive, self._allowed))
            return
        context = None
        if listener.transport == "tls":
            if self.config.tls is None:
                raise ConfigError("gateways.siprec.tls is missing: a tls: listener needs a certificate and its key")
            context = tls_context(self.config.tls)
        loop = asyncio.get_running_loop()
        streams = StreamServer(loop, self._allowed, self.config.max_connections, context)
        self._streams.append((await open_stream_server(host, port, self.agent.receive, streams), streams))

    def admit(self, request: Request, flow: Flow) -> None:
        """Digest, where it is configured and the peer has shown no certificate; pings are let through.

        Raises:
            RefusedError: 401.
        """
        if self._digest is not None and not flow.is_verified and request.method != "OPTIONS":
            self._digest.check(request)

    def probed(self) -> int:
        """503 while no call would be taken."""
        return 503 if self.control.is_full else 200

    def invited(self, transaction: ServerTransaction) -> None:
        """A new recording.

        Raises:
            RefusedError: 421, it is none; 415, 488, 503 …
        """
        request = transaction.incoming.request
        if self.control.is_full:
            raise busy("no room for another call")
        body = read_body(request)
        if body.metadata is None and "siprec" not in option_tags(request, "Require"):
            raise RefusedError(421, "only calls that are recorded are taken here", [("Require", "siprec")])
        recording = Recording.of(self, request, body)
        accepted = self.agent.prepare(transaction, recording)
        answer = recording.apply(body)
        self._recordings[recording] = accepted
        self.agent.accept(accepted, transaction, answer)
        log.info("recording begins", call=recording.call_id if recording.spec is None else recording.spec.id)

    def find(self, reach: Reach) -> tuple[Recording, Accepted] | None:
        """The recording whose subscriber is meant; None where it is over, or where several may be.

        Both parties of a call may be subscribers, each recorded in a session of its own.
        """
        if reach.call is None:
            return None
        named = reach.call.get_secret_value()
        of_call = [found for found in self._recordings.items() if found[0].reach_call == named]
        exact = [found for found in of_call if found[0].spec is not None and found[0].spec.reach == reach]
        candidates = exact[-1:] or of_call
        return candidates[0] if len(candidates) == 1 else None

    def release(self, recording: Recording, leases: list[int]) -> None:
        """A recording is over: its call ends, then its ports are given back."""
        self._recordings.pop(recording, None)
        task = asyncio.get_running_loop().create_task(self._end(recording, leases))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, recording: Recording, leases: list[int]) -> None:
        try:
            if recording.spec is not None:
                with contextlib.suppress(KeyError):  # the service ended it before
                    await self.control.end(recording.spec.id)
        finally:
            for port in leases:
                self.ports.give_back(port)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """Let go of recordings whose calls the service ended; say how many requests were refused."""
        followed = set(self.control.call_ids)
        for recording, accepted in list(self._recordings.items()):
            if recording.spec is not None and recording.spec.id not in followed:
                recording.call_is_over()
                if not recording.is_held:  # on hold nothing is sent, and the call goes on
                    self.agent.hang_up(accepted)
                    continue
            now_s = self.agent.time_s
            if recording.spec is not None:
                recording.unheard_since_s = None
            elif recording.unheard_since_s is None:
                recording.unheard_since_s = now_s
            elif now_s - recording.unheard_since_s > self.config.session_interval_s:
                self.agent.hang_up(accepted)  # its SBC may be gone: without a session timer nobody would tell us
        counts = self.agent.counts
        refused = sum(number for what, number in counts.items() if what.startswith("refused") and "401" not in what)
        if refused > self._refused_before:
            more = refused - self._refused_before
            log.warning("siprec requests refused", more=more, latest=self.agent.latest_refusal, counts=dict(counts))
        if self.num_turned_away > self._turned_away_before:
            log.warning("siprec strangers turned away", more=self.num_turned_away - self._turned_away_before)
        self._refused_before, self._turned_away_before = refused, self.num_turned_away

    async def aclose(self) -> None:
        """Hang up every recording, end their calls, close the sockets."""
        for server, _ in self._streams:
            server.close()
        if self._sweeping is not None:  # it may not have come so far
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
            await self.agent.aclose(GOODBYE_S)
        if self._ending:
            # What was heard is understood while the worker drains; here they only have to begin to end.
            await asyncio.wait(self._ending, timeout=GOODBYE_S)
        for _, streams in self._streams:
            streams.close()
        for datagrams in self._datagrams:
            datagrams.socket.close()


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """Our side of TLS 1.2 or later.

    Raises:
        ConfigError: a file cannot be read or is not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.certificate, config.key)
        if config.client_ca is not None:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError("gateways.siprec.tls: certificate, key or client_ca is not a PEM file that fits") from error
    return context
