"""The gate of the repository: what it says, and which states and files it refuses."""

import json

import numpy as np
import pytest

from inference.engine.graph import GraphBuilder
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_model
from inference.errors import EngineError, WeightsError
from inference.gate.calibration import load_gate_calibration
from inference.gate.gate import ScamGate
from inference.gate.graph import shapes
from inference.gate.install import GATE_MODEL, gate_calibration_path, install_gate
from inference.weights.safetensors import write_safetensors
from training.intent.version import write_head

WIDTH = 16
WEIGHTS = "1" * 64


def speech_graph(precision="int8", weights=WEIGHTS, width=WIDTH):
    """Something with the speech model's door."""
    graph = GraphBuilder("fp32")
    audio = graph.input("audio", np.int16, ["batch", "samples"])
    flat = graph.cast(graph.op("Unsqueeze", audio, graph.ints(-1)), np.float32)
    graph.output("states", graph.op("Expand", flat, graph.ints(1, 1, width)), np.float32, ["batch", "time", width])
    return graph.build({"precision": precision, "weights_sha256": weights})


@pytest.fixture
def repository(tmp_path):
    """``repository(**changes)``: a speech model, a gate, its calibration with ``changes``."""

    def make(speech=None, **changes):
        write_model(tmp_path, "speech", speech or speech_graph())
        rng = np.random.default_rng(2)
        head = {name: rng.normal(0, 0.3, shape).astype(np.float16) for name, shape in shapes(WIDTH).items()}
        folder = tmp_path / GATE_MODEL / "1"
        calibration = {
            "head_sha256": write_head(folder / "head.safetensors", head),
            "states_precision": "int8",
            "states_weights_sha256": WEIGHTS,
            "scale": 2.0,
            "bias": -0.25,
            "operating_point": {
                "pass_llr": 1, "pass_share": 1, "pass_share_low": 0.9, "num_scam": 2, "num_genuine": 2,
            },
        }  # fmt: skip
        path = gate_calibration_path(tmp_path)
        path.write_text(json.dumps(calibration), encoding="utf-8")
        assert install_gate(tmp_path)
        path.write_text(json.dumps(calibration | changes), encoding="utf-8")
        return tmp_path

    return make


def gate_of(models_dir):
    return ScamGate(OnnxEngine(models_dir), GATE_MODEL, gate_calibration_path(models_dir))


def test_it_says_what_the_graph_says_calibrated(repository):
    gate = gate_of(repository())
    states = np.random.default_rng(0).normal(0, 1, (2, 30, WIDTH)).astype(np.float32)
    frames = np.array([20, 30], np.int64)
    raw = gate._engine.infer(GATE_MODEL, {"states": states, "num_frames": frames})["llr"]
    assert gate.llr(states, [20 * 160, 30 * 160 - 7]) == pytest.approx((raw * 2.0 - 0.25).tolist())
    states[0, 0, 0] = np.nan
    assert gate.llr(states, [3200, 4800])[0] == 0.0  # what cannot be judged is no evidence


@pytest.mark.parametrize(
    ("speech", "what"),
    [(speech_graph(precision="fp16"), "precision int8"), (speech_graph(weights="2" * 64), f"weights_sha256 {WEIGHTS}")],
)
def test_states_of_another_precision_or_other_weights_are_refused(repository, speech, what):
    with pytest.raises(EngineError, match=f"trained on states of {what}.*cascade.gate to null"):
        gate_of(repository(speech))


def test_states_of_another_width_and_what_is_no_gate_are_refused(repository):
    with pytest.raises(EngineError, match="no gate for model speech"):
        gate_of(repository(speech_graph(width=8)))
    models_dir = repository()
    with pytest.raises(EngineError, match="model speech is no gate"):
        ScamGate(OnnxEngine(models_dir), "speech", gate_calibration_path(models_dir))


def test_a_calibration_of_another_head_or_other_states_is_refused(repository):
    with pytest.raises(WeightsError, match="belongs to another head"):
        gate_of(repository(head_sha256="3" * 64))
    with pytest.raises(EngineError, match="trained on states of precision"):
        gate_of(repository(states_precision="fp16"))


def test_a_malformed_calibration_names_file_and_field(repository, tmp_path):
    repository(scale=-1)
    with pytest.raises(WeightsError, match=r"calibration\.json: scale: .*restore it"):
        load_gate_calibration(gate_calibration_path(tmp_path))
    with pytest.raises(WeightsError, match="cannot be read"):
        load_gate_calibration(tmp_path / "nowhere.json")


def test_installing_builds_once_and_without_a_head_nothing(repository, tmp_path):
    assert not install_gate(tmp_path / "elsewhere")
    model = repository() / GATE_MODEL / "1" / "model.onnx"
    before = model.stat().st_mtime_ns
    assert install_gate(tmp_path)
    assert model.stat().st_mtime_ns == before


def test_a_head_of_other_shapes_is_not_installed(repository, tmp_path):
    path = repository() / GATE_MODEL / "1" / "head.safetensors"
    with path.open("wb") as file:
        write_safetensors(file, {"llr.bias": (1,)}, "float16", lambda _name: np.zeros(1, np.float16))
    with pytest.raises(WeightsError, match=r"project\.weight is missing"):
        install_gate(tmp_path)
