"""Runs the models on Triton servers, behind the same door as in process.

State lives here, in the client: a request holds all that it needs, so a server may be killed, restarted or replaced and
only what was in flight is sent again. A batch has one deadline. Within it an attempt that found nobody, or a server on
its way out (``NOT_FOUND``), is repeated after a jittered pause; one that met a full queue is not: the speech is shed.
A server that hangs is noticed by silence alone (a stopped process keeps its connections and answers nothing), hence a
deadline on every attempt and a canary before anything else is sent, see :mod:`inference.engine.breaker`.
"""

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # no forked child uses it; else it complains of every fork

import grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from inference.engine.base import Batch, ModelSpec, Tensor
from inference.engine.breaker import CircuitBreaker
from inference.engine.open import EngineConfig
from inference.engine.triton_wire import Failure, Known, describe, explain, failure_of, requests, responses
from inference.errors import CapacityError, EngineError

T = TypeVar("T")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
MAX_FAILURES = 3
PROBE_S = 0.3
CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.lb_policy_name", "round_robin"),
    # A restarted server is found again within a second; the default begins at one and grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # DNS is asked again as soon as an address is lost, not every half minute.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
)


class TritonEngine:
    """:class:`~inference.engine.base.Engine` over gRPC. Callers' threads wait; one loop in its own thread does all.

    A model's version is the newest that the server has ready when it is first asked for, and stays: other weights would
    not fit the calibration. Once the server no longer has it, the newest is taken if it is made of the same.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        on_change: Callable[[bool, str], Any] = lambda _is_away, _why: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect lazily to the servers of ``config``.

        Args:
            config: where they are and how long to wait.
            on_change: told when they are found away, and when they are back; in the engine's thread.
            clock: monotonic seconds.

        Raises:
            EngineError: a TLS file cannot be read.
        """
        self._config = config
        self._clock = clock
        self._headers = {name: value.get_secret_value() for name, value in config.headers.items()}
        self._known: dict[str, Known] = {}
        self._canary_model: str | None = None
        self._is_closed = False
        credentials = _credentials(config)  # before there is a thread to clean up
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton", daemon=True)
        self._thread.start()
        self._run(self._open(credentials, on_change))

    async def _open(self, credentials: Any, on_change: Callable[[bool, str], Any]) -> None:
        options = list(CHANNEL_OPTIONS)
        if self._config.tls is not None and self._config.tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", self._config.tls.server_name))
        self._client = InferenceServerClient(self._config.target(), creds=credentials, channel_args=options)
        self._breaker = CircuitBreaker(
            self._ask_canary,
            max_failures=MAX_FAILURES,
            probe_s=PROBE_S,
            patience_s=self._config.timeout_s,
            on_change=on_change,
            clock=self._clock,
        )

    def infer(self, model: str, batch: Batch) -> dict[str, Tensor]:
        """See :meth:`inference.engine.base.Engine.infer`.

        Raises:
            CapacityError: the server's queue is full: shed, do not retry.
            EngineError: it refused, failed, or did not answer in time.
        """
        return self._run(self._infer(model, batch))

    def spec(self, model: str) -> ModelSpec:
        """See :meth:`inference.engine.base.Engine.spec`."""
        return self._run(self._persist(model, lambda timeout_s: self._learn(model, timeout_s))).spec

    def close(self) -> None:
        """See :meth:`inference.engine.base.Engine.close`."""
        if self._is_closed:
            return
        self._run(self._aclose())
        self._is_closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _aclose(self) -> None:
        await self._breaker.aclose()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:  # a caller's thread must not wait for a loop that has stopped
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await self._client.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait in the caller's thread for ``work`` on the engine's loop."""
        if self._is_closed:
            work.close()
            raise EngineError("a model was asked of a closed engine")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            raise EngineError("the engine was closed while a model was at work") from None

    async def _infer(self, model: str, batch: Batch) -> dict[str, Tensor]:
        async def attempt(timeout_s: float) -> dict[str, Tensor]:
            known = await self._learn(model, timeout_s)
            return await self._ask(known, batch, timeout_s)

        return await self._persist(model, attempt)

    async def _persist(self, model: str, attempt: Callable[[float], Coroutine[Any, Any, T]]) -> T:
        """Attempt until it succeeds or its time is up."""
        deadline_s = self._clock() + self._config.timeout_s
        pause_s = FIRST_PAUSE_S
        while True:
            await self._breaker.passed(deadline_s)
            try:
                result = await attempt(min(self._config.attempt_timeout_s, max(0.001, deadline_s - self._clock())))
            except InferenceServerException as error:
                failure, why = failure_of(error), explain(error)
                self._account(model, failure, why)
            else:
                self._breaker.succeeded()
                return result
            left_s = deadline_s - self._clock()
            if left_s <= pause_s:
                raise EngineError(
                    f"model {model}: no answer within {self._config.timeout_s:g} s from the Triton server ({why}); is "
                    "it at engine.url, and does it keep up?"
                )
            await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _account(self, model: str, failure: Failure, why: str) -> None:
        """Return where asking again may help.

        Raises:
            CapacityError, EngineError: it would not.
        """
        if failure is Failure.SILENT:
            self._breaker.timed_out(why)
        elif failure is Failure.ABSENT:
            self._breaker.refused(why)
        elif failure is Failure.GONE:
            self._breaker.succeeded()  # somebody answered
            self._forget(model)
        elif failure is Failure.FULL:
            self._breaker.succeeded()
            raise CapacityError(f"model {model}: the Triton server is full ({why}); add servers or shed calls")
        else:
            self._breaker.succeeded()
            raise EngineError(f"model {model}: the Triton server refused ({why})")

    async def _ask(self, known: Known, batch: Batch, timeout_s: float) -> dict[str, Tensor]:
        result = await self._client.infer(
            known.spec.name,
            requests(known, batch),
            model_version=str(known.spec.version),
            timeout=round(timeout_s * 1e6),  # the server drops from its queue what nobody waits for any more
            client_timeout=timeout_s,
            headers=self._headers,
        )
        return responses(known, result)

    async def _learn(self, model: str, timeout_s: float) -> Known:
        """What the server says of ``model``; asked once, and again after it was forgotten."""
        known = self._known.get(model)
        if known is not None and known.spec.version:
            return known
        arguments: dict[str, Any] = {"headers": self._headers, "client_timeout": timeout_s}
        described = await self._client.get_model_metadata(model, **arguments)
        config = await self._client.get_model_config(model, **arguments)
        found = describe(config.config, described.versions)
        if known is not None and _made_of(known.spec) != _made_of(found.spec):
            raise EngineError(
                f"the Triton server now has version {found.spec.version} of {model}, made of other weights than this "
                "worker was started with: restart it with the same models folder"
            )
        self._known[model] = found
        self._canary_model = self._canary_model or model
        return found

    def _forget(self, model: str) -> None:
        """Its version is gone: the next attempt asks which one there is. What it was made of is remembered."""
        known = self._known.get(model)
        if known is not None:
            spec = ModelSpec(model, 0, known.spec.inputs, known.spec.outputs, known.spec.metadata)
            self._known[model] = Known(spec, known.is_batched, known.warmup)

    async def _ask_canary(self) -> bool:
        """Ask for a small inference, or for health where no model is known yet."""
        timeout_s = self._config.canary_timeout_s
        known = self._known.get(self._canary_model or "")
        try:
            if known is None or not known.spec.version:
                return bool(await self._client.is_server_ready(headers=self._headers, client_timeout=timeout_s))
            await self._ask(known, known.warmup, timeout_s)
        except InferenceServerException as error:
            return failure_of(error) in (Failure.FULL, Failure.GONE)
        except EngineError:
            return True  # an answer, if not the one that was hoped for: the request proper will say what is wrong
        return True


def _made_of(spec: ModelSpec) -> tuple[Any, ...]:
    return spec.inputs, spec.outputs, dict(spec.metadata)


def _credentials(config: EngineConfig) -> Any:
    """What encrypts the connection, or None.

    Raises:
        EngineError: a file cannot be read.
    """
    if config.tls is None:
        return None

    def read(path: Path | None) -> bytes | None:
        try:
            return None if path is None else path.read_bytes()
        except OSError as error:
            raise EngineError(f"engine.tls: {path} cannot be read ({error.strerror})") from error

    tls = config.tls
    return grpc.ssl_channel_credentials(read(tls.ca_path), read(tls.key_path), read(tls.cert_path))
