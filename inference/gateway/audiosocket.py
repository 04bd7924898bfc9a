"""Asterisk's AudioSocket: a party's audio over TCP, in frames of a kind, a length and a payload.

docs.asterisk.org/Configuration/Channel-Drivers/AudioSocket. A frame is one byte of kind, two of length (big-endian) and
so many of payload. The first names the connection by a UUID; there is no authentication, so peers are allowed by their
address. One connection brings one party: the two UUIDs of a call differ in their last digit alone.
"""

import asyncio
import ipaddress
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, model_validator

from inference.alerts.ear import Ear
from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.audio.segment import PCM
from inference.errors import ConfigError, ScamTapError, SignallingError
from inference.gateway.connected import ConnectedCalls, Place, Player, reason
from inference.gateway.control import CallControl
from inference.gateway.narrow import warm
from inference.gateway.pcm import Sound, encode
from inference.gateway.spec import CallSpec, LegSpec

log = structlog.get_logger(__name__)

HANG_UP, NAME, SILENCE, KEY, ERROR = 0x00, 0x01, 0x02, 0x03, 0xFF
AUDIO_HZ = {0x10: 8000, 0x11: 12000, 0x12: 16000, 0x13: 24000, 0x14: 32000, 0x15: 44100, 0x16: 48000, 0x17: 96000,
            0x18: 192000}  # fmt: skip
"""Sampling rate by kind of audio; newer Asterisks send more than 8 kHz where the channel has it."""

HEADER_BYTES = 3
OPENING = bytes([NAME, 0, 16])
"""Header of the first frame of every connection."""

FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000
MAX_UNSENT_BYTES = 65536


class AudioSocketConfig(BaseModel):
    """Where it listens and whom it believes.

    Attributes:
        host, port: address.
        peers: networks that may connect; empty: this machine alone.
        legs: ``last_digit``: the last digit of the UUID says which party it is, 0 the far and 1 the near one, and the
            digits before it which call; ``far``: every connection is the far party of a call of its own.
        plays: the near connection's channel whispers to the subscriber (ChanSpy's option ``w``, a snoop's ``whisper``).
        max_connections: bound on connections at once.
        start_timeout_s: how long the UUID may take.
        idle_timeout_s: how long a connection may say nothing.
        linger_s: how long a call waits for a new connection when its last one broke.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=9092, ge=0, le=65535)
    peers: tuple[IPvAnyNetwork, ...] = ()
    legs: Literal["last_digit", "far"] = "last_digit"
    plays: bool = False
    max_connections: int = Field(default=4096, ge=1, le=65536)
    start_timeout_s: float = Field(default=5.0, gt=0, le=60)
    idle_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    linger_s: float = Field(default=5.0, ge=0, le=120)

    @model_validator(mode="after")
    def _peers_beyond_loopback(self) -> Self:
        try:
            is_loopback = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            is_loopback = self.host == "localhost"
        if not is_loopback and not self.peers:
            raise ValueError("AudioSocket knows no passwords: set gateways.audiosocket.peers to Asterisk's addresses")
        return self


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: int
    payload: bytes

    def __bytes__(self) -> bytes:
        return bytes([self.kind]) + len(self.payload).to_bytes(2, "big") + self.payload


class FrameReader:
    """Frames out of a stream of bytes that may be cut anywhere; keeps less than one frame.

    Attributes:
        left: the beginning of the next frame.
    """

    def __init__(self) -> None:
        self.left = b""

    def take(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes."""
        data = self.left + data if self.left else data
        at = 0
        while len(data) - at >= HEADER_BYTES:
            end = at + HEADER_BYTES + int.from_bytes(data[at + 1 : at + HEADER_BYTES], "big")
            if end > len(data):
                break
            yield Frame(data[at], data[at + HEADER_BYTES : end])
            at = end
        self.left = data[at:]


def call_and_leg(name: UUID, legs: Literal["last_digit", "far"]) -> tuple[str, Leg]:
    """Which call a connection's UUID means, and which party.

    Raises:
        SignallingError: its last digit is neither 0 nor 1.
    """
    text = str(name)
    if legs == "far":
        return text, LEGS[0]
    if text[-1] not in "01":
        raise SignallingError("the UUID's last digit is neither 0 (far) nor 1 (near)")
    return text[:-1] + "0", LEGS[int(text[-1])]


class AudioSocketConnection(asyncio.Protocol):
    """One party of one call; also the :class:`inference.gateway.connected.Line` and the player of it."""

    def __init__(self, gateway: "AudioSocketGateway") -> None:
        self._gateway = gateway
        self._reader = FrameReader()
        self._sounds: dict[int, Sound] = {}
        self._place: Place | None = None
        self._leg: Leg = LEGS[0]
        self._heard_s = 0.0
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._playing: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (TCP's is)
        self._transport = transport
        self._heard_s = self._gateway.clock()
        why = self._gateway.why_not(transport.get_extra_info("peername"))
        self._gateway.connections.add(self)
        if why is not None:
            self._cut(why)
            return
        self._timer = asyncio.get_running_loop().call_later(self._gateway.config.start_timeout_s, self._check)

    def _check(self) -> None:
        config = self._gateway.config
        silent_s = self._gateway.clock() - self._heard_s
        if self._place is None:
            self._cut("no UUID came")
        elif silent_s >= config.idle_timeout_s:
            self._cut("nothing was said")
        else:
            self._timer = asyncio.get_running_loop().call_later(config.idle_timeout_s - silent_s, self._check)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        try:
            for frame in self._reader.take(data):
                if self._is_over or self._transport.is_closing():
                    return
                self._take(frame)
            if self._place is None and not OPENING.startswith(self._reader.left[:HEADER_BYTES]):
                raise SignallingError("the first frame is no UUID")
        except ScamTapError as error:
            self._cut(reason(error))

    def _take(self, frame: Frame) -> None:
        if self._place is None:
            self._start(frame)
            return
        self._heard_s = self._gateway.clock()
        if frame.kind in AUDIO_HZ:
            if frame.kind not in self._sounds:
                self._sounds[frame.kind] = Sound("L16", AUDIO_HZ[frame.kind])
            (samples,) = self._sounds[frame.kind].take(frame.payload)
            self._place.write(self._leg, samples)
        elif frame.kind == KEY:
            self._place.key_pressed(self._leg, frame.payload.decode("latin-1"))
        elif frame.kind in (HANG_UP, ERROR):
            self._is_over = True
            self._transport.close()

    def _start(self, frame: Frame) -> None:
        if frame.kind != NAME or len(frame.payload) != 16:
            raise SignallingError("the first frame is no UUID")
        config, calls = self._gateway.config, self._gateway.calls
        call, self._leg = call_and_leg(UUID(bytes=frame.payload), config.legs)
        spec = CallSpec(
            id=call,
            far=LegSpec(),
            near=None if config.legs == "far" else LegSpec(),
            reach=calls.reach(call) if config.plays else None,  # AudioSocket says of no channel what it is called
        )
        self._place = calls.join(spec, (self._leg,), self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._gateway.connections.discard(self)
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._place is not None:
            # "Socket closure is also sufficient", says the protocol; only an error is a break.
            self._place.leave(is_over=exc is None)

    def _cut(self, why: str) -> None:
        self._gateway.refused[why] += 1
        self._transport.abort()

    def over(self) -> None:
        """See :class:`inference.gateway.connected.Line`."""
        self._is_over = True
        self.stop()
        if not self._transport.is_closing():
            self._transport.write(bytes(Frame(HANG_UP, b"")))
            self._transport.close()

    def told(self, event: Mapping[str, Any]) -> None:
        """See :class:`inference.gateway.connected.Line`."""

    @property
    def player(self) -> Player | None:
        """The channel itself, where it whispers."""
        return self if self._gateway.config.plays else None

    def play(self, samples: PCM) -> None:
        """See :class:`inference.gateway.connected.Player`."""
        self.stop()
        self._playing = asyncio.create_task(self._play(samples))

    async def _play(self, samples: PCM) -> None:
        """Asterisk plays frames as they come: one each 20 ms."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number, start in enumerate(range(0, len(samples), FRAME_SAMPLES)):
            await asyncio.sleep(began_s + number * FRAME_MS / 1000 - loop.time())
            if self._transport.is_closing() or self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                return
            self._transport.write(bytes(Frame(0x10, encode(samples[start : start + FRAME_SAMPLES], "L16"))))

    def stop(self) -> None:
        """See :class:`inference.gateway.connected.Player`."""
        if self._playing is not None:
            self._playing.cancel()
            self._playing = None


class AudioSocketGateway:
    """Listens for Asterisk.

    Attributes:
        name: of the gateway.
        calls: the calls that came this way.
        ear: speaks over their connections.
        connections: those open now.
        refused: connections that were refused or cut, by why.
        clock: monotonic seconds.
    """

    name = "audiosocket"

    def __init__(
        self, config: AudioSocketConfig, control: CallControl, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config
        self.calls = ConnectedCalls(self.name, control, linger_s=config.linger_s, clock=clock)
        self.ear: Ear = self.calls
        self.connections: set[AudioSocketConnection] = set()
        self.refused: Counter[str] = Counter()
        self.clock = clock
        self._server: asyncio.Server | None = None
        self._is_closing = False

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise RuntimeError("the gateway was not started")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address cannot be had.
        """
        host, port = self.config.host, self.config.port
        await asyncio.to_thread(warm)
        try:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: AudioSocketConnection(self), host, port)
        except OSError as error:
            raise ConfigError(f"gateways.audiosocket: {host}:{port} cannot be used ({error.strerror})") from error
        log.info("audiosocket gateway listens", port=self.port)

    def why_not(self, peer: Any) -> str | None:
        """Why a peer may not connect; None where it may."""
        if self._is_closing:
            return "the service stops"
        if len(self.connections) >= self.config.max_connections:
            return "too many connections"
        address = ipaddress.ip_address(peer[0].partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if self.config.peers:
            return None if any(address in network for network in self.config.peers) else "not an allowed peer"
        return None if address.is_loopback else "not an allowed peer"

    async def aclose(self) -> None:
        """Refuse new connections, end the calls, close what is open."""
        self._is_closing = True
        if self._server is not None:
            self._server.close()
        await self.calls.aclose()
        for connection in list(self.connections):
            connection.over()
        if self._server is not None:
            await self._server.wait_closed()
