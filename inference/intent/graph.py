"""The intent network as an ONNX graph: pulled base weights + the part we trained and ship.

A BERT-like encoder (:mod:`inference.intent.encoder`) reads a window of the transcript; its upper layers are replaced by
tuned ones where the shipped head has them. The states of the current utterance (mean and maximum) and of what was said
before (mean) are pooled apart, and one hidden layer feeds four heads. :mod:`training.intent.network` is the same in
torch.

Graph inputs: ``input_ids``, ``part`` int64 ``[batch, tokens]`` (:class:`inference.intent.context.TokenBatch`).
Outputs: ``llr`` float32 ``[batch]`` before calibration, ``families``, ``stages`` and ``acts`` float32 logits
``[batch, n]``; a head of an earlier training has no acts.
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
from inference.intent.acts import ACTS
from inference.intent.encoder import EncoderShape
from inference.intent.scores import FAMILIES, STAGES
from inference.weights.safetensors import read_safetensors

HIDDEN = 192
"""Width of the layer that the heads share, in a network trained now."""

LLR_LIMIT = 3.0
"""Natural-log units: one utterance can speak for or against a scam by e^3 = 20 to 1 at most, before calibration."""

BEFORE, CURRENT = 1, 2
"""Values of ``part``; 0 is padding."""

NUM_POOLED = 3
"""Vectors that the hidden layer reads: mean over the current utterance, mean over what was before, maximum over the
current utterance; a head of an earlier training reads the first two alone."""

LOWEST = -1e4
"""Stands for minus infinity under a maximum; float16 holds it."""

LABELS = {"families": FAMILIES, "stages": STAGES, "acts": ACTS}
"""Heads with a logit per label."""

Tensors = Mapping[str, npt.NDArray[Any]]


def build_intent(base_tensors: Tensors, head_path: Path, precision: Precision, encoder: EncoderShape) -> ModelProto:
    """Draw the graph.

    Args:
        base_tensors: published weights by name (``embeddings.…``, ``encoder.layer.0.…``).
        head_path: our ``head.safetensors``: tuned layers under the published names, and ``head.…``.
        precision: ``int8`` for CPU, ``fp16`` for GPU, ``fp32`` for comparison.
        encoder: how much of the base is used.

    Raises:
        WeightsError: a tensor is missing or has a wrong shape.
    """
    head = read_safetensors(head_path)
    tensors = _Merged(base_tensors, head)
    width = tensors.rows("embeddings.position_embeddings.weight").shape[1]
    graph = GraphBuilder(precision)
    input_ids = graph.input("input_ids", np.int64, ["batch", "tokens"])
    part = graph.input("part", np.int64, ["batch", "tokens"])
    is_word = graph.cast(graph.op("Greater", part, graph.constant(np.int64(0))), np.int32)
    x = _embed(graph, tensors, input_ids, encoder)
    for number in range(encoder.num_layers):
        x = _layer(graph, tensors, f"encoder.layer.{number}", x, is_word, encoder)
    hidden_width, num_inputs = tensors.rows("head.hidden.weight").shape
    pooled = [_mean(graph, x, part, CURRENT), _mean(graph, x, part, BEFORE)]
    if num_inputs == NUM_POOLED * width:
        pooled.append(_highest(graph, x, part, CURRENT))
    hidden = graph.op("Concat", *pooled, axis=-1)
    hidden = graph.gelu(_dense(graph, tensors, "head.hidden", hidden, (hidden_width, len(pooled) * width)))
    raw = graph.reshape(_dense(graph, tensors, "head.llr", hidden, (1, hidden_width)), -1)
    limit = graph.floats(LLR_LIMIT)
    llr = graph.op("Mul", graph.op("Tanh", graph.op("Div", raw, limit)), limit)
    graph.output("llr", llr, np.float32, ["batch"])
    known = {name: labels for name, labels in LABELS.items() if f"head.{name}.weight" in head or name != "acts"}
    for name, labels in known.items():
        logits = _dense(graph, tensors, f"head.{name}", hidden, (len(labels), hidden_width))
        graph.output(name, logits, np.float32, ["batch", len(labels)])
    metadata = {
        "precision": precision,
        "head_sha256": hashlib.sha256(head_path.read_bytes()).hexdigest(),
        **{name: ",".join(labels) for name, labels in known.items()},
    }
    return graph.build(metadata)


class _Merged:
    """Tensors of the head before those of the base, with shape checks."""

    def __init__(self, base: Tensors, head: Tensors) -> None:
        self._base, self._head = base, head

    def get(self, name: str, shape: tuple[int | None, ...]) -> npt.NDArray[np.float32]:
        """A tensor of ``shape``, where None is any number."""
        tensor = self._head.get(name)
        if tensor is None:
            tensor = self._base.get(name)
        if tensor is None:
            raise WeightsError(f"scam_intent: tensor {name} is missing; run `scamtap models pull` again")
        if len(tensor.shape) != len(shape) or any(w not in (None, n) for w, n in zip(shape, tensor.shape, strict=True)):
            raise WeightsError(
                f"scam_intent: tensor {name} is {tensor.shape}, expected {shape}; base and head disagree"
            )
        return np.asarray(tensor, np.float32)

    def rows(self, name: str) -> npt.NDArray[np.float32]:
        """A table whose size is the encoder's own affair."""
        tensor = self._head.get(name)
        if tensor is None:
            tensor = self._base.get(name)
        if tensor is None or tensor.ndim != 2:
            raise WeightsError(f"scam_intent: tensor {name} is missing or no table; run `scamtap models pull` again")
        return np.asarray(tensor, np.float32)


def _embed(graph: GraphBuilder, tensors: _Merged, input_ids: str, encoder: EncoderShape) -> str:
    positions = tensors.rows("embeddings.position_embeddings.weight")
    # The encoder was trained on single texts: every token has type 0, whose embedding is folded into the positions.
    positions = positions + tensors.get("embeddings.token_type_embeddings.weight", (None, positions.shape[1]))[0]
    words = graph.embedding(input_ids, tensors.get("embeddings.word_embeddings.weight", (None, positions.shape[1])))
    here = graph.slice(graph.floats(positions), 0, graph.size(input_ids, 1), axis=0)
    x = graph.op("Add", words, here)
    gain, bias = (tensors.get(f"embeddings.LayerNorm.{kind}", (positions.shape[1],)) for kind in ("weight", "bias"))
    return graph.layer_norm(x, gain, bias, encoder.epsilon)


def _dense(graph: GraphBuilder, tensors: _Merged, name: str, x: str, shape: tuple[int | None, int]) -> str:
    weight = tensors.get(f"{name}.weight", shape)
    return graph.linear(x, weight, tensors.get(f"{name}.bias", (weight.shape[0],)))


def _layer(
    graph: GraphBuilder, tensors: _Merged, prefix: str, x: str, is_word: str, encoder: EncoderShape
) -> str:
    width = tensors.rows(f"{prefix}.attention.self.query.weight").shape[0]
    inner_width = tensors.rows(f"{prefix}.intermediate.dense.weight").shape[0]
    square = (width, width)
    query, key, value = (
        _dense(graph, tensors, f"{prefix}.attention.self.{name}", x, square) for name in ("query", "key", "value")
    )
    attended, _, _ = graph.attention(query, key, value, encoder.num_heads, padding_mask=is_word)
    x = _close(graph, tensors, f"{prefix}.attention.output", attended, x, square, encoder)
    inner = graph.gelu(_dense(graph, tensors, f"{prefix}.intermediate.dense", x, (inner_width, width)))
    return _close(graph, tensors, f"{prefix}.output", inner, x, (width, inner_width), encoder)


def _close(
    graph: GraphBuilder,
    tensors: _Merged,
    prefix: str,
    branch: str,
    skip: str,
    shape: tuple[int, int],
    encoder: EncoderShape,
) -> str:
    """Linear, bias, residual and norm: the end of both halves of a BERT layer."""
    y = graph.linear(branch, tensors.get(f"{prefix}.dense.weight", shape))
    gain, bias = (tensors.get(f"{prefix}.LayerNorm.{kind}", shape[:1]) for kind in ("weight", "bias"))
    dense_bias = tensors.get(f"{prefix}.dense.bias", shape[:1])
    return graph.add_norm(y, skip, gain, bias, dense_bias, encoder.epsilon)[0]


def _chosen(graph: GraphBuilder, part: str, which: int) -> str:
    """1 for the tokens of one part, 0 for others, ``[batch, tokens, 1]``."""
    chosen = graph.cast(graph.op("Equal", part, graph.constant(np.int64(which))), graph.dtype)
    return graph.op("Unsqueeze", chosen, graph.ints(-1))


def _mean(graph: GraphBuilder, x: str, part: str, which: int) -> str:
    """Mean over the tokens of one part, ``[batch, width]``; zero where there are none."""
    weight = _chosen(graph, part, which)
    total = graph.op("ReduceSum", graph.op("Mul", x, weight), graph.ints(1), keepdims=0)
    count = graph.op("ReduceSum", weight, graph.ints(1), keepdims=0)
    return graph.op("Div", total, graph.op("Max", count, graph.floats(1)))


def _highest(graph: GraphBuilder, x: str, part: str, which: int) -> str:
    """Maximum over the tokens of one part, ``[batch, width]``: one word may be what is asked for."""
    left_out = graph.op("Mul", graph.op("Sub", graph.floats(1), _chosen(graph, part, which)), graph.floats(LOWEST))
    return graph.op("ReduceMax", graph.op("Add", x, left_out), graph.ints(1), keepdims=0)
