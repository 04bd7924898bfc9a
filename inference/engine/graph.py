"""Neural networks written down as ONNX graphs, from weights, without torch.

A room that owns a model writes its forward pass once with :class:`GraphBuilder`; the builder makes fp32, fp16 (GPU) and
int8 (CPU) graphs of it from the same weights::

    graph = GraphBuilder("int8")
    x = graph.input("x", np.float32, ["batch", "time", 512])
    h = graph.gelu(graph.linear(x, weight, bias))
    graph.output("y", h, np.float32, ["batch", "time", 2048])
    model = graph.build({"precision": "int8"})

Values are handed around by name (``str``). Weights come as ``[outputs, inputs]``, the order of the training frameworks.

int8 quantises weights once and activations while running, **each row by its own scale**. ONNX Runtime's ready-made
``DynamicQuantizeMatMul`` takes one scale for the whole batch: then a caller's transcript would depend on who else is in
the batch, and rounding errors are larger. There are two ways to multiply:

- many rows (an encoder): ``MatMulIntegerToFloat`` on rows quantised in the graph, one scale per output channel;
- few rows (a decoder step), where reading the weights is the cost: ``MatMulNBits``, blocks of 8-bit weights. Measured
  1.6x faster on 1 row, 1.1x on 8, 2.5x slower on 300. It takes rows in pairs and a last odd one otherwise: whoever
  needs results that are the same bit for bit in any batch gives it an even number of rows.
"""

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, checker, helper, numpy_helper

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]
Array: TypeAlias = npt.NDArray[Any]

OPSET = 20  # Gelu is an operator since 20; ONNX Runtime 1.19 runs up to 21
IR_VERSION = 10  # read by ONNX Runtime >= 1.18; MatMulNBits of 8 bits needs >= 1.22
CONTRIB = "com.microsoft"
"""ONNX Runtime's own operators (fused attention, fused residual + norm); on its CPU and CUDA providers alike."""

INT8_MAX = 127
MAX_BLOCK = 256  # weights that share a scale in MatMulNBits; larger blocks are faster, 512 no more so
INTEGER_ACCURACY = 4  # MatMulNBits' accuracy_level: quantise the activations to int8 too
UINT8_ZERO = 128
"""Activations are stored as uint8 around 128: u8 x s8 is the product that x86 VNNI multiplies natively."""


def block_length(width: int) -> int:
    """Largest power of two up to :data:`MAX_BLOCK` that divides ``width``; MatMulNBits wants at least 16.

    Raises:
        ValueError: ``width`` is not a multiple of 16.
    """
    block = math.gcd(width, MAX_BLOCK)
    if block < 16:
        raise ValueError(f"a product over {width} inputs cannot be quantised in blocks: not a multiple of 16")
    return block


def quantise_rows(weight: Array) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Symmetric int8 of ``[rows, ...]`` with one scale per row: ``weight ~ q * scale[:, None]``."""
    wide = np.asarray(weight, np.float32)
    peak = np.abs(wide).reshape(len(wide), -1).max(axis=1)
    scale = np.where(peak > 0, peak / INT8_MAX, 1).astype(np.float32)
    q = np.rint(wide / scale.reshape(-1, *[1] * (wide.ndim - 1)))
    return q.astype(np.int8), scale


class GraphBuilder:
    """Collects nodes and weights; :meth:`build` returns the checked model.

    Attributes:
        precision: what :meth:`linear` and :meth:`embedding` are made of.
        is_few_rows: whether int8 products are made for a handful of rows.
        dtype: NumPy type of every floating value between them.
    """

    def __init__(self, precision: Precision, *, is_few_rows: bool = False) -> None:
        self.precision: Precision = precision
        self.is_few_rows = is_few_rows
        self.dtype: type[np.floating[Any]] = np.float16 if precision == "fp16" else np.float32
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._rows: dict[str, tuple[str, str]] = {}  # value -> its uint8 rows and their scales, made once
        self._names: dict[str, str] = {}  # value -> the output it is
        self._counter = itertools.count(1)

    # --- the graph's edges ---------------------------------------------------------------------------------------

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[str | int]) -> str:
        """Declare a graph input; a ``str`` in ``shape`` names a free dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), list(shape)))
        return name

    def output(self, name: str, value: str, dtype: npt.DTypeLike, shape: Sequence[str | int]) -> str:
        """Give ``value`` to the outside as ``name``; a floating value is cast where ``dtype`` is another float."""
        self._outputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), list(shape)))
        is_other_float = np.issubdtype(dtype, np.floating) and np.dtype(dtype) != self.dtype
        if is_other_float or value in self._names or not any(value in node.output for node in self._nodes):
            self._nodes.append(helper.make_node("Cast", [value], [name], to=_onnx_type(dtype)))
        else:
            self._names[value] = name
        return name

    def build(self, metadata: Mapping[str, str], name: str = "scamtap") -> ModelProto:
        """Return the model.

        Raises:
            onnx.checker.ValidationError: the graph is not valid ONNX (a bug of the caller).
        """
        graph = self._proto(name, list(self._constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="scamtap")
        helper.set_model_props(model, dict(metadata))
        checker.check_model(model)
        return model

    def _proto(self, name: str, constants: Sequence[Any]) -> Any:
        # Outputs get their name where they are made: an operator just for that would copy them.
        for node in self._nodes:
            for values in (node.input, node.output):
                values[:] = [self._names.get(value, value) for value in values]
        return helper.make_graph(self._nodes, name, self._inputs, self._outputs, constants)

    # --- control flow --------------------------------------------------------------------------------------------

    def body(self) -> "GraphBuilder":
        """A builder for what :meth:`loop` repeats: it may use every value made here so far, and keeps weights here."""
        inner = GraphBuilder(self.precision, is_few_rows=self.is_few_rows)
        inner._constants, inner._counter = self._constants, self._counter
        return inner

    def loop(
        self, max_trips: str, goes_on: str, initial: Sequence[str], body: "GraphBuilder", num_kept: int
    ) -> list[str]:
        """Repeat ``body`` while it says so.

        Args:
            max_trips: int64 scalar, bound on the trips.
            goes_on: bool scalar, whether there is a first trip.
            initial: values carried from trip to trip.
            body: inputs (trip, goes on, carried...), outputs (goes on, carried..., kept...).
            num_kept: how many values of every trip are kept.

        Returns:
            The carried values as the last trip left them, then the kept ones, stacked ``[trips, ...]``.
        """
        name = f"Loop_{next(self._counter)}"
        outputs = [f"{name}_{i}" for i in range(len(initial) + num_kept)]
        inner = body._proto(f"{name}_body", [])
        self._nodes.append(helper.make_node("Loop", [max_trips, goes_on, *initial], outputs, name=name, body=inner))
        return outputs

    # --- plain operators -----------------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append one single-output operator (``""`` = optional input left out) and return its value."""
        name = f"{kind}_{next(self._counter)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        """Store an array (equal arrays once) and return its value."""
        stored = np.ascontiguousarray(array, dtype) if np.ndim(array) else np.asarray(array, dtype)
        name = f"{stored.dtype}{list(stored.shape)}_{hashlib.blake2b(stored.tobytes(), digest_size=12).hexdigest()}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(stored, name)
        return name

    def floats(self, array: npt.ArrayLike) -> str:
        """Store an array in the graph's floating type."""
        return self.constant(np.asarray(array, np.float32), self.dtype)

    def ints(self, *values: int) -> str:
        """Store a 1-D int64 array: shapes, axes and slice bounds."""
        return self.constant(np.array(values, np.int64))

    def cast(self, x: str, dtype: npt.DTypeLike) -> str:
        """Convert ``x`` to ``dtype``."""
        return self.op("Cast", x, to=_onnx_type(dtype))

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape; 0 keeps a dimension, -1 is inferred."""
        return self.op("Reshape", x, self.ints(*shape))

    def slice(self, x: str, start: str | int, stop: str | int, axis: int, step: int = 1) -> str:
        """``x[start:stop:step]`` along ``axis``; bounds are numbers or 1-D int64 values."""
        bounds = [self.ints(b) if isinstance(b, int) else b for b in (start, stop)]
        return self.op("Slice", x, *bounds, self.ints(axis), self.ints(step))

    def split(self, x: str, parts: int, axis: int) -> tuple[str, ...]:
        """``parts`` equal pieces along ``axis``."""
        number = next(self._counter)
        names = tuple(f"Split_{number}_{i}" for i in range(parts))
        self._nodes.append(helper.make_node("Split", [x], list(names), name=names[0], num_outputs=parts, axis=axis))
        return names

    def size(self, x: str, axis: int) -> str:
        """Length of ``axis`` as a 1-D int64 value."""
        return self.op("Shape", x, start=axis, end=axis + 1)

    def best(self, x: str) -> tuple[str, str]:
        """Largest of each row of ``[rows, n]`` and its index, the first of equal ones: ``[rows]`` each."""
        names = [f"Best_{next(self._counter)}_{what}" for what in ("value", "index")]
        self._nodes.append(helper.make_node("TopK", [x, self.ints(1)], names, name=names[0], axis=-1))
        value, index = (self.reshape(name, -1) for name in names)
        return value, index

    # --- layers --------------------------------------------------------------------------------------------------

    def linear(self, x: str, weight: Array, bias: Array | None = None) -> str:
        """``x @ weight.T + bias`` over the last axis.

        Args:
            x: ``[..., inputs]``.
            weight: ``[outputs, inputs]``.
            bias: ``[outputs]`` or none; leave it out where :meth:`add_norm` follows and give it there.

        Returns:
            ``[..., outputs]``.
        """
        if self.precision == "int8" and self.is_few_rows:
            return self._linear_blocks(x, weight, bias)
        if self.precision == "int8":
            y = self._linear_rows(x, weight)
        else:
            y = self.op("MatMul", x, self.floats(np.asarray(weight).T))
        return y if bias is None else self.op("Add", y, self.floats(bias))

    def _linear_rows(self, x: str, weight: Array) -> str:
        q, scale = quantise_rows(weight)
        rows, row_scale = self.quantise(x)
        y = self.op(
            "MatMulIntegerToFloat",
            rows,
            self.constant(q.T),
            self.constant(np.float32(1)),
            self.constant(scale),
            self.constant(np.uint8(UINT8_ZERO)),
            domain=CONTRIB,
        )
        return self.op("Mul", y, row_scale)

    def _linear_blocks(self, x: str, weight: Array, bias: Array | None) -> str:
        outputs, width = weight.shape
        block = block_length(width)
        q, scale = quantise_rows(np.asarray(weight).reshape(-1, block))
        stored = (q.astype(np.int16) + UINT8_ZERO).astype(np.uint8).reshape(outputs, width // block, block)
        inputs = [x, self.constant(stored), self.constant(scale.reshape(outputs, width // block))]
        if bias is not None:
            inputs += ["", "", self.floats(bias)]
        shape = {"K": width, "N": outputs, "bits": 8, "block_size": block, "accuracy_level": INTEGER_ACCURACY}
        return self.op("MatMulNBits", *inputs, domain=CONTRIB, **shape)

    def quantise(self, x: str) -> tuple[str, str]:
        """``x [..., n]`` -> uint8 ``[..., n]`` around 128 and the float scale ``[..., 1]`` of each row."""
        if x not in self._rows:
            peak = self.op("ReduceMax", self.op("Abs", x), self.ints(-1), keepdims=1)
            # The floor keeps an all-zero row finite: 0 / tiny = 0.
            scale = self.op("Max", self.op("Mul", peak, self.floats(1 / INT8_MAX)), self.floats(1e-12))
            unit = self.op("Div", x, scale)
            rows = self.op("QuantizeLinear", unit, self.floats(1), self.constant(np.uint8(UINT8_ZERO)))
            self._rows[x] = (rows, scale)
        return self._rows[x]

    def embedding(self, ids: str, table: Array) -> str:
        """Rows of ``table [rows, width]`` at int64 ``ids [...]`` -> ``[..., width]``; int8 rows have a scale each."""
        if self.precision != "int8":
            return self.op("Gather", self.floats(table), ids)
        q, scale = quantise_rows(table)
        picked = self.cast(self.op("Gather", self.constant(q), ids), self.dtype)
        return self.op("Mul", picked, self.op("Gather", self.floats(scale[:, None]), ids))

    def layer_norm(self, x: str, gain: Array, bias: Array, epsilon: float = 1e-5) -> str:
        """Layer normalisation over the last axis."""
        return self.op("LayerNormalization", x, self.floats(gain), self.floats(bias), axis=-1, epsilon=epsilon)

    def add_norm(
        self, x: str, skip: str, gain: Array, bias: Array, x_bias: Array | None = None, epsilon: float = 1e-5
    ) -> tuple[str, str]:
        """Residual addition and layer normalisation.

        Args:
            x: ``[batch, time, width]``, the branch.
            skip: same shape, the trunk.
            gain: of the normalisation, ``[width]``.
            bias: likewise.
            x_bias: ``[width]`` added to ``x`` first: the bias of the linear that made it.
            epsilon: of the normalisation.

        Returns:
            ``norm(total)`` and ``total = x + x_bias + skip``. Pre-norm models go on with both, post-norm ones
            (BERT) with the first.
        """
        if self.precision != "fp16":
            # On CPU the fused operator is four times slower than its parts.
            branch = x if x_bias is None else self.op("Add", x, self.floats(x_bias))
            total = self.op("Add", branch, skip)
            return self.layer_norm(total, gain, bias, epsilon), total
        inputs = [x, skip, self.floats(gain), self.floats(bias)]
        if x_bias is not None:
            inputs.append(self.floats(x_bias))
        normed = f"AddNorm_{next(self._counter)}"
        total = f"{normed}_total"
        node = helper.make_node(
            "SkipLayerNormalization", inputs, [normed, "", "", total], name=normed, domain=CONTRIB, epsilon=epsilon
        )
        self._nodes.append(node)
        return normed, total

    def gelu(self, x: str) -> str:
        """Gaussian error linear unit, the exact (erf) form."""
        return self.op("Gelu", x)

    def attention(
        self,
        query: str,
        key: str,
        value: str,
        num_heads: int,
        *,
        padding_mask: str = "",
        bias: str = "",
        past: tuple[str, str] = ("", ""),
        is_causal: bool = False,
    ) -> tuple[str, str, str]:
        """Scaled dot-product attention of ``num_heads`` heads.

        Args:
            query: ``[batch, queries, width]``.
            key: ``[batch, keys, width]``, or ``[batch, heads, keys, head_width]`` where they were made earlier
                (cross attention).
            value: as ``key``.
            num_heads: ``width = num_heads * head_width``.
            padding_mask: int32 ``[batch, keys]``, 1 = attend, 0 = padding.
            bias: ``[batch, 1 or heads, queries, keys]``, added to the scores.
            past: keys and values of earlier steps, ``[batch, heads, past, head_width]`` each.
            is_causal: a query sees the past and the keys up to its own.

        Returns:
            Context ``[batch, queries, width]`` and, where ``past`` is given, the present keys and values
            ``[batch, heads, past + keys, head_width]`` (else ``""``).
        """
        inputs = [query, key, value, "", padding_mask, bias, *past]
        while not inputs[-1]:
            inputs.pop()
        name = f"Attention_{next(self._counter)}"
        outputs = [name, f"{name}_key", f"{name}_value"] if past[0] else [name]
        node = helper.make_node(
            "MultiHeadAttention",
            inputs,
            outputs,
            name=name,
            domain=CONTRIB,
            num_heads=num_heads,
            unidirectional=int(is_causal),
        )
        self._nodes.append(node)
        return (outputs[0], outputs[1], outputs[2]) if past[0] else (name, "", "")


def _onnx_type(dtype: npt.DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
