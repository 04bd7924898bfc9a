"""Many workers, one memory: against a real redis-server."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import pytest
from redis import Redis

from inference.errors import ConfigError
from inference.screening.appeals import Appeal
from inference.screening.attempt import CallAttempt
from inference.screening.backend import Fields, MemoryBackend
from inference.screening.bombing import BombingDetector
from inference.screening.config import ScreeningConfig, open_entries, open_screening
from inference.screening.lists import ListEntry, NumberLists
from inference.screening.redis import RedisBackend, RedisConfig
from inference.screening.reload import ListReloader
from inference.screening.remembered import WindowStore
from inference.screening.rules import RulesConfig
from inference.screening.score import LogisticRisk, load_risk
from inference.screening.screener import Screener
from inference.screening.traffic import traffic

NOW_S = 1_800_000_000.0


def worker(backend, clock) -> Screener:
    return Screener(
        RulesConfig(region="GB"),
        NumberLists(),
        WindowStore(backend),
        model=LogisticRisk(load_risk()),
        bursts=BombingDetector(),
        store_timeout_s=2,
        clock=clock,
    )


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def calls(count=400):
    """A few minutes of a simulated network, and in the middle somebody is bombed."""
    made = []
    for number, call in enumerate(traffic(0.2, 5, 0.05)):
        callee = "442079460000" if number % 3 == 0 else call.callee
        made.append((number * 0.5, f"+{call.caller}", f"+{callee}", call.trunk))
        if len(made) == count:
            break
    return made


async def decide_all(workers, clock):
    decisions = []
    for number, (at_s, caller, callee, trunk) in enumerate(calls()):
        clock.now_s = NOW_S + at_s
        attempt = CallAttempt(call_id=str(number), caller=caller, callee=callee, trunk=trunk)
        decision = await workers[number % len(workers)].decide(attempt)
        decisions.append((decision.action, decision.reasons, decision.risk, decision.is_degraded))
    return decisions


@pytest.mark.gateway
def test_one_worker_and_three_decide_alike_and_as_in_memory(redis_server):
    async def go(count):
        redis_server.flush()
        clock = Clock()
        backends = [RedisBackend(RedisConfig(url=redis_server.url, timeout_s=2)) for _ in range(count)]
        try:
            return await decide_all([worker(backend, clock) for backend in backends], clock)
        finally:
            for backend in backends:
                await backend.aclose()

    async def alone():
        clock = Clock()
        return await decide_all([worker(MemoryBackend(clock=clock), clock)], clock)

    one, three, memory = asyncio.run(go(1)), asyncio.run(go(3)), asyncio.run(alone())
    assert one == three == memory
    assert {action for action, *_ in one} >= {"allow", "challenge"}
    assert not any(is_degraded for *_, is_degraded in one)


@pytest.mark.gateway
def test_redis_away_is_open_said_and_over_when_it_is_back(redis_server):
    clock = Clock()

    async def go():
        backend = RedisBackend(RedisConfig(url=redis_server.url, timeout_s=0.5))
        made = worker(backend, clock)
        attempt = CallAttempt(call_id="c", caller="+441212345678", callee="+442079460000")
        states = [(await made.decide(attempt)).is_degraded]
        redis_server.stop()
        away = [await made.decide(attempt) for _ in range(3)]
        redis_server.start()
        states += [d.is_degraded for d in away]
        async with asyncio.timeout(60):
            while (await made.decide(attempt)).is_degraded:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await backend.aclose()
        return states, {d.action for d in away}

    states, actions = asyncio.run(go())
    assert states == [False, True, True, True]
    assert actions == {"allow"}


@pytest.mark.gateway
def test_a_full_redis_is_open(redis_server):
    import socket

    def admin(line):
        with socket.create_connection(("127.0.0.1", redis_server.port), 2) as sock:
            sock.sendall(line.encode() + b"\r\n")
            return sock.recv(256)

    async def go():
        backend = RedisBackend(RedisConfig(url=redis_server.url, timeout_s=2))
        made = worker(backend, Clock())
        attempt = CallAttempt(call_id="c", caller="+441212345679", callee="+442079460000")
        decision = await made.decide(attempt)
        await backend.aclose()
        return decision

    redis_server.flush()
    assert admin("CONFIG SET maxmemory 1").startswith(b"+OK")
    try:
        decision = asyncio.run(go())
    finally:
        admin("CONFIG SET maxmemory 0")
    assert (decision.action, decision.is_degraded) == ("allow", True)


@pytest.mark.gateway
def test_a_thousand_questions_at_once_are_all_answered_by_few_requests(redis_server):
    """They share requests, and connections: none is refused for want of one, and each is counted once."""
    num_calls = 1000

    async def go():
        redis_server.flush()
        backend = RedisBackend(RedisConfig(url=redis_server.url, timeout_s=5, max_connections=2))
        made = worker(backend, Clock())
        made._store_timeout_s = 30
        attempts = [
            CallAttempt(call_id=str(n), caller="+441212345678", callee=f"+44207946{n:04}") for n in range(num_calls)
        ]
        decisions = await asyncio.gather(*map(made.decide, attempts))
        (counted,) = await backend.run([Fields(f"c:{attempts[0].caller[1:]}")])
        asked = (await backend._redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
        await backend.aclose()
        return decisions, counted, asked

    decisions, counted, asked = asyncio.run(go())
    assert not any(d.is_degraded for d in decisions)
    assert sum(int(v) for field, v in counted.items() if field.startswith("a:")) == num_calls
    assert asked < num_calls / 2


@pytest.mark.gateway
def test_keys_expire_by_themselves(redis_server):
    import socket

    async def go():
        backend = RedisBackend(RedisConfig(url=redis_server.url, timeout_s=2))
        made = worker(backend, Clock())
        await made.decide(CallAttempt(call_id="c", caller="+441212345678", callee="+442079460000"))
        await backend.aclose()

    redis_server.flush()
    asyncio.run(go())
    with socket.create_connection(("127.0.0.1", redis_server.port), 2) as sock:
        script = (
            "for _,k in ipairs(redis.call('KEYS','*')) do if redis.call('TTL',k) < 0 then return k end end return ''"
        )
        sock.sendall(f'EVAL "{script}" 0\r\n'.encode())
        assert sock.recv(256) == b"$0\r\n\r\n"


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://user:secret@127.0.0.1/0"])
def test_a_url_that_is_none_or_tells_a_password_is_refused(url):
    with pytest.raises(ValueError, match="url") as caught:
        RedisConfig(url=url)
    assert "secret@" not in str(caught.value).split("input_value")[0]


def test_what_is_no_url_is_one_line():
    with pytest.raises(ConfigError, match=r"screening\.redis\.url"):
        RedisBackend(RedisConfig(url="redis://127.0.0.1:port/0"))


def shared(redis_server, **more):
    return ScreeningConfig(redis=RedisConfig(url=redis_server.url, timeout_s=2, share_lists=True), **more)


DENY = ListEntry(kind="deny", number="441212345678", who="desk", why="reported")
CALL = CallAttempt(call_id="c", caller="+441212345678", callee="+442079460000")


@pytest.mark.gateway
def test_one_book_of_lists_for_every_host(redis_server):
    """What one host's desk enters, another host's worker obeys; an appeal decided on one holds on the other."""

    async def go():
        redis_server.flush()
        desk = open_entries(shared(redis_server))
        async with AsyncExitStack() as stack:
            hosts = [open_screening(shared(redis_server), stack) for _ in range(2)]

            async def decided():
                for host in hosts:
                    await next(b.__self__ for b in host.background if isinstance(b.__self__, ListReloader)).check()
                return [(await host.screener.decide(CALL)).action for host in hosts]

            seen = [await decided()]
            desk.add(DENY)
            seen.append(await decided())
            appeal = Appeal("deny", DENY.number)
            await asyncio.to_thread(hosts[0].appeals.step, appeal, "open", who="portal", why="a new owner")
            await asyncio.to_thread(hosts[1].appeals.step, appeal, "grant", who="desk", why="papers seen")
            seen.append(await decided())
        return seen, [c.what for c in desk.log()], desk.verify()

    seen, log, broken = asyncio.run(go())
    assert seen == [["allow", "allow"], ["reject", "reject"], ["allow", "allow"]]
    assert (log, broken) == (["added", "appealed", "appeal_granted"], None)


@pytest.mark.gateway
def test_writers_on_many_hosts_never_fork_the_log_and_an_altered_line_shows(redis_server):
    redis_server.flush()
    books = [open_entries(shared(redis_server)) for _ in range(4)]

    def write(book, first):
        for at in range(10):
            book.add(ListEntry(kind="deny", number=f"44{first}{at:03}", who="desk", why="reported"))

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, books, range(1, 5)))
    assert len(books[0].entries()) == 40
    assert books[0].verify() is None
    client = Redis.from_url(redis_server.url)
    client.lset("scamtap:log:list entries", 6, client.lindex("scamtap:log:list entries", 6).replace(b"desk", b"dusk"))
    assert books[1].verify() == 7
    client.close()
    for book in books:
        book.close()


@pytest.mark.gateway
def test_a_worker_starts_without_redis_and_takes_the_lists_over_when_it_is_there(redis_server):
    async def go():
        redis_server.flush()
        open_entries(shared(redis_server)).add(DENY)
        redis_server.stop()
        async with AsyncExitStack() as stack:
            host = open_screening(shared(redis_server), stack)
            reloader = next(b.__self__ for b in host.background if isinstance(b.__self__, ListReloader))
            without = await host.screener.decide(CALL)
            await reloader.check()
            redis_server.start()
            open_entries(shared(redis_server)).add(DENY)  # this server keeps nothing on disk
            await reloader.check()
            return without, await host.screener.decide(CALL), reloader.num_failures

    without, there, num_failures = asyncio.run(go())
    assert (without.action, without.is_degraded, num_failures) == ("allow", True, 1)
    assert there.action == "reject"
