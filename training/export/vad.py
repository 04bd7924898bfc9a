"""Cut the 8 kHz voice activity network out of Silero's release into a small graph of our own.

The release (PyPI ``silero-vad``, MIT) holds a 16 kHz and an 8 kHz network behind an ``If`` and decides shapes at run
time: 113 nodes for what are four convolutions and one LSTM cell. The graph made here has the same weights, takes
int16 samples and costs a quarter: over so few steps a convolution is a matrix product, and those are what a CPU does
best, over many legs at once. Nothing of the package is executed and torch is not needed::

    pip download --no-deps silero-vad==6.2.3
    python -m training.export.vad silero_vad-6.2.3-py3-none-any.whl models/vad/1/model.onnx

Graph (``batch`` legs, one frame of 256 samples = 32 ms each, after 32 samples of the frame before):
    in   ``frames`` int16 ``[batch, 288]``, ``state`` float32 ``[2, batch, 128]`` (LSTM h and c, zeros at first)
    out  ``speech`` float32 ``[batch]`` in 0..1, ``next_state`` float32 ``[2, batch, 128]``
"""

import hashlib
import sys
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.engine.sums import write_sums

WHEEL_MEMBER = "silero_vad/data/silero_vad.onnx"
WHEEL_MEMBER_SHA256 = "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"
"""Of the graph inside version 6.2.3; another release may move tensors about, so it is refused."""

Weights = dict[str, npt.NDArray[np.float32]]


def branch_weights(release: bytes) -> Weights:
    """Return the 8 kHz network's tensors by their names in the release (``encoder.0.reparam_conv.weight`` ...).

    Raises:
        ValueError: the bytes are not the release this was written for.
    """
    digest = hashlib.sha256(release).hexdigest()
    if digest != WHEEL_MEMBER_SHA256:
        raise ValueError(f"{WHEEL_MEMBER} has sha256 {digest[:12]}…, expected {WHEEL_MEMBER_SHA256[:12]}…: use 6.2.3")
    graph = onnx.load_model_from_string(release).graph
    (choice,) = (node for node in graph.node if node.op_type == "If")
    (branch,) = (a.g for a in choice.attribute if a.name == "else_branch")  # then: sr == 16000
    weights: Weights = {}
    for node in branch.node:
        name = node.output[0].rpartition("__Inline_0__")[2]
        if (
            node.op_type == "Constant"
            and not name.startswith("/")
            and node.attribute[0].type == onnx.AttributeProto.TENSOR
        ):
            weights[name] = numpy_helper.to_array(node.attribute[0].t)
    return weights


def whole(weight: npt.NDArray[np.float32], steps: int, stride: int) -> npt.NDArray[np.float32]:
    """Write a convolution over ``steps`` steps, padded by one on each side, as one matrix product.

    Args:
        weight: ``[out, in, 3]``.
        steps: its input has, ``[batch, steps * in]``.
        stride: between its outputs, ``[batch, ceil(steps / stride) * out]``.
    """
    num_out, num_in, width = weight.shape
    out = np.zeros((steps, num_in, -(-steps // stride), num_out), np.float32)
    for at in range(out.shape[2]):
        for tap in range(width):
            step = at * stride + tap - 1
            if 0 <= step < steps:
                out[step, :, at] = weight[:, :, tap].T
    return out.reshape(steps * num_in, -1)


def build(weights: Weights) -> onnx.ModelProto:
    """Assemble the graph described in the module docstring."""
    lstm = np.concatenate([weights["decoder.rnn.weight_ih"], weights["decoder.rnn.weight_hh"]], axis=1)
    constants: dict[str, npt.NDArray[np.generic]] = {
        "scale": np.float32(1 / 32768) * np.ones((), np.float32),
        "mirror": np.array([0, 0, 0, 32], np.int64),  # the STFT's right half window
        "halves": np.array([0, 5, 64], np.int64),
        "one_each_side": np.array([0, 1, 0, 0, 1, 0], np.int64),
        "in_a_row": np.array([0, 512], np.int64),
        "axis1": np.array([1], np.int64),
        "axis0": np.array([0], np.int64),
        **{f"at{i}": np.array([i], np.int64) for i in (0, 1, 2, 4, 5, 6)},
        "basis": weights["stft.forward_basis_buffer"][:, 0].T,
        "lstm_weight": lstm.T,
        "lstm_bias": weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"],
        "head_weight": weights["decoder.decoder.2.weight"][:, :, 0].T,
        "head_bias": weights["decoder.decoder.2.bias"],
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["frames"], ["frames_f"], to=TensorProto.FLOAT),
        node("Mul", ["frames_f", "scale"], ["wave"]),
        node("Pad", ["wave", "mirror"], ["padded"], mode="reflect"),
        node("Reshape", ["padded", "halves"], ["half"]),  # the STFT: 4 windows of 128 samples, 64 apart
        node("Slice", ["half", "at0", "at4", "axis1"], ["left"]),
        node("Slice", ["half", "at1", "at5", "axis1"], ["right"]),
        node("Concat", ["left", "right"], ["window"], axis=2),
        node("MatMul", ["window", "basis"], ["spectrum"]),
        node("Mul", ["spectrum", "spectrum"], ["squared"]),
        node("Split", ["squared"], ["real2", "imag2"], axis=2, num_outputs=2),
        node("Add", ["real2", "imag2"], ["power"]),
        node("Sqrt", ["power"], ["magnitude"]),
        node("Pad", ["magnitude", "one_each_side"], ["around"]),
        node("Slice", ["around", "at0", "at4", "axis1"], ["before"]),
        node("Slice", ["around", "at2", "at6", "axis1"], ["after"]),
        node("Concat", ["before", "magnitude", "after"], ["seen"], axis=2),
        node("MatMul", ["seen", "conv0_weight"], ["conv0_"]),
        node("Add", ["conv0_", "conv0_bias"], ["conv0"]),
        node("Relu", ["conv0"], ["heard"]),
        node("Reshape", ["heard", "in_a_row"], ["x1"]),
    ]
    kernel = weights["encoder.0.reparam_conv.weight"]  # [128, 65, 3]
    constants["conv0_weight"] = kernel.transpose(2, 1, 0).reshape(-1, len(kernel))
    constants["conv0_bias"] = weights["encoder.0.reparam_conv.bias"]
    for i, (steps, stride) in enumerate(((4, 2), (2, 2), (1, 1)), start=1):
        weight, bias = (weights[f"encoder.{i}.reparam_conv.{part}"] for part in ("weight", "bias"))
        constants[f"conv{i}_weight"] = whole(weight, steps, stride)
        constants[f"conv{i}_bias"] = np.tile(bias, constants[f"conv{i}_weight"].shape[1] // len(bias))
        nodes += [
            node("Gemm", [f"x{i}", f"conv{i}_weight", f"conv{i}_bias"], [f"conv{i}"]),
            node("Relu", [f"conv{i}"], [f"x{i + 1}"]),
        ]
    nodes += [
        node("Split", ["state"], ["h_", "c_"], axis=0, num_outputs=2),
        node("Squeeze", ["h_", "axis0"], ["h"]),
        node("Squeeze", ["c_", "axis0"], ["c"]),
        node("Concat", ["x4", "h"], ["xh"], axis=1),
        node("Gemm", ["xh", "lstm_weight", "lstm_bias"], ["gates"]),
        node("Split", ["gates"], ["i_", "f_", "g_", "o_"], axis=1, num_outputs=4),  # torch's order
        node("Sigmoid", ["i_"], ["i"]),
        node("Sigmoid", ["f_"], ["f"]),
        node("Tanh", ["g_"], ["g"]),
        node("Sigmoid", ["o_"], ["o"]),
        node("Mul", ["f", "c"], ["fc"]),
        node("Mul", ["i", "g"], ["ig"]),
        node("Add", ["fc", "ig"], ["c_next"]),
        node("Tanh", ["c_next"], ["c_tanh"]),
        node("Mul", ["o", "c_tanh"], ["h_next"]),
        node("Unsqueeze", ["h_next", "axis0"], ["h_row"]),
        node("Unsqueeze", ["c_next", "axis0"], ["c_row"]),
        node("Concat", ["h_row", "c_row"], ["next_state"], axis=0),
        node("Relu", ["h_next"], ["h_relu"]),
        node("Gemm", ["h_relu", "head_weight", "head_bias"], ["logit"]),
        node("Sigmoid", ["logit"], ["probability"]),
        node("Squeeze", ["probability", "axis1"], ["speech"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "vad",
        [
            value("frames", TensorProto.INT16, ["batch", 288]),
            value("state", TensorProto.FLOAT, [2, "batch", 128]),
        ],
        [
            value("speech", TensorProto.FLOAT, ["batch"]),
            value("next_state", TensorProto.FLOAT, [2, "batch", 128]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="scamtap", ir_version=9)
    helper.set_model_props(
        model, {"source": "silero-vad 6.2.3, 8 kHz branch", "licence": "MIT", "source_sha256": WHEEL_MEMBER_SHA256}
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main(wheel: Path, out: Path) -> None:
    """Read the release from ``wheel`` and write the graph to ``out``."""
    with zipfile.ZipFile(wheel) as archive:
        model = build(branch_weights(archive.read(WHEEL_MEMBER)))
    out.parent.mkdir(parents=True, exist_ok=True)
    payload = model.SerializeToString(deterministic=True)
    out.write_bytes(payload)
    write_sums(out.parent, [out.name])
    sys.stdout.write(f"{out}: {len(payload)} bytes, sha256 {hashlib.sha256(payload).hexdigest()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
