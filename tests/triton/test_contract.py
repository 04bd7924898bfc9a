"""Both engines do the same: the same answers, descriptions and refusals."""

from pathlib import Path

import numpy as np
import pytest

from inference.audio.segment import SpeechSegment
from inference.engine.graph import GraphBuilder
from inference.engine.onnx import OnnxEngine
from inference.engine.pbtxt import write_configs
from inference.engine.repository import find_versions, write_model
from inference.errors import EngineError
from inference.intent.install import intent_models
from inference.speech.install import tokenizer_path
from inference.speech.memory import MEMORY_MAX
from inference.speech.recogniser import Recogniser

MODELS = Path(__file__).resolve().parents[2] / "models"
NAMES = ("scam_gate", *intent_models(MODELS), "speech", "speech_decoder", "speech_text", "vad")
FREE = {"samples": 8000, "batch": 2, "tokens": 12, "steps": 1, "past": 4, "time": 50}
RNG = np.random.default_rng(5)
CLOSENESS = 1e-4


def both():
    """fp32 rows, and one value a row."""
    graph = GraphBuilder("fp32")
    graph.input("x", np.float32, ["batch", "n"])
    graph.input("scale", np.float32, ["batch"])
    total = graph.op("ReduceSum", "x", graph.ints(1), keepdims=0)
    graph.output("total", graph.op("Mul", total, "scale"), np.float32, ["batch"])
    graph.output("twice", graph.op("Add", "x", "x"), np.float32, ["batch", "n"])
    return graph.build({"precision": "fp32"})


@pytest.fixture(params=["onnx", pytest.param("triton", marks=pytest.mark.triton)])
def engine(request, tmp_path):
    """Either engine over a repository with the model ``both``."""
    write_model(tmp_path, "both", both())
    write_configs(tmp_path)
    if request.param == "onnx":
        return OnnxEngine(tmp_path)
    server = request.getfixturevalue("serve")(tmp_path)
    return request.getfixturevalue("connect")(server, timeout_s=5, attempt_timeout_s=2)


def batch(rows=3, **changes):
    return {"x": np.arange(rows * 4, dtype=np.float32).reshape(rows, 4), "scale": np.ones(rows, np.float32), **changes}


def test_the_contract(engine):
    spec = engine.spec("both")
    assert [(t.name, t.dtype, t.shape) for t in spec.inputs] == [
        ("x", "float32", (None, None)),
        ("scale", "float32", (None,)),
    ]
    assert [(t.name, t.shape) for t in spec.outputs] == [("total", (None,)), ("twice", (None, None))]
    assert (spec.name, spec.version, spec.metadata["precision"]) == ("both", 1, "fp32")
    for rows in (1, 3):
        out = engine.infer("both", batch(rows))
        np.testing.assert_allclose(out["total"], batch(rows)["x"].sum(axis=1))
        np.testing.assert_allclose(out["twice"], 2 * batch(rows)["x"])
    for wrong, why in (
        ({"z": np.ones(3, np.float32)}, "unknown"),
        ({"x": np.ones((3, 4))}, "input x is float64, expected float32"),
        ({"x": np.ones(3, np.float32)}, "input x has shape"),
    ):
        with pytest.raises(EngineError, match=why):
            engine.infer("both", batch(**wrong))
    with pytest.raises(EngineError, match="scale"):
        engine.infer("both", {"x": batch()["x"]})
    with pytest.raises(EngineError, match="nothing"):
        engine.infer("nothing", batch())
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed engine"):
        engine.infer("both", batch())


def sample(spec):
    """Values that the model may see."""
    made = {}
    for tensor in spec.inputs:
        names = {"audio": ("batch", "samples"), "frames": ("batch",), "state": (None, "batch")}.get(tensor.name)
        names = ("batch", "time") if tensor.name in ("heard", "states") else names
        if tensor.name.startswith("cross_key"):
            names = ("batch", "heads", "width", "time")
        names = names or ("batch", "heads", "past" if tensor.name.startswith("past") else "time")
        if tensor.dtype == "int64":
            names = ("batch", "steps" if tensor.name == "tokens" else "tokens")
        shape = [FREE[names[i]] if dim is None else dim for i, dim in enumerate(tensor.shape)]
        if tensor.dtype == "int32":
            made[tensor.name] = np.ones(shape, np.int32)
        elif tensor.dtype == "int16":
            made[tensor.name] = RNG.integers(-8000, 8000, shape).astype(np.int16)
        elif tensor.dtype == "int8":
            made[tensor.name] = RNG.integers(-MEMORY_MAX, MEMORY_MAX + 1, shape).astype(np.int8)
        elif tensor.dtype == "int64":
            high = {"phase": 3, "part": 3, "language": 0, "guard": 40}.get(tensor.name, 9)
            low = {"language": -1, "guard": 3, "tokens": 1}.get(tensor.name, 1)
            made[tensor.name] = RNG.integers(low, high, shape)
        else:
            made[tensor.name] = RNG.normal(size=shape).astype(tensor.dtype)
    return made


@pytest.mark.triton
def test_the_shipped_models_give_the_same_over_the_wire(serve, connect, models):
    """Every model, and a transcript: what comes back differs by less than 1e-4."""
    if not all(find_versions(MODELS / name) for name in NAMES):
        pytest.skip("needs the models: scamtap models pull")
    here, there = OnnxEngine(MODELS), connect(serve(MODELS))
    for name in NAMES:
        spec = here.spec(name)
        described = there.spec(name)
        assert (described.inputs, described.outputs) == (spec.inputs, spec.outputs)
        assert described.metadata.items() >= spec.metadata.items()
        values = sample(spec)
        ours, theirs = here.infer(name, values), there.infer(name, values)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert theirs[key].dtype == value.dtype
            np.testing.assert_allclose(theirs[key], value, atol=CLOSENESS, err_msg=f"{name}: {key}")
    noise = (RNG.normal(size=16000) * 3000).astype(np.int16)
    segments = [SpeechSegment("far", 0.0, 2.0, 2.0, noise), SpeechSegment("far", 0.0, 1.0, 1.0, noise[:8000])]
    in_steps = Recogniser(here, tokenizer_path(MODELS))
    at_once = Recogniser(there, tokenizer_path(MODELS), is_remote=True)
    assert in_steps.transcribe(segments, ["en", None]) == at_once.transcribe(segments, ["en", None])
