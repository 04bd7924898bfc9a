"""What the ears are asked to play, and a server of HTTP and WebSocket on this machine for their doubles."""

import asyncio
import contextlib

import numpy as np
import pytest
import uvicorn

from inference.alerts.ear import Announcement
from inference.alerts.ears.http import Sounds


@pytest.fixture
def danger() -> Announcement:
    return Announcement("en-danger-card_otp", "danger", "en", "Careful.", np.ones(800, np.int16))


@pytest.fixture
def beep() -> Announcement:
    return Announcement("suspect", "suspect", "en", "", np.ones(800, np.int16))


@pytest.fixture
def sounds() -> Sounds:
    return Sounds("https://sounds.example/v1/announcements")


@pytest.fixture
def served():
    """``async with served(app) as (host, port)``."""

    @contextlib.asynccontextmanager
    async def run(app):
        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self):
                yield

        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_config=None, lifespan="off", ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        server = Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        try:
            yield server.servers[0].sockets[0].getsockname()[:2]
        finally:
            server.should_exit = True
            await serving

    return run
