"""The NATS sink against a real nats-server with JetStream."""

import asyncio
import json

import nats
import pytest

from inference.alerts.config import NatsConfig
from inference.alerts.sinks.base import TlsConfig
from inference.alerts.sinks.nats import NatsSink
from inference.errors import AlertError, SinkDownError

pytestmark = pytest.mark.gateway
SUBJECT = "scamtap.events"


async def add_stream(port: int, **more) -> None:
    client = await nats.connect(f"nats://127.0.0.1:{port}", **more)
    await client.jetstream().add_stream(name="SCAMTAP", subjects=["scamtap.>"])
    await client.close()


async def stored(port: int) -> list[tuple[dict[str, str], bytes]]:
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = client.jetstream()
    num = (await stream.stream_info("SCAMTAP")).state.messages
    messages = [await stream.get_msg("SCAMTAP", sequence) for sequence in range(1, num + 1)]
    await client.close()
    return [(message.headers, message.data) for message in messages]


def sink_for(port: int, **more) -> NatsSink:
    return NatsSink(NatsConfig(servers=[f"nats://127.0.0.1:{port}"], **{"timeout_s": 2.0} | more))


async def deliver(sink: NatsSink, envelopes) -> None:
    try:
        await asyncio.gather(*(sink.deliver(envelope) for envelope in envelopes))
    finally:
        await sink.aclose()


def test_events_are_stored_and_repeated_ones_only_once(nats_server, letters):
    async def run():
        await add_stream(nats_server.port)
        await deliver(sink_for(nats_server.port), letters(20))
        await deliver(sink_for(nats_server.port), letters(25))
        return await stored(nats_server.port)

    messages = asyncio.run(run())
    assert sorted(headers["Nats-Msg-Id"] for headers, _ in messages) == sorted(letter.id for letter in letters(25))
    assert {headers["Content-Type"] for headers, _ in messages} == {"application/cloudevents+json; charset=utf-8"}
    assert {json.loads(body)["id"]: body.decode() for _, body in messages} == {e.id: e.body for e in letters(25)}


def test_a_server_that_was_away_is_found_again(nats_server, letters):
    async def run():
        await add_stream(nats_server.port)
        sink = sink_for(nats_server.port)
        first, second = letters(2)
        await sink.deliver(first)
        nats_server.kill()
        with pytest.raises(SinkDownError, match="NATS not reached"):
            await sink.deliver(second)
        nats_server.start()
        async with asyncio.timeout(60):
            while True:  # JetStream is up a moment after the port is
                try:
                    await sink.deliver(second)
                    break
                except SinkDownError:
                    await asyncio.sleep(0.05)
        await sink.aclose()
        return await stored(nats_server.port)

    assert [headers["Nats-Msg-Id"] for headers, _ in asyncio.run(run())] == ["alr_0", "alr_1"]


def test_a_subject_that_no_stream_takes_is_one_line(nats_server, letters):
    with pytest.raises(SinkDownError, match=r"^no JetStream stream takes scamtap.events; create one$"):
        asyncio.run(deliver(sink_for(nats_server.port), letters(1)))


def test_somebody_else_answering_is_no_acknowledgement(nats_server, letters):
    async def run(answer: bytes):
        client = await nats.connect(f"nats://127.0.0.1:{nats_server.port}")

        async def reply(message):
            await message.respond(answer)

        await client.subscribe(SUBJECT, cb=reply)
        await client.flush()
        try:
            await deliver(sink_for(nats_server.port), letters(1))
        finally:
            await client.close()

    for answer in (b"ok", b"[]", b"3", b"{}", b'{"error": 1}', b"\xff"):
        with pytest.raises(AlertError):
            asyncio.run(run(answer))


def test_what_is_too_large_is_refused_alone(make_server, a_free_port, tmp_path, letters):
    (tmp_path / "nats.conf").write_text("max_payload: 64\n")
    command = ["nats-server", "-c", str(tmp_path / "nats.conf"), "-a", "127.0.0.1", "-p", str(a_free_port), "-js",
               "-sd", str(tmp_path / "nats")]  # fmt: skip
    make_server(command, a_free_port)
    with pytest.raises(AlertError, match="too large") as refused:
        asyncio.run(deliver(sink_for(a_free_port), letters(1)))
    assert refused.type is AlertError


def test_tls_and_password(make_server, a_free_port, certificates, tmp_path, letters):
    make_server(
        ["nats-server", "-a", "127.0.0.1", "-p", str(a_free_port), "-js", "-sd", str(tmp_path / "nats"),
         "--user", "scamtap", "--pass", "hunter2", "--tls", "--tlscert", str(certificates.cert),
         "--tlskey", str(certificates.key)],
        a_free_port,
    )  # fmt: skip

    def attempt(password, ca) -> None:
        config = NatsConfig(
            servers=[f"tls://127.0.0.1:{a_free_port}"],
            user=None if password is None else "scamtap",
            password=password,
            tls=TlsConfig(ca_path=ca),
            timeout_s=2,
        )
        asyncio.run(deliver(NatsSink(config), letters(1)))

    tls = TlsConfig(ca_path=certificates.ca).context("test")
    asyncio.run(add_stream(a_free_port, user="scamtap", password="hunter2", tls=tls))
    attempt("hunter2", certificates.ca)
    for password, ca in (("wrong-one", certificates.ca), (None, certificates.ca), ("hunter2", certificates.other_ca)):
        with pytest.raises(SinkDownError) as refused:
            attempt(password, ca)
        assert "\n" not in str(refused.value)
        assert "hunter2" not in str(refused.value)
        assert "wrong-one" not in str(refused.value)


def test_nobody_there_takes_no_longer_than_configured(a_free_port, letters):
    with pytest.raises(SinkDownError, match="NATS not reached"):
        asyncio.run(deliver(sink_for(a_free_port), letters(1)))
