"""The control API against clients that mean harm, or are merely wrong."""

import asyncio
import contextlib
import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.audio import LEGS
from inference.gateway.spec import CallSpec
from inference.service.api import MAX_BODY_BYTES, ApiConfig, create_app
from inference.service.bus import MAX_WAITING, EventBus
from inference.service.events import VerdictEvent

TOKEN = "a-token-long-enough"
EVENT = VerdictEvent("c1", "none", 0.1, None, None, dict.fromkeys(LEGS, 0.0), None)


@pytest.fixture
def api_of(bench):
    """``async with api_of(bench arguments) as (client, bench)``: the app without a socket."""

    @contextlib.asynccontextmanager
    async def make(config=None, **more):
        async with bench(**more) as b:
            app = create_app(b.watch, b.bus, b.telemetry, config or ApiConfig())
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=10) as client:
                yield client, b

    return make


def ask(api_of, *requests, config=None, **more):
    """Send ``(method, url, keywords)`` one after another to one app; returns the answers."""

    async def run():
        async with api_of(config, **more) as (client, _):
            return [await client.request(method, url, **rest) for method, url, rest in requests]

    return asyncio.run(run())


def test_a_call_can_be_registered_listed_shown_and_ended(api_of, spec_of):
    answers = ask(
        api_of,
        ("POST", "/v1/calls", {"json": spec_of("a.b:c@d+e~f-1")}),
        ("GET", "/v1/calls", {}),
        ("GET", "/v1/calls/a.b:c@d+e~f-1", {}),
        ("DELETE", "/v1/calls/a.b:c@d+e~f-1", {}),
        ("GET", "/v1/calls", {}),
    )
    assert [answer.status_code for answer in answers] == [201, 200, 200, 200, 200]
    assert answers[0].json()["level"] == "none"
    assert answers[3].json()["type"] == "verdict"
    assert answers[4].json() == []


@pytest.mark.parametrize(
    ("second", "status"),
    [
        ({"call_id": "c1"}, 409),
        ({"call_id": "c2"}, 409),  # its sources are taken
        ({"call_id": "c2", "far": 31000, "near": 31002}, 201),
        ({"call_id": "c3", "far": 31000, "near": 31002, "local_port": 40002}, 201),
    ],
)
def test_conflicts_are_409(api_of, spec_of, second, status):
    first, then = ask(
        api_of, ("POST", "/v1/calls", {"json": spec_of()}), ("POST", "/v1/calls", {"json": spec_of(**second)})
    )
    assert (first.status_code, then.status_code) == (201, status)
    if status == 409:
        assert "\n" not in then.json()["detail"]


def test_a_port_that_is_not_ours_is_409(live, doubles):
    async def run():
        async with live() as (_, api, gateway):
            spec = gateway.spec("c1")
            spec["far"]["local_port"] = 1
            return await api.post("/v1/calls", json=spec)

    answer = asyncio.run(run())
    assert answer.status_code == 409
    assert "UDP port 1 " in answer.json()["detail"]


def test_a_full_worker_is_503_with_retry_after(api_of, spec_of):
    first, then = ask(
        api_of,
        ("POST", "/v1/calls", {"json": spec_of()}),
        ("POST", "/v1/calls", {"json": spec_of("c2", 31000, 31002)}),
        max_calls=1,
    )
    assert (first.status_code, then.status_code) == (201, 503)
    assert int(then.headers["retry-after"]) > 0


def test_a_draining_worker_says_so(api_of, spec_of):
    async def run():
        async with api_of() as (client, b):
            await b.watch.drain()
            return await client.get("/healthz"), await client.post("/v1/calls", json=spec_of())

    health, begun = asyncio.run(run())
    assert health.json()["status"] == "draining"
    assert begun.status_code == 503


PATHS = [
    ("GET", "/metrics"),
    ("GET", "/v1/calls"),
    ("POST", "/v1/calls"),
    ("GET", "/v1/calls/c1"),
    ("DELETE", "/v1/calls/c1"),
    ("GET", "/v1/events"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("given_", [None, "Bearer", "Bearer ", "Bearer wrong", f"bearer{TOKEN}", b"Bearer \xff\xfe"])
def test_without_the_token_nothing_is_told(api_of, method, path, given_):
    headers = {} if given_ is None else {"authorization": given_}
    (answer,) = ask(api_of, (method, path, {"headers": headers}), config=ApiConfig(token=TOKEN))
    assert answer.status_code == 401
    assert TOKEN not in answer.text


@pytest.mark.parametrize("token", [TOKEN, "pässwörd-漢字"])
def test_with_the_token_it_works_and_health_needs_none(api_of, token):
    headers = {"authorization": f"Bearer {token}".encode()}
    health, listed = ask(
        api_of, ("GET", "/healthz", {}), ("GET", "/v1/calls", {"headers": headers}), config=ApiConfig(token=token)
    )
    assert (health.status_code, listed.status_code) == (200, 200)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "169.254.1.1"]
)
def test_another_host_header_is_refused(api_of, host):
    (answer,) = ask(api_of, ("GET", "/v1/calls", {"headers": {"host": host}}))
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["localhost", "localhost:8650", "127.0.0.1:8650", "[::1]:8650", "ops.example:80"])
def test_our_own_names_are_taken(api_of, host):
    config = ApiConfig(allowed_hosts=("ops.example",))
    (answer,) = ask(api_of, ("GET", "/v1/calls", {"headers": {"host": host}}), config=config)
    assert answer.status_code == 200


def test_beyond_loopback_a_token_is_required():
    with pytest.raises(ValidationError, match=r"api\.token"):
        ApiConfig(host="0.0.0.0")
    assert ApiConfig(host="0.0.0.0", token=TOKEN).token.get_secret_value() == TOKEN
    assert TOKEN not in repr(ApiConfig(host="0.0.0.0", token=TOKEN))


def test_bodies_are_bounded(api_of, spec_of):
    async def chunks():
        yield b"{"
        yield b"}"

    big = json.dumps(spec_of()).encode() + b" " * MAX_BODY_BYTES
    answers = ask(
        api_of,
        ("POST", "/v1/calls", {"content": big}),
        ("POST", "/v1/calls", {"content": chunks()}),
        ("POST", "/v1/calls", {"content": b"{}", "headers": {"content-length": "-1"}}),
        ("POST", "/v1/calls", {"content": b"{}", "headers": {"content-length": "9" * 5000}}),
        ("POST", "/v1/calls", {"content": b"{}", "headers": {"content-length": b"\xb2"}}),
    )
    assert [answer.status_code for answer in answers] == [413] * 5


HUGE = "9" * 5000
BODIES = {
    "nothing": b"",
    "garbage": b"\xff\xfe\x00{",
    "no object": b"[1, 2]",
    "half": b'{"id": "c1", "far":',
    "deep": b"[" * 8000 + b"]" * 8000,
    "deep in a field": b'{"id":' + b"[" * 900 + b"]" * 900 + b"}",
    "not a number": b'{"id": NaN, "far": Infinity}',
    "half a surrogate pair": b'{"id": "\\ud800", "\\udfff": "\\ud800"}',
    "huge number": f'{{"id": "c1", "far": {{"local_port": {HUGE}}}}}'.encode(),
    "huge exponent": b'{"id": "c1", "far": {"local_port": 1e999}}',
    "many unknown fields": json.dumps({f"k{n}": n for n in range(1000)}).encode(),
    "null byte": b'{"id": "c\\u00001"}',
    "new line": b'{"id": "c1\\n"}',
    "path": b'{"id": "../../etc/passwd"}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bad_bodies_are_4xx_and_not_echoed(api_of, body):
    answer, listed = ask(
        api_of,
        ("POST", "/v1/calls", {"content": body, "headers": {"content-type": "application/json"}}),
        ("GET", "/v1/calls", {}),
    )
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 4000
    detail = answer.json()["detail"]
    assert detail
    assert isinstance(detail, str) or all(fault.keys() == {"loc", "msg"} for fault in detail)
    assert listed.json() == []


@pytest.mark.parametrize(
    "leg",
    [
        {"local_port": 0},
        {"local_port": 65536},
        {"local_port": "40000x"},
        {"local_port": 40000, "source": "gateway.example:30000"},
        {"local_port": 40000, "source": "192.0.2.10"},
        {"local_port": 40000, "source": "192.0.2.10:0"},
        {"local_port": 40000, "source": "192.0.2.10:99999"},
        {"local_port": 40000, "source": "192.0.2.10:30000", "payload_types": {"128": "PCMU"}},
        {"local_port": 40000, "source": "192.0.2.10:30000", "payload_types": {"96": "EVS"}},
        {"local_port": 40000, "source": "192.0.2.10:30000", "ssrc": 7},
    ],
)
def test_bad_legs_name_their_field(api_of, spec_of, leg):
    (answer,) = ask(api_of, ("POST", "/v1/calls", {"json": spec_of() | {"far": leg}}))
    assert answer.status_code == 422
    assert "far" in answer.json()["detail"][0]["loc"]


def test_legs_that_cannot_be_told_apart_are_refused(api_of, spec_of):
    same = spec_of(far=30000, near=30000)
    open_port = spec_of() | {"near": {"local_port": 40000}}
    answers = ask(api_of, ("POST", "/v1/calls", {"json": same}), ("POST", "/v1/calls", {"json": open_port}))
    assert [answer.status_code for answer in answers] == [422, 422]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None, categories=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
PORT = st.integers(-1, 70000) | JSON
SOURCE = st.sampled_from(["192.0.2.1:30000", "192.0.2.1:30002", "[2001:db8::1]:5000", "::1:5", "x:1", "1.2.3.4:1_0"])
LEG = st.fixed_dictionaries(
    {"local_port": st.just(40000) | PORT},
    optional={"source": SOURCE | st.text() | JSON, "payload_types": st.dictionaries(st.text(), JSON) | JSON},
)
SPEC = st.fixed_dictionaries(
    {"id": st.sampled_from(["c1", "c2"]) | st.text(), "far": LEG | JSON, "near": LEG | JSON},
    optional={"language": st.sampled_from(["en", "zh", "auto"]) | JSON},
)
KNOWN = {200, 201, 400, 404, 405, 409, 413, 422, 503}


def test_no_request_is_a_server_error(api_of):
    @settings(max_examples=60, deadline=None, database=None)
    @given(
        bodies=st.lists(SPEC | JSON, min_size=1, max_size=4), call_id=st.text(max_size=20), raw=st.binary(max_size=64)
    )
    def check(bodies, call_id, raw):
        requests = [("POST", "/v1/calls", {"content": json.dumps(body).encode()}) for body in bodies]
        requests += [("POST", "/v1/calls", {"content": raw}), ("PATCH", "/v1/calls", {}), ("GET", "/v1/calls", {})]
        escaped = "".join(f"%{byte:02x}" for byte in call_id.encode("utf-8", "ignore"))
        path = httpx.URL("http://localhost/").copy_with(raw_path=f"/v1/calls/{escaped}".encode())
        requests += [("GET", path, {}), ("DELETE", path, {}), ("DELETE", "/v1/calls/c1", {})]
        for method, url, rest in requests:
            answer = runner.run(client.request(method, url, **rest))
            assert answer.status_code in KNOWN

    with asyncio.Runner() as runner:
        made = api_of(max_calls=2)
        client, _ = runner.run(made.__aenter__())
        check()
        runner.run(made.__aexit__(None, None, None))


def test_a_slow_follower_loses_the_oldest_and_is_counted():
    async def run():
        bus = EventBus()
        follower = bus.follow()
        for number in range(MAX_WAITING + 5):
            bus.publish(VerdictEvent(f"c{number}", "none", 0.1, None, None, {}, None))
        bus.close()
        got = []
        while (event := await follower.get()) is not None:
            got.append(event.call)
        return bus.num_missed, got

    missed, got = asyncio.run(run())
    assert missed == 5
    assert (got[0], got[-1], len(got)) == ("c5", f"c{MAX_WAITING + 4}", MAX_WAITING)


def test_followers_are_bounded_and_give_their_place_back(live, following, doubles):
    async def run():
        async with live(api=ApiConfig(port=0, max_followers=1)) as (worker, api, _):
            async with following(api) as events:
                refused = await api.get("/v1/events")
                worker.bus.publish(EVENT)
                await doubles.until(lambda: events)
            await doubles.until(lambda: not worker.bus.is_full)  # the server notices that the client left
            async with following(api):
                return refused, (await api.get("/metrics")).text

    refused, metrics = asyncio.run(run())
    assert refused.status_code == 503
    assert "scamtap_events_missed_total 0.0" in metrics


def test_metrics_name_no_call_and_no_words(bench, spec_of, doubles):
    async def run():
        async with bench() as b:
            app = create_app(b.watch, b.bus, b.telemetry, ApiConfig())
            b.watch.begin(CallSpec.model_validate(spec_of("call-of-0041791234567")))
            await b.play({30000: doubles.packets(doubles.speech(doubles.THREAT, doubles.ASK))})
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                return (await client.get("/metrics")).text

    text = asyncio.run(run())
    assert "scamtap_calls 1.0" in text
    assert 'scamtap_alerts_total{level="danger"} 1.0' in text
    assert "scamtap_legs 2.0" in text
    assert "0041791234567" not in text
    assert doubles.PLANTED not in text
    assert "192.0.2" not in text


def test_metrics_sum_the_packets_of_legs_over_calls(bench, spec_of, doubles):
    packets = doubles.packets(doubles.speech(None))

    async def run():
        async with bench() as b:
            app = create_app(b.watch, b.bus, b.telemetry, ApiConfig())
            transport = httpx.ASGITransport(app)
            seen = []
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

                async def look():
                    seen.append((await client.get("/metrics")).text)

                b.watch.begin(CallSpec.model_validate(spec_of("c1")))
                for number, packet in enumerate(packets):
                    if number not in (10, 11):
                        b.feed(packet, 30000)
                await b.tick()
                await look()
                b.feed(packets[10], 30000)  # not lost after all, but a counter does not fall
                await look()
                await b.watch.end("c1")
                b.watch.begin(CallSpec.model_validate(spec_of("c2", 31000, 31002)))
                b.feed(packets[0], 31000)
                await look()
            return seen

    first, second, third = asyncio.run(run())
    received = 'scamtap_leg_packets_total{leg="far",what="received"} '
    assert f"{received}{len(packets) - 2:.1f}" in first
    assert all('scamtap_leg_packets_total{leg="far",what="lost"} 2.0' in text for text in (first, second, third))
    assert f"{received}{len(packets):.1f}" in third
    assert 'scamtap_leg_packets_total{leg="near",what="received"} 0.0' in third
    assert 'scamtap_leg_seconds_total{leg="far",what="gap"}' in third
    assert "# TYPE scamtap_media_total counter" in third


def test_load_tells_the_step_and_every_second_of_speech(api_of):
    (answer,) = ask(api_of, ("GET", "/v1/load", {}))
    load = answer.json()
    assert (load["calls"], load["step"], load["lag_s"]) == (0, "normal", 0)
    assert {"offered_s", "understood_s", "held_s", "failed_s", "shed_late_s", "shed_full_s", "waiting_s"} <= load.keys()
