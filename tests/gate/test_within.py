"""The gate as part of ``speech_text``: what is asked of it, and what is built into the graph and what not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.graph import GraphBuilder
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_model
from inference.errors import EngineError, WeightsError
from inference.gate.calibration import GateCalibration, OperatingPoint
from inference.gate.evidence import GateEvidence
from inference.gate.gate import HEAD_DRAWN, ScamGateWithin
from inference.gate.graph import LLR_LIMIT, add_gate, build_gate, head_sha256, read_head, shapes
from inference.gate.install import GATE_MODEL, HEAD_FILE, drawn_gate, gate_calibration_path, gate_sources
from inference.speech.graph import fingerprint
from inference.speech.whole import WHOLE
from training.intent.version import write_head

WIDTH = 16
TENSORS = {"some.weight": np.ones((2, 3), np.float16)}
POINT = OperatingPoint(pass_llr=-0.5, pass_share=1, pass_share_low=0.9, num_scam=2, num_genuine=2)

nats = st.floats(-30, 30, allow_nan=False)


def calibration(head="1" * 64, scale=2.0, bias=-0.25, floor=3.0):
    return GateCalibration(
        head_sha256=head,
        states_precision="int8",
        states_weights_sha256=fingerprint(TENSORS),
        scale=scale,
        bias=bias,
        floor_llr=floor,
        operating_point=POINT,
    )


@pytest.fixture
def models_dir(tmp_path):
    """A gate's head and calibration, as shipped."""
    rng = np.random.default_rng(2)
    head = {name: rng.normal(0, 0.3, shape).astype(np.float16) for name, shape in shapes(WIDTH).items()}
    digest = write_head(tmp_path / GATE_MODEL / "1" / HEAD_FILE, head)
    gate_calibration_path(tmp_path).write_text(calibration(digest).model_dump_json(), encoding="utf-8")
    return tmp_path


def put_whole(models_dir, **metadata):
    graph = GraphBuilder("fp32")
    x = graph.input("audio", np.float32, ["batch", 4])
    graph.output("y", graph.op("Add", x, x), np.float32, ["batch", 4])
    write_model(models_dir, WHOLE, graph.build(metadata))
    return OnnxEngine(models_dir)


@given(st.lists(st.tuples(st.sampled_from(["far", "near"]), nats), max_size=8), nats, st.floats(0, 5))
def test_what_is_needed_beforehand_is_what_decides_afterwards(said, pass_llr, floor):
    evidence = GateEvidence(calibration(floor=floor), pass_llr)
    for leg, llr in said:
        needed = evidence.needed(leg)
        is_read = evidence.weigh(leg, llr)
        if abs(llr - needed) > 1e-6:  # rounding decides within; who is held there is asked for again
            assert is_read == (llr >= needed)


@given(st.floats(0, 10), st.floats(-2, 2), nats, st.floats(-LLR_LIMIT, LLR_LIMIT))
def test_the_bound_on_the_raw_word_is_the_bound_on_the_calibrated(scale, bias, needed, raw):
    fitted = calibration(scale=scale, bias=bias)
    if abs(fitted.llr(raw) - needed) > 1e-6:
        assert (raw >= fitted.raw(needed)) == (fitted.llr(raw) >= needed)


def test_what_is_asked_stays_a_number_and_open_is_zero(models_dir):
    digest = head_sha256(models_dir / GATE_MODEL / "1" / HEAD_FILE)
    within = ScamGateWithin(put_whole(models_dir, **{HEAD_DRAWN: digest}), gate_calibration_path(models_dir))
    asked = within.ask([1600, 1601, 160, 0], [-math.inf, math.inf, 1.75, -100])
    assert asked["num_frames"].tolist() == [10, 11, 1, 0]
    assert asked["hold"].dtype == np.float32
    assert asked["hold"][0] == asked["hold"][3] == 0
    assert 2 * LLR_LIMIT < asked["hold"][1] < math.inf
    assert asked["hold"][2] == pytest.approx(1 + LLR_LIMIT)
    assert within.heard(np.array([1, np.nan], np.float32)) == [1.75, 0.0]


def test_a_speech_model_without_a_gate_or_with_another_is_refused(models_dir):
    with pytest.raises(EngineError, match=r"no gate in it: build it .*\(scamtap models pull\).*cascade.gate to null"):
        ScamGateWithin(put_whole(models_dir), gate_calibration_path(models_dir))
    with pytest.raises(WeightsError, match="another head than was built into speech_text"):
        ScamGateWithin(put_whole(models_dir, **{HEAD_DRAWN: "9" * 64}), gate_calibration_path(models_dir))


def test_it_is_drawn_only_for_the_states_that_it_was_trained_on(models_dir, tmp_path):
    gate = drawn_gate(models_dir, TENSORS, "int8")
    assert gate.metadata == {HEAD_DRAWN: head_sha256(models_dir / GATE_MODEL / "1" / HEAD_FILE)}
    assert gate.least_llr == -LLR_LIMIT
    assert drawn_gate(models_dir, TENSORS, "fp16") is None
    assert drawn_gate(models_dir, {"some.weight": np.zeros((2, 3), np.float16)}, "int8") is None
    assert drawn_gate(tmp_path / "elsewhere", TENSORS, "int8") is None
    assert gate_sources(tmp_path / "elsewhere") == []
    assert {path.name for path in gate_sources(models_dir)} == {"graph.py", HEAD_FILE, "calibration.json"}


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
def test_in_a_graph_of_any_precision_it_says_the_same(models_dir, tmp_path, precision):
    head = models_dir / GATE_MODEL / "1" / HEAD_FILE
    graph = GraphBuilder(precision)
    states = graph.input("states", np.float32, ["batch", "time", WIDTH])
    frames = graph.input("num_frames", np.int64, ["batch"])
    drawn = add_gate(graph, states, frames, read_head(head))
    graph.output("llr", drawn, np.float32, ["batch"])
    write_model(tmp_path, "within", graph.build({}))
    write_model(tmp_path, "apart", build_gate(head, {}))
    batch = {
        "states": np.random.default_rng(0).normal(0, 1, (2, 31, WIDTH)).astype(np.float32),
        "num_frames": np.array([9, 31]),
    }
    engine = OnnxEngine(tmp_path)
    np.testing.assert_array_equal(engine.infer("within", batch)["llr"], engine.infer("apart", batch)["llr"])
