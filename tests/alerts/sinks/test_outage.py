"""Brokers that go away for a while, and come back: the real servers."""

import asyncio
import json
from pathlib import Path

import nats
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from inference.alerts.alert import Alert
from inference.alerts.config import AlertsConfig, NatsConfig, RedisConfig
from inference.alerts.dispatcher import Dispatcher
from inference.alerts.outbox import Outbox

pytestmark = pytest.mark.gateway
BEFORE, DURING, AFTER = 50, 200, 50
PAUSES_S = (0.05, 0.2)


def alert(number: int) -> Alert:
    return Alert(f"call-{number}", "danger", 1.0, 0.9, "tax", "ask", (), 1_700_000_000.0, "m")


def outbox_is_empty(path: Path) -> bool:
    outbox = Outbox(path)
    try:
        return outbox.pending() == 0
    finally:
        outbox.close()


async def until(condition, timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_brokers_away_lose_nothing_and_hold_up_no_other_sink(redis_server, nats_server, tmp_path):
    lines = tmp_path / "alerts.jsonl"
    config = AlertsConfig(
        jsonl_path=lines,
        redis=RedisConfig(url=f"redis://127.0.0.1:{redis_server.port}", timeout_s=1),
        nats=NatsConfig(servers=[f"nats://127.0.0.1:{nats_server.port}"], timeout_s=1),
    )
    sent = [alert(number).id for number in range(BEFORE + DURING + AFTER)]

    async def in_redis() -> list[str]:
        async with Redis(port=redis_server.port, decode_responses=True) as client:
            return [fields["id"] for _, fields in await client.xrange("scamtap:events")]

    async def in_nats() -> list[str]:
        client = await nats.connect(f"nats://127.0.0.1:{nats_server.port}")
        stream = client.jetstream()
        num = (await stream.stream_info("SCAMTAP")).state.messages
        ids = [(await stream.get_msg("SCAMTAP", n)).headers["Nats-Msg-Id"] for n in range(1, num + 1)]
        await client.close()
        return ids

    async def in_file() -> list[str]:
        return [json.loads(line)["id"] for line in lines.read_text().splitlines()]

    async def holds(read, num: int) -> None:
        async def whether() -> bool:
            return len(set(await read())) == num

        await until(whether)

    async def run() -> None:
        client = await nats.connect(f"nats://127.0.0.1:{nats_server.port}")
        await client.jetstream().add_stream(name="SCAMTAP", subjects=["scamtap.>"])
        await client.close()
        outbox = Outbox(tmp_path / "outbox.db")
        dispatcher = Dispatcher(outbox, config.sinks(), idle_s=0.05, pauses_s=PAUSES_S)
        dispatcher.start()
        for number in range(BEFORE):
            dispatcher.send(alert(number))
        for read in (in_redis, in_nats, in_file):
            await holds(read, BEFORE)
        redis_server.kill()
        nats_server.kill()
        for number in range(BEFORE, BEFORE + DURING):
            dispatcher.send(alert(number))
        await holds(in_file, BEFORE + DURING)  # not held up
        await asyncio.sleep(10 * PAUSES_S[1])
        assert outbox.pending() == 2 * DURING
        redis_server.start()
        await holds(in_redis, BEFORE + DURING)  # nor does one that is back wait for one that is not
        assert outbox.pending() == DURING
        nats_server.start()
        for number in range(BEFORE + DURING, len(sent)):
            dispatcher.send(alert(number))
        for read in (in_redis, in_nats, in_file):
            await holds(read, len(sent))
            assert set(await read()) == set(sent)
        assert len(await in_file()) == len(await in_nats()) == len(sent)
        await dispatcher.aclose()
        assert outbox_is_empty(tmp_path / "outbox.db")

    with capture_logs() as logs:
        asyncio.run(run())
    for name in ("redis", "nats"):
        events = [line["event"] for line in logs if line.get("sink") == name]
        assert "alerts wait: the sink is away" in events
        assert events[-1] == "the sink is back"
