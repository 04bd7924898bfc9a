"""The in-process engine: versions, refusals, damage, threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from inference.engine.base import TensorSpec
from inference.engine.graph import GraphBuilder
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_atomically, write_model
from inference.errors import EngineError, WeightsError


def adder(number):
    graph = GraphBuilder("fp32")
    graph.input("x", np.float32, ["batch", 2])
    graph.input("y", np.float32, ["batch", 2])
    total = graph.op("Add", graph.op("Add", "x", "y"), graph.floats(number))
    graph.output("sum", total, np.float32, ["batch", 2])
    return graph.build({"number": str(number)})


@pytest.fixture
def models(tmp_path):
    write_model(tmp_path, "adder", adder(1))
    return tmp_path


def ones(rows=3):
    return np.ones((rows, 2), np.float32)


def test_infer_and_spec(models):
    engine = OnnxEngine(models)
    out = engine.infer("adder", {"x": ones(), "y": ones()})
    np.testing.assert_array_equal(out["sum"], 3 * ones())
    spec = engine.spec("adder")
    assert (spec.name, spec.version, spec.metadata) == ("adder", 1, {"number": "1"})
    assert spec.inputs == (TensorSpec("x", "float32", (None, 2)), TensorSpec("y", "float32", (None, 2)))
    assert spec.outputs == (TensorSpec("sum", "float32", (None, 2)),)


def test_the_highest_version_is_served(models):
    write_model(models, "adder", adder(10), version=10)
    write_model(models, "adder", adder(9), version=9)
    (models / "adder" / "11").mkdir()  # no model in it yet
    (models / "adder" / "notes").mkdir()
    assert OnnxEngine(models).spec("adder").version == 10


def test_a_loaded_model_outlives_its_replacement(models):
    engine = OnnxEngine(models)
    engine.spec("adder")
    write_model(models, "adder", adder(5))
    np.testing.assert_array_equal(engine.infer("adder", {"x": ones(), "y": ones()})["sum"], 3 * ones())
    np.testing.assert_array_equal(OnnxEngine(models).infer("adder", {"x": ones(), "y": ones()})["sum"], 7 * ones())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"x": ones()}, r"missing \['y'\]"),
        ({"x": ones(), "y": ones(), "z": ones()}, r"unknown \['z'\]"),
        ({"x": ones(), "y": ones().astype(np.float64)}, "input y is float64, expected float32"),
        ({"x": ones(), "y": [[1.0, 1.0]]}, "input y is list, expected float32"),
        ({"x": ones(), "y": np.ones((3, 3), np.float32)}, r"input y has shape \(3, 3\)"),
        ({"x": ones(), "y": np.ones(2, np.float32)}, r"input y has shape \(2,\)"),
        ({"x": ones(3), "y": ones(2)}, r"input y has shape \(2, 2\)"),
    ],
)
def test_wrong_inputs_are_refused_in_one_line(models, batch, message):
    with pytest.raises(EngineError, match=message) as caught:
        OnnxEngine(models).infer("adder", batch)
    assert "\n" not in str(caught.value)


def test_a_missing_model_says_how_to_get_it(tmp_path):
    engine = OnnxEngine(tmp_path / "nowhere")
    for _ in range(2):
        with pytest.raises(EngineError, match=r"speech is not in .* run: scamtap models pull"):
            engine.spec("speech")


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"\x00" * 100, lambda b: b"{}"]
)
def test_a_damaged_model_is_one_line(models, damage):
    path = models / "adder" / "1" / "model.onnx"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EngineError, match="run: scamtap models pull") as caught:
        OnnxEngine(models).spec("adder")
    assert "\n" not in str(caught.value)


def test_runtime_failure_is_an_engine_error(tmp_path):
    graph = GraphBuilder("fp32")
    graph.input("x", np.float32, ["n"])
    graph.output("y", graph.reshape("x", 2, -1), np.float32, [2, "m"])
    write_model(tmp_path, "pairs", graph.build({}))
    engine = OnnxEngine(tmp_path)
    with pytest.raises(EngineError, match="model pairs failed") as caught:
        engine.infer("pairs", {"x": np.ones(3, np.float32)})
    assert "\n" not in str(caught.value)
    assert engine.infer("pairs", {"x": np.ones(4, np.float32)})["y"].shape == (2, 2)


def test_a_closed_engine_refuses(models):
    engine = OnnxEngine(models)
    engine.spec("adder")
    engine.close()
    for call in (lambda: engine.spec("adder"), lambda: engine.infer("adder", {"x": ones(), "y": ones()})):
        with pytest.raises(EngineError, match="closed"):
            call()


def test_an_unknown_provider_is_refused(models):
    with pytest.raises(EngineError, match="has no QuantumExecutionProvider"):
        OnnxEngine(models, providers=("QuantumExecutionProvider", "CPUExecutionProvider"))


def test_many_threads_share_one_model(models):
    engine = OnnxEngine(models)

    def work(number):
        x = np.full((4, 2), number, np.float32)
        return engine.infer("adder", {"x": x, "y": x})["sum"]

    with ThreadPoolExecutor(8) as pool:
        for number, found in enumerate(pool.map(work, range(64))):
            np.testing.assert_array_equal(found, 2 * number + 1)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a" / "file"
    write_atomically(path, lambda temporary: temporary.write_bytes(b"old"))

    def fill_the_disk(temporary):
        temporary.write_bytes(b"half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(WeightsError, match=r"cannot write .*file: No space left on device"):
        write_atomically(path, fill_the_disk)
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"
