"""The rewritten graph computes what the published one does: a small one of the same patterns, and the real one."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference.errors import ScamTapError
from inference.weights import file, status
from training.voice.graph import VERSION, fast_graph, rewrite
from training.voice.speaker import KokoroSpeaker

CHANNELS, TAPS, ZERO = 128, 5, 61


def quantised_convolution(x, y, tensors, rng, *, has_bias):
    """The nodes that the published graph has for one convolution, with their weights put into ``tensors``."""
    weight = rng.integers(0, 128, (CHANNELS, CHANNELS, TAPS)).astype(np.uint8)
    tensors |= {f"{y}_w": weight, f"{y}_wz": np.uint8(ZERO), f"{y}_ws": np.float32(0.002)}
    node = helper.make_node
    nodes = [
        node("DynamicQuantizeLinear", [x], [f"{y}_q", f"{y}_s", f"{y}_z"]),
        node("ConvInteger", [f"{y}_q", f"{y}_w", f"{y}_z", f"{y}_wz"], [f"{y}_sums"], pads=[4, 4], dilations=[2]),
        node("Mul", [f"{y}_s", f"{y}_ws"], [f"{y}_step"]),
    ]
    sums = f"{y}_sums"
    if has_bias:
        tensors |= {f"{y}_b": rng.normal(size=CHANNELS).astype(np.float32), "row": np.array([1, -1, 1])}
        nodes += [
            node("Div", [f"{y}_b", f"{y}_step"], [f"{y}_b1"]),
            node("Floor", [f"{y}_b1"], [f"{y}_b2"]),
            node("Cast", [f"{y}_b2"], [f"{y}_b3"], to=TensorProto.INT32),
            node("Reshape", [f"{y}_b3", "row"], [f"{y}_b4"]),
            node("Add", [sums, f"{y}_b4"], [f"{y}_biased"]),
        ]
        sums = f"{y}_biased"
    return [
        *nodes,
        node("Cast", [sums], [f"{y}_float"], to=TensorProto.FLOAT),
        node("Mul", [f"{y}_float", f"{y}_step"], [y]),
    ]


def published(has_bias=True):
    """Convolution, normalisation, snake, convolution: what the vocoder is made of."""
    rng = np.random.default_rng(3)
    node = helper.make_node
    column = (1, CHANNELS, 1)
    tensors = {
        "axis": np.array([2]),
        "epsilon": np.float32(1e-5),
        "two": np.float32(2),
        "scale": rng.uniform(0.5, 1.5, column).astype(np.float32),
        "shift": rng.normal(size=column).astype(np.float32),
        "alpha": rng.uniform(0.5, 2, column).astype(np.float32),
    }
    tensors["inverse"] = 1 / tensors["alpha"]
    nodes = [
        *quantised_convolution("x", "first", tensors, rng, has_bias=has_bias),
        node("ReduceMean", ["first", "axis"], ["mean"]),
        node("Sub", ["first", "mean"], ["centred"]),
        node("Mul", ["centred", "centred"], ["squares"]),
        node("ReduceMean", ["squares", "axis"], ["variance"]),
        node("Add", ["variance", "epsilon"], ["safe"]),
        node("Sqrt", ["safe"], ["deviation"]),
        node("Div", ["centred", "deviation"], ["unit"]),
        node("Mul", ["scale", "unit"], ["scaled"]),
        node("Add", ["scaled", "shift"], ["normal"]),
        node("Mul", ["alpha", "normal"], ["turned"]),
        node("Sin", ["turned"], ["sine"]),
        node("Pow", ["sine", "two"], ["square"]),
        node("Mul", ["inverse", "square"], ["ripple"]),
        node("Add", ["normal", "ripple"], ["snake"]),
        *quantised_convolution("snake", "y", tensors, rng, has_bias=has_bias),
    ]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, "time"]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "published", floats[:1], floats[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def operators(model):
    return [node.op_type for node in model.graph.node]


def signal(num_samples):
    return np.random.default_rng(5).normal(size=(1, CHANNELS, num_samples)).astype(np.float32)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("num_samples", [1, 400, 4000])
def test_the_rewritten_graph_computes_the_same_to_eight_bits(has_bias, num_samples):
    x = signal(num_samples)
    fast = rewrite(published(has_bias))
    assert {"Conv", "QLinearConv", "GatherElements"} <= set(operators(fast))
    assert operators(fast).count("ConvInteger") == 1  # the probe
    onnx.checker.check_model(fast)
    wanted, found = run(published(has_bias), x), run(fast, x)
    assert found.shape == wanted.shape
    if num_samples > 1:  # the deviation of a single sample is nothing but rounding
        assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)


def test_silence_divides_by_nothing():
    assert np.isfinite(run(rewrite(published()), np.zeros((1, CHANNELS, 100), np.float32))).all()


def test_a_normalisation_without_a_snake_is_one_operator():
    model = published()
    for node in model.graph.node:
        if node.op_type == "Sin":
            node.op_type = "Tanh"
    x = signal(400)
    wanted, fast = run(model, x), rewrite(model)
    assert operators(fast).count("InstanceNormalization") == 1
    assert not {"QLinearConv", "ReduceMean"} & set(operators(fast))
    assert np.linalg.norm(run(fast, x) - wanted) < 0.03 * np.linalg.norm(wanted)


def test_what_is_written_otherwise_stays():
    model = published()
    for node in model.graph.node:
        if node.op_type == "Floor":
            node.op_type = "Ceil"
        if node.op_type == "Sqrt":
            node.op_type = "Abs"
    kept = rewrite(model)
    assert operators(kept).count("ConvInteger") == 2
    assert operators(kept).count("Sub") == 1


def test_the_graph_is_written_once_beside_its_source(tmp_path):
    source = tmp_path / "model.onnx"
    onnx.save(published(), source)
    path = fast_graph(source)
    assert path == tmp_path / f"model.fast-{VERSION}.onnx"
    written = path.stat().st_mtime_ns
    assert (fast_graph(source), path.stat().st_mtime_ns) == (path, written)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([source.name, path.name])


def test_a_graph_that_cannot_be_kept_is_said_in_one_line(tmp_path, monkeypatch):
    source = tmp_path / "model.onnx"
    onnx.save(published(), source)

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.voice.graph.onnx.save", full)
    with pytest.raises(ScamTapError, match=r"cannot write .*fast.*No space left on device; free some space"):
        fast_graph(source)
    assert [each.name for each in tmp_path.iterdir()] == [source.name]


def test_what_a_fast_speaker_says_is_remembered_apart():
    assert KokoroSpeaker(is_fast=True).fingerprint == f"{KokoroSpeaker().fingerprint} fast-{VERSION}"


@pytest.fixture(scope="module")
def speakers():
    pytest.importorskip("kokoro_onnx", reason="needs the synthesiser: make install-train")
    if next(s.state for s in status() if s.name == "kokoro-82m") != "ok":
        pytest.skip("needs the synthesiser's weights: scamtap models pull kokoro-82m")
    return KokoroSpeaker(), KokoroSpeaker(is_fast=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("voice", "text"),
    [("af_heart", "Please do not tell anybody about this call."), ("zm_yunjian", "请不要挂电话。")],
)
def test_the_real_graph_says_the_same_as_long(speakers, voice, text):
    one, other = (speaker.speak(text, voice, 1.0).astype(np.float64) for speaker in speakers)
    assert abs(one.size - other.size) <= 960  # both are trimmed to 10 ms; 20 ms for a frame at the threshold
    length = min(one.size, other.size) // 240 * 240
    level = [10 * np.log10(np.mean(each[:length].reshape(-1, 240) ** 2, axis=1) + 1) for each in (one, other)]
    assert np.corrcoef(*level)[0, 1] > 0.97


@pytest.mark.slow
def test_the_real_graph_is_rewritten_whole(speakers):
    model = rewrite(onnx.load(file("kokoro-82m", "model.onnx")))
    found = operators(model)
    assert found.count("QLinearConv") == 48
    assert found.count("ConvInteger") == 48  # the probes
    assert found.count("GatherElements") == 48
    assert found.count("InstanceNormalization") == 20
