"""The gate's network as an ONNX graph, written from the shipped head.

A window's encoder states, averaged over 100 ms, are projected; a few learned weightings over time and the maximum pool
them; one hidden layer makes a log-likelihood ratio of what they hold. :mod:`training.gate.network` is the same in
torch.

Graph inputs: ``states`` float32 ``[batch, time, width]`` as the model ``speech`` gives them, ``num_frames`` int64
``[batch]``: how many of them are speech and not the silence behind it. Output: ``llr`` float32 ``[batch]``, nats,
before calibration.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from inference.audio import SAMPLE_RATE_HZ
from inference.engine.graph import GraphBuilder
from inference.errors import WeightsError
from inference.weights.safetensors import read_safetensors

FRAME_SAMPLES = SAMPLE_RATE_HZ // 50  # an encoder frame: 20 ms
BLOCK_FRAMES = 5
"""Frames averaged before anything else, 100 ms: a fifth of the work, and no syllable is shorter."""

PROJECTED = 48
NUM_POOLS = 2
HIDDEN = 48
"""Widths of the projection and of the hidden layer, and how many learned weightings over time there are."""

LLR_LIMIT = 3.0
"""Natural-log units that one segment can say at most, as of an utterance (:mod:`inference.intent.graph`)."""

FAR_BELOW = -1e4  # added to what is masked: out of reach of softmax and maximum

STATES, NUM_FRAMES, LLR = "states", "num_frames", "llr"
Floats = npt.NDArray[np.float32]


def num_frames_of(num_samples: int) -> int:
    """Encoder frames that ``num_samples`` of speech fill, the last perhaps in part."""
    return -(-num_samples // FRAME_SAMPLES)


def block_means(states: Floats, num_frames: int) -> Floats:
    """Means over each :data:`BLOCK_FRAMES` of the first ``num_frames`` of ``[time, width]`` -> ``[blocks, width]``."""
    spoken = np.asarray(states[:num_frames], np.float32)
    starts = np.arange(0, len(spoken), BLOCK_FRAMES)
    counts = np.minimum(BLOCK_FRAMES, len(spoken) - starts)[:, None]
    return np.asarray(np.add.reduceat(spoken, starts, axis=0) / counts, np.float32)


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Tensors of head.safetensors for encoder states of ``width``."""
    return {
        "project.weight": (PROJECTED, width),
        "project.bias": (PROJECTED,),
        "pool.weight": (NUM_POOLS, PROJECTED),
        "hidden.weight": (HIDDEN, (NUM_POOLS + 1) * PROJECTED),
        "hidden.bias": (HIDDEN,),
        "llr.weight": (1, HIDDEN),
        "llr.bias": (1,),
    }


def build_gate(head_path: Path, born_with: Mapping[str, str]) -> ModelProto:
    """Draw the graph; always fp32: next to the encoder it costs nothing.

    Args:
        head_path: our ``head.safetensors``.
        born_with: which states it was trained on (``states_precision``, ``states_weights_sha256``): kept in the model,
            compared with the encoder's when it is loaded.

    Raises:
        WeightsError: a tensor is missing or has a wrong shape.
    """
    head = read_head(head_path)
    graph = GraphBuilder("fp32")
    states = graph.input(STATES, np.float32, ["batch", "time", head["project.weight"].shape[1]])
    num_frames = graph.input(NUM_FRAMES, np.int64, ["batch"])
    graph.output(LLR, add_gate(graph, states, num_frames, head), np.float32, ["batch"])
    return graph.build({**born_with, "head_sha256": head_sha256(head_path)})


def add_gate(graph: GraphBuilder, states: str, num_frames: str, head: Mapping[str, Floats]) -> str:
    """Draw it into any graph, in fp32 there too: float32 states and ``num_frames`` -> ``llr``."""

    def linear(x: str, name: str) -> str:
        return graph.op(
            "Add", graph.op("MatMul", x, constant(head[f"{name}.weight"].T)), constant(head[f"{name}.bias"])
        )

    def constant(value: npt.ArrayLike) -> str:
        return graph.constant(value, np.float32)

    blocks, is_heard = _blocks(graph, states, num_frames, head["project.weight"].shape[1])
    x = graph.gelu(linear(blocks, "project"))
    masked = graph.op("Mul", graph.op("Sub", constant(1), is_heard), constant(FAR_BELOW))
    logits = graph.op("Add", graph.op("MatMul", x, constant(head["pool.weight"].T)), masked)
    weights = graph.op("Softmax", graph.op("Transpose", logits, perm=[0, 2, 1]), axis=-1)
    pooled = graph.reshape(graph.op("MatMul", weights, x), 0, NUM_POOLS * PROJECTED)
    loudest = graph.op("ReduceMax", graph.op("Add", x, masked), graph.ints(1), keepdims=0)
    together = graph.op("Concat", pooled, loudest, axis=-1)
    raw = graph.reshape(linear(graph.gelu(linear(together, "hidden")), "llr"), -1)
    limit = constant(LLR_LIMIT)
    return graph.op("Mul", graph.op("Tanh", graph.op("Div", raw, limit)), limit)


def read_head(path: Path) -> dict[str, Floats]:
    """The tensors of our ``head.safetensors``.

    Raises:
        WeightsError: one is missing or has a wrong shape.
    """
    return _checked(read_safetensors(path), path)


def head_sha256(path: Path) -> str:
    """Which head it is."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _checked(head: Mapping[str, npt.NDArray[Any]], path: Path) -> dict[str, Floats]:
    width = head["project.weight"].shape[-1] if "project.weight" in head else 0
    expected = shapes(width)
    for name, shape in expected.items():
        if name not in head or head[name].shape != shape:
            found = f"is {head[name].shape}" if name in head else "is missing"
            raise WeightsError(f"{path}: tensor {name} {found}, expected {shape}; train it again: scamtap-train gate")
    return {name: np.asarray(head[name], np.float32) for name in expected}


def _blocks(graph: GraphBuilder, states: str, num_frames: str, width: int) -> tuple[str, str]:
    """Block means ``[batch, blocks, width]``, zero where nothing is heard, and 1.0 where something is, else 0.0."""
    size = graph.ints(BLOCK_FRAMES)
    time = graph.size(states, 1)
    missing = graph.op("Mod", graph.op("Sub", size, graph.op("Mod", time, size)), size)
    padding = graph.op("Concat", graph.ints(0, 0, 0, 0), missing, graph.ints(0), axis=0)
    padded = graph.op("Pad", states, padding)
    steps = graph.op(
        "Range",
        graph.constant(np.int64(0)),
        graph.op("Squeeze", graph.size(padded, 1)),
        graph.constant(np.int64(1)),
    )
    is_frame = graph.op("Less", graph.op("Unsqueeze", steps, graph.ints(0)), graph.reshape(num_frames, -1, 1))
    frames = graph.reshape(graph.cast(is_frame, np.float32), 0, -1, BLOCK_FRAMES, 1)
    # Where, not a product: a NaN or an infinity behind the speech must not reach into it.
    silent = graph.op("Where", graph.op("Unsqueeze", is_frame, graph.ints(-1)), padded, graph.constant(np.float32(0)))
    grouped = graph.reshape(silent, 0, -1, BLOCK_FRAMES, width)
    count = graph.op("ReduceSum", frames, graph.ints(2), keepdims=0)
    total = graph.op("ReduceSum", grouped, graph.ints(2), keepdims=0)
    means = graph.op("Div", total, graph.op("Max", count, graph.constant(np.float32(1))))
    return means, graph.op("Min", count, graph.constant(np.float32(1)))
