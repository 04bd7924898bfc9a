"""Kokoro's published 8-bit graph -> one that does the same in half the CPU time, written once beside it.

Where the time goes as published, of one sentence on one core: two thirds in ``ConvInteger`` (it copies every window of
its input, and multiplies two unsigned factors, for which processors have no instruction), a fifth in what surrounds the
convolutions element by element. Here

- the vocoder's convolutions, which are fed by a snake activation, are ``QLinearConv``: signed weights, no copied
  windows. Weights and inputs keep their 8 bits. Results are 8 bits too, each channel in its own range, which is found
  while running: one result in 8 or 32 is computed first (:func:`_swift`);
- all other convolutions are float: they are short, and their rounding was most of the difference to the float model;
- a normalisation, written as nine operators, is one.

Speech is as long as before to the sample, and nearer to that of the float model than the published graph's is.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from inference.errors import ScamTapError
from training.voice.editor import Array, GraphEditor, attributes

VERSION = 1
"""Part of the file's name and of what the speech is remembered by: raise it with every change of what is computed."""

UINT8_ZERO = 128
INT8_MAX = 127
PROBED = 1 << 19  # stride x squared output channels: a vocoder has the fewer channels, the longer the signal
HEADROOM = 1.4  # of a channel's range over the largest result probed; what lies beyond is clipped
DEVIATIONS = 5.0  # the range in root mean squares at least: of a short word only some twenty results are probed
TINY = 1e-6  # of scales, lest silence be divided by zero
_CONVOLUTION = ("dilations", "group", "kernel_shape", "pads", "strides")


def fast_graph(source: Path) -> Path:
    """The rewritten graph of ``source``, beside it; made by the first call, in a few seconds.

    Raises:
        ScamTapError: it cannot be written there.
    """
    path = source.with_name(f"{source.stem}.fast-{VERSION}.onnx")
    if path.is_file():
        return path
    model = rewrite(onnx.load(source))
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        os.close(handle)
        part = Path(name)
        try:
            onnx.save(model, part)
            part.replace(path)  # whole or not at all, and two processes do not mind each other
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ScamTapError(f"cannot write {path}: {error.strerror}; free some space") from error
    return path


def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
    """Edit ``model`` in place as this module says; patterns that are not found stay as they are."""
    graph = GraphEditor(model)
    for node in graph.nodes("ConvInteger"):
        _convolution(graph, node)
    for node in graph.nodes("Div"):
        _normalisation(graph, node)
    return graph.finish()


def _convolution(graph: GraphEditor, node: Any) -> None:
    """``DynamicQuantizeLinear, ConvInteger, [Add of a quantised bias,] Cast, Mul`` -> a quicker convolution."""
    quantise = graph.producer(node.input[0], "DynamicQuantizeLinear")
    weight, zero = graph.tensor(node.input[1]), graph.tensor(node.input[3])
    last, bias = node, None
    if (add := graph.consumer(node.output[0], "Add")) is not None:
        last, bias = add, _bias(graph, add.input[1])
        if bias is None:
            return
    cast = graph.consumer(last.output[0], "Cast")
    scaled = None if cast is None else graph.consumer(cast.output[0], "Mul")
    product = None if scaled is None else graph.producer(scaled.input[1], "Mul")
    if quantise is None or scaled is None or product is None or weight is None or zero is None or zero.size != 1:
        return
    scales = [scale for scale in map(graph.tensor, product.input) if scale is not None and scale.size == 1]
    if len(scales) != 1:
        return
    signed = weight.astype(np.int16) - int(zero.item())
    options = {key: value for key, value in attributes(node).items() if key in _CONVOLUTION}
    x, y, scale = quantise.input[0], scaled.output[0], float(scales[0].item())
    if _is_snake(graph, x) and np.abs(signed).max() <= INT8_MAX:
        raw = _swift(graph, x, signed.astype(np.int8), scale, options, "" if bias is not None else y)
        if bias is not None:
            graph.emit("Add", [raw, graph.constant(bias.reshape(1, -1, 1), np.float32)], y)
    else:
        inputs = [x, graph.constant(signed * np.float32(scale), np.float32)]
        graph.emit("Conv", inputs + ([] if bias is None else [graph.constant(bias, np.float32)]), y, **options)


def _bias(graph: GraphEditor, value: str) -> Array | None:
    """The float bias of which ``value`` is the quantised one, made by ``Div, Floor, Cast, Reshape``."""
    for op_type in ("Reshape", "Cast", "Floor", "Div"):
        node = graph.producer(value, op_type)
        if node is None:
            return None
        value = node.input[0]
    return graph.tensor(value)


def _is_snake(graph: GraphEditor, value: str) -> bool:
    """Whether ``value`` is ``x + sin(a x)^2 / a`` (Ziyin et al., 2020)."""
    add = graph.producer(value, "Add")
    parts = [] if add is None else [graph.producer(part, "Mul") for part in add.input]
    squares = [graph.producer(factor, "Pow") for part in parts if part is not None for factor in part.input]
    return any(graph.producer(square.input[0], "Sin") is not None for square in squares if square is not None)


def _swift(graph: GraphEditor, x: str, weight: Array, scale: float, options: dict[str, Any], into: str) -> str:
    """Convolve ``x`` with ``weight * scale``, int8 ``[outputs, inputs, taps]``, without bias.

    ``QLinearConv`` takes the fast kernel where zero points are constants, so inputs are symmetric around 128. Their
    scale stays outside: inputs and outputs are given scale 1, and each channel's weights the factor that brings its
    sums into 8 bits.
    """
    num_outputs = len(weight)
    zero, one = graph.constant(UINT8_ZERO, np.uint8), graph.constant(1, np.float32)
    lowest = graph.emit("Neg", [graph.emit("ReduceMin", [x], keepdims=0)])
    peak = graph.emit("Max", [graph.emit("ReduceMax", [x], keepdims=0), lowest, graph.constant(TINY, np.float32)])
    step = graph.emit("Mul", [peak, graph.constant(1 / INT8_MAX, np.float32)])
    q = graph.emit("QuantizeLinear", [x, step, zero])

    probing = {**options, "strides": [max(1, PROBED // num_outputs**2)]}
    shifted = graph.constant(weight.astype(np.int16) + UINT8_ZERO, np.uint8)
    probed = graph.emit("ConvInteger", [q, shifted, zero, zero], **probing)
    sums = graph.emit("Cast", [probed], to=onnx.TensorProto.FLOAT)
    axes = graph.constant([0, 2], np.int64)
    largest = graph.emit("ReduceMax", [graph.emit("Abs", [sums]), axes], keepdims=0)
    largest = graph.emit("Mul", [largest, graph.constant(HEADROOM, np.float32)])
    power = graph.emit("ReduceMean", [graph.emit("Mul", [sums, sums]), axes], keepdims=0)
    usual = graph.emit("Mul", [graph.emit("Sqrt", [power]), graph.constant(DEVIATIONS, np.float32)])
    largest = graph.emit("Max", [largest, usual, graph.constant(INT8_MAX, np.float32)])

    factors = graph.emit("Div", [graph.constant(INT8_MAX, np.float32), largest])
    zeros = graph.constant(np.zeros(num_outputs), np.int8)
    inputs = [q, one, zero, graph.constant(weight, np.int8), factors, zeros, one, zero]
    out = graph.emit("QLinearConv", inputs, **options)
    steps = graph.emit("Mul", [graph.emit("Mul", [largest, step]), graph.constant(scale / INT8_MAX, np.float32)])
    return graph.emit(
        "DequantizeLinear", [out, steps, graph.constant(np.full(num_outputs, UINT8_ZERO), np.uint8)], into, axis=1
    )


def _normalisation(graph: GraphEditor, divide: Any) -> None:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift`` over time -> ``InstanceNormalization``."""
    centred, root = graph.producer(divide.input[0], "Sub"), graph.producer(divide.input[1], "Sqrt")
    variance = None if root is None else graph.producer(root.input[0], "Add")
    if centred is None or variance is None or graph.producer(centred.input[1], "ReduceMean") is None:
        return
    epsilons = [array for array in map(graph.tensor, variance.input) if array is not None and array.size == 1]
    if len(epsilons) != 1:
        return
    flat = graph.constant([-1], np.int64)
    for scaled in graph.consumers(divide.output[0]):
        shifted = graph.consumer(scaled.output[0], "Add") if scaled.op_type == "Mul" else None
        if shifted is None:
            continue
        (scale,) = (value for value in scaled.input if value != divide.output[0])
        (shift,) = (value for value in shifted.input if value != scaled.output[0])
        inputs = [centred.input[0], *(graph.emit("Reshape", [value, flat]) for value in (scale, shift))]
        graph.emit("InstanceNormalization", inputs, shifted.output[0], epsilon=float(epsilons[0].item()))
