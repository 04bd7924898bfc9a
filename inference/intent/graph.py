"""The intent network as an ONNX graph: pulled base weights + the small part we trained and ship.

all-MiniLM-L6-v2 (BERT, 6 layers of 384, Apache-2.0) reads a window of the transcript; its upper layers are replaced by
tuned ones where the shipped head has them. The states of the current utterance and of what was said before are pooled
apart, and one hidden layer feeds three heads. :mod:`training.intent.network` is the same in torch.

Graph inputs: ``input_ids``, ``part`` int64 ``[batch, tokens]`` (:class:`inference.intent.context.TokenBatch`).
Outputs: ``llr`` float32 ``[batch]`` before calibration, ``families`` and ``stages`` float32 logits ``[batch, n]``.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from inference.engine.graph import GraphBuilder, Precision
from inference.errors import WeightsError
from inference.intent.scores import FAMILIES, STAGES
from inference.weights.safetensors import read_safetensors

WIDTH = 384
NUM_LAYERS = 6
NUM_HEADS = 12
EPSILON = 1e-12
HIDDEN = 128
"""Width of the layer that the heads share."""

LLR_LIMIT = 3.0
"""Natural-log units: one utterance can speak for or against a scam by e^3 = 20 to 1 at most, before calibration."""

BEFORE, CURRENT = 1, 2
"""Values of ``part``; 0 is padding."""

Tensors = Mapping[str, npt.NDArray[Any]]


def build_intent(base_tensors: Tensors, head_path: Path, precision: Precision) -> ModelProto:
    """Draw the graph.

    Args:
        base_tensors: published weights by name (``embeddings.…``, ``encoder.layer.0.…``).
        head_path: our ``head.safetensors``: tuned layers under the published names, and ``head.…``.
        precision: ``int8`` for CPU, ``fp16`` for GPU, ``fp32`` for comparison.

    Raises:
        WeightsError: a tensor is missing or has a wrong shape.
    """
    head = read_safetensors(head_path)
    tensors = _Merged(base_tensors, head)
    graph = GraphBuilder(precision)
    input_ids = graph.input("input_ids", np.int64, ["batch", "tokens"])
    part = graph.input("part", np.int64, ["batch", "tokens"])
    is_word = graph.cast(graph.op("Greater", part, graph.constant(np.int64(0))), np.int32)
    x = _embed(graph, tensors, input_ids)
    for number in range(NUM_LAYERS):
        x = _layer(graph, tensors, f"encoder.layer.{number}", x, is_word)
    pooled = [_mean(graph, x, part, which) for which in (CURRENT, BEFORE)]
    hidden = graph.op("Concat", *pooled, axis=-1)
    hidden = graph.gelu(_dense(graph, tensors, "head.hidden", hidden, (HIDDEN, 2 * WIDTH)))
    raw = graph.reshape(_dense(graph, tensors, "head.llr", hidden, (1, HIDDEN)), -1)
    limit = graph.floats(LLR_LIMIT)
    llr = graph.op("Mul", graph.op("Tanh", graph.op("Div", raw, limit)), limit)
    graph.output("llr", llr, np.float32, ["batch"])
    for name, labels in (("families", FAMILIES), ("stages", STAGES)):
        logits = _dense(graph, tensors, f"head.{name}", hidden, (len(labels), HIDDEN))
        graph.output(name, logits, np.float32, ["batch", len(labels)])
    metadata = {
        "precision": precision,
        "families": ",".join(FAMILIES),
        "stages": ",".join(STAGES),
        "head_sha256": hashlib.sha256(head_path.read_bytes()).hexdigest(),
    }
    return graph.build(metadata)


class _Merged:
    """Tensors of the head before those of the base, with shape checks."""

    def __init__(self, base: Tensors, head: Tensors) -> None:
        self._base, self._head = base, head

    def get(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        tensor = self._head.get(name)
        if tensor is None:
            tensor = self._base.get(name)
        if tensor is None:
            raise WeightsError(f"scam_intent: tensor {name} is missing; run `scamtap models pull` again")
        if tensor.shape != shape:
            raise WeightsError(
                f"scam_intent: tensor {name} is {tensor.shape}, expected {shape}; base and head disagree"
            )
        return np.asarray(tensor, np.float32)

    def rows(self, name: str) -> npt.NDArray[np.float32]:
        """A table whose number of rows is the base model's own affair."""
        tensor = self._base.get(name)
        if tensor is None or tensor.ndim != 2 or tensor.shape[1] != WIDTH:
            raise WeightsError(f"scam_intent: base tensor {name} is missing or not [rows, {WIDTH}]")
        return np.asarray(tensor, np.float32)


def _embed(graph: GraphBuilder, tensors: _Merged, input_ids: str) -> str:
    positions = tensors.rows("embeddings.position_embeddings.weight")
    # The encoder was trained on single texts: every token has type 0, whose embedding is folded into the positions.
    positions = positions + tensors.rows("embeddings.token_type_embeddings.weight")[0]
    words = graph.embedding(input_ids, tensors.rows("embeddings.word_embeddings.weight"))
    here = graph.slice(graph.floats(positions), 0, graph.size(input_ids, 1), axis=0)
    x = graph.op("Add", words, here)
    gain, bias = (tensors.get(f"embeddings.LayerNorm.{kind}", (WIDTH,)) for kind in ("weight", "bias"))
    return graph.layer_norm(x, gain, bias, EPSILON)


def _dense(graph: GraphBuilder, tensors: _Merged, name: str, x: str, shape: tuple[int, int]) -> str:
    return graph.linear(x, tensors.get(f"{name}.weight", shape), tensors.get(f"{name}.bias", shape[:1]))


def _layer(graph: GraphBuilder, tensors: _Merged, prefix: str, x: str, is_word: str) -> str:
    square = (WIDTH, WIDTH)
    query, key, value = (
        _dense(graph, tensors, f"{prefix}.attention.self.{name}", x, square) for name in ("query", "key", "value")
    )
    attended, _, _ = graph.attention(query, key, value, NUM_HEADS, padding_mask=is_word)
    x = _close(graph, tensors, f"{prefix}.attention.output", attended, x, square)
    inner = graph.gelu(_dense(graph, tensors, f"{prefix}.intermediate.dense", x, (4 * WIDTH, WIDTH)))
    return _close(graph, tensors, f"{prefix}.output", inner, x, (WIDTH, 4 * WIDTH))


def _close(graph: GraphBuilder, tensors: _Merged, prefix: str, branch: str, skip: str, shape: tuple[int, int]) -> str:
    """Linear, bias, residual and norm: the end of both halves of a BERT layer."""
    y = graph.linear(branch, tensors.get(f"{prefix}.dense.weight", shape))
    gain, bias = (tensors.get(f"{prefix}.LayerNorm.{kind}", (WIDTH,)) for kind in ("weight", "bias"))
    dense_bias = tensors.get(f"{prefix}.dense.bias", (WIDTH,))
    return graph.add_norm(y, skip, gain, bias, dense_bias, EPSILON)[0]


def _mean(graph: GraphBuilder, x: str, part: str, which: int) -> str:
    """Mean over the tokens of one part, ``[batch, width]``; zero where there are none."""
    chosen = graph.cast(graph.op("Equal", part, graph.constant(np.int64(which))), graph.dtype)
    weight = graph.op("Unsqueeze", chosen, graph.ints(-1))
    total = graph.op("ReduceSum", graph.op("Mul", x, weight), graph.ints(1), keepdims=0)
    count = graph.op("ReduceSum", weight, graph.ints(1), keepdims=0)
    return graph.op("Div", total, graph.op("Max", count, graph.floats(1)))
