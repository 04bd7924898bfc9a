"""The gateway on real sockets, as the worker starts and stops it."""

import asyncio
import contextlib
import socket

import pytest
from structlog.testing import capture_logs

from inference.errors import ConfigError
from inference.gateway.open import GatewaysConfig, make_gateways
from inference.gateway.ports import MediaPorts
from inference.gateway.sip.message import parse_message

LISTEN = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0", "udp:[::1]:0"]


@contextlib.asynccontextmanager
async def started(control, **siprec):
    config = GatewaysConfig(siprec={"listen": LISTEN} | siprec)
    (gateway,) = make_gateways(config, control, MediaPorts("127.0.0.1", (40000,), None, 0))
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.aclose()


class Peer:
    """An SBC's UDP socket."""

    def __init__(self, address, family=socket.AF_INET):
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address = address

    async def ask(self, data):
        loop = asyncio.get_running_loop()
        await loop.sock_sendto(self.socket, data, self.address)
        return await self.hear()

    async def hear(self, timeout_s=60):
        async with asyncio.timeout(timeout_s):
            return parse_message(await asyncio.get_running_loop().sock_recv(self.socket, 65_535))


def invite(rec, sip, **more):
    body, kind = rec.multipart(rec.sdp(*rec.TWO), rec.document(rec.ALICE, rec.BOB))
    return sip.request(body=body, more=["Require: siprec", kind], Via="SIP/2.0/UDP a;branch=z9hG4bKa1;rport", **more)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_on_stopping_recordings_are_hung_up_and_their_calls_end(rec, sip, family):
    control = rec.Control()

    async def run():
        async with started(control) as gateway:
            host = "127.0.0.1" if family == socket.AF_INET else "::1"
            (address,) = [(h, port) for name, h, port in gateway.addresses if name == "udp" and h == host]
            peer = Peer(address, family)
            with contextlib.closing(peer.socket):
                ok = await peer.ask(invite(rec, sip))
                bracketed = f"[{host}]" if ":" in host else host
                assert f"<sip:{bracketed}:{address[1]}>" in ok.headers.get("Contact")
                tag = ok.headers.get("To").partition("tag=")[2]
                ack = sip.request("ACK", to_tag=tag, branch="z9hG4bKa2")
                await asyncio.get_running_loop().sock_sendto(peer.socket, ack, address)
                closing = asyncio.create_task(gateway.aclose())
                bye = await peer.hear()
                assert (bye.method, bye.uri) == ("BYE", "sip:src@192.0.2.10:5060")
                via = bye.headers.get("Via")
                done = f"SIP/2.0 200 OK\r\nVia: {via}\r\nCSeq: {bye.headers.get('CSeq')}\r\n\r\n".encode()
                await asyncio.get_running_loop().sock_sendto(peer.socket, done, address)
                async with asyncio.timeout(10):  # no waiting once the peer has answered
                    await closing

    asyncio.run(run())
    assert [what for what, _ in control.log] == ["begin", "end"]


def test_strangers_get_no_answer_and_are_told_of_in_the_log(rec, sip):
    async def run():
        async with started(rec.Control(), allow_from=["192.0.2.10"], listen=LISTEN[:2]) as gateway:
            ports = {name: port for name, _, port in gateway.addresses}
            peer = Peer(("127.0.0.1", ports["udp"]))
            with contextlib.closing(peer.socket):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(peer.ask(invite(rec, sip)), 0.2)
                reader, writer = await asyncio.open_connection("127.0.0.1", ports["tcp"])
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            with capture_logs() as logs:
                gateway.sweep()
                gateway.sweep()
            return logs, gateway.agent.counts

    logs, counts = asyncio.run(run())
    assert [(line["event"], line["more"]) for line in logs] == [("siprec strangers turned away", 2)]
    assert not counts


def test_logs_and_answers_hold_nothing_of_the_call(rec, sip):
    planted = "+15550100001"

    async def run():
        async with started(rec.Control()) as gateway:
            peer = Peer(("127.0.0.1", gateway.addresses[0][2]))
            with contextlib.closing(peer.socket):
                await peer.ask(invite(rec, sip, From=f'"{planted}" <sip:{planted}@sbc.example>;tag=far'))
                bad = sip.request(call="c2", branch="z9hG4bK9", To=f'"{planted} <sip:x@y>', CSeq="1 INVITE")
                answer = await peer.ask(bad.replace(b"Via: SIP/2.0/UDP 192.0.2.10:5060", b"Via: SIP/2.0/UDP a;rport"))
                assert planted not in answer.headers.get("Warning")
            gateway.sweep()

    with capture_logs() as logs:
        asyncio.run(run())
    assert {line["event"] for line in logs} >= {"siprec listens", "recording begins", "siprec requests refused"}
    (refused,) = [line for line in logs if line["event"] == "siprec requests refused"]
    assert (refused["more"], refused["latest"]) == (1, "400 Bad Request: To has an unclosed quoted string")
    assert planted not in str(logs)
    assert "sbc.example" not in str(logs)


def test_an_address_in_use_is_a_config_error_and_nothing_stays_open(rec):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        async def run():
            with pytest.raises(ConfigError, match=f"sip: tcp 127.0.0.1:{port} cannot be listened on"):
                async with started(rec.Control(), listen=["udp:127.0.0.1:0", f"tcp:127.0.0.1:{port}"]):
                    pass

        asyncio.run(run())  # an unclosed socket would be a warning, and so an error


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_certificate_that_cannot_be_read_is_a_config_error(rec, tmp_path, content):
    for name in ("c.pem", "k.pem"):
        if content is not None:
            (tmp_path / name).write_text(content)

    async def run():
        tls = {"certificate": tmp_path / "c.pem", "key": tmp_path / "k.pem"}
        with pytest.raises(ConfigError, match=r"gateways\.siprec\.tls: .* not a PEM file"):
            async with started(rec.Control(), listen=["tls:127.0.0.1:0"], tls=tls):
                pass

    asyncio.run(run())
