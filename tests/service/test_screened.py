"""Screening beside listening, and alone: over the doors of a real worker."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from redis import Redis

from inference.screening.config import ScreeningConfig
from inference.screening.rules import RulesConfig
from inference.service import logs
from tests.peers import Peer, free_port, listens, started
from tests.service.conftest import Gateway

CALLER, CALLEES = "+441212345678", ["+442079460000", "+442079460007", "+442079460021"]


async def screen(api, callee):
    body = {"call_id": "c", "caller": CALLER, "callee": callee}
    answer = await api.post("/v1/screening/calls", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_is_heard_in_two_calls_is_shown_before_the_third(live, doubles):
    """RTP in, words, verdict; the verdict marks the caller; the third call is prompted before it rings."""

    async def run():
        async with live(screening=ScreeningConfig(enabled=True, rules=RulesConfig(region="GB"))) as (
            worker,
            api,
            gateway,
        ):
            first = await screen(api, CALLEES[2])
            said = doubles.packets(doubles.speech(doubles.HELLO, doubles.THREAT, doubles.ASK, doubles.ASK, None))
            with contextlib.closing(Gateway(gateway.media)) as other:
                both = (gateway, other)
                for number, one in enumerate(both):
                    reach = {"caller": CALLER, "subscriber": CALLEES[number]}
                    spec = one.spec(f"call-{number}", reach=reach, language="en")
                    assert (await api.post("/v1/calls", json=spec)).status_code == 201
                await asyncio.gather(*(one.send(far=said) for one in both))
            for number in range(2):
                verdict = (await api.delete(f"/v1/calls/call-{number}")).json()
                assert verdict["level"] == "danger"
            await doubles.until(lambda: not worker.screened._telling)
            third = await screen(api, CALLEES[2])
            return first, third, dict(worker.screened.screening.journal.counts)

    first, third, counts = asyncio.run(run())
    assert (first["decision"], third["decision"]) == ("allow", "prompt")
    assert third["reasons"][0] == "HEARD"
    assert third["label"]["source"] == "listening"
    assert sum(count for (what, _, _), count in counts.items() if what == "reminder") == 2


class Speaks:
    """An ear that keeps what it is to say."""

    name = "speaks"

    def __init__(self):
        self.said = []

    async def play(self, reach, announcement):
        self.said.append((reach.subscriber.get_secret_value(), announcement.level, announcement.text))

    async def stop(self, reach):
        pass

    async def aclose(self):
        pass


def test_a_label_is_said_when_the_call_is_answered_and_only_to_whom_it_was_shown(live):
    rules = RulesConfig(region="GB", own_ranges=("441632",), spoofed="prompt")
    spoofed, ear = "+441632960001", Speaks()

    async def run():
        async with live(screening=ScreeningConfig(enabled=True, rules=rules)) as (worker, api, gateway):
            worker.warner.add(ear)
            for call, caller in (("c1", spoofed), ("c2", CALLER)):
                body = {"call_id": call, "caller": caller, "callee": CALLEES[0], "trunk": "international"}
                decided = (await api.post("/v1/screening/calls", json=body)).json()
                assert (decided["label"] is not None) == (caller == spoofed)
                reach = {"caller": caller, "subscriber": CALLEES[0], "via": "speaks"}
                spec = gateway.spec(call, reach=reach, language="en")
                assert (await api.post("/v1/calls", json=spec)).status_code == 201
                await doubles_until(worker)
                await api.delete(f"/v1/calls/{call}")
            return decided

    async def doubles_until(worker):
        async with asyncio.timeout(60):
            while worker.screened._telling or worker.warner._tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    asyncio.run(run())
    text = "Possibly a disguised number: this number should not call; operator security centre"
    assert ear.said == [(CALLEES[0], "suspect", text)]


def test_a_worker_without_screening_has_no_such_door(live):
    async def run():
        async with live() as (_, api, _gateway):
            return (await api.post("/v1/screening/calls", json={})).status_code

    assert asyncio.run(run()) == 404


@contextlib.contextmanager
def worker_of(config):
    """``scamtap serve --only screening`` in a process of its own: (process, base URL)."""
    code = "from inference.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--only", "screening", "--config", str(config)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    try:
        for line in process.stdout:
            if '"api"' in line:
                yield process, json.loads(line)["api"]
                break
        else:
            pytest.fail("it did not begin to serve")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def config_alone(folder):
    """Of one worker, whose memory is in a file."""
    config = folder / "scamtap.yaml"
    config.write_text(
        f"api: {{port: 0}}\nlog: {{json_lines: true}}\n"
        f"screening: {{enabled: true, path: {folder}/s.db, journal: {{path: {folder}/j.db, callee_key: k}},\n"
        "  rules: {region: GB}}\n"
    )
    return config


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """The base URL of a worker that all hostile requests go to, one after another."""
    with worker_of(config_alone(tmp_path_factory.mktemp("attacked"))) as (_, url):
        yield url


@pytest.fixture
def redis_url(tmp_path):
    """A real redis-server on loopback, nothing kept on disk."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt install redis-server")

    def start():
        port = free_port()
        command = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path]
        return port, Peer(command, tmp_path / "redis.log", lambda: listens(port))

    port, server = started(start)
    with server:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.mark.gateway
def test_two_workers_share_a_port_and_one_memory_and_either_may_die(redis_url, tmp_path):
    config, port, sip_port = tmp_path / "scamtap.yaml", free_port(), free_port()
    config.write_text(
        f"api: {{port: {port}, reuse_port: true}}\nlog: {{json_lines: true}}\n"
        f"screening: {{enabled: true, rules: {{region: GB}}, redis: {{url: '{redis_url}', timeout_s: 2}},\n"
        f"  store_timeout_s: 1, sip: {{port: {sip_port}, reuse_port: true}}}}\n"
    )

    def ask(count):
        """Calls, a connection each: the decisions."""
        found = []
        for number in range(count):
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as api:
                body = {"call_id": str(number), "caller": CALLER, "callee": f"+44207946{7 * number:04}"}
                found.append(api.post("/v1/screening/calls", json=body).json())
        return found

    with worker_of(config) as (first, _), worker_of(config) as (second, _):
        together = ask(60)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as api:
            counted = sum(c["count"] for c in api.get("/v1/screening/counters").json()["counters"])
        first.kill()
        first.wait()
        alone = ask(20)
        assert second.poll() is None
    assert not any(d["degraded"] for d in (*together, *alone))
    assert 0 < counted < 60  # the other one decided the rest
    with Redis.from_url(redis_url) as memory:  # each attempt is counted once, whoever took it
        attempts = {k: int(v) for k, v in memory.hgetall(f"scamtap:c:{CALLER[1:]}").items() if k.startswith(b"a:")}
    assert sum(attempts.values()) == 80


def test_a_worker_that_only_screens_answers_counts_and_remembers(tmp_path):
    with contextlib.ExitStack() as open_:
        process, url = open_.enter_context(worker_of(config_alone(tmp_path)))
        api = open_.enter_context(httpx.Client(base_url=url, trust_env=False))
        assert api.get("/healthz").json()["status"] == "ok"
        body = {"call_id": "c1", "caller": "+4411", "callee": CALLEES[0]}
        assert api.post("/v1/screening/calls", json=body).json()["decision"] == "challenge"
        assert api.get("/v1/calls").status_code == 404
        metrics = api.get("/metrics").text
        assert 'scamtap_screening_total{category="spoofed",reason="NUMBER_IMPOSSIBLE",what="challenge"} 1.0' in metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert (tmp_path / "j.db").is_file()


CALL = b"POST /v1/screening/calls HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
BODY = json.dumps({"call_id": "c1", "caller": CALLER, "callee": CALLEES[0]}).encode()


@pytest.mark.parametrize(
    "hostile",
    [
        b"\x00\xff" * 200,
        CALL + b"Content-Length: -1\r\n\r\n",
        CALL + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        CALL + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CALL + b"Content-Length: 99999999\r\n\r\n",
        CALL + b"X-Giant: " + b"x" * 300_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        CALL + b"Content-Length: 500\r\n\r\n" + BODY,  # and the rest never comes
        CALL.replace(b"Host: 127.0.0.1", b"Host: evil.example") + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
        CALL + b"Content-Length: 6\r\n\r\n\xff\xfe{}\x00\x01",
    ],
)
def test_hostile_requests_leave_the_worker_answering(attacked, hostile):
    port = int(attacked.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 5) as peer:
        peer.settimeout(0.5)
        with contextlib.suppress(OSError):  # it may hang up in the middle
            peer.sendall(hostile)
            assert not peer.recv(64).startswith(b"HTTP/1.1 200")
    whole = CALL + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    with socket.create_connection(("127.0.0.1", port), 5) as peer:
        for part in (whole[:40], whole[40:200], whole[200:] + whole):  # in pieces, and the next one at once
            peer.sendall(part)
        got = b""
        while got.count(b"HTTP/1.1 200 OK") < 2 or got.count(b'"decision"') < 2:
            data = peer.recv(65_536)
            assert data, got
            got += data


def test_screening_must_be_asked_for(run, monkeypatch, tmp_path):
    monkeypatch.setattr(logs, "set_up_logs", lambda _config: None)  # those of this process stay as they are
    config = tmp_path / "scamtap.yaml"
    config.write_text("api: {port: 0}\n")
    code, _, err = run("serve", "--only", "screening", "--config", config)
    assert code == 2
    assert "screening.enabled is false" in err
