"""Coverage-guided fuzzing of the control API: ``python tests/fuzz/fuzz_api.py -max_total_time=30``.

Every input is a few requests to one app over a real plane and watch. Whatever is sent: no exception, no 5xx but the
stated 503, a bounded answer, and no leg that no call owns. Needs the extra ``fuzz`` (atheris).
"""

import asyncio
import json
import sys
from typing import Any

import atheris

from inference.rtp.plane import PacketPlane, PlaneConfig  # before: compiled kernels cannot be instrumented

with atheris.instrument_imports(include=["inference.service", "fastapi", "starlette", "pydantic"]):
    import httpx

    from inference.alerts.dispatcher import Dispatcher
    from inference.alerts.outbox import Outbox
    from inference.service.api import ApiConfig, create_app
    from inference.service.bus import EventBus
    from inference.service.call import CallParts
    from inference.service.publisher import Publisher
    from inference.service.telemetry import Telemetry
    from inference.service.watch import Watch, WatchConfig

import numpy as np
import structlog

from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig
from inference.verdict.verdict import Verdict

MAX_CALLS = 4
ALLOWED = {200, 201, 400, 401, 404, 405, 409, 413, 422, 503}
VALUES: list[Any] = [
    "c1", "c2", "", "\ud800", "\x00", "a" * 200, "192.0.2.1:30000", "[2001:db8::1]:5000", "fe80::1%e:5", "1.2.3.4:1_0",
    0, 1, 40000, 65536, -1, 10**30, 1e308, float("nan"), None, True, [], {}, {"0": "PCMU"}, {"300": "x"}, "en", "auto",
]  # fmt: skip
KEYS = ["id", "far", "near", "local_port", "source", "payload_types", "language", "x"]


class DeafVad:
    """Nobody speaks: no model is needed."""

    def open(self, num_legs: int) -> Any:
        """See :class:`inference.audio.vad.Vad`."""
        return np.zeros(num_legs)

    def score(self, frames: Any, states: Any) -> Any:
        """See :class:`inference.audio.vad.Vad`."""
        return np.zeros(len(states), np.float32)

    def skip(self, states: Any, num_frames: Any) -> None:
        """See :class:`inference.audio.vad.Vad`."""


class NoStages:
    """No segment ever reaches the models."""

    is_mixing = True

    def understand(self, batch: Any) -> Any:
        """See :class:`inference.service.stages.Stages`."""
        raise AssertionError("silence became speech")

    def window_samples(self, num_samples: int) -> int:
        """See :class:`inference.service.stages.Stages`."""
        raise AssertionError("silence became speech")


def make() -> tuple[Watch, httpx.AsyncClient]:
    """One app over a real plane."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    bank, bus, telemetry = SegmenterBank(SegmenterConfig(), DeafVad()), EventBus(), Telemetry()
    parts = CallParts(lambda leg: Segmenter(leg, bank), Verdict)
    watch = Watch(
        PacketPlane(PlaneConfig(max_legs=2 * MAX_CALLS + 2)),
        parts,
        NoStages(),  # type: ignore[arg-type]
        WatchConfig(max_calls=MAX_CALLS),
        publisher=Publisher(telemetry, bus, Dispatcher(Outbox(None), [])),
    )
    app = create_app(watch, bus, telemetry, ApiConfig())
    return watch, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def value(data: atheris.FuzzedDataProvider, depth: int) -> Any:
    """A JSON value that is often nearly a call's spec."""
    kind = data.ConsumeIntInRange(0, 5)
    if depth > 0 and kind <= 2:
        return {data.PickValueInList(KEYS): value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 6))}
    if depth > 0 and kind == 3:
        return [value(data, depth - 1) for _ in range(data.ConsumeIntInRange(0, 3))]
    return data.PickValueInList(VALUES) if kind == 4 else data.ConsumeUnicode(data.ConsumeIntInRange(0, 40))


def body(data: atheris.FuzzedDataProvider) -> bytes:
    """Bytes of a request: raw, free JSON, or a good spec with one thing wrong."""
    kind = data.ConsumeIntInRange(0, 2)
    if kind == 0:
        return bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 200)))
    if kind == 1:
        return json.dumps(value(data, 4)).encode()
    port = data.ConsumeIntInRange(30000, 30010)
    spec: dict[str, Any] = {
        "id": f"c{data.ConsumeIntInRange(0, 6)}",
        "far": {"local_port": 40000, "source": f"192.0.2.1:{port}"},
        "near": {"local_port": 40000, "source": f"192.0.2.1:{port + 20}"},
    }
    spec[data.PickValueInList(KEYS)] = value(data, 3)
    return json.dumps(spec).encode()


async def requests(client: httpx.AsyncClient, watch: Watch, data: atheris.FuzzedDataProvider) -> None:
    """A few requests, checked one by one."""
    for _ in range(data.ConsumeIntInRange(1, 4)):
        method = data.PickValueInList(["POST", "POST", "POST", "GET", "DELETE", "PUT"])
        path = "/v1/calls"
        if method in ("GET", "DELETE"):
            raw = bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 12)))
            path += "/" + (raw.hex("%") and "%" + raw.hex("%") if data.ConsumeBool() else f"c{len(raw) % 7}")
        headers = {"content-type": data.PickValueInList(["application/json", "text/plain", "", "application/xml"])}
        answer = await client.request(method, path, content=body(data), headers=headers)
        assert answer.status_code in ALLOWED, answer.status_code
        assert len(answer.content) < 20_000
        assert watch.media_counters()["legs"] == 2 * len(watch.call_ids) <= 2 * MAX_CALLS
    for call_id in watch.call_ids:
        await watch.end(call_id)
    assert watch.media_counters()["legs"] == 0


def main() -> None:
    """Run until the time is over."""
    runner = asyncio.Runner()
    watch, client = make()

    def one_input(data: bytes) -> None:
        runner.run(requests(client, watch, atheris.FuzzedDataProvider(data)))

    atheris.Setup([*sys.argv, "-len_control=0", "-max_len=512"], one_input)  # a request is no shorter than that
    atheris.Fuzz()


if __name__ == "__main__":
    main()
