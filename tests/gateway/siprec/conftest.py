"""A recording server in virtual time, and what an SBC would send it."""

import asyncio
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from inference.errors import CapacityError, CodecError, ConfigError
from inference.gateway.ports import MediaPorts
from inference.gateway.sip.agent import Agent
from inference.gateway.siprec.config import SiprecConfig
from inference.gateway.siprec.gateway import SiprecGateway

WIRE = Path(__file__).parents[1] / "sip" / "wire.py"
METADATA = Path(__file__).parents[2] / "golden" / "sip" / "metadata"


@pytest.fixture(scope="session")
def sip():
    """tests/gateway/sip/wire.py; test modules cannot import each other (import-mode=importlib)."""
    spec = importlib.util.spec_from_file_location("scamtap_tests_sip_wire", WIRE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clock(sip):
    """A virtual clock."""
    return sip.Clock()


class Control:
    """The service as the gateway sees it: keeps what it is told, refuses what a test says."""

    def __init__(self, codecs=("PCMU", "PCMA", "CN", "telephone-event")):
        self.codecs = codecs
        self.specs = {}
        self.log = []
        self.is_full = False
        self.room = 100

    @property
    def call_ids(self):
        return list(self.specs)

    def _check(self, spec):
        for leg in spec.legs.values():
            if set(leg.payload_types.values()) - set(self.codecs):
                raise CodecError("not decoded here")
            others = [o for s in self.specs.values() if s.id != spec.id for o in s.legs.values()]
            if any((o.local_port, o.source) == (leg.local_port, leg.source) for o in others):
                raise ConfigError("source belongs to another call")

    def begin(self, spec):
        if spec.id in self.specs:
            raise ConfigError("in use")
        if len(self.specs) >= self.room:
            raise CapacityError("full")
        self._check(spec)
        self.specs[spec.id] = spec
        self.log.append(("begin", spec.id))

    def change(self, spec):
        if spec.id not in self.specs:
            raise KeyError(spec.id)
        self._check(spec)
        self.specs[spec.id] = spec
        self.log.append(("change", spec.id))

    def write(self, call_id, leg, samples, timestamp):
        raise AssertionError("no audio comes over a connection")

    def key_pressed(self, call_id, leg, digit):
        raise AssertionError("no keys come by signalling")

    async def end(self, call_id):
        del self.specs[call_id]
        self.log.append(("end", call_id))


class Line:
    """One m= line of an offer; text beside what is usual goes into ``more``."""

    def __init__(self, port, label, codecs="0", *, protocol="RTP/AVP", direction="sendonly", more=(), kind="audio"):
        self.lines = [f"m={kind} {port} {protocol} {codecs}", f"a={direction}", f"a=label:{label}", *more]


def sdp(*lines, address="192.0.2.20"):
    out = ["v=0", f"o=src 1 1 IN IP4 {address}", "s=-", f"c=IN IP4 {address}", "t=0 0"]
    for line in lines:
        out += line.lines
    return "".join(f"{text}\r\n" for text in out).encode()


def document(*people, sip_session="call7@ims", mode="complete", gone=(), streams=None):
    """Metadata: ``people`` are (id, aor, label sent)."""
    out = f"<datamode>{mode}</datamode>"
    if sip_session:
        out += f'<session session_id="s"><sipSessionID>{sip_session}</sipSessionID></session>'
    for key, aor, label in people:
        out += f'<participant participant_id="{key}"><nameID aor="{aor}"/></participant>'
        out += f'<stream stream_id="st{label}" session_id="s"><label>{label}</label></stream>'
        out += f'<participantstreamassoc participant_id="{key}"><send>st{label}</send></participantstreamassoc>'
    for key in gone:
        out += f'<participantsessionassoc participant_id="{key}"><disassociate-time>t</disassociate-time>'
        out += "</participantsessionassoc>"
    return f'<recording xmlns="urn:ietf:params:xml:ns:recording:1">{out}</recording>'.encode()


def multipart(offer, metadata):
    """(body, header line)."""
    parts = [(b"application/sdp", offer), (b"application/rs-metadata+xml", metadata)]
    body = b"".join(b"--b1\r\nContent-Type: " + kind + b"\r\n\r\n" + data + b"\r\n" for kind, data in parts if data)
    return body + b"--b1--\r\n", "Content-Type: multipart/mixed;boundary=b1"


ALICE, BOB = ("p1", "sip:+15550100001@sbc", "1"), ("p2", "sip:+15550199002@sbc", "2")
TWO = (Line(30000, "1"), Line(30002, "2"))


class Server:
    """The gateway behind its agent, its loop's clock virtual; ``send`` is what its sockets would receive."""

    def __init__(self, sip, clock, control=None, *, exclusive=None, quarantine_s=0.0, **config):
        self.sip, self.clock = sip, clock
        self.control = control or Control()
        self.ports = MediaPorts("192.0.2.1", (40000,), exclusive, quarantine_s, clock=clock.time)
        self.gateway = SiprecGateway(SiprecConfig(**config), self.control, self.ports)
        self.agent = self.gateway.agent = Agent(self.gateway, clock, self.gateway.agent_config())
        self.wire = sip.Wire()
        self._cseq = {}
        self._tags = {}

    def send(self, method="INVITE", offer=None, metadata=None, *, call="rs1", ack=True, wire=None, more=(), **fields):
        """A request in the session ``call``; its answers. An INVITE that is answered is acknowledged."""
        wire = wire or self.wire
        cseq = self._cseq[call] = self._cseq.get(call, 0) + 1
        body, kind = multipart(offer, metadata) if metadata else (offer or b"", "Content-Type: application/sdp")
        lines = [*(["Require: siprec"] if method == "INVITE" else []), *([kind] if body else []), *more]
        tag = self._tags.get(call)
        ids = {"call": call, "cseq": cseq, "branch": f"z9hG4bK{call}{cseq}", "to_tag": tag}
        self.agent.receive(self.sip.request(method, **ids, body=body, more=lines, **fields), wire)
        answers = wire.take()
        if method == "INVITE" and answers and answers[-1].status == 200:
            self._tags[call] = answers[-1].headers.get("To").partition("tag=")[2]
            if ack:
                ids |= {"branch": f"z9hG4bK{call}{cseq}a", "to_tag": self._tags[call]}
                self.agent.receive(self.sip.request("ACK", **ids), wire)
        elif method == "INVITE" and answers and ack:
            ids |= {"to_tag": answers[-1].headers.get("To").partition("tag=")[2]}
            self.agent.receive(self.sip.request("ACK", **ids), wire)
        return answers

    async def settle(self):
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def spec(self):
        (spec,) = self.control.specs.values()
        return spec


@pytest.fixture
def rec(sip, clock):
    """``rec.server(...)`` and the makers above."""
    return SimpleNamespace(
        server=lambda *args, **config: Server(sip, clock, *args, **config),
        Control=Control,
        Line=Line,
        sdp=sdp,
        document=document,
        multipart=multipart,
        ALICE=ALICE,
        BOB=BOB,
        TWO=TWO,
        METADATA=METADATA,
    )
