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
NUM_KILLS = 15
RETRY_AFTER_S = (*[0.1] * 60, 86400.0)  # soon, and given up after a day as ever


def alert(number: int) -> Alert:
    return Alert(f"call-{number}", "danger", 1.0, 0.9, "tax", "ask", (), 1_700_000_000.0, "m")


async def until(condition, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
def brokers(redis_server, nats_server, tmp_path):
    """Both servers, and a configuration that delivers to them and to a file."""
    return Brokers(redis_server, nats_server, tmp_path / "alerts.jsonl")


class Brokers:
    def __init__(self, redis_server, nats_server, lines: Path) -> None:
        self.redis_server, self.nats_server, self.lines = redis_server, nats_server, lines
        self.config = AlertsConfig(
            jsonl_path=lines,
            redis=RedisConfig(url=f"redis://127.0.0.1:{redis_server.port}", timeout_s=1),
            nats=NatsConfig(servers=[f"nats://127.0.0.1:{nats_server.port}"], timeout_s=1),
        )

    async def add_stream(self) -> None:
        client = await nats.connect(f"nats://127.0.0.1:{self.nats_server.port}")
        await client.jetstream().add_stream(name="SCAMTAP", subjects=["scamtap.>"])
        await client.close()

    async def in_redis(self) -> list[str]:
        async with Redis(port=self.redis_server.port, decode_responses=True) as client:
            return [fields["id"] for _, fields in await client.xrange("scamtap:events")]

    async def in_nats(self) -> list[str]:
        client = await nats.connect(f"nats://127.0.0.1:{self.nats_server.port}")
        stream = client.jetstream()
        num = (await stream.stream_info("SCAMTAP")).state.messages
        ids = [(await stream.get_msg("SCAMTAP", n)).headers["Nats-Msg-Id"] for n in range(1, num + 1)]
        await client.close()
        return ids

    async def in_file(self) -> list[str]:
        return [json.loads(line)["id"] for line in self.lines.read_text().splitlines()]


def test_brokers_away_lose_nothing_and_hold_up_no_other_sink(brokers, tmp_path):
    sent = [alert(number).id for number in range(BEFORE + DURING + AFTER)]

    async def holds(read, num: int) -> None:
        async def whether() -> bool:
            return len(set(await read())) == num

        await until(whether)

    async def run() -> None:
        await brokers.add_stream()
        outbox = Outbox(tmp_path / "outbox.db")
        dispatcher = Dispatcher(outbox, brokers.config.sinks(), idle_s=0.05, pauses_s=PAUSES_S)
        dispatcher.start()
        for number in range(BEFORE):
            dispatcher.send(alert(number))
        for read in (brokers.in_redis, brokers.in_nats, brokers.in_file):
            await holds(read, BEFORE)
        brokers.redis_server.kill()
        brokers.nats_server.kill()
        for number in range(BEFORE, BEFORE + DURING):
            dispatcher.send(alert(number))
        await holds(brokers.in_file, BEFORE + DURING)  # not held up
        await asyncio.sleep(10 * PAUSES_S[1])
        assert outbox.pending() >= 2 * DURING
        brokers.redis_server.start()
        await holds(brokers.in_redis, BEFORE + DURING)  # nor does one that is back wait for one that is not
        assert outbox.pending() >= DURING
        brokers.nats_server.start()
        for number in range(BEFORE + DURING, len(sent)):
            dispatcher.send(alert(number))
        for read in (brokers.in_redis, brokers.in_nats, brokers.in_file):
            await holds(read, len(sent))
            assert set(await read()) == set(sent)
        assert len(await brokers.in_file()) == len(await brokers.in_nats()) == len(sent)
        await dispatcher.aclose()
        assert outbox.pending() == 0

    with capture_logs() as logs:
        asyncio.run(run())
    for name in ("redis", "nats"):
        events = [line["event"] for line in logs if line.get("sink") == name]
        assert "alerts wait: the sink is away" in events, [line for line in logs if line.get("sink") == name]
        assert events[-1] == "the sink is back"


def test_brokers_killed_again_and_again_while_they_take_alerts(brokers, tmp_path):
    """Clients are cut off in the middle of everything: whatever they raise then, no pump dies of it."""
    sent = []

    async def send_for_ever(dispatcher: Dispatcher) -> None:
        while True:
            new = [alert(len(sent) + number) for number in range(20)]
            dispatcher.tell(*(a.notice(with_text=False, now_s=0.0) for a in new))
            sent.extend(a.id for a in new)
            await asyncio.sleep(0.02)

    async def run() -> None:
        await brokers.add_stream()
        outbox = Outbox(tmp_path / "outbox.db", retry_after_s=RETRY_AFTER_S)
        dispatcher = Dispatcher(outbox, brokers.config.sinks(), idle_s=0.05, pauses_s=(0.02, 0.1), drain_s=30)
        dispatcher.start()
        sending = asyncio.create_task(send_for_ever(dispatcher))
        for _ in range(NUM_KILLS):
            await asyncio.sleep(0.3)
            for server in (brokers.redis_server, brokers.nats_server):
                server.kill()
                await asyncio.sleep(0.05)
                await asyncio.to_thread(server.start)
        sending.cancel()
        assert not any(task.done() for task in dispatcher.tasks)

        async def all_delivered() -> bool:
            return outbox.pending() == 0

        await until(all_delivered, 60)
        await dispatcher.aclose()
        for read in (brokers.in_redis, brokers.in_nats, brokers.in_file):
            missing = set(sent) - set(await read())
            assert not missing, read.__name__

    with capture_logs() as logs:
        asyncio.run(run())
    assert {"redis", "nats"} <= {line.get("sink") for line in logs if line["event"].startswith("alert")}
