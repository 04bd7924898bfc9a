"""The Redis sink against a real redis-server."""

import asyncio

import pytest
from redis import Redis

from inference.alerts.config import RedisConfig
from inference.alerts.sinks.base import TlsConfig
from inference.alerts.sinks.redis import RedisSink
from inference.errors import SinkDownError

pytestmark = pytest.mark.gateway
STREAM = "scamtap:events"


def entries(port: int, **more) -> list[dict[str, str]]:
    with Redis("127.0.0.1", port, decode_responses=True, **more) as client:
        return [fields for _, fields in client.xrange(STREAM)]


async def deliver(sink: RedisSink, envelopes) -> None:
    try:
        await asyncio.gather(*(sink.deliver(envelope) for envelope in envelopes))
    finally:
        await sink.aclose()


def test_each_event_is_an_entry_with_its_id(redis_server, letters):
    sink = RedisSink(RedisConfig(url=f"redis://127.0.0.1:{redis_server.port}"))
    asyncio.run(deliver(sink, letters(20)))
    got = entries(redis_server.port)
    assert {entry["id"]: entry["event"] for entry in got} == {letter.id: letter.body for letter in letters(20)}
    assert len(got) == 20


def test_the_stream_is_bounded(redis_server, letters):
    sink = RedisSink(RedisConfig(url=f"redis://127.0.0.1:{redis_server.port}", max_entries=100))

    async def run():
        for first in range(0, 1000, 10):
            await asyncio.gather(*(sink.deliver(envelope) for envelope in letters(10, first)))
        await sink.aclose()

    asyncio.run(run())
    assert 100 <= len(entries(redis_server.port)) < 300  # about: Redis drops whole nodes of 100


def test_a_server_that_was_away_is_found_again(redis_server, letters):
    async def run():
        sink = RedisSink(RedisConfig(url=f"redis://127.0.0.1:{redis_server.port}", timeout_s=2))
        first, second = letters(2)
        await sink.deliver(first)
        redis_server.kill()
        with pytest.raises(SinkDownError, match=r"Redis does not take it \(ConnectionError\)"):
            await sink.deliver(second)
        redis_server.start()
        await deliver(sink, [second])

    asyncio.run(run())
    assert [entry["id"] for entry in entries(redis_server.port)] == ["alr_0", "alr_1"]


def test_a_key_that_is_no_stream_is_the_sinks_fault(redis_server, letters):
    with Redis(port=redis_server.port) as client:
        client.set(STREAM, "x")
    sink = RedisSink(RedisConfig(url=f"redis://127.0.0.1:{redis_server.port}"))
    with pytest.raises(SinkDownError, match="ResponseError"):
        asyncio.run(deliver(sink, letters(1)))


def test_tls_and_password(make_server, a_free_port, certificates, letters):
    make_server(
        ["redis-server", "--bind", "127.0.0.1", "--port", "0", "--tls-port", str(a_free_port), "--save", "",
         "--tls-cert-file", str(certificates.cert), "--tls-key-file", str(certificates.key),
         "--tls-ca-cert-file", str(certificates.ca), "--tls-auth-clients", "no", "--requirepass", "hunter2"],
        a_free_port,
    )  # fmt: skip

    def attempt(password, ca) -> None:
        config = RedisConfig(
            url=f"rediss://127.0.0.1:{a_free_port}", password=password, tls=TlsConfig(ca_path=ca), timeout_s=2
        )

        async def run():
            try:
                await deliver(RedisSink(config), letters(1))
            finally:
                await asyncio.sleep(0.2)  # the client does not wait until TLS has said goodbye

        asyncio.run(run())

    attempt("hunter2", certificates.ca)
    for password, ca in (("wrong-one", certificates.ca), (None, certificates.ca), ("hunter2", certificates.other_ca)):
        with pytest.raises(SinkDownError) as refused:
            attempt(password, ca)
        assert "\n" not in str(refused.value)
        assert "hunter2" not in str(refused.value)
        assert "wrong-one" not in str(refused.value)
    got = entries(a_free_port, ssl=True, ssl_ca_certs=str(certificates.ca), password="hunter2")
    assert [entry["id"] for entry in got] == ["alr_0"]
