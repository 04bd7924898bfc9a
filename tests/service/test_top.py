"""``scamtap top`` against the real API of a watch, without a socket."""

import asyncio

import httpx
import pytest
from rich.console import Console

from inference.errors import ScamTapError
from inference.gateway.spec import CallSpec
from inference.service.api import ApiConfig, create_app
from inference.service.top import looks, open_api, view


@pytest.fixture
def answers(bench, spec_of):
    """What the API of a worker with one call answers, by path."""

    async def ask():
        async with bench() as b:
            b.watch.begin(CallSpec.model_validate(spec_of("c1")))
            app = create_app(b.watch, b.bus, b.telemetry, ApiConfig())
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
                return {path: (await client.get(path)).json() for path in ("/v1/load", "/v1/calls")}

    return asyncio.run(ask())


def client(handle):
    return httpx.Client(transport=httpx.MockTransport(handle), base_url="http://worker")


def shown(load, calls):
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(view(load, calls))
    return capture.get()


def test_it_shows_the_step_the_lag_and_the_calls(answers):
    paused = []
    api = client(lambda request: httpx.Response(200, json=answers[request.url.path]))
    seen = looks(api, 1.0, sleep=paused.append)
    text = shown(*next(seen))
    assert "normal  1 calls  lag 0.00 s" in text
    assert "c1" in text
    next(seen)
    assert paused == [1.0]


def test_every_shed_second_is_seen(answers):
    load = answers["/v1/load"] | {"shed_late_s": 3.0, "shed_full_s": 1.5, "step": "refusing"}
    text = shown(load, [answers["/v1/calls"][0] | {"shed_s": 4.5, "id": "steering\x1b[31m"}])
    assert "refusing" in text
    assert "lost 4.5 (late 3.0, no room 1.5" in text
    assert "\x1b" not in text
    assert text.count("4.5") == 2


def test_whoever_does_not_answer_is_said_in_a_line():
    def away(_request):
        raise httpx.ConnectError("refused")

    for handle, why in (
        (away, "no worker answers"),
        (lambda _: httpx.Response(401), "wants its token"),
        (lambda _: httpx.Response(404), "answers 404"),
    ):
        with pytest.raises(ScamTapError, match=why):
            next(looks(client(handle), 1.0))


def test_the_client_is_that_of_the_settings():
    with open_api(ApiConfig(host="::1", port=1234, token="a-long-token")) as api:
        assert (str(api.base_url), api.headers["authorization"]) == ("http://[::1]:1234", "Bearer a-long-token")
