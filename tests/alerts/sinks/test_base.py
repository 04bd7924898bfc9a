import asyncio

import pytest

from inference.alerts.sinks.base import Connection


class Client:
    num_open = num_opened = 0

    @classmethod
    async def open(cls) -> "Client":
        await asyncio.sleep(0.01)
        cls.num_open += 1
        cls.num_opened += 1
        return cls()

    async def close(self) -> None:
        type(self).num_open -= 1


@pytest.fixture
def kind():
    return type("Fresh", (Client,), {})


def connection_to(kind) -> Connection:
    return Connection(kind.open, lambda client: client.close())


def test_all_who_ask_share_one_client_and_one_that_failed_is_replaced_once(kind):
    async def run():
        connection = connection_to(kind)
        clients = await asyncio.gather(*(connection.get() for _ in range(16)))
        assert len(set(map(id, clients))) == kind.num_opened == 1
        await asyncio.gather(*(connection.drop(client) for client in clients))
        assert kind.num_open == 0
        other = await connection.get()
        await connection.drop(clients[0])  # late: another is in use by now
        assert kind.num_open == 1
        assert other is await connection.get()
        await connection.aclose()
        assert (kind.num_open, kind.num_opened) == (0, 2)

    asyncio.run(run())


def test_where_opening_fails_all_who_wait_learn_it_at_once_and_the_next_tries_again(kind):
    attempts = []

    async def fail():
        attempts.append(1)
        await asyncio.sleep(0.01)
        raise OSError("refused")

    async def run():
        connection = Connection(fail, lambda client: client.close())
        errors = await asyncio.gather(*(connection.get() for _ in range(16)), return_exceptions=True)
        assert {type(error) for error in errors} == {OSError}
        assert len(attempts) == 1
        with pytest.raises(OSError, match="refused"):
            await connection.get()
        assert len(attempts) == 2
        await connection.aclose()

    asyncio.run(run())


def test_one_who_gives_up_does_not_take_the_client_from_the_others(kind):
    async def run():
        connection = connection_to(kind)
        first, second = asyncio.create_task(connection.get()), asyncio.create_task(connection.get())
        await asyncio.sleep(0)
        first.cancel()
        assert isinstance(await second, kind)
        await connection.aclose()
        assert kind.num_open == 0

    asyncio.run(run())


def test_closing_while_it_opens_leaves_nothing_open(kind):
    async def run():
        connection = connection_to(kind)
        asking = asyncio.create_task(connection.get())
        await asyncio.sleep(0)
        await connection.aclose()
        assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], asyncio.CancelledError)
        assert kind.num_open == 0

    asyncio.run(run())
