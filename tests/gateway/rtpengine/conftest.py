"""The real rtpengine-daemon on free ports of this machine, two phones that talk through it, a service that listens."""

import contextlib
import shutil
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from inference.errors import GatewayError, SignallingError
from inference.gateway.ports import MediaPorts
from inference.gateway.rtpengine import bencode
from inference.gateway.rtpengine.config import NodeConfig, RtpengineConfig
from inference.gateway.rtpengine.gateway import RtpengineGateway
from inference.gateway.rtpengine.ng import parse_message
from inference.rtp.g711 import encode_alaw, encode_ulaw
from inference.rtp.plane import PacketPlane, PlaneConfig
from tests.peers import Peer, free_port, free_ports, started

PACKET_SAMPLES = 160
PACKET_S = 0.02


NUM_MEDIA_PORTS = 200
ANSWERED_S = 30.0
"""It answers in a millisecond; on a machine with much else to do its turn may come late."""


class Daemon:
    """An rtpengine process. ``ng()`` speaks to it as a proxy does."""

    def __init__(self, folder: Path) -> None:
        self.program = shutil.which("rtpengine") or "/usr/bin/rtpengine"
        self.log = folder / "rtpengine.log"
        self.ng_port, self.tcp_port = free_port(), free_port()
        self.media_port = free_ports(NUM_MEDIA_PORTS)
        self.peer: Peer | None = None
        self.start()

    def start(self) -> None:
        """As it was before: a daemon that crashed comes back on its ports."""
        first = self.media_port
        self.peer = Peer(
            [
                self.program,
                "--config-file=none",
                "--table=-1",
                "--interface=127.0.0.1",
                f"--listen-ng=127.0.0.1:{self.ng_port}",
                f"--listen-tcp-ng=127.0.0.1:{self.tcp_port}",
                f"--port-min={first}",
                f"--port-max={first + NUM_MEDIA_PORTS - 1}",
                "--num-threads=1",  # two pass a stream's packets on at once, and on a busy machine out of order
                "--foreground",
                "--log-stderr",
                "--log-level=3",
            ],
            self.log,
            self._answers,
        )

    def _answers(self) -> bool:
        """Whether it takes commands: any other answer, e.g. of a load limit, is "not yet"."""
        with contextlib.suppress(OSError, SignallingError):
            return self.ng(answered_s=1.0, command="ping").get("result") == "pong"
        return False

    def stop(self) -> None:
        if self.peer is not None:
            self.peer.kill()
            self.peer = None

    def node(self, **more) -> NodeConfig:
        port = self.tcp_port if more.get("transport") == "tcp" else self.ng_port
        return NodeConfig(address=f"127.0.0.1:{port}", **more)

    def ng(self, *, answered_s: float = ANSWERED_S, **fields) -> dict:
        message = {key.replace("_", "-"): value for key, value in fields.items()}
        cookie = f"proxy{time.monotonic_ns()}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(answered_s)
            sock.connect(("127.0.0.1", self.ng_port))
            sock.send(f"{cookie} ".encode() + bencode.encode(message))
            while True:
                got, answer = parse_message(sock.recv(65536))
                if got == cookie:
                    return answer


@dataclass
class Got:
    """One packet that a phone received."""

    at_s: float
    payload_type: int
    ssrc: int
    sequence_number: int
    payload: bytes


@dataclass
class Phone:
    """Sends 20 ms packets of ``says`` (silence after its end) and keeps what comes."""

    ssrc: int
    payload_type: int = 0
    says: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int16))
    got: list[Got] = field(default_factory=list)
    to: tuple[str, int] | None = None
    num_sent: int = 0
    is_muted: bool = False

    def __post_init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)  # our turn may come late, as anybody's
        self.sock.setblocking(False)

    @property
    def port(self) -> int:
        return self.sock.getsockname()[1]

    def sdp(self, codecs: str | None = None) -> str:
        pt = self.payload_type
        codecs = codecs or f"{pt} " + {0: "PCMU", 8: "PCMA", 9: "G722"}[pt] + "/8000"
        number = codecs.split()[0]
        return (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {self.port} RTP/AVP {number} 101\r\na=rtpmap:{codecs}\r\na=rtpmap:101 telephone-event/8000\r\n"
        )

    def send(self) -> None:
        if self.to is None or self.is_muted:
            return
        said = self.says[:PACKET_SAMPLES]
        self.says = self.says[PACKET_SAMPLES:]
        samples = np.concatenate([said, np.zeros(PACKET_SAMPLES - len(said), np.int16)])
        payload = encode_alaw(samples) if self.payload_type == 8 else encode_ulaw(samples)
        number = self.num_sent
        head = struct.pack("!BBHII", 0x80, self.payload_type, number & 0xFFFF, number * PACKET_SAMPLES, self.ssrc)
        self.sock.sendto(head + bytes(payload), self.to)
        self.num_sent += 1

    def receive(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                data = self.sock.recv(4096)
                if len(data) >= 12 and not 192 <= data[1] <= 223:
                    _, pt, sequence_number, _, ssrc = struct.unpack("!BBHII", data[:12])
                    self.got.append(Got(time.monotonic(), pt & 0x7F, ssrc, sequence_number, data[12:]))

    def since(self, at_s: float, until_s: float = float("inf")) -> list[Got]:
        return [packet for packet in list(self.got) if at_s <= packet.at_s < until_s]


class PhoneCall:
    """A caller and a subscriber who talk through a daemon, in a thread of their own."""

    def __init__(self, daemon: Daemon, call_id: str, *, labels=("far", "near"), payload_type: int = 0) -> None:
        self.daemon, self.call_id, self.labels = daemon, call_id, labels
        # One SSRC on both legs: real peers did that.
        self.caller, self.callee = Phone(0x5CA, payload_type), Phone(0x5CA, payload_type)
        self._over = threading.Event()
        self.signal()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def signal(self, codecs: str | None = None) -> None:
        """Offer and answer; again, it is a re-INVITE."""
        again = {"to-tag": "tag-callee"} if self.caller.to else {}
        far, near = ({} if label is None else {"label": label} for label in self.labels)
        offer = self.daemon.ng(
            command="offer", call_id=self.call_id, from_tag="tag-caller", sdp=self.caller.sdp(codecs), ICE="remove",
            **again, **far,
        )  # fmt: skip
        answer = self.daemon.ng(
            command="answer", call_id=self.call_id, from_tag="tag-caller", to_tag="tag-callee",
            sdp=self.callee.sdp(codecs), ICE="remove", **near,
        )  # fmt: skip
        assert (offer["result"], answer["result"]) == ("ok", "ok"), (offer, answer)
        self.callee.to, self.caller.to = (("127.0.0.1", _port(reply["sdp"])) for reply in (offer, answer))

    def _talk(self) -> None:
        due_s = time.monotonic()
        while not self._over.is_set():
            for phone in (self.caller, self.callee):
                phone.send()
            due_s += PACKET_S
            while (left_s := due_s - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.004))
                for phone in (self.caller, self.callee):
                    phone.receive()

    def hang_up(self, delay_s: int = 0) -> None:
        self.stop()
        self.daemon.ng(command="delete", call_id=self.call_id, delete_delay=delay_s)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def close(self) -> None:
        self.stop()
        for phone in (self.caller, self.callee):
            phone.sock.close()


def _port(sdp: str) -> int:
    return int(next(line for line in sdp.splitlines() if line.startswith("m=")).split()[1])


class Service:
    """A service that takes calls as the real one does, and keeps what gateways told it. Audio is read by hand."""

    def __init__(self, plane: PacketPlane) -> None:
        self.plane = plane
        self.specs, self.handles, self.ended = {}, {}, []
        self.changes = []
        self.failure: Exception | None = None
        self.is_full = False

    @property
    def call_ids(self) -> list[str]:
        return list(self.specs)

    def begin(self, spec) -> None:
        if self.failure is not None:
            raise self.failure
        self._register(spec)

    def _register(self, spec) -> None:
        now_s = time.monotonic()
        self.handles[spec.id] = {
            leg: self.plane.register(of.local_port, of.source_address, of.payload_types, now_s=now_s)
            for leg, of in spec.legs.items()
        }
        self.specs[spec.id] = spec

    def change(self, spec) -> None:
        self.changes.append(spec)
        for handle in self.handles.pop(spec.id).values():
            self.plane.release(handle, goes_on=True)
        self._register(spec)

    def write(self, call_id, leg, samples, timestamp) -> None:
        raise AssertionError("rtpengine sends packets")

    def key_pressed(self, call_id, leg, digit) -> None:
        raise AssertionError("rtpengine tells no keys")

    async def end(self, call_id) -> None:
        self.drop(call_id)
        self.ended.append(call_id)

    def drop(self, call_id) -> None:
        del self.specs[call_id]
        for handle in self.handles.pop(call_id).values():
            self.plane.release(handle)

    def read(self, call_id):
        """New audio: ``{leg: (samples, present)}``."""
        legs = self.handles[call_id]
        batch = self.plane.read(list(legs.values()))
        return {
            leg: (batch.samples[row, : batch.num_samples[row]], batch.present[row, : batch.num_samples[row]])
            for row, leg in enumerate(legs)
        }

    def counters(self, call_id):
        return {leg: self.plane.counters(handle) for leg, handle in self.handles[call_id].items()}


@pytest.fixture
def daemon(tmp_path):
    if shutil.which("rtpengine") is None:
        pytest.fail("rtpengine is not installed: apt-get install rtpengine-daemon")
    made = started(lambda: Daemon(tmp_path))
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def call(daemon):
    """``call("id", labels=..., payload_type=...)``: a call under way."""
    with contextlib.ExitStack() as stack:
        yield lambda call_id="c1", **more: stack.enter_context(contextlib.closing(PhoneCall(daemon, call_id, **more)))


@pytest.fixture
def service():
    with PacketPlane(PlaneConfig(ports=(0,), max_legs=64)) as plane:
        yield Service(plane)


@pytest.fixture
def gateway(daemon, service):
    """``async with gateway(**config) as g``: a gateway that follows the daemon's calls for ``service``."""

    @contextlib.asynccontextmanager
    async def make(*, nodes=None, ports=None, **config):
        settings = RtpengineConfig(
            **{"nodes": nodes or (daemon.node(),), "poll_s": 0.05, "check_s": 0.1, "timeout_s": 0.5} | config
        )
        ports = ports or MediaPorts("127.0.0.1", service.plane.ports, None, 0)
        made = RtpengineGateway(settings, service, ports)
        await made.start()
        try:
            yield made
        finally:
            with contextlib.suppress(GatewayError):
                await made.aclose()

    return make


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def phone():
    """``phone(ssrc)``: RTP of one phone, whatever signals its calls."""
    return Phone
