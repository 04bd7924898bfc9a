"""Coverage-guided fuzzing of SIP signalling: ``python tests/fuzz/fuzz_sip.py -max_total_time=30``.

Every input is what one peer sends to a recording server in virtual time: messages whole and mutated, bytes in a stream.
Whatever is sent: no exception, no half-open state beyond its bounds, and when time has passed nothing is left behind.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris

import inference.rtp.plane  # noqa: F401 -- before the instrumentation: numba cannot compile what was instrumented

with atheris.instrument_imports(include=["inference.gateway.sip", "inference.gateway.siprec"]):
    from inference.errors import SignallingError
    from inference.gateway.sip.agent import Agent
    from inference.gateway.sip.framing import Framer
    from inference.gateway.siprec.config import SiprecConfig
    from inference.gateway.siprec.gateway import SiprecGateway

import structlog
from sip_double import Clock, Wire

from inference.gateway.ports import MediaPorts

GOLDEN = Path(__file__).parents[1] / "golden" / "sip"
CUT = b"\x00--\x00"
"""Between two messages of one input."""


class Control:
    """A service that takes every call."""

    is_full = False

    def __init__(self) -> None:
        self.specs: dict[str, Any] = {}

    @property
    def call_ids(self) -> list[str]:
        """Ids."""
        return list(self.specs)

    def begin(self, spec: Any) -> None:
        """Take it."""
        if spec.id in self.specs:
            raise RuntimeError("a call begins twice")
        self.specs[spec.id] = spec

    def change(self, spec: Any) -> None:
        """Take it."""
        self.specs[spec.id] = spec

    async def end(self, call_id: str) -> None:
        """It is over."""
        del self.specs[call_id]


async def one_peer(data: bytes) -> None:
    """Send the messages of an input, then let time pass."""
    clock, wire, control = Clock(run_out_s=10_800), Wire(), Control()
    ports = MediaPorts("192.0.2.1", (40000,), None, 0.0, clock=clock.time)
    gateway = SiprecGateway(SiprecConfig(), control, ports)  # type: ignore[arg-type]
    agent = gateway.agent = Agent(gateway, clock, gateway.agent_config())
    tag = b""
    for message in data.split(CUT)[:8]:
        num_sent = len(wire.sent)
        agent.receive(message.replace(b"%TAG%", tag), wire)  # type: ignore[arg-type]
        for answer in wire.sent[num_sent:]:
            if b"\r\nTo: " in answer and b";tag=" in answer.partition(b"\r\nTo: ")[2].partition(b"\r\n")[0]:
                tag = answer.partition(b"\r\nTo: ")[2].partition(b"\r\n")[0].rpartition(b";tag=")[2]
        gateway.sweep()
    clock.run_out()
    for _ in range(4):
        await asyncio.sleep(0)
    # A session without a timer stands until its BYE: that is what the service's own idle time-out is for.
    if (
        agent.num_transactions
        or len(control.specs) > agent.num_sessions
        or gateway.num_recordings != agent.num_sessions
    ):
        raise RuntimeError("something was left behind")


LOOP = asyncio.new_event_loop()


def one_input(data: bytes) -> None:
    """As datagrams, and as a stream."""
    LOOP.run_until_complete(one_peer(data))
    framer = Framer()
    try:
        for at in range(0, len(data), 61):
            framer.feed(data[at : at + 61])
    except SignallingError as error:
        if "\n" in str(error):
            raise RuntimeError("an error message of two lines") from error


def seeds() -> list[bytes]:
    """The golden messages, and a whole session."""
    metadata = (GOLDEN / "metadata" / "opensips.xml").read_bytes()
    offer = b"v=0\r\no=s 1 1 IN IP4 192.0.2.20\r\ns=-\r\nc=IN IP4 192.0.2.20\r\nt=0 0\r\n" + b"".join(
        b"m=audio %d RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\na=label:%d\r\n" % (port, label)
        for port, label in ((30000, 1), (30002, 2))
    )
    body = (
        b"--b\r\nContent-Type: application/sdp\r\n\r\n%s\r\n--b\r\nContent-Type: application/rs-metadata+xml\r\n\r\n%s"
    )
    body = body % (offer, metadata) + b"\r\n--b--\r\n"

    def message(method: bytes, number: int, tag: bytes = b"", body: bytes = b"", more: bytes = b"") -> bytes:
        return (
            b"%s sip:srs@rec SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK%d%s\r\nFrom: <sip:a@b>;tag=f\r\n"
            b"To: <sip:srs@rec>%s\r\nCall-ID: c\r\nCSeq: %d %s\r\nContact: <sip:a@192.0.2.10>\r\n%s"
            b"Content-Length: %d\r\n\r\n%s"
        ) % (method, number, method, tag, number, method, more, len(body), body)

    ours = b";tag=%TAG%"
    kind = b"Require: siprec\r\nContent-Type: multipart/mixed;boundary=b\r\nSupported: timer\r\nSession-Expires: 90\r\n"
    session = [
        message(b"INVITE", 1, body=body, more=kind),
        message(b"ACK", 1, ours),
        message(b"INVITE", 2, ours, offer.replace(b"sendonly", b"inactive"), b"Content-Type: application/sdp\r\n"),
        message(b"ACK", 2, ours),
        message(b"UPDATE", 3, ours),
        message(b"BYE", 4, ours),
    ]
    golden = [path.read_bytes() for folder in ("canonical", "torture") for path in sorted((GOLDEN / folder).glob("*"))]
    return [*golden, CUT.join(session), *session]


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, folder, "-max_len=16384"], one_input)
        atheris.Fuzz()
