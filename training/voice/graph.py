"""Kokoro's published 8-bit graph -> one that does the same in half the CPU time, written once beside it.

Where the time goes as published, of one sentence on one core: two thirds in ``ConvInteger`` (it copies every window of
its input, and multiplies two unsigned factors, for which processors have no instruction), a quarter in what lies
between the convolutions, element by element. Here

- the vocoder's convolutions are ``QLinearConv``: signed weights, no copied windows. Weights and inputs keep their
  8 bits. Results are 8 bits too, each channel in its own range, which is found while running: one result in 16 or 64 is
  computed first (:func:`_swift`);
- what feeds them, a normalisation and a snake activation, maps each channel's samples one by one: it is looked up in a
  table of 256 entries for each channel, made anew for each sentence (:func:`_looked_up`);
- all other convolutions are float: they are short, and their rounding was most of the difference to the float model;
- all other normalisations, written as nine operators, are one.

Speech has the same number of samples (before silence is trimmed), and is nearer to what these weights say in float:
log-mel distance 1.2 to 2.0 dB where the published graph is 1.4 to 2.2 dB off, over five sentences.
"""

import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from inference.errors import ScamTapError
from training.voice.editor import Array, GraphEditor, attributes

VERSION = 2
"""Part of the file's name and of what the speech is remembered by: raise it with every change of what is computed."""

UINT8_ZERO = 128
UINT8_MAX = 255
INT8_MAX = 127
PROBED = 1 << 20  # stride x squared output channels: a vocoder has the fewer channels, the longer the signal
HEADROOM = 1.4  # of a channel's range over the largest result probed; what lies beyond is clipped
DEVIATIONS = 5.0  # the range in root mean squares at least: of a short word only some twenty results are probed
TINY = 1e-6  # of scales, lest silence be divided by zero
FLOAT, INT32, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32, onnx.TensorProto.UINT8
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
            part.chmod(0o644)  # a shared cache is read by others
            part.replace(path)  # whole or not at all, and two processes do not mind each other
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ScamTapError(f"cannot write {path}: {error.strerror}; free some space") from error
    return path


class _Normal(NamedTuple):
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift``, mean and variance over time."""

    x: str
    scale: str
    shift: str
    epsilon: float


class _Snake(NamedTuple):
    """``x + inverse * sin(alpha * x)^2`` (Ziyin et al., 2020) of a normalised ``x``."""

    normal: _Normal
    alpha: str
    inverse: str


def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
    """Edit ``model`` in place as this module says; patterns that are not found stay as they are."""
    graph = GraphEditor(model)
    for node in graph.nodes("ConvInteger"):
        _convolution(graph, node)
    for node in graph.nodes("Add"):
        if (normal := _normal(graph, node.output[0])) is not None:
            flat = graph.constant([-1], np.int64)
            factors = [graph.emit("Reshape", [value, flat]) for value in (normal.scale, normal.shift)]
            graph.emit("InstanceNormalization", [normal.x, *factors], node.output[0], epsilon=normal.epsilon)
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
    if {reader.op_type for reader in graph.consumers(y)} == {"ReduceMean", "Sub"}:
        bias = None  # a normalisation takes it off again
    snake = _snake(graph, x)
    if snake is not None and np.abs(signed).max() <= INT8_MAX:
        raw = _swift(graph, snake, signed.astype(np.int8), scale, options, "" if bias is not None else y)
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


def _normal(graph: GraphEditor, value: str) -> _Normal | None:
    """What ``value`` is made of if ``ReduceMean, Sub, Mul, ReduceMean, Add, Sqrt, Div, Mul, Add`` normalise it."""
    for scaled, shift in _either(graph, value, "Add", "Mul"):
        for divide, scale in _either(graph, scaled.output[0], "Mul", "Div"):
            centred, root = graph.producer(divide.input[0], "Sub"), graph.producer(divide.input[1], "Sqrt")
            variance = None if root is None else graph.producer(root.input[0], "Add")
            if centred is None or variance is None or graph.producer(centred.input[1], "ReduceMean") is None:
                continue
            epsilons = [array for array in map(graph.tensor, variance.input) if array is not None and array.size == 1]
            if len(epsilons) == 1:
                return _Normal(centred.input[0], scale, shift, float(epsilons[0].item()))
    return None


def _snake(graph: GraphEditor, value: str) -> _Snake | None:
    """What ``value`` is made of if it is a snake activation, by ``Mul, Sin, Pow, Mul, Add``."""
    for ripple, x in _either(graph, value, "Add", "Mul"):
        for square, inverse in _either(graph, ripple.output[0], "Mul", "Pow"):
            sine = graph.producer(square.input[0], "Sin")
            turned = None if sine is None else graph.producer(sine.input[0], "Mul")
            normal = None if turned is None or x not in turned.input else _normal(graph, x)
            if turned is not None and normal is not None:
                (alpha,) = (factor for factor in turned.input if factor != x)
                return _Snake(normal, alpha, inverse)
    return None


def _either(graph: GraphEditor, value: str, op_type: str, of_type: str) -> list[tuple[Any, str]]:
    """Inputs made by an ``of_type`` of the ``op_type`` that makes ``value``, each with the other input."""
    node = graph.producer(value, op_type)
    pairs = [] if node is None else [(node.input[0], node.input[1]), (node.input[1], node.input[0])]
    return [(made, other) for one, other in pairs if (made := graph.producer(one, of_type)) is not None]


def _looked_up(graph: GraphEditor, snake: _Snake) -> tuple[str, str]:
    """The activation in 8 bits around 128, and its scale.

    Samples are quantised before the normalisation, each channel ``[lowest, highest]`` in 256 levels; the table says
    what becomes of each level.
    """
    x, one = snake.normal.x, graph.constant([2], np.int64)
    lowest, highest = graph.emit("ReduceMin", [x, one]), graph.emit("ReduceMax", [x, one])
    nothing, tiny = graph.constant(0, np.float32), graph.constant(TINY, np.float32)
    bottom = graph.emit("Min", [lowest, nothing])  # zero is a level, as QuantizeLinear wants it
    width = graph.emit("Max", [graph.emit("Sub", [graph.emit("Max", [highest, nothing]), bottom]), tiny])
    grain = graph.emit("Mul", [width, graph.constant(1 / UINT8_MAX, np.float32)])
    origin = graph.emit("Round", [graph.emit("Neg", [graph.emit("Div", [bottom, grain])])])
    flat = graph.constant([-1], np.int64)
    zeros = graph.emit("Cast", [graph.emit("Reshape", [origin, flat])], to=UINT8)
    levels = graph.emit("QuantizeLinear", [x, graph.emit("Reshape", [grain, flat]), zeros], axis=1)

    every = graph.constant(np.arange(UINT8_MAX + 1).reshape(1, 1, -1), np.float32)
    table = graph.emit("Mul", [graph.emit("Sub", [every, origin]), grain])
    table = graph.emit(
        "Min", [graph.emit("Max", [table, lowest]), highest]
    )  # levels of no sample must not widen the range
    mean = graph.emit("ReduceMean", [x, one])
    power = graph.emit("ReduceMean", [graph.emit("Mul", [x, x]), one])
    variance = graph.emit("Max", [graph.emit("Sub", [power, graph.emit("Mul", [mean, mean])]), nothing])
    variance = graph.emit("Add", [variance, graph.constant(snake.normal.epsilon, np.float32)])
    table = graph.emit("Div", [graph.emit("Sub", [table, mean]), graph.emit("Sqrt", [variance])])
    table = graph.emit("Add", [graph.emit("Mul", [table, snake.normal.scale]), snake.normal.shift])
    sine = graph.emit("Sin", [graph.emit("Mul", [table, snake.alpha])])
    ripple = graph.emit("Mul", [graph.emit("Mul", [sine, sine]), snake.inverse])
    table = graph.emit("Add", [table, ripple])

    peak = graph.emit("Max", [graph.emit("ReduceMax", [graph.emit("Abs", [table])], keepdims=0), tiny])
    step = graph.emit("Mul", [peak, graph.constant(1 / INT8_MAX, np.float32)])
    table = graph.emit("QuantizeLinear", [table, step, graph.constant(UINT8_ZERO, np.uint8)])
    return graph.emit("GatherElements", [table, graph.emit("Cast", [levels], to=INT32)], axis=2), step


def _swift(graph: GraphEditor, x: _Snake, weight: Array, scale: float, options: dict[str, Any], into: str) -> str:
    """Convolve ``x`` with ``weight * scale``, int8 ``[outputs, inputs, taps]``, without bias.

    ``QLinearConv`` takes the fast kernel where zero points are constants, so inputs are symmetric around 128. Their
    scale stays outside: inputs and outputs are given scale 1, and each channel's weights the factor that brings its
    sums into 8 bits.
    """
    num_outputs = len(weight)
    zero, one = graph.constant(UINT8_ZERO, np.uint8), graph.constant(1, np.float32)
    q, step = _looked_up(graph, x)

    probing = {**options, "strides": [max(1, PROBED // num_outputs**2)]}
    shifted = graph.constant(weight.astype(np.int16) + UINT8_ZERO, np.uint8)
    probed = graph.emit("ConvInteger", [q, shifted, zero, zero], **probing)
    sums = graph.emit("Cast", [probed], to=FLOAT)
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
