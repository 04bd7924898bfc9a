"""The proxy's door, over a whole worker and a real rtpengine."""

import asyncio
import contextlib

import httpx
import pytest

from inference.config import PrivacyConfig, Settings
from inference.gateway.open import GatewaysConfig
from inference.gateway.rtpengine.config import RtpengineConfig
from inference.gateway.rtpengine.door import PATH
from inference.gateway.rtpengine.follower import id_of
from inference.rtp.plane import PlaneConfig
from inference.service.api import ApiConfig
from inference.service.worker import Worker

pytestmark = [pytest.mark.gateway, pytest.mark.anyio]

TAGS = {"far_tag": "tag-caller", "near_tag": "tag-callee"}


@pytest.fixture
def worker(daemon, scripted, doubles):
    @contextlib.asynccontextmanager
    async def make(token=None, **config):
        rtpengine = RtpengineConfig(nodes=(daemon.node(),), poll_s=0.1, discover=False, timeout_s=0.5, **config)
        settings = Settings(
            privacy=PrivacyConfig(legal_basis="a test of our own software"),
            media=PlaneConfig(ports=(0,), max_legs=4),
            api=ApiConfig(port=0, token=token),
            segmenter=doubles.SEGMENTS,
            gateways=GatewaysConfig(rtpengine=rtpengine),
        )
        async with Worker(settings) as made:
            host, port = made.api_address
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as api:
                yield made, api

    return make


async def until(condition, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_announced_followed_ended(worker, call, daemon):
    c1 = call(labels=(None, None))
    async with worker() as (made, api):
        numbers = {"subscriber": "+49301234567", "caller": "+14155550100"}
        answer = await api.post(PATH, json={"call_id": "c1", "id": "op-1", "language": "en", **TAGS, **numbers})
        assert (answer.status_code, answer.json()) == (201, {"id": "op-1"})

        def received(leg):
            return made.watch.describe("op-1")["packets"][leg]["received"]

        await until(lambda: min(map(received, ("far", "near"))) > 5)
        assert (await api.get("/v1/calls/op-1")).json()["packets"]["far"]["received"] > 5
        # Again, e.g. at a re-INVITE: the same call goes on.
        again = await api.post(PATH, json={"call_id": "c1", **TAGS, **numbers})
        assert (again.status_code, again.json()) == (201, {"id": "op-1"})
        other = await api.post(PATH, json={"call_id": "c1", "id": "op-2", **TAGS})
        assert other.status_code == 409
        ended = await api.post(f"{PATH}/ended", json={"call_id": "c1"})
        assert ended.json() == {"was_followed": True}
        await until(lambda: made.watch.call_ids == [])
        assert (await api.post(f"{PATH}/ended", json={"call_id": "c1"})).json() == {"was_followed": False}
    assert len(c1.callee.got) > 10


async def test_a_form_as_kamailio_sends_it(worker, call):
    hostile = 'a"},&far_tag=x&\u00e9@host'
    call(hostile, labels=(None, None))
    async with worker() as (_, api):
        answer = await api.post(PATH, data={"call_id": hostile, **TAGS})
        assert (answer.status_code, answer.json()) == (201, {"id": id_of(hostile)})
        assert (await api.post(f"{PATH}/ended", data={"call_id": hostile})).json() == {"was_followed": True}


@pytest.mark.parametrize(
    "body", [b"call_id", b"call_id=a&call_id=b&far_tag=x&near_tag=y", b"call_id=%ff&far_tag=x&near_tag=y", b"\xff=1",
             b"&".join(b"%d=1" % number for number in range(40)), b"", b"call_id=%00%ud800"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json", "text/plain", ""])
async def test_bodies_that_are_nothing(worker, body, kind):
    async with worker() as (_, api):
        answer = await api.post(PATH, content=body, headers={"content-type": kind})
        assert answer.status_code == 422
        assert len(answer.content) < 1000


async def test_no_web_page_reaches_it(worker, call):
    call(labels=(None, None))
    async with worker() as (made, api):
        answer = await api.post(PATH, data={"call_id": "c1", **TAGS}, headers={"origin": "https://evil.example"})
        assert answer.status_code == 403
        assert made.watch.call_ids == []


async def test_undiscovered_calls_are_left_alone(worker, call):
    call()
    async with worker() as (made, _):
        await asyncio.sleep(0.5)
        assert made.watch.call_ids == []


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"call_id": "no-such-call"}, 404),
        ({"near_tag": "no-such-tag"}, 409),
        ({"far_tag": "tag-callee"}, 409),
        ({"node": "elsewhere"}, 409),
        ({"node": "127.0.0.1:22"}, 409),
        ({"address": "192.0.2.1:2223"}, 422),
        ({"id": "a b"}, 422),
        ({"call_id": "x" * 300}, 422),
        ({"call_id": ""}, 422),
    ],
)
async def test_what_is_refused(worker, call, more, status):
    call(labels=(None, None))
    async with worker() as (made, api):
        answer = await api.post(PATH, json={"call_id": "c1", **TAGS, **more})
        assert answer.status_code == status
        assert "tag-callee" not in answer.text
        assert made.watch.call_ids == []


async def test_a_full_service_says_so(worker, call):
    async with worker() as (_, api):
        for number in range(2):
            call(f"c{number}", labels=(None, None))
            assert (await api.post(PATH, json={"call_id": f"c{number}", **TAGS})).status_code == 201
        call("c2", labels=(None, None))
        answer = await api.post(PATH, json={"call_id": "c2", **TAGS})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_a_node_that_is_away(worker, daemon):
    async with worker() as (_, api):
        daemon.stop()
        answer = await api.post(PATH, json={"call_id": "c1", **TAGS})
        assert answer.status_code == 502
        assert "does not answer" in answer.json()["detail"]


async def test_the_token_guards_it(worker, call):
    call(labels=(None, None))
    async with worker(token="a secret of ours") as (_, api):
        body = {"call_id": "c1", **TAGS}
        assert (await api.post(PATH, json=body)).status_code == 401
        headers = {"authorization": "Bearer a secret of ours"}
        answer = await api.post(PATH, json=body, headers=headers)
        assert (answer.status_code, answer.json()) == (201, {"id": id_of("c1")})
