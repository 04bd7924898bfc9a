"""A worker that screens and does nothing else: no models, no media; as many of them as call set-ups need.

``scamtap serve --only screening``. Several share one Redis; one alone may keep its memory in a file.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from inference import __version__
from inference.errors import ConfigError, ScamTapError
from inference.screening.api import Decides, screening_router
from inference.service.api import ApiConfig, bare_app
from inference.service.attempt_door import AttemptDoor
from inference.service.process import Server, calm_collector, listen, stopping
from inference.service.screened import DecisionMetrics, ScreenedWorker

if TYPE_CHECKING:
    from inference.config import Settings

log = structlog.get_logger(__name__)


def screening_app(screened: ScreenedWorker, config: ApiConfig) -> FastAPI:
    """The HTTP door of a worker that only screens."""
    app, guarded = bare_app(config)
    registry = CollectorRegistry()
    registry.register(DecisionMetrics(screened))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", dependencies=guarded)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    app.include_router(screening_router(screened.screening, guarded))
    return app


def http_server(screened: ScreenedWorker, screener: Decides, config: ApiConfig, *, is_direct: bool = True) -> Server:
    """The server of such a worker; not ``is_direct``, the framework answers the hot route too."""
    app = screening_app(screened, config)
    door = AttemptDoor(app, screener, config) if is_direct else app
    parser: Literal["httptools", "h11"] = "httptools" if is_direct else "h11"
    return Server(
        uvicorn.Config(
            door, http=parser, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
    )


def run_screening(settings: "Settings") -> None:
    """:func:`serve_screening` on a loop and with a parser of HTTP that are written in C: half the time of a decision.

    Raises:
        ConfigError, ScamTapError: as there.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_screening(settings))


async def serve_screening(settings: "Settings") -> None:
    """Screen until SIGTERM or SIGINT; a second signal stops at once.

    Raises:
        ConfigError: screening is not enabled, a port is in use, a file cannot be used.
        ScamTapError: something that must run beside it broke down.
    """
    if not settings.screening.enabled:
        raise ConfigError("screening.enabled is false in the settings: nothing to serve")
    async with contextlib.AsyncExitStack() as stack:
        stop = stopping(asyncio.get_running_loop())
        listener = listen(settings.api)
        stack.callback(listener.close)
        dispatcher = settings.alerts.dispatcher(lambda *_labels: None)
        stack.push_async_callback(dispatcher.aclose)
        screened = await ScreenedWorker.open(settings.screening, dispatcher, stack)
        dispatcher.start()
        server = http_server(screened, screened.screening.screener, settings.api)
        calm_collector()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        host, port = listener.getsockname()[:2]
        log.info("screening", api=f"http://{host}:{port}", rules_version=screened.screening.screener.rules_version)
        waiting = asyncio.create_task(stop.wait())
        must_run: set[asyncio.Task[Any]] = {serving, *screened.tasks, *dispatcher.tasks}
        done, _ = await asyncio.wait({waiting, *must_run}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        if done & must_run:
            raise ScamTapError("calls are not screened any more, an internal error; restart, see the log")
