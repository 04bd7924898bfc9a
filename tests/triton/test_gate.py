"""The cascade with its gate on a real server: the same calls read as in process, in the same number of requests."""

import asyncio
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from inference.audio.segment import SpeechSegment
from inference.config import Settings
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import find_versions
from inference.errors import WeightsError
from inference.gate.gate import ScamGate, ScamGateWithin
from inference.gate.install import GATE_MODEL, gate_calibration_path
from inference.gateway.spec import CallSpec
from inference.intent.install import intent_models, own_models
from inference.service.demo_view import TINY
from inference.service.models import build_parts, build_stages
from inference.speech.install import tokenizer_path
from inference.speech.recogniser import Recogniser
from tests.service.conftest import Bench
from tests.triton.told import told

pytestmark = pytest.mark.triton

MODELS = Path(__file__).resolve().parents[2] / "models"
SERVED = ("speech_text", *intent_models(MODELS))
FLAGS = ("--model-control-mode=explicit", *(f"--load-model={name}" for name in SERVED))
LENGTH_S = 40
CLOSENESS = 1e-4
PASS_LLR = 0.25  # of a call: its first words are held, some later ones are read


@pytest.fixture
def server(serve):
    """Serves what a live worker asks for, and no model besides."""
    if not all(find_versions(MODELS / name) for name in (*SERVED, GATE_MODEL)):
        pytest.skip("needs the models: scamtap models pull")
    return serve(MODELS, *FLAGS)


@pytest.fixture
def follow(doubles):
    """``follow(**engine)``: a live call, always gated -> what was said of it, seconds held, models asked."""
    samples, _ = soundfile.read(TINY / "demo-scam.wav", dtype="int16", frames=8000 * LENGTH_S)
    cascade = {"gate": GATE_MODEL, "when": "always", "pass_llr": PASS_LLR}

    def run(**engine):
        settings = Settings(engine=engine, cascade=cascade)
        stages = build_stages(settings)
        asked, infer = set(), stages.engine.infer
        stages.engine.infer = lambda model, batch: asked.add(model) or infer(model, batch)
        legs = {30000: doubles.packets(samples[:, 0], ssrc=1), 30002: doubles.packets(samples[:, 1], ssrc=2)}
        spec = {
            leg: {"local_port": 40000, "source": f"192.0.2.10:{port}"}
            for leg, port in zip(("far", "near"), legs, strict=True)
        }

        async def live():
            bench = Bench(doubles, parts=build_parts(settings, stages), stages=stages)
            try:
                follower = bench.bus.follow()
                bench.watch.begin(CallSpec.model_validate({"id": "c", **spec}))
                await bench.play(legs)
                await bench.watch.end("c")
                held_s = bench.watch.load()["held_s"]
                return [event.to_json() for event in list(follower._waiting)], held_s
            finally:
                await bench.close()

        try:
            events, held_s = asyncio.run(live())
        finally:
            stages.close()
        return events, held_s, asked

    return run


def test_a_call_is_read_from_where_it_is_read_in_process(server, follow):
    here, held_here_s, _ = follow()
    there, held_there_s, asked = follow(url=server.url)
    assert told(there) == told(here)
    assert held_there_s == held_here_s > 0
    assert any(event["type"] == "utterance" for event in there)
    judge = own_models(MODELS).get("en", "scam_intent")
    assert asked - {"vad"} == {"speech_text", judge}  # one request reads and weighs


@pytest.fixture
def segments():
    """The first seconds of a call, as windows of one length."""
    samples, _ = soundfile.read(TINY / "demo-scam.wav", dtype="int16", frames=8000 * 12)
    pieces = np.split(np.ascontiguousarray(samples[:, 0]), 6)
    return [SpeechSegment("far", 2.0 * i, 2.0 * i + 2, 2.0 * i + 2, piece) for i, piece in enumerate(pieces)]


def test_the_gate_in_the_graph_says_what_the_gate_says_and_holds_what_it_must(server, connect, segments):
    engine, here, calibration = connect(server), OnnxEngine(MODELS), gate_calibration_path(MODELS)
    tokenizer = tokenizer_path(MODELS)
    apart = Recogniser(here, tokenizer, gate=ScamGate(here, GATE_MODEL, calibration))
    within = Recogniser(engine, tokenizer, is_remote=True, gate_within=ScamGateWithin(engine, calibration))
    said, expected = {}, {}
    apart.transcribe(segments, weigh=lambda index, llr: expected.setdefault(index, llr) == llr)
    plain = within.transcribe(segments, weigh=lambda index, llr: said.setdefault(index, llr) == llr)
    assert said == pytest.approx(expected, abs=CLOSENESS)
    least = sorted(said.values())[len(said) // 2]
    heard = within.transcribe(segments, weigh=lambda _index, llr: llr >= least, needed=[least] * len(segments))
    assert [utterance.is_held for utterance in heard] == [llr < least for llr in said.values()]
    assert 0 < sum(utterance.is_held for utterance in heard) < len(heard)
    for utterance, whole in zip(heard, plain, strict=True):
        assert utterance.text == ("" if utterance.is_held else whole.text)


def test_calls_of_several_workers_share_a_batch_each_with_its_own_bound(server, connect, segments):
    """Dynamic batching joins rows that are held with rows that are not."""
    engine, calibration = connect(server), gate_calibration_path(MODELS)
    recogniser = Recogniser(
        engine, tokenizer_path(MODELS), is_remote=True, gate_within=ScamGateWithin(engine, calibration)
    )
    segments = segments[:4]
    plain = recogniser.transcribe(segments)
    with ThreadPoolExecutor(len(segments)) as pool:

        def ask(index):
            bound = math.inf if index % 2 else -math.inf
            (heard,) = recogniser.transcribe([segments[index]], None, lambda _index, _llr: not index % 2, [bound])
            return heard

        heard = list(pool.map(ask, range(len(segments))))
    assert [utterance.is_held for utterance in heard] == [bool(index % 2) for index in range(len(segments))]
    assert [utterance for utterance in heard if not utterance.is_held] == plain[::2]


def test_another_gate_than_was_built_in_is_refused(server, connect, tmp_path):
    engine = connect(server)
    path = gate_calibration_path(MODELS)
    other = tmp_path / path.name
    other.write_text(path.read_text().replace(json.loads(path.read_text())["head_sha256"], "0" * 64))
    with pytest.raises(WeightsError, match="another head than was built into speech_text"):
        ScamGateWithin(engine, other)
