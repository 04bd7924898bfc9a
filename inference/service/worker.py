"""One worker: the packet plane, the models, the calls, the alerts and the control API, started and stopped together."""

import asyncio
import contextlib
import socket
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from fastapi import APIRouter

from inference.alerts.announcements import Announcements, load_announcements
from inference.alerts.dispatcher import Dispatcher
from inference.alerts.ear import Reach
from inference.alerts.ears.open import make_ears
from inference.alerts.feedback import Feedback
from inference.alerts.notice import Notice
from inference.alerts.warner import Warner
from inference.errors import AlertError, ConfigError, ScamTapError
from inference.gateway.control import Gateway, WithDoor, WithEar
from inference.gateway.open import make_gateways
from inference.gateway.ports import MediaPorts
from inference.rtp.plane import PacketPlane
from inference.screening.api import screening_router
from inference.service.api import create_app
from inference.service.attempt_door import AttemptDoor
from inference.service.bus import EventBus
from inference.service.events import VerdictEvent
from inference.service.kept import KeptTranscripts
from inference.service.models import build_parts, build_stages, default_language
from inference.service.opinions import Opinions
from inference.service.process import Server, calm_collector, listen, log_failure, stopping
from inference.service.publisher import Publisher
from inference.service.renewal import Renewal, versions_there
from inference.service.screened import DecisionMetrics, ScreenedWorker
from inference.service.telemetry import Telemetry
from inference.service.watch import Watch

if TYPE_CHECKING:
    from inference.config import Settings

log = structlog.get_logger(__name__)

LEGAL_BASIS_MISSING = (
    "privacy.legal_basis is not set, so no call is analysed: write in the config why this installation may listen, "
    "e.g. legal_basis: subscriber opted in, service contract 4.2"
)


class Worker:
    """Owns the parts of one worker process.

    Use as ``async with Worker(settings) as worker``: entering loads the models, opens the sockets and registers the
    configured calls; leaving drains: no new calls, speech already heard is understood, alerts are delivered or kept.

    Raises:
        ConfigError: no legal basis, a port in use.
        WeightsError: the models were not pulled.
    """

    def __init__(self, settings: "Settings") -> None:
        if settings.privacy.legal_basis is None:
            raise ConfigError(LEGAL_BASIS_MISSING)
        self.settings = settings
        self.bus = EventBus(settings.api.max_followers)
        self.telemetry = Telemetry()
        self._kept = KeptTranscripts(settings.privacy.transcripts)
        self._exit = contextlib.AsyncExitStack()
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.watch: Watch
        self.warner: Warner
        self._dispatcher: Dispatcher
        self.api_address: tuple[str, int]

    async def __aenter__(self) -> "Worker":
        try:
            await self._open()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def _open(self) -> None:
        settings = self.settings
        listener = listen(settings.api)
        self._exit.callback(listener.close)
        # Before the slow part: a mistake in the settings of alerts is said at once.
        self._dispatcher = dispatcher = self._make_dispatcher()
        self._exit.push_async_callback(dispatcher.aclose)
        opinions = self._make_opinions()
        self.screened = await self._open_screening(dispatcher)
        announcements, self.warner = await asyncio.to_thread(self._make_warner)
        self._exit.push_async_callback(self.warner.aclose)
        plane = await asyncio.to_thread(PacketPlane, settings.media)  # compiles its kernels, the first time
        self._exit.callback(plane.stop)
        versions = await asyncio.to_thread(versions_there, settings)
        stages = await asyncio.to_thread(build_stages, settings)
        self._exit.callback(stages.close)
        self._refuse_unjudged(stages.scorer.calibration.languages)
        self.watch = Watch(
            plane,
            build_parts(settings, stages),
            stages,
            settings.watch,
            publisher=Publisher(
                self.telemetry,
                self.bus,
                dispatcher,
                self.warner,
                self._on_verdict,
                on_begun=self._on_begun,
                keep=self._kept.take,
            ),
            default_language=default_language(settings),
            opinions=opinions,
        )
        # While calls drain the API still answers (no new calls) and followers see how each call ends.
        self._exit.push_async_callback(self._close_api)
        self._exit.callback(self.bus.close)
        self._exit.push_async_callback(self.watch.drain)
        if opinions is not None:
            self._exit.push_async_callback(opinions.aclose)
        plane.start()
        if plane.granted_buffer_bytes < settings.media.receive_buffer_bytes:
            log.warning(
                "small receive buffer: packets may be lost in bursts; see scamtap doctor",
                bytes=plane.granted_buffer_bytes,
                wanted_bytes=settings.media.receive_buffer_bytes,
            )
        dispatcher.start()
        self.watch.start()
        renewing = asyncio.create_task(Renewal(settings, stages, self.watch.use, seen=versions).run())
        self._exit.callback(renewing.cancel)
        self._renewing = renewing
        for spec in settings.calls:
            self.watch.keep(spec)
        gateways = self._make_gateways()
        doors = [gateway.door for gateway in gateways if isinstance(gateway, WithDoor)]
        if self.screened is not None:
            doors.append(screening_router(self.screened.screening, ()))
        await self._open_api(listener, announcements, doors)
        for gateway in gateways:
            if isinstance(gateway, WithEar):
                self.warner.add(gateway.ear)
            self._exit.push_async_callback(gateway.aclose)
            await gateway.start()

    def _refuse_unjudged(self, judged: Collection[str]) -> None:
        """What no model knows would count for nothing, and the worker would say so of no call."""
        language = default_language(self.settings)
        if language is not None and language not in judged:
            raise ConfigError(
                f"calls are in {language} (speech.language), which no intent model here judges (they judge "
                f"{', '.join(judged)}); set it, or restore the model: scamtap models verify"
            )

    async def _open_screening(self, dispatcher: Dispatcher) -> ScreenedWorker | None:
        if not self.settings.screening.enabled:
            return None
        screened = await ScreenedWorker.open(self.settings.screening, dispatcher, self._exit)
        self.telemetry.registry.register(DecisionMetrics(screened))
        return screened

    def _make_opinions(self) -> Opinions | None:
        return Opinions(self.settings.opinion, self.telemetry) if self.settings.opinion.is_on else None

    def _on_verdict(self, verdict: VerdictEvent, reach: Reach | None) -> None:
        if self.screened is not None:
            self.screened.ended(verdict, reach)

    def _on_begun(self, reach: Reach | None) -> None:
        if self.screened is not None:
            self.screened.begun(reach, self.warner)

    def _make_gateways(self) -> list[Gateway]:
        media, gateways = self.settings.media, self.settings.gateways
        ports = MediaPorts(
            gateways.media_address or media.host, self.watch.media_ports, media.exclusive_ports, gateways.quarantine_s
        )
        return make_gateways(gateways, self.watch, ports)

    def _make_dispatcher(self) -> Dispatcher:
        return self.settings.alerts.dispatcher(lambda *labels: self.telemetry.deliveries.labels(*labels).inc())

    def _make_warner(self) -> tuple[Announcements, Warner]:
        """What subscribers can hear, and who sees to it; a long opt-out list takes a moment."""
        config = self.settings.warnings
        announcements = load_announcements(config.announcements_dir, language=config.language)
        warner = Warner(
            config,
            announcements,
            make_ears(config),
            opt_outs=config.opt_outs(),
            on_outcome=lambda ear, outcome: self.telemetry.warnings.labels(ear, outcome).inc(),
            on_feedback=self._keep_feedback,
        )
        return announcements, warner

    def _keep_feedback(self, feedback: Feedback) -> None:
        log.info("feedback", call=feedback.call, says=feedback.says, alert=feedback.alert, call_level=feedback.level)
        self._kept.said(feedback)
        if self.screened is not None:
            self.screened.said(feedback)
        notice = Notice("feedback", feedback.id, feedback.call, feedback.at_s, feedback.to_json())
        try:
            self._dispatcher.tell(notice)
        except AlertError as error:
            log.error("feedback not kept", call=feedback.call, why=str(error))

    async def _open_api(
        self, listener: socket.socket, announcements: Announcements, doors: Sequence[APIRouter]
    ) -> None:
        app = create_app(self.watch, self.bus, self.telemetry, self.settings.api, announcements, doors)
        door = app if self.screened is None else AttemptDoor(app, self.screened.screening.screener, self.settings.api)
        config = uvicorn.Config(
            door, http="h11", log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
        )
        self._server = server = Server(config)
        host, port = listener.getsockname()[:2]
        self.api_address = (host, port)
        self._serving = serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn tells nobody when it has started

    async def _close_api(self) -> None:
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set.

        Raises:
            ScamTapError: following calls or delivering alerts broke down: better restarted than deaf or dumb.
        """
        stopping = asyncio.create_task(stop.wait())
        must_run: dict[asyncio.Task[Any], str] = {self.watch.ticking: "followed"}
        must_run |= dict.fromkeys(self._dispatcher.tasks, "warned of")
        if self.settings.renewal.every_s:
            must_run[self._renewing] = "judged by promoted models"
        if self.screened is not None:
            must_run |= dict.fromkeys(self.screened.tasks, "screened")
        try:
            done, _ = await asyncio.wait({stopping, *must_run}, return_when=asyncio.FIRST_COMPLETED)
            for task in done & must_run.keys():
                if not task.cancelled():
                    log_failure(asyncio.get_running_loop(), {"exception": task.exception()})
                raise ScamTapError(
                    f"the calls are not {must_run[task]} any more, an internal error; restart, see the log"
                )
        finally:
            stopping.cancel()

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()


async def serve_until_signal(settings: "Settings") -> None:
    """Run a worker until SIGTERM or SIGINT, then drain. A second signal stops at once."""
    stop = stopping(asyncio.get_running_loop())
    async with Worker(settings) as worker:
        calm_collector()  # code, plans and models are 150,000 objects: a pass over them stops every call for .1 s
        log.info(
            "serving",
            api=f"http://{worker.api_address[0]}:{worker.api_address[1]}",
            media=f"{settings.media.host}:{','.join(map(str, worker.watch.media_ports))}",
            legal_basis=settings.privacy.legal_basis,
        )
        await worker.run(stop)
        log.info("draining", calls=len(worker.watch.call_ids))
