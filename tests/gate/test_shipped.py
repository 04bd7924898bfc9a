"""What is shipped under models/scam_gate/1 belongs together, is off, and fits the speech model where that is built."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from inference.config import Settings
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_model
from inference.errors import EngineError
from inference.gate.calibration import load_gate_calibration
from inference.gate.gate import ScamGate
from inference.gate.graph import NUM_FRAMES, STATES, build_gate, shapes
from inference.gate.install import GATE_MODEL, HEAD_FILE, gate_calibration_path
from inference.weights.safetensors import read_safetensors

MODELS = Path(__file__).parents[2] / "models"
SHIPPED = MODELS / GATE_MODEL / "1"
WIDTH = 512  # of Whisper base


def test_head_calibration_and_report_belong_together():
    digest = hashlib.sha256((SHIPPED / HEAD_FILE).read_bytes()).hexdigest()
    calibration = load_gate_calibration(gate_calibration_path(MODELS))
    report = json.loads((SHIPPED / "report.json").read_text())
    assert calibration.head_sha256 == report["head_sha256"] == digest
    assert report["operating_point"] == calibration.operating_point.model_dump()
    assert {name: report[name] for name in calibration.born_with} == calibration.born_with
    assert calibration.states_precision == "int8"
    assert all("synthetic" in what for what in report["what"])


def test_the_operating_point_is_what_it_claims_to_be_and_no_more():
    point = load_gate_calibration(gate_calibration_path(MODELS)).operating_point
    assert point.pass_share >= 0.995
    assert point.pass_share_low < point.pass_share  # so few calls prove less


def test_it_is_small_and_off():
    assert (SHIPPED / HEAD_FILE).stat().st_size < 100_000
    assert {name: tensor.shape for name, tensor in read_safetensors(SHIPPED / HEAD_FILE).items()} == shapes(WIDTH)
    assert Settings().cascade.gate is None


def test_its_graph_is_built_of_what_is_shipped_and_gives_finite_evidence(tmp_path):
    calibration = load_gate_calibration(gate_calibration_path(MODELS))
    write_model(tmp_path, GATE_MODEL, build_gate(SHIPPED / HEAD_FILE, calibration.born_with))
    states = np.random.default_rng(0).normal(0, 1, (2, 100, WIDTH)).astype(np.float32)
    out = OnnxEngine(tmp_path).infer(GATE_MODEL, {STATES: states, NUM_FRAMES: np.array([100, 7])})["llr"]
    assert np.isfinite(out).all()
    assert out[0] != out[1]


def test_it_fits_the_speech_model_that_is_built_here():
    try:
        gate = ScamGate(OnnxEngine(MODELS), GATE_MODEL, gate_calibration_path(MODELS))
    except EngineError as error:
        if "is not in" in str(error):
            pytest.skip(f"needs the models: {error}")
        raise
    assert len(gate.llr(np.zeros((1, 50, WIDTH), np.float32), [8000])) == 1
