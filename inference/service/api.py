"""The control API: register and end calls, list them, follow what happens. HTTP, meant for this host.

Everything that arrives is hostile: bodies are bounded and validated, the Host header is checked (a web page must not
reach it by DNS rebinding), and beyond loopback a bearer token is required.
"""

import asyncio
import contextlib
import hmac
import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from starlette.middleware.trustedhost import TrustedHostMiddleware

from inference import __version__
from inference.alerts.announcements import Announcements, wav_bytes
from inference.alerts.redact import redact
from inference.errors import CapacityError, CodecError, ConfigError
from inference.gateway.spec import CALL_ID_PATTERN, CallSpec
from inference.service.bus import EventBus
from inference.service.telemetry import Telemetry
from inference.service.watch import Watch

MAX_BODY_BYTES = 16_384
MAX_SCREENING_BODY_BYTES = 65_536
"""A call attempt may carry headers of any size, which are cut and decided: refused, the call would go unscreened."""
MAX_FAULTS = 8  # told about one bad request
KEEP_ALIVE_S = 15.0


class ApiConfig(BaseModel):
    """Where the control API listens.

    Attributes:
        host, port: address; loopback unless a token is set.
        token: required as ``Authorization: Bearer ...`` where set.
        allowed_hosts: further names under which clients reach it.
        include_text: put what was said into the event stream.
        max_followers: bound on open event streams.
        reuse_port: several workers of this host share the address, and the kernel spreads connections over them; for
            ``scamtap serve --only screening``, whose memory is then in Redis.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8650, ge=0, le=65535)
    token: SecretStr | None = None
    allowed_hosts: tuple[str, ...] = ()
    include_text: bool = False
    max_followers: int = Field(default=16, ge=1, le=1024)
    reuse_port: bool = False

    @model_validator(mode="after")
    def _token_beyond_loopback(self) -> Self:
        try:
            is_loopback = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            is_loopback = self.host == "localhost"
        if not is_loopback and self.token is None:
            raise ValueError("beyond loopback the API needs a token: set api.token")
        return self


CallId = Annotated[str, Path(pattern=CALL_ID_PATTERN)]
SoundName = Annotated[str, Path(pattern=r"^[a-z0-9_-]{1,64}$")]


def allowed_hosts(config: ApiConfig) -> list[str]:
    """Names under which clients may reach the API."""
    return ["localhost", "127.0.0.1", "[::1]", config.host, *config.allowed_hosts]


def bare_app(config: ApiConfig) -> tuple[FastAPI, list[Any]]:
    """An app that bounds bodies, checks the Host header and tells faults without repeating them; no routes yet.

    Returns:
        The app, and the dependencies that authorise a request.
    """
    app = FastAPI(
        title="ScamTap control API", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts(config))
    token = config.token.get_secret_value().encode() if config.token is not None else None

    @app.middleware("http")
    async def bound_body(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "0")
        is_number = len(length) <= 8 and length.isascii() and length.isdigit()
        is_screening = request.url.path.startswith("/v1/screening/")
        most = MAX_SCREENING_BODY_BYTES if is_screening else MAX_BODY_BYTES
        if "transfer-encoding" in request.headers or not is_number or int(length) > most:
            return JSONResponse({"detail": f"body must be at most {most} bytes"}, status_code=413)
        return await call_next(request)

    @app.exception_handler(RequestValidationError)
    async def refuse(_request: Request, error: RequestValidationError) -> Response:
        # What was wrong and where, without the input: it may be no JSON at all (NaN), no text (half a surrogate pair),
        # nested too deep to be written back, or personal data.
        first = [{"loc": fault["loc"], "msg": fault["msg"]} for fault in error.errors()[:MAX_FAULTS]]
        body = json.dumps({"detail": first}, ensure_ascii=True, default=str)
        return Response(body, 422, media_type="application/json")

    async def authorised(request: Request) -> None:  # a plain function would cost every request a thread
        if token is None:
            return
        given = request.headers.get("authorization", "").encode("latin-1")  # as the bytes came
        if not hmac.compare_digest(given, b"Bearer " + token):
            raise HTTPException(401, "give the token: Authorization: Bearer ...", {"WWW-Authenticate": "Bearer"})

    return app, [Depends(authorised)]


def create_app(
    watch: Watch,
    bus: EventBus,
    telemetry: Telemetry,
    config: ApiConfig,
    announcements: Announcements | None = None,
    doors: Sequence[APIRouter] = (),
) -> FastAPI:
    """The API over one worker's calls.

    Args:
        watch: the calls.
        bus: what happens in them.
        telemetry: what is counted.
        config: address and token.
        announcements: sounds that gateways fetch; None for none.
        doors: what gateways and screening add to it.
    """
    app, guarded = bare_app(config)
    for door in doors:
        app.include_router(door, dependencies=guarded)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "draining" if watch.is_draining else "ok", "version": __version__}

    @app.get("/metrics", dependencies=guarded)
    async def metrics() -> Response:
        telemetry.observe(watch, bus)
        return Response(generate_latest(telemetry.registry), media_type=CONTENT_TYPE_LATEST)

    # Open to whoever reaches the port: gateways that fetch sounds send no token. They are the same for every call and
    # name nobody, and a name is looked up in a table, never in a folder.
    @app.get("/v1/announcements/{name}.wav")
    async def sound(name: SoundName) -> Response:
        announcement = announcements.get(name) if announcements is not None else None
        if announcement is None:
            raise HTTPException(404, "no such announcement")
        wav = wav_bytes(announcement.samples)
        return Response(wav, media_type="audio/wav", headers={"Cache-Control": "public, max-age=3600"})

    @app.post("/v1/calls", status_code=201, dependencies=guarded)
    async def begin(spec: CallSpec) -> dict[str, Any]:
        if any(leg.is_streamed for leg in spec.legs.values()):
            raise HTTPException(422, "a call announced here comes as packets: give each leg its local_port")
        try:
            watch.begin(spec)
        except CapacityError as error:
            raise HTTPException(503, str(error), {"Retry-After": "5"}) from error
        except ConfigError as error:
            raise HTTPException(409, str(error)) from error
        except CodecError as error:
            raise HTTPException(422, str(error)) from error
        return watch.describe(spec.id)

    @app.get("/v1/calls", dependencies=guarded)
    async def list_calls() -> list[dict[str, Any]]:
        return [watch.describe(call_id) for call_id in watch.call_ids]

    @app.get("/v1/load", dependencies=guarded)
    async def load() -> dict[str, Any]:
        return watch.load()

    @app.get("/v1/calls/{call_id}", dependencies=guarded)
    async def show(call_id: CallId) -> dict[str, Any]:
        if call_id not in watch.call_ids:
            raise HTTPException(404, "no such call")
        return watch.describe(call_id)

    @app.delete("/v1/calls/{call_id}", dependencies=guarded)
    async def end(call_id: CallId) -> dict[str, Any]:
        if call_id not in watch.call_ids:
            raise HTTPException(404, "no such call")
        verdict = await watch.end(call_id)
        return dict(verdict.to_json())

    @app.get("/v1/events", dependencies=guarded)
    async def events() -> StreamingResponse:
        if bus.is_full:
            raise HTTPException(503, f"{config.max_followers} event streams are open already: raise api.max_followers")

        async def stream() -> AsyncIterator[bytes]:
            # Followed only once the stream runs: a client that left before costs no place.
            with contextlib.closing(bus.follow()) as follower:
                yield b": connected\n\n"
                while True:
                    try:
                        event = await asyncio.wait_for(follower.get(), KEEP_ALIVE_S)
                    except TimeoutError:
                        yield b": still here\n\n"  # and a dead client is noticed
                        continue
                    if event is None:
                        return
                    body = json.dumps(redact(event.to_json(), config.include_text), ensure_ascii=False)
                    yield f"data: {body}\n\n".encode()

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return app
