"""``scamtap serve`` as a process: started, sent signals, refused."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from inference import cli
from inference.service import logs, process

DOUBLES = Path(__file__).with_name("doubles.py")
CONFIG = """
privacy: {{legal_basis: a test of our own software}}
media: {{ports: [0], max_legs: 16}}
api: {{port: 0}}
segmenter: {{end_silence_s: 0.2, tail_s: 0.1, lead_in_s: 0.1}}
log: {{json_lines: true}}
alerts: {{jsonl_path: {folder}/alerts.jsonl, outbox_path: {folder}/outbox.db}}
"""


class Served:
    """A running ``scamtap serve`` and what it logs."""

    def __init__(self, config: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(DOUBLES), "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[dict] = []
        self._is_serving = threading.Event()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        self._is_serving.wait(60)
        serving = self.event("serving")
        if serving is None:
            self.close()
            raise AssertionError(f"scamtap serve did not start: {self.lines[-5:]}")
        self.api = serving["api"]
        host, port = serving["media"].rsplit(":", 1)
        self.media = (host, int(port))

    def _read(self) -> None:
        for line in self.process.stderr:
            self.lines.append(json.loads(line) if line.startswith("{") else {"event": line})
            if self.event("serving"):
                self._is_serving.set()
        self._is_serving.set()

    def event(self, name: str) -> dict | None:
        return next((line for line in self.lines if line["event"] == name), None)

    def wait(self, timeout_s: float = 60) -> int:
        code = self.process.wait(timeout_s)
        self._reading.join(timeout_s)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reading.join()
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def serve(tmp_path):
    config = tmp_path / "scamtap.yaml"
    config.write_text(CONFIG.format(folder=tmp_path))
    with contextlib.closing(Served(config)) as served:
        yield served


def test_sigterm_drains_and_a_follower_sees_the_end(serve, doubles, following, tmp_path):
    from_far, from_near = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with from_far, from_near:
        for sock in (from_far, from_near):
            sock.bind(("127.0.0.1", 0))

        async def run():
            async with httpx.AsyncClient(base_url=serve.api, trust_env=False) as api, following(api) as events:
                legs = {
                    leg: {"local_port": serve.media[1], "source": f"127.0.0.1:{sock.getsockname()[1]}"}
                    for leg, sock in (("far", from_far), ("near", from_near))
                }
                assert (await api.post("/v1/calls", json={"id": "call-1", **legs})).status_code == 201
                for packet in doubles.packets(doubles.tone(doubles.THREAT.hz, 0.6)):
                    from_far.sendto(packet, serve.media)
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.1)  # the last packets are on their way
                assert not any(event["type"] == "verdict" for event in events)
                serve.process.send_signal(signal.SIGTERM)
                await doubles.until(lambda: any(event["type"] == "verdict" for event in events), 20)
                return list(events)

        events = asyncio.run(run())
    assert serve.wait() == 0
    assert [event["type"] for event in events] == ["utterance", "alert", "verdict"]
    (alert,) = map(json.loads, (tmp_path / "alerts.jsonl").read_text().splitlines())
    assert alert["id"] == events[1]["id"]
    assert serve.event("draining")["calls"] == 1
    assert serve.event("alert")["call_level"] == serve.event("call ends")["call_level"] == "suspect"
    assert not any("Traceback" in line["event"] for line in serve.lines)


def test_ctrl_c_drains_too(serve):
    serve.process.send_signal(signal.SIGINT)
    assert serve.wait() == 0
    assert serve.event("draining") is not None


def test_the_second_signal_is_for_those_in_a_hurry(serve):
    os.kill(serve.process.pid, signal.SIGSTOP)  # both signals are there before it can act on the first
    serve.process.send_signal(signal.SIGTERM)
    os.kill(serve.process.pid, signal.SIGCONT)
    # Whichever comes first, the end is soon: 0 where it had drained already, else killed by the second one.
    with contextlib.suppress(ProcessLookupError):
        serve.process.send_signal(signal.SIGINT)
    assert serve.wait(60) in (0, -signal.SIGINT)


def test_without_a_legal_basis_it_refuses(run, monkeypatch):
    monkeypatch.setattr(logs, "set_up_logs", lambda _config: None)  # those of this process stay as they are
    code, out, err = run("serve")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "privacy.legal_basis is not set" in err


@pytest.fixture
def refused(scripted, monkeypatch, capfd, tmp_path):
    """``refused(config)``: the one line with which ``scamtap serve`` ends, in this process."""

    def refused(text):
        config = tmp_path / "scamtap.yaml"
        config.write_text(f"privacy: {{legal_basis: a test}}\n{text}")
        monkeypatch.setattr(process.signal, "signal", lambda *_: None)  # pytest's own handlers stay
        monkeypatch.setattr(logs, "set_up_logs", lambda _config: None)
        monkeypatch.setattr("sys.argv", ["scamtap", "serve", "--config", str(config)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert ended.value.code == 2
        return err

    return refused


def test_a_taken_api_port_is_one_line(refused):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        err = refused(f"api: {{port: {taken.getsockname()[1]}}}\n")
    assert "api: 127.0.0.1:" in err
    assert "set api.port" in err


def test_a_taken_media_port_is_one_line(refused):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        err = refused(f"api: {{port: 0}}\nmedia: {{ports: [{port}], max_legs: 4}}\n")
    assert str(port) in err


@pytest.mark.parametrize(
    ("alerts", "word"),
    [
        ("jsonl_path: {folder}", "alerts.jsonl_path"),
        ("outbox_path: {folder}", "alerts.outbox_path"),
        ("webhook_url: 'https://ops.example', webhook_secret: 'whsec_'", "webhook_secret"),
    ],
)
def test_alerts_that_cannot_be_delivered_are_one_line(refused, tmp_path, alerts, word):
    settings = alerts.format(folder=tmp_path)
    err = refused(f"api: {{port: 0}}\nmedia: {{ports: [0], max_legs: 4}}\nalerts: {{{settings}}}\n")
    assert word in err


def test_an_outbox_of_another_worker_is_one_line(refused, tmp_path):
    from inference.alerts.outbox import Outbox

    with contextlib.closing(Outbox(tmp_path / "outbox.db")):
        err = refused(
            f"api: {{port: 0}}\nmedia: {{ports: [0], max_legs: 4}}\nalerts: {{outbox_path: {tmp_path}/outbox.db}}\n"
        )
    assert "belongs to another worker that is running; give each worker its own" in err
