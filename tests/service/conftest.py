"""A worker on free ports of this machine, with scripted models; a gateway that sends to it; a virtual-time watch."""

import asyncio
import contextlib
import json
import socket

import httpx
import pytest

from inference.alerts.dispatcher import Dispatcher
from inference.alerts.outbox import Outbox
from inference.config import PrivacyConfig, Settings
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig
from inference.service.api import ApiConfig
from inference.service.bus import EventBus
from inference.service.opinions import Opinions
from inference.service.publisher import Publisher
from inference.service.telemetry import Telemetry
from inference.service.watch import Watch, WatchConfig

GATEWAY_IP = "192.0.2.10"


class Gateway:
    """Sends the two legs of one call from sockets of its own, at the pace of speech."""

    def __init__(self, media: tuple[str, int]) -> None:
        self.media = media
        self.sockets = {}
        for leg in ("far", "near"):
            self.sockets[leg] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sockets[leg].bind((media[0], 0))

    def spec(self, call_id: str, **more) -> dict:
        legs = {
            leg: {"local_port": self.media[1], "source": "{}:{}".format(*sock.getsockname())}
            for leg, sock in self.sockets.items()
        }
        return {"id": call_id, **legs, **more}

    async def send(self, **legs) -> float:
        """``far=packets, near=packets``: one packet each 20 ms; by how much the latest was late, seconds."""
        loop = asyncio.get_running_loop()
        began_s, latest_s = loop.time(), 0.0
        for number in range(max(map(len, legs.values()))):
            latest_s = max(latest_s, loop.time() - began_s - 0.02 * number)
            for leg, packets in legs.items():
                if number < len(packets):
                    self.sockets[leg].sendto(packets[number], self.media)
            await asyncio.sleep(max(0.0, began_s + 0.02 * (number + 1) - loop.time()))
        return latest_s

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()


async def follow(api: httpx.AsyncClient, events: list, is_following: asyncio.Event) -> None:
    """Collect server-sent events until the stream ends."""
    async with api.stream("GET", "/v1/events", timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            is_following.set()
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))


class Bench:
    """A watch in virtual time: packets are fed with their times of arrival, and nobody waits."""

    def __init__(
        self, doubles, *, ports=(40000,), max_legs=16, parts=None, stages=None, opinion=None, **config
    ) -> None:
        self.doubles = doubles
        self.now_s = 1000.0
        self.plane = PacketPlane(PlaneConfig(ports=ports, max_legs=max_legs))
        self.stages = stages or doubles.stages(self.clock)
        self.bus = EventBus()
        self.telemetry = Telemetry()
        self.opinions = None
        if opinion is not None:
            self.stages.scorer, parts = doubles.ActScorer(), doubles.parts(opinion=opinion)
            self.opinions = Opinions(opinion, self.telemetry, clock=self.clock)
        self.outbox = Outbox(None)
        self.watch = Watch(
            self.plane,
            parts or doubles.parts(),
            self.stages,
            WatchConfig(**config),
            publisher=Publisher(self.telemetry, self.bus, Dispatcher(self.outbox, [])),
            clock=self.clock,
            opinions=self.opinions,
        )

    def clock(self) -> float:
        return self.now_s

    def feed(self, data: bytes, port: int, *, local_port: int = 40000, host: str = GATEWAY_IP) -> None:
        self.plane.feed([Datagram(data, (host, port), local_port, self.now_s)])

    async def play(self, legs: dict[int, list[bytes]]) -> None:
        """``{source port: packets}``, a tick every 60 ms of virtual time, models run in between."""
        for number in range(max(map(len, legs.values()))):
            for port, packets in legs.items():
                if number < len(packets):
                    self.feed(packets[number], port)
            self.now_s += 0.02
            if number % 3 == 2:
                await self.tick()

    async def tick(self) -> None:
        self.watch.tick()
        await self.settle()

    async def settle(self) -> None:
        await self.doubles.until(lambda: not self.watch.num_waiting)

    async def close(self) -> None:
        if self.opinions is not None:
            await self.opinions.aclose()
        await self.watch.drain()
        self.outbox.close()


@pytest.fixture
def bench(doubles):
    """``async with bench(...) as b``."""

    @contextlib.asynccontextmanager
    async def make(**more):
        made = Bench(doubles, **more)
        try:
            yield made
        finally:
            await made.close()

    return make


@pytest.fixture
def spec_of():
    """A call's spec whose legs come from two ports of one gateway."""

    def make(call_id="c1", far=30000, near=30002, local_port=40000, **more):
        legs = {
            leg: {"local_port": local_port, "source": f"{GATEWAY_IP}:{port}"}
            for leg, port in (("far", far), ("near", near))
        }
        return {"id": call_id, **legs, **more}

    return make


@pytest.fixture
def live_settings(doubles):
    """Settings of a worker on free ports; keywords lay over them."""

    def make(**more) -> Settings:
        return Settings(
            **{
                "privacy": PrivacyConfig(legal_basis="a test of our own software"),
                "media": PlaneConfig(ports=(0,), max_legs=16),
                "api": ApiConfig(port=0),
                "segmenter": doubles.SEGMENTS,
            }
            | more
        )

    return make


@pytest.fixture
def live(scripted, live_settings):
    """``async with live(...) as (worker, api, gateway)``: a whole worker on real sockets."""
    from inference.service.worker import Worker

    @contextlib.asynccontextmanager
    async def make(**more):
        async with Worker(live_settings(**more)) as worker:
            host, port = worker.api_address
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as api:
                with contextlib.closing(Gateway((host, worker.watch.media_ports[0]))) as gateway:
                    yield worker, api, gateway

    return make


@pytest.fixture
def following():
    """``async with following(api) as events``: a list that fills while the worker runs."""

    @contextlib.asynccontextmanager
    async def make(api):
        events, is_following = [], asyncio.Event()
        task = asyncio.create_task(follow(api, events, is_following))
        try:
            async with asyncio.timeout(60):
                await is_following.wait()
            yield events
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return make
