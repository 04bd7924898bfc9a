"""What the decoder knows of the audio: per layer the keys and values that every step attends to.

They are read whole by every step: in fp32 25 kB per state and row, with six callers as much as the decoder's weights.
In int8 graphs they are therefore kept as int8 too, a quarter, and multiplied as integers:

    cross_key_<i>          int8 [batch, heads, head width, time]; so that a query's product reads it in order
    cross_key_scale_<i>    float32 [batch, heads, 1, time]: of each state; attention's own scale is in it
    cross_value_<i>        int8 [batch, heads, time, head width]
    cross_value_scale_<i>  float32 [batch, heads, 1, head width]: of each channel over all time

and in fp16 and fp32 as ``cross_key_<i>`` and ``cross_value_<i>``, both ``[batch, heads, time, head width]``.
Sums of integers have no order: padding and other rows change no bit.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from inference.engine.graph import UINT8_ZERO, Array, GraphBuilder

Shape = list[str | int]

MEMORY_MAX = 63
"""Of the int8 values. Half their range: two products of an unsigned byte with them then fit 16 bits, in which x86
without VNNI adds pairs; and what ONNX Runtime does about that for weights it does not do for values."""

WEIGHT_MAX = 255  # the largest attention weight of a query, as uint8
NOT_HEARD = -1e4  # added to a score: its exponential is zero


def memory_inputs(graph: GraphBuilder, num_layers: int, num_heads: int, head_width: int) -> dict[str, str]:
    """Declare what :func:`add_memory` gives as inputs of ``graph``."""
    return {
        f"cross_{kind}_{i}": graph.input(f"cross_{kind}_{i}", dtype, shape)
        for kind, (dtype, shape) in memory_types(graph, num_heads, head_width).items()
        for i in range(num_layers)
    }


def memory_types(graph: GraphBuilder, num_heads: int, head_width: int) -> dict[str, tuple[npt.DTypeLike, Shape]]:
    """Types and shapes of a layer's memory, by kind."""
    rows: Shape = ["batch", num_heads]
    if graph.precision != "int8":
        return dict.fromkeys(("key", "value"), (graph.dtype, [*rows, "time", head_width]))
    return {
        "key": (np.int8, [*rows, head_width, "time"]),
        "key_scale": (np.float32, [*rows, 1, "time"]),
        "value": (np.int8, [*rows, "time", head_width]),
        "value_scale": (np.float32, [*rows, 1, head_width]),
    }


def add_memory(
    graph: GraphBuilder, states: str, keys: Sequence[Array], values: Sequence[Array], head_width: int
) -> dict[str, str]:
    """Encoder ``states [batch, time, width]`` -> what every decoder layer keeps of them.

    Args:
        graph: to add to.
        states: of the encoder.
        keys: weight and bias of the layers' key projections, one below the other.
        values: likewise.
        head_width: channels per attention head.
    """
    num_layers = keys[0].shape[0] // keys[0].shape[1]
    # All layers' projections in one product, then one piece per layer: the decoder uses them where they lie.
    key, value = (
        graph.reshape(graph.linear(states, *pair), 0, 0, -1, head_width) for pair in (keys, values)
    )  # [batch, time, layers * heads, head width]
    by_head = graph.op("Transpose", value, perm=[0, 2, 1, 3])
    if graph.precision != "int8":
        found = {"key": graph.op("Transpose", key, perm=[0, 2, 1, 3]), "value": by_head}
    else:
        key, key_scale = _quantise(graph, key, axis=-1)
        key_scale = graph.op("Mul", key_scale, graph.floats(head_width**-0.5))
        key, key_scale = (graph.op("Transpose", x, perm=[0, 2, 3, 1]) for x in (key, key_scale))
        value, value_scale = _quantise(graph, by_head, axis=2)
        found = {"key": key, "key_scale": key_scale, "value": value, "value_scale": value_scale}
    out: dict[str, str] = {}
    for kind, stacked in found.items():
        pieces = graph.split(stacked, num_layers, axis=1)
        out |= {f"cross_{kind}_{i}": piece for i, piece in enumerate(pieces)}
    return out


def _quantise(graph: GraphBuilder, x: str, axis: int) -> tuple[str, str]:
    """Symmetric int8 of ``x`` and its scale, one along ``axis``."""
    peak = graph.op("ReduceMax", graph.op("Abs", x), graph.ints(axis), keepdims=1)
    # The floor keeps what is all zero finite: 0 / tiny = 0.
    scale = graph.op("Max", graph.op("Mul", peak, graph.floats(1 / MEMORY_MAX)), graph.floats(1e-12))
    return graph.op("QuantizeLinear", graph.op("Div", x, scale), graph.floats(1), graph.constant(np.int8(0))), scale


class Attention:
    """Attends to the memory in one step's graph.

    Args:
        graph: of the step.
        kept: ``cross_*`` of every layer.
        heard: int32 ``[batch, time]``, 1 where the time is of the row; ``""``: all of it is.
        num_heads: ``width = num_heads * head_width``.
        head_width: channels per head.
    """

    def __init__(
        self, graph: GraphBuilder, kept: Mapping[str, str], heard: str, num_heads: int, head_width: int
    ) -> None:
        self._graph, self._kept, self._heard = graph, kept, heard
        self._num_heads, self._head_width = num_heads, head_width
        self._mask = ""
        if heard and graph.precision == "int8":
            missing = graph.op("Sub", graph.cast(heard, np.float32), graph.floats(1))
            far_below = graph.op("Mul", missing, graph.floats(-NOT_HEARD))
            self._mask = graph.op("Unsqueeze", far_below, graph.ints(1, 2))

    def __call__(self, query: str, layer: int) -> str:
        """What ``query [batch, steps, width]`` finds in the memory of ``layer``; same shape."""
        graph = self._graph
        kinds = memory_types(graph, self._num_heads, self._head_width)
        kept = {kind: self._kept[f"cross_{kind}_{layer}"] for kind in kinds}
        if graph.precision != "int8":
            mixed, _, _ = graph.attention(query, kept["key"], kept["value"], self._num_heads, padding_mask=self._heard)
            return mixed
        heads = graph.op("Transpose", graph.reshape(query, 0, 0, -1, self._head_width), perm=[0, 2, 1, 3])
        rows, scale = graph.quantise(heads)
        zero = graph.constant(np.uint8(UINT8_ZERO))
        products = graph.cast(graph.op("MatMulInteger", rows, kept["key"], zero), np.float32)
        scores = graph.op("Mul", graph.op("Mul", products, scale), kept["key_scale"])
        if self._mask:
            scores = graph.op("Add", scores, self._mask)
        loudest = graph.op("ReduceMax", scores, graph.ints(-1), keepdims=1)
        weights = graph.op(
            "QuantizeLinear",
            graph.op("Exp", graph.op("Sub", scores, loudest)),
            graph.floats(1 / WEIGHT_MAX),
            graph.constant(np.uint8(0)),
        )
        mixed = graph.cast(graph.op("MatMulInteger", weights, kept["value"]), np.float32)
        # Divided by the weights as rounded, not as they were: so they add up to one.
        total = graph.op("ReduceSum", graph.cast(weights, np.float32), graph.ints(-1), keepdims=1)
        mixed = graph.op("Div", graph.op("Mul", mixed, kept["value_scale"]), total)
        return graph.reshape(graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, self._num_heads * self._head_width)
