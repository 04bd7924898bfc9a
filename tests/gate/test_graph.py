"""The gate's graph, on a made head: the same as NumPy and torch, whatever the batch; what does not fit is refused."""

import math

import numpy as np
import onnxruntime as ort
import pytest

from inference.errors import WeightsError
from inference.gate.graph import (
    BLOCK_FRAMES,
    LLR_LIMIT,
    NUM_POOLS,
    PROJECTED,
    block_means,
    build_gate,
    num_frames_of,
    shapes,
)
from inference.weights.safetensors import write_safetensors

WIDTH = 16
BORN = {"states_precision": "int8", "states_weights_sha256": "0" * 64}


def write(path, tensors):
    with path.open("wb") as file:
        write_safetensors(file, {n: t.shape for n, t in tensors.items()}, "float16", lambda name: tensors[name])
    return path


@pytest.fixture
def head():
    rng = np.random.default_rng(5)
    return {name: rng.normal(0, 0.3, shape).astype(np.float16) for name, shape in shapes(WIDTH).items()}


@pytest.fixture
def run(tmp_path, head):
    model = build_gate(write(tmp_path / "head.safetensors", head), BORN)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda states, frames: session.run(None, {"states": states, "num_frames": np.array(frames, np.int64)})[0]


def states_of(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def reference(head, states, num_frames):
    """One segment, plainly."""
    w = {name: tensor.astype(np.float64) for name, tensor in head.items()}

    def gelu(x):
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    x = gelu(block_means(states, num_frames) @ w["project.weight"].T + w["project.bias"])
    scores = x @ w["pool.weight"].T
    weights = np.exp(scores - scores.max(0))
    pooled = [(weights[:, i] / weights[:, i].sum()) @ x for i in range(NUM_POOLS)]
    together = np.concatenate([*pooled, x.max(0)])
    raw = (gelu(together @ w["hidden.weight"].T + w["hidden.bias"]) @ w["llr.weight"].T + w["llr.bias"])[0]
    return LLR_LIMIT * math.tanh(raw / LLR_LIMIT)


@pytest.mark.parametrize(("time", "frames"), [(25, 25), (27, 26), (75, 31), (75, 1), (5, 3)])
def test_the_graph_is_what_numpy_computes(run, head, time, frames):
    states = states_of(1, time, WIDTH)
    assert run(states, [frames])[0] == pytest.approx(reference(head, states[0], frames), abs=1e-4)


def test_neither_company_nor_what_lies_behind_the_speech_changes_a_score(run):
    states = states_of(3, 50, WIDTH)
    alone = run(states[:1, :40], [33])
    states[0, 33:] = np.nan
    states[1:] *= 7
    assert run(states, [33, 50, 12])[0] == pytest.approx(alone[0], abs=1e-5)


def test_a_segment_without_a_frame_has_a_score_all_the_same(run):
    assert np.isfinite(run(states_of(1, 25, WIDTH), [0])).all()


def test_block_means_and_frames():
    states = np.arange(7, dtype=np.float32)[:, None]
    assert block_means(states, 7)[:, 0].tolist() == [2.0, 5.5]
    assert block_means(states, 5)[:, 0].tolist() == [2.0]
    assert (num_frames_of(1), num_frames_of(160), num_frames_of(161)) == (1, 1, 2)
    repeated = np.repeat(block_means(states, 7), BLOCK_FRAMES, axis=0)
    assert np.array_equal(block_means(repeated, 10), block_means(states, 7))


@pytest.mark.parametrize(
    ("name", "tensor", "match"),
    [("llr.weight", None, r"llr\.weight is missing"), ("pool.weight", (1, PROJECTED), r"pool\.weight is \(1, ")],
)
def test_a_head_that_does_not_fit_is_refused(tmp_path, head, name, tensor, match):
    head.pop(name)
    if tensor is not None:
        head[name] = np.zeros(tensor, np.float16)
    with pytest.raises(WeightsError, match=match):
        build_gate(write(tmp_path / "head.safetensors", head), BORN)


def test_the_torch_network_ships_a_head_that_computes_the_same(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch: make install-train")
    from training.gate.network import GateNetwork, pad

    torch.manual_seed(3)
    rng = np.random.default_rng(4)
    network = GateNetwork(
        rng.normal(0, 1, WIDTH).astype(np.float32), rng.uniform(0.5, 2, WIDTH).astype(np.float32)
    ).eval()
    with torch.no_grad():
        network.llr.weight *= 30
        model = build_gate(write(tmp_path / "head.safetensors", network.shipped()), BORN)
        states = states_of(4, 60, WIDTH, seed=2) * 2
        frames = [60, 41, 8, 25]
        blocks = [block_means(one, n).astype(np.float16) for one, n in zip(states, frames, strict=True)]
        expected = network(*pad(blocks))[0].numpy()
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"states": states, "num_frames": np.array(frames, np.int64)})[0]
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=0.02)  # fp16 weights and states
