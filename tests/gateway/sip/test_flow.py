"""Sockets: what comes in is handed on, who is slow or not wanted is cut off."""

import asyncio
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inference.errors import ConfigError
from inference.gateway.sip.flow import (
    FIRST_S,
    IDLE_S,
    MAX_UNSENT_BYTES,
    PARTIAL_S,
    StreamServer,
    open_datagrams,
    open_stream_server,
)

MESSAGE = b"OPTIONS sip:a@b SIP/2.0\r\nl: 0\r\n\r\n"


class Port:
    """A TCP listener of ours with a virtual clock, and what it received."""

    def __init__(self, clock, *, admits=lambda _: True, max_connections=8, context=None):
        self.got = []
        self.reply = b""
        self.streams = StreamServer(clock, admits, max_connections, context)

    async def __aenter__(self):
        self.server = await open_stream_server("127.0.0.1", 0, self._receive, self.streams)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        self.streams.close()
        await asyncio.sleep(0)

    def _receive(self, message, flow):
        self.got.append((message, flow))
        if self.reply:
            flow.send(self.reply)

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)


async def closed(reader):
    """Whether the other side closes the connection."""
    try:
        async with asyncio.timeout(60):
            return await reader.read() == b""
    except ConnectionError:
        return True


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def test_messages_pings_and_answers(clock):
    async def run():
        async with Port(clock) as port:
            reader, writer = await port.connect()
            writer.write(MESSAGE[:10])
            await asyncio.sleep(0.01)
            writer.write(MESSAGE[10:] + b"\r\n\r\n" + MESSAGE)
            assert await reader.readexactly(2) == b"\r\n"
            await until(lambda: len(port.got) == 2)
            message, flow = port.got[0]
            flow.send(b"answer")
            assert await reader.readexactly(6) == b"answer"
            assert (message, flow.transport, flow.peer[0], flow.is_verified) == (MESSAGE, "TCP", "127.0.0.1", False)
            assert flow.to_port(9) is flow
            writer.close()
            await until(lambda: port.streams.num_open == 0)
            flow.send(b"nobody there")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("sent", "after_s"),
    [(b"", FIRST_S), (b"OPT", PARTIAL_S), (MESSAGE + b"O", PARTIAL_S), (b"\r\n\r\n", FIRST_S), (MESSAGE, IDLE_S)],
)
def test_who_is_slow_is_cut_off(clock, sent, after_s):
    async def run():
        async with Port(clock) as port:
            reader, writer = await port.connect()
            writer.write(sent)
            await until(lambda: port.streams.num_open == 1 and (not sent or clock.num_due == 1))
            await asyncio.sleep(0.02)
            clock.advance(after_s - 0.1)
            assert port.streams.num_open == 1
            clock.advance(0.2)
            await until(lambda: port.streams.num_open == 0)
            assert await closed(reader) or sent[:2] == b"\r\n"
            assert clock.num_due == 0
            writer.close()

    asyncio.run(run())


def test_a_slow_drip_does_not_move_the_deadline(clock):
    async def run():
        async with Port(clock) as port:
            _, writer = await port.connect()
            for _ in range(12):
                writer.write(b"x")
                await asyncio.sleep(0.01)
                clock.advance(1)
            await until(lambda: port.streams.num_open == 0)
            writer.close()

    asyncio.run(run())


def test_garbage_and_endless_heads_are_cut_off(clock):
    async def run():
        async with Port(clock) as port:
            for junk in (b"GET / HTTP/1.1\r\n\r\n", b"x" * 50_000):
                reader, writer = await port.connect()
                writer.write(junk)
                assert await closed(reader)
                writer.close()
            assert port.got == []

    asyncio.run(run())


def test_connections_are_bounded_per_host_and_strangers_refused(clock):
    async def run():
        async with Port(clock, max_connections=8) as port:
            pairs = [await port.connect() for _ in range(4)]
            await until(lambda: port.streams.num_turned_away == 2)
            assert port.streams.num_open == 2
            for _, writer in pairs:
                writer.close()
            await until(lambda: port.streams.num_open == 0)
        async with Port(clock, admits=lambda host: host != "127.0.0.1") as port:
            reader, writer = await port.connect()
            assert await closed(reader)
            writer.close()
            assert (port.streams.num_turned_away, port.streams.num_open) == (1, 0)

    asyncio.run(run())


def test_a_peer_that_does_not_read_is_cut_off(clock):
    async def run():
        async with Port(clock) as port:
            _, writer = await port.connect()
            writer.write(MESSAGE)
            await until(lambda: port.got)
            flow = port.got[0][1]
            for _ in range(400):
                flow.send(b"x" * (MAX_UNSENT_BYTES // 8))
                if not flow.is_open:
                    break
            assert not flow.is_open
            writer.close()

    asyncio.run(run())


@pytest.fixture
def context(tmp_path):
    """A server's, with a certificate made now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    path = tmp_path / "server.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_request_with_the_last_words_of_the_handshake_is_answered_encrypted(clock, context):
    """Kamailio sends them together; the answer once went out in the clear."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    async def run():
        async with Port(clock, context=context) as port:
            port.reply = b"secret"
            reader, writer = await port.connect()
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = trusting.wrap_bio(incoming, outgoing)
            while True:
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(65_536))
            client.write(MESSAGE)
            writer.write(outgoing.read())  # the client's Finished, and the request
            while True:
                try:
                    assert client.read(100) == b"secret"
                    break
                except ssl.SSLWantReadError:
                    incoming.write(await reader.read(65_536))
            assert port.got[0][1].transport == "TLS"
            writer.close()
            await until(lambda: port.streams.num_open == 0)

    asyncio.run(run())


def test_who_does_not_speak_tls_is_cut_off(clock, context):
    async def run():
        async with Port(clock, context=context) as port:
            reader, writer = await port.connect()
            writer.write(MESSAGE)
            assert MESSAGE not in await reader.read(65_536)
            await until(lambda: port.streams.num_open == 0)
            assert port.got == []
            writer.close()

    asyncio.run(run())


def test_datagrams():
    async def run():
        got = []
        ours = await open_datagrams("127.0.0.1", 0, lambda m, f: got.append((m, f)), lambda _: True)
        peer = await open_datagrams("127.0.0.1", 0, lambda m, _: got.append((m, None)), lambda _: True)
        deaf = await open_datagrams("127.0.0.1", 0, lambda m, _: got.append((m, "deaf")), lambda _: False)
        for target in (ours, deaf):
            for data in (b"\r\n\r\n", b"\0\0\0\0", MESSAGE):
                peer.flow_to(target.local).send(data)
        await until(lambda: got and deaf.num_turned_away == 3)
        ((message, flow),) = got
        assert (message, flow.transport, flow.peer, flow.is_open) == (MESSAGE, "UDP", peer.local, True)
        flow.to_port(peer.local[1]).send(b"back")
        await until(lambda: len(got) == 2)
        for each in (ours, peer, deaf):
            each.socket.close()
        assert not flow.is_open
        flow.send(b"nothing")
        with pytest.raises(ConfigError, match=r"udp 192.0.2.1:1 cannot be listened on"):
            await open_datagrams("192.0.2.1", 1, print, lambda _: True)

    asyncio.run(run())
