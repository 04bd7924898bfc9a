"""What callers say lives in memory: planted words are looked for in every file, log line, metric and error."""

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import socket
import sys

import httpx
import pytest
import soundfile
import structlog

from inference.audio import LEGS
from inference.config import LogConfig, PrivacyConfig, Settings
from inference.errors import EngineError
from inference.rtp.plane import PlaneConfig
from inference.service.api import ApiConfig
from inference.service.logs import set_up_logs
from inference.service.process import log_failure
from inference.service.worker import Worker


@pytest.fixture
def logged(monkeypatch):
    """All that is logged at the finest level or printed, as text."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    handlers, level = logging.root.handlers[:], logging.root.level
    logging.root.handlers = []
    set_up_logs(LogConfig(level="debug"))
    structlog.configure(cache_logger_on_first_use=False, logger_factory=structlog.PrintLoggerFactory(stream))
    spy = logging.StreamHandler(stream)
    logging.root.addHandler(spy)
    logging.root.setLevel(logging.DEBUG)  # even what libraries say to themselves
    yield stream
    logging.root.handlers, logging.root.level = handlers, level
    structlog.reset_defaults()


async def session(doubles, folder, opinion=None, **alerts):
    """A whole session with one call that is warned of; returns what /metrics and the API said."""
    settings = Settings(
        privacy=PrivacyConfig(legal_basis="a test of our own software"),
        media=PlaneConfig(ports=(0,), max_legs=4),
        api=ApiConfig(port=0),
        segmenter=doubles.SEGMENTS,
        opinion=opinion or {},
        alerts={"jsonl_path": folder / "alerts.jsonl", "outbox_path": folder / "outbox.db", **alerts},
    )
    asyncio.get_running_loop().set_exception_handler(log_failure)
    async with Worker(settings) as worker:
        host, port = worker.api_address
        media = (host, worker.watch.media_ports[0])
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as api:
            with contextlib.ExitStack() as exits:
                legs, senders = {}, {}
                for leg in LEGS:
                    senders[leg] = exits.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    senders[leg].bind((host, 0))
                    source = f"{host}:{senders[leg].getsockname()[1]}"
                    legs[leg] = {"local_port": media[1], "source": source}
                await api.post("/v1/calls", json={"id": "call-1", **legs})
                for packet in doubles.packets(doubles.speech(doubles.THREAT, doubles.ASK)):
                    senders["far"].sendto(packet, media)
                    await asyncio.sleep(0.018)
                told = [(await api.get(path)).text for path in ("/v1/calls", "/v1/calls/call-1", "/metrics")]
                told.append((await api.delete("/v1/calls/call-1")).text)
                told.append((await api.get("/metrics")).text)
    return "\n".join(told)


def all_bytes(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_no_word_reaches_disk_logs_metrics_or_api(scripted, doubles, tmp_path, logged, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A webhook nobody answers: the outbox keeps the alerts on disk.
    unanswered = {"webhook_url": "http://127.0.0.1:9/hook", "webhook_secret": "whsec_" + "QUJD" * 8}
    told = asyncio.run(session(doubles, tmp_path, **unanswered))
    written = all_bytes(tmp_path)
    assert b"call-1" in written
    assert b'"level":"danger"' in written
    assert (tmp_path / "outbox.db").stat().st_size > 0
    assert "alert" in logged.getvalue()
    assert 'scamtap_alerts_total{level="danger"} 1.0' in told
    for heap in (written.decode("utf-8", "replace"), logged.getvalue(), told):
        assert doubles.PLANTED not in heap
        assert "read me the code" not in heap
        assert "QUJDQUJD" not in heap  # nor is the secret


def test_words_are_in_alerts_where_the_operator_wants_them(scripted, doubles, tmp_path, logged):
    told = asyncio.run(session(doubles, tmp_path, include_text=True))
    alerts = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    assert doubles.ASK.text in [item["text"] for item in alerts[-1]["data"]["evidence"]]
    assert doubles.PLANTED not in logged.getvalue()
    assert doubles.PLANTED not in told


@pytest.mark.parametrize("status", [200, 500])
def test_an_opinion_leaves_neither_words_nor_key(scripted, doubles, endpoint, tmp_path, logged, monkeypatch, status):
    """Of what is sent and what comes back, which may repeat both, nothing is left."""
    monkeypatch.setenv("SCAMTAP_TEST_KEY", "sk-plantedkey")
    scripted.scorer = doubles.ActScorer()
    endpoint.status = status
    endpoint.writes(f"{doubles.THREAT.text}, and your key is sk-plantedkey")
    opinion = {**endpoint.settings, "api_key_env": "SCAMTAP_TEST_KEY", "max_failures": 1}
    told = asyncio.run(session(doubles, tmp_path, opinion=opinion))
    assert doubles.THREAT.text in str(endpoint.seen[0].body)
    assert endpoint.seen[0].headers["authorization"] == "Bearer sk-plantedkey"
    assert f'scamtap_opinions_total{{outcome="{"refused" if status == 500 else "malformed"}"}} 1.0' in told
    assert ("opinions paused" in logged.getvalue()) == (status == 500)
    heap = logged.getvalue() + told + all_bytes(tmp_path).decode("utf-8", "replace")
    assert doubles.PLANTED not in heap
    assert "sk-planted" not in heap


@pytest.mark.parametrize("kind", [EngineError, RuntimeError])
def test_a_failing_stage_tells_no_words(scripted, doubles, tmp_path, logged, monkeypatch, kind):
    """A library that puts what it was given into its error is stopped at the log (our own errors hold none)."""
    said = doubles.ASK.text if kind is RuntimeError else "the engine refused model scam_intent"

    def fail(_items):
        raise kind(said)

    monkeypatch.setattr(scripted.scorer, "score", fail)
    told = asyncio.run(session(doubles, tmp_path))
    gc.collect()
    heap = logged.getvalue() + told + all_bytes(tmp_path).decode("utf-8", "replace")
    assert doubles.PLANTED not in heap
    assert ("internal error" if kind is RuntimeError else "segment not understood") in logged.getvalue()


def test_replay_leaves_nothing_behind(scamtap, doubles, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    wav = tmp_path / "call.wav"
    soundfile.write(wav, doubles.speech(doubles.THREAT, doubles.ASK), 8000, subtype="PCM_16")
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}
    ran = scamtap("replay", "--json", wav, cwd=home, env=environment)
    assert ran.exit_code == 0
    assert doubles.PLANTED in ran.out
    assert doubles.PLANTED not in ran.err
    assert doubles.PLANTED.encode() not in all_bytes(home)
