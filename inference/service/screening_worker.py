"""A worker that screens and does nothing else: no models, no media; as many of them as call set-ups need.

``scamtap serve --only screening``. Several share one Redis; one alone may keep its memory in a file.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from inference import __version__
from inference.errors import ConfigError, ScamTapError
from inference.screening.api import screening_router
from inference.screening.sip.server import open_redirect
from inference.service.api import ApiConfig, bare_app
from inference.service.process import Server, listen, stopping
from inference.service.screened import ScreenedWorker

if TYPE_CHECKING:
    from inference.config import Settings

log = structlog.get_logger(__name__)


class DecisionCounters:
    """The journal's counters as Prometheus metrics: what was done and why, never a number.

    Args:
        screened: whose.
    """

    def __init__(self, screened: ScreenedWorker) -> None:
        self.registry = CollectorRegistry()
        self._journal = screened.screening.journal
        labels = ["what", "reason", "category"]
        self._decisions = Counter("scamtap_screening", "Decisions and events", labels, registry=self.registry)
        self._lost = Gauge("scamtap_journal_lost", "Journal lines given up", registry=self.registry)
        self._told: dict[tuple[str, str, str], int] = {}

    def text(self) -> bytes:
        """All metrics, as they are scraped."""
        for labels, count in self._journal.counts.items():
            self._decisions.labels(*labels).inc(count - self._told.get(labels, 0))
            self._told[labels] = count
        self._lost.set(self._journal.num_lost)
        return generate_latest(self.registry)


def screening_app(screened: ScreenedWorker, config: ApiConfig) -> FastAPI:
    """The HTTP door of a worker that only screens."""
    app, guarded = bare_app(config)
    counters = DecisionCounters(screened)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", dependencies=guarded)
    async def metrics() -> Response:
        return Response(counters.text(), media_type=CONTENT_TYPE_LATEST)

    app.include_router(screening_router(screened.screening, guarded))
    return app


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
        screened = ScreenedWorker.open(settings.screening, dispatcher, stack)
        await open_redirect(settings.screening.sip, screened.screening.screener, stack)
        dispatcher.start()
        app = screening_app(screened, settings.api)
        server = Server(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        )
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
