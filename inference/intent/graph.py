"""The intent network as an ONNX graph: pulled base weights + the part we trained and ship.

A BERT-like encoder (:mod:`inference.intent.encoder`) reads an utterance by itself; its upper layers are replaced by
tuned ones where the shipped head has them. An utterance is then two vectors, mean and maximum over its tokens. The
current one looks back at the means of those before it (a layer of a transformer, computed for it alone), and one hidden
layer feeds four heads. An utterance is so encoded once in a call, not once for every window that it stands in, in
training as in service: its mean comes out, and is given again where it is what was said before
(:mod:`inference.intent.reader`). :mod:`training.intent.network` is the same in torch.

Graph inputs: ``input_ids``, ``part`` int64 ``[batch, tokens]`` (:class:`inference.intent.context.TokenBatch`) of the
current utterances; ``before`` float32 ``[batch, CONTEXT_UTTERANCES, width]``, means of those before, the latest first,
and ``num_before`` int64 ``[batch]``, how many. A model that reads the window as one text has the first two alone.
Outputs: ``llr`` float32 ``[batch]`` before calibration, ``families``, ``stages`` and ``acts`` float32 logits
``[batch, n]``, ``mean`` float32 ``[batch, width]``.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from inference.engine.graph import GraphBuilder, Precision
from inference.errors import WeightsError
from inference.intent.acts import ACTS
from inference.intent.context import CONTEXT_UTTERANCES
from inference.intent.encoder import EncoderShape
from inference.intent.scores import FAMILIES, STAGES
from inference.weights.mpnet import DISTANCE_BIAS, MAX_DISTANCE, buckets_of
from inference.weights.safetensors import read_safetensors

HIDDEN = 192
"""Width of the layer that the heads share."""

LOOK = 256
"""Width in which the current utterance looks back."""

LOOK_HEADS = 4
LOOK_INNER = 2 * LOOK

LOOK_READS = ("current", "query", "key", "value")
"""Dense layers of the look back that read the means of utterances."""

LOOK_DENSE = {"out": (LOOK, LOOK), "inner": (LOOK_INNER, LOOK), "outer": (LOOK, LOOK_INNER)}
"""The others: ``[outputs, inputs]``."""

LOOK_NORMS = ("norm", "final_norm")

LLR_LIMIT = 3.0
"""Natural-log units: one utterance can speak for or against a scam by e^3 = 20 to 1 at most, before calibration."""

MAX_UTTERANCES = 1 + CONTEXT_UTTERANCES

TYPES = "embeddings.token_type_embeddings.weight"

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
    if "head.look.query.weight" in head and "head.look.current.weight" not in head:
        raise WeightsError(f"{head_path}: is a head of an earlier version of ScamTap; train it again")
    tensors = _Merged(base_tensors, head)
    graph = GraphBuilder(precision)
    input_ids = graph.input("input_ids", np.int64, ["batch", "tokens"])
    part = graph.input("part", np.int64, ["batch", "tokens"])
    if encoder.reading == "window":
        pooled = _read_window(graph, tensors, input_ids, part, encoder)
    else:
        pooled = _read_utterance(graph, tensors, input_ids, part, encoder)
        width = tensors.rows("embeddings.position_embeddings.weight").shape[1]
        graph.output("mean", graph.cast(pooled[0], np.float32), np.float32, ["batch", width])
    hidden = graph.op("Concat", *pooled, axis=-1)
    weight = tensors.rows("head.hidden.weight")
    hidden = graph.gelu(_head(graph, tensors, "hidden", hidden, weight.shape))
    raw = graph.reshape(_head(graph, tensors, "llr", hidden, (1, weight.shape[0])), -1)
    limit = graph.floats(LLR_LIMIT)
    llr = graph.op("Mul", graph.op("Tanh", graph.op("Div", raw, limit)), limit)
    graph.output("llr", llr, np.float32, ["batch"])
    known = {name: labels for name, labels in LABELS.items() if name != "acts" or f"head.{name}.weight" in head}
    for name, labels in known.items():
        logits = _head(graph, tensors, name, hidden, (len(labels), weight.shape[0]))
        graph.output(name, logits, np.float32, ["batch", len(labels)])
    metadata = {
        "precision": precision,
        "head_sha256": hashlib.sha256(head_path.read_bytes()).hexdigest(),
        "reading": encoder.reading,
        **{name: ",".join(labels) for name, labels in known.items()},
    }
    return graph.build(metadata)


class _Merged:
    """Tensors of the head before those of the base, with shape checks."""

    def __init__(self, base: Tensors, head: Tensors) -> None:
        self._base, self._head = base, head

    def __contains__(self, name: str) -> bool:
        return name in self._head or name in self._base

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


def _read_utterance(
    graph: GraphBuilder, tensors: _Merged, input_ids: str, part: str, encoder: EncoderShape
) -> tuple[str, ...]:
    """What the heads read: mean of the current utterance, its maximum, and what it finds in those before it."""
    width = tensors.rows("embeddings.position_embeddings.weight").shape[1]
    before = graph.input("before", np.float32, ["batch", CONTEXT_UTTERANCES, width])
    num_before = graph.input("num_before", np.int64, ["batch"])
    x, is_word = _encode(graph, tensors, input_ids, part, encoder)
    inside = graph.op("Unsqueeze", graph.cast(is_word, graph.dtype), graph.ints(-1))
    count = graph.op("Max", graph.op("ReduceSum", inside, graph.ints(1), keepdims=0), graph.floats(1))
    mean = graph.op("Div", graph.op("ReduceSum", graph.op("Mul", x, inside), graph.ints(1), keepdims=0), count)
    highest = graph.op("ReduceMax", graph.op("Add", x, _unless(graph, inside)), graph.ints(1), keepdims=0)
    places = graph.constant(np.arange(-1, CONTEXT_UTTERANCES, dtype=np.int64))  # the current one is always there
    is_there = graph.op("Less", places, graph.op("Unsqueeze", num_before, graph.ints(1)))
    looked = _look_back(graph, tensors, mean, graph.cast(before, graph.dtype), graph.cast(is_there, graph.dtype), width)
    return mean, highest, looked


def _encode(graph: GraphBuilder, tensors: _Merged, input_ids: str, part: str, encoder: EncoderShape) -> tuple[str, str]:
    """States of every token ``[batch, tokens, width]``, and int32 ``[batch, tokens]``: 1 where there is one."""
    is_word = graph.cast(graph.op("Greater", part, graph.constant(np.int64(0))), np.int32)
    length = graph.reshape(graph.size(input_ids, 1))
    places = graph.op("Range", graph.constant(np.int64(0)), length, graph.constant(np.int64(1)))
    x = _embed(graph, tensors, input_ids, places, encoder)
    nearness = _nearness(graph, tensors, places, encoder)
    for number in range(encoder.num_layers):
        x = _layer(graph, tensors, f"encoder.layer.{number}", x, (is_word, nearness), encoder)
    return x, is_word


def _read_window(
    graph: GraphBuilder, tensors: _Merged, input_ids: str, part: str, encoder: EncoderShape
) -> tuple[str, ...]:
    """All of the window as one text: means over the current utterance (part 2) and over what was before (part 1)."""
    x, _ = _encode(graph, tensors, input_ids, part, encoder)
    means = _means(graph, x, part)
    width = tensors.rows("embeddings.position_embeddings.weight").shape[1]
    before, current = (graph.reshape(graph.slice(means, i, i + 1, axis=1), 0, width) for i in range(2))
    return current, before


def _nearness(graph: GraphBuilder, tensors: _Merged, places: str, encoder: EncoderShape) -> str:
    """MPNet's bias on how near two tokens are, ``[1, heads, tokens, tokens]``; empty for an encoder without one."""
    if DISTANCE_BIAS not in tensors:
        return ""
    table = tensors.get(DISTANCE_BIAS, (None, encoder.num_heads))
    # By distance, from the farthest left to the farthest right that still makes a difference.
    by_distance = table[buckets_of(2 * MAX_DISTANCE + 1, len(table))[MAX_DISTANCE]]
    distance = graph.op(
        "Sub", graph.op("Unsqueeze", places, graph.ints(0)), graph.op("Unsqueeze", places, graph.ints(1))
    )
    limits = (graph.constant(np.int64(-MAX_DISTANCE)), graph.constant(np.int64(MAX_DISTANCE)))
    index = graph.op("Add", graph.op("Clip", distance, *limits), graph.constant(np.int64(MAX_DISTANCE)))
    bias = graph.op("Gather", graph.floats(by_distance), index)
    return graph.op("Unsqueeze", graph.op("Transpose", bias, perm=[2, 0, 1]), graph.ints(0))


def _unless(graph: GraphBuilder, holds: str) -> str:
    """0 where ``holds`` is 1, nearly minus infinity where it is 0."""
    return graph.op("Mul", graph.op("Sub", graph.floats(1), holds), graph.floats(LOWEST))


def _embed(graph: GraphBuilder, tensors: _Merged, input_ids: str, places: str, encoder: EncoderShape) -> str:
    positions = tensors.rows("embeddings.position_embeddings.weight")
    if TYPES in tensors:
        # It was trained on single texts: every token has type 0, whose embedding is folded into the positions.
        positions = positions + tensors.get(TYPES, (None, positions.shape[1]))[0]
    words = graph.embedding(input_ids, tensors.get("embeddings.word_embeddings.weight", (None, positions.shape[1])))
    x = graph.op("Add", words, graph.op("Gather", graph.floats(positions), places))
    gain, bias = (tensors.get(f"embeddings.LayerNorm.{kind}", (positions.shape[1],)) for kind in ("weight", "bias"))
    return graph.layer_norm(x, gain, bias, encoder.epsilon)


def _dense(graph: GraphBuilder, tensors: _Merged, name: str, x: str, shape: tuple[int | None, int]) -> str:
    weight = tensors.get(f"{name}.weight", shape)
    return graph.linear(x, weight, tensors.get(f"{name}.bias", (weight.shape[0],)))


def _head(graph: GraphBuilder, tensors: _Merged, name: str, x: str, shape: tuple[int | None, ...]) -> str:
    """A dense layer of a head, in floats where the encoder is int8.

    Sentence encoders put all texts into a narrow cone: what tells them apart is small beside what they share, and rows
    of eight bits lose it (an AUC of .93 became .45). Heads are too small for eight bits to save anything.
    """
    weight = tensors.get(f"head.{name}.weight", shape)
    bias = tensors.get(f"head.{name}.bias", (weight.shape[0],))
    return graph.op("Add", graph.op("MatMul", x, graph.floats(weight.T)), graph.floats(bias))


def _layer(
    graph: GraphBuilder, tensors: _Merged, prefix: str, x: str, mask: tuple[str, str], encoder: EncoderShape
) -> str:
    width = tensors.rows(f"{prefix}.attention.self.query.weight").shape[0]
    inner_width = tensors.rows(f"{prefix}.intermediate.dense.weight").shape[0]
    square = (width, width)
    query, key, value = (
        _dense(graph, tensors, f"{prefix}.attention.self.{name}", x, square) for name in ("query", "key", "value")
    )
    attended, _, _ = graph.attention(query, key, value, encoder.num_heads, padding_mask=mask[0], bias=mask[1])
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


def _means(graph: GraphBuilder, x: str, part: str) -> str:
    """Mean over the tokens of both parts of a window, ``[batch, 2, width]``."""
    numbers = graph.constant(np.array([1, 2], np.int64).reshape(1, -1, 1))
    chosen = graph.cast(graph.op("Equal", graph.op("Unsqueeze", part, graph.ints(1)), numbers), graph.dtype)
    count = graph.op("ReduceSum", chosen, graph.ints(2), keepdims=1)
    return graph.op("Div", graph.op("MatMul", chosen, x), graph.op("Max", count, graph.floats(1)))


def _look_back(graph: GraphBuilder, tensors: _Merged, current: str, before: str, is_there: str, width: int) -> str:
    """What the current utterance finds in itself and those before it, ``[batch, LOOK]``.

    Args:
        graph: is drawn in.
        tensors: of the head.
        current: ``[batch, width]``.
        before: ``[batch, CONTEXT_UTTERANCES, width]``.
        is_there: ``[batch, 1 + CONTEXT_UTTERANCES]``, 1 or 0, the current one first.
        width: of the encoder.
    """
    current = graph.op("Unsqueeze", current, graph.ints(1))
    window = graph.op("Concat", current, before, axis=1)
    skip, query = (_head(graph, tensors, f"look.{name}", current, (LOOK, width)) for name in ("current", "query"))
    keys, values = (_head(graph, tensors, f"look.{name}", window, (LOOK, width)) for name in ("key", "value"))
    keys = graph.op("Add", keys, graph.floats(tensors.get("head.look.age", (MAX_UTTERANCES, LOOK))))

    def by_head(x: str, rows: int) -> str:
        return graph.op("Transpose", graph.reshape(x, 0, rows, LOOK_HEADS, LOOK // LOOK_HEADS), perm=[0, 2, 1, 3])

    def norm(x: str, name: str) -> str:
        gain, bias = (tensors.get(f"head.look.{name}.{kind}", (LOOK,)) for kind in ("weight", "bias"))
        return graph.layer_norm(x, gain, bias)

    keys = graph.op("Transpose", by_head(keys, MAX_UTTERANCES), perm=[0, 1, 3, 2])
    scores = graph.op("MatMul", by_head(query, 1), keys)
    scores = graph.op("Mul", scores, graph.floats(1 / math.sqrt(LOOK // LOOK_HEADS)))
    unseen = _unless(graph, graph.op("Unsqueeze", is_there, graph.ints(1, 2)))
    shares = graph.op("Softmax", graph.op("Add", scores, unseen), axis=-1)
    found = graph.reshape(graph.op("MatMul", shares, by_head(values, MAX_UTTERANCES)), 0, 1, LOOK)
    x = graph.op("Add", skip, _head(graph, tensors, "look.out", found, LOOK_DENSE["out"]))
    inner = graph.gelu(_head(graph, tensors, "look.inner", norm(x, LOOK_NORMS[0]), LOOK_DENSE["inner"]))
    x = graph.op("Add", x, _head(graph, tensors, "look.outer", inner, LOOK_DENSE["outer"]))
    return graph.reshape(norm(x, LOOK_NORMS[1]), 0, LOOK)
