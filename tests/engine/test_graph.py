"""Every layer of the graph builder against NumPy, run by the engine that serves it."""

import math

import numpy as np
import pytest

from inference.engine.graph import GraphBuilder, block_length, quantise_rows
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_model

RNG = np.random.default_rng(7)
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "int8": 3e-2}  # of the norm


@pytest.fixture
def run(tmp_path):
    """Build what ``draw(graph)`` outputs and run it on ``inputs``."""

    def go(precision, draw, inputs, **options):
        graph = GraphBuilder(precision, **options)
        for name, array in inputs.items():
            graph.input(name, array.dtype, [f"{name}{axis}" for axis in range(array.ndim)])
        for name, value, shape in draw(graph):
            graph.output(name, value, np.float32, shape)
        write_model(tmp_path, "m", graph.build({"precision": precision}))
        return OnnxEngine(tmp_path).infer("m", inputs)

    return go


def error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("is_few_rows", [False, True])
@pytest.mark.parametrize("bias", [None, RNG.normal(size=48).astype(np.float32)])
def test_linear(run, precision, is_few_rows, bias):
    x = RNG.normal(size=(2, 5, 64)).astype(np.float16 if precision == "fp16" else np.float32)
    weight = RNG.normal(size=(48, 64)).astype(np.float32)
    out = run(
        precision,
        lambda g: [("y", g.linear("x", weight, bias), ["b", "t", 48])],
        {"x": x},
        is_few_rows=is_few_rows,
    )["y"]
    assert error(out, x @ weight.T + (0 if bias is None else bias)) < TOLERANCE[precision]


def test_an_int8_row_does_not_depend_on_the_other_rows(run):
    weight = RNG.normal(size=(48, 64)).astype(np.float32)
    x = RNG.normal(size=(6, 64)).astype(np.float32)
    x[3] *= 1000  # one scale for all rows would leave the others next to nothing

    def draw(graph):
        return [("y", graph.linear("x", weight), ["r", 48])]

    together = run("int8", draw, {"x": x})["y"]
    alone = np.concatenate([run("int8", draw, {"x": row[None]})["y"] for row in x])
    np.testing.assert_array_equal(together, alone)


def test_an_all_zero_row_stays_zero(run):
    weight = RNG.normal(size=(8, 16)).astype(np.float32)
    out = run("int8", lambda g: [("y", g.linear("x", weight), ["r", 8])], {"x": np.zeros((2, 16), np.float32)})
    np.testing.assert_array_equal(out["y"], 0)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_embedding(run, precision):
    table = RNG.normal(size=(10, 16)).astype(np.float32)
    ids = np.array([[0, 9, 3]])
    out = run(precision, lambda g: [("y", g.embedding("ids", table), ["b", "t", 16])], {"ids": ids})["y"]
    assert error(out, table[ids]) < TOLERANCE[precision]


def layer_norm(x, gain, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain + bias


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_add_norm_and_gelu(run, precision):
    dtype = np.float16 if precision == "fp16" else np.float32
    x, skip = RNG.normal(size=(2, 2, 3, 16)).astype(dtype)
    gain, bias, x_bias = RNG.normal(size=(3, 16)).astype(np.float32)

    def draw(graph):
        normed, total = graph.add_norm("x", "skip", gain, bias, x_bias)
        shape = ["b", "t", 16]
        return [("normed", normed, shape), ("total", total, shape), ("gelu", graph.gelu("x"), shape)]

    out = run(precision, draw, {"x": x, "skip": skip})
    total = x.astype(np.float32) + x_bias + skip
    assert error(out["total"], total) < TOLERANCE[precision]
    assert error(out["normed"], layer_norm(total, gain, bias)) < TOLERANCE[precision]
    erf = np.vectorize(math.erf)(x.astype(np.float64) / np.sqrt(2))
    assert error(out["gelu"], x * (1 + erf) / 2) < TOLERANCE[precision]


def attend(query, key, value, allowed):
    """``query [heads, q, d]``, ``key, value [heads, k, d]``, ``allowed [q, k]`` -> ``[q, heads * d]``."""
    scores = np.where(allowed, query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ value
    return mixed.transpose(1, 0, 2).reshape(query.shape[1], -1)


def heads(x):
    return x.reshape(*x.shape[:-1], 4, 8).swapaxes(-3, -2)


def test_attention_leaves_out_padding(run):
    query, key, value = RNG.normal(size=(3, 2, 5, 32)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)

    def draw(graph):
        return [("y", graph.attention("q", "k", "v", 4, padding_mask="mask")[0], ["b", "t", 32])]

    out = run("fp32", draw, {"q": query, "k": key, "v": value, "mask": mask})["y"]
    for row in range(2):
        wanted = attend(heads(query[row]), heads(key[row]), heads(value[row]), mask[row].astype(bool)[None])
        assert error(out[row], wanted) < 1e-5


def test_causal_attention_goes_on_from_its_past(run):
    query, key, value = RNG.normal(size=(3, 1, 3, 32)).astype(np.float32)
    past_key, past_value = RNG.normal(size=(2, 1, 4, 2, 8)).astype(np.float32)

    def draw(graph):
        y, present_key, present_value = graph.attention("q", "k", "v", 4, past=("pk", "pv"), is_causal=True)
        kept = ["b", 4, "n", 8]
        return [("y", y, ["b", "t", 32]), ("key", present_key, kept), ("value", present_value, kept)]

    out = run("fp32", draw, {"q": query, "k": key, "v": value, "pk": past_key, "pv": past_value})
    np.testing.assert_allclose(out["key"], np.concatenate([past_key, heads(key)], axis=2), rtol=1e-6)
    np.testing.assert_allclose(out["value"], np.concatenate([past_value, heads(value)], axis=2), rtol=1e-6)
    allowed = np.arange(5)[None] <= np.arange(3)[:, None] + 2
    assert error(out["y"][0], attend(heads(query)[0], out["key"][0], out["value"][0], allowed)) < 1e-5


def test_a_value_may_be_an_output_and_go_on(run):
    x = np.array([1.0, 2.0], np.float32)

    def draw(graph):
        doubled = graph.op("Add", "x", "x")
        return [("first", doubled, ["n"]), ("again", doubled, ["n"]), ("more", graph.op("Add", doubled, "x"), ["n"])]

    out = run("fp32", draw, {"x": x})
    np.testing.assert_array_equal([out["first"], out["again"], out["more"]], [2 * x, 2 * x, 3 * x])


def test_equal_constants_are_stored_once():
    graph = GraphBuilder("fp32")
    graph.input("x", np.float32, ["n"])
    assert graph.floats([1, 2]) == graph.floats([1, 2])
    graph.output("y", graph.op("Add", "x", graph.floats([1, 2])), np.float32, ["n"])
    assert len(graph.build({}).graph.initializer) == 1


def test_metadata_survives(tmp_path):
    graph = GraphBuilder("fp32")
    graph.output("y", graph.op("Neg", graph.input("x", np.float32, ["n"])), np.float32, ["n"])
    write_model(tmp_path, "m", graph.build({"precision": "fp32", "weights_sha256": "ab"}))
    assert OnnxEngine(tmp_path).spec("m").metadata == {"precision": "fp32", "weights_sha256": "ab"}


def test_quantise_rows_keeps_zero_rows_and_the_peak():
    q, scale = quantise_rows(np.array([[0.0, 0.0], [-2.54, 1.27]], np.float32))
    np.testing.assert_array_equal(q, [[0, 0], [-127, 64]])
    np.testing.assert_allclose(scale, [1, 0.02], rtol=1e-6)


@pytest.mark.parametrize(("width", "block"), [(512, 256), (2048, 256), (384, 128), (64, 64), (16, 16)])
def test_block_length_divides_the_width(width, block):
    assert block_length(width) == block


def test_block_length_refuses_odd_widths():
    with pytest.raises(ValueError, match="multiple of 16"):
        block_length(40)
