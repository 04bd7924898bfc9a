"""Whole calls whose models run on a real server that dies in the middle of them."""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import soundfile

from inference.config import Settings
from inference.engine.repository import find_versions
from inference.gateway.recording import open_recording
from inference.gateway.spec import CallSpec
from inference.intent.install import intent_models
from inference.service.demo_view import TINY
from inference.service.models import build_parts, build_stages
from inference.service.replay import replay
from tests.service.conftest import Bench
from tests.triton.told import told

pytestmark = pytest.mark.triton

MODELS = Path(__file__).resolve().parents[2] / "models"
SERVED = ("speech_text", *intent_models(MODELS))
FLAGS = ("--model-control-mode=explicit", *(f"--load-model={name}" for name in SERVED))
NUM_CALLS = 3
LENGTH_S = 40  # to the first alert and beyond
RECOVERY_S = 15.0


@pytest.fixture
def recording(tmp_path):
    samples, rate_hz = soundfile.read(TINY / "demo-scam.wav", dtype="int16", frames=8000 * LENGTH_S)
    soundfile.write(tmp_path / "call.wav", samples, rate_hz, subtype="ULAW")
    return tmp_path / "call.wav"


@pytest.fixture
def settings_of():
    """Settings with the models on ``server``."""
    if not all(find_versions(MODELS / name) for name in SERVED):
        pytest.skip("needs the models: scamtap models pull")
    return lambda server: Settings(engine={"url": server.url, "timeout_s": 60})


class Outage:
    """Kills the server once it is at work, and starts it again at once.

    ``longest_s``: the longest that a batch took; ``down_s``: how long the machine took to start the server.
    """

    def __init__(self, server, engine):
        self.server, self.longest_s, self.down_s = server, 0.0, 0.0
        self._infer, self._is_working = engine.infer, threading.Event()
        self._is_over = threading.Event()
        engine.infer = self.infer
        # The server ends with the thread that started it, so that thread stays.
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def infer(self, model, batch):
        self._is_working.set()
        started_s = time.monotonic()
        try:
            return self._infer(model, batch)
        finally:
            self.longest_s = max(self.longest_s, time.monotonic() - started_s)

    def _run(self):
        self._is_working.wait()
        time.sleep(0.02)  # amid a batch
        self.server.signal(signal.SIGKILL)
        killed_s = time.monotonic()
        self.server.restart()
        self.server.wait_ready()
        self.down_s = time.monotonic() - killed_s
        self._is_over.wait()
        self.server.stop()

    def end(self):
        self._is_working.set()
        self._is_over.set()
        self._thread.join()


def test_calls_outlive_their_server_and_nothing_of_them_is_lost(serve, settings_of, doubles, models, recording):
    alone = told([event.to_json() for event in replay(open_recording(recording)[0], models.parts, models.stages)])
    assert any(event["type"] == "alert" for event in alone)
    server = serve(MODELS, *FLAGS)
    settings = settings_of(server)
    stages = build_stages(settings)
    samples, _ = soundfile.read(recording, dtype="int16")
    streams = [doubles.packets(samples[:, column], ssrc=column + 1) for column in range(2)]
    outage = Outage(server, stages.engine)

    async def run():
        bench = Bench(doubles, parts=build_parts(settings, stages), stages=stages)
        try:
            follower = bench.bus.follow()
            legs = {}
            for number in range(NUM_CALLS):
                far, near = 30000 + 4 * number, 30002 + 4 * number
                legs |= {far: streams[0], near: streams[1]}
                spec = {"far": far, "near": near}
                sources = {leg: {"local_port": 40000, "source": f"192.0.2.10:{port}"} for leg, port in spec.items()}
                bench.watch.begin(CallSpec.model_validate({"id": f"c{number}", **sources}))
            await bench.play(legs)
            for number in range(NUM_CALLS):
                await bench.watch.end(f"c{number}")
            return [event.to_json() for event in list(follower._waiting)]
        finally:
            await bench.close()

    try:
        events = asyncio.run(run())
    finally:
        outage.end()
        stages.close()
    for number in range(NUM_CALLS):
        assert told([event for event in events if event["call"] == f"c{number}"]) == alone
    # The batch that met the crash was answered soon after the server was there again: 3 to 5 s on an idle machine.
    assert 0.5 < outage.longest_s <= outage.down_s + RECOVERY_S


def test_a_command_tells_of_its_servers_on_standard_error(scamtap, recording):
    """The results are for programs."""
    brief = {**os.environ, "SCAMTAP__ENGINE__TIMEOUT_S": "1", "SCAMTAP__ENGINE__ATTEMPT_TIMEOUT_S": "1"}
    ran = scamtap("replay", "--json", "--engine", "triton://127.0.0.1:9", recording, scripted=False, env=brief)
    assert (ran.exit_code, ran.out) == (1, "")
    assert "inference servers away" in ran.err
    assert ran.err.splitlines()[-1].startswith("scamtap: the Triton server has been away for")
