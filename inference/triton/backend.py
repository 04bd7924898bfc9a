"""Triton's ``onnxruntime`` backend, in Python: runs ``model.onnx`` on ONNX Runtime as the native one does.

Copied into the local server's backend folder as ``onnxruntime/model.py`` and run there, in ``.venv-triton``: it imports
nothing of ScamTap. What the native backend refuses to load, it refuses too, so that a repository that serves here
serves on a GPU. It runs a request as :class:`inference.engine.onnx.OnnxEngine` does, so both give the same numbers.
"""

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # the server's own, found beside this file

TYPES = {
    "TYPE_BOOL": "tensor(bool)",
    "TYPE_FP16": "tensor(float16)",
    "TYPE_FP32": "tensor(float)",
    "TYPE_FP64": "tensor(double)",
    **{f"TYPE_{sign}INT{bits}": f"tensor({sign.lower()}int{bits})" for sign in ("", "U") for bits in (8, 16, 32, 64)},
}
"""Triton's data types as ONNX Runtime calls them."""


class TritonPythonModel:
    """One instance of one version of one model; Triton makes it and calls its methods."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the version.

        Raises:
            pb_utils.TritonModelException: the configuration is not the graph's; the server keeps the version out.
        """
        config = json.loads(args["model_config"])
        folder = Path(args["model_repository"]) / args["model_version"]
        path = folder / (config.get("default_model_filename") or "model.onnx")
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        options = _session_options(int(parameters.get("intra_op_thread_count", "1")))
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        _check(config, self._session)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run the requests that the dynamic batcher put together as one batch, and give each its rows."""
        try:
            return self._run(requests)
        # ONNX Runtime's errors share no base below Exception; one that leaves here takes the instance down.
        except Exception as error:  # noqa: BLE001
            fault = pb_utils.TritonError(str(error).splitlines()[0][:200])
            return [pb_utils.InferenceResponse([], fault) for _ in requests]

    def _run(self, requests: list[Any]) -> list[Any]:
        columns = {
            name: [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self._inputs
        }
        feed = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in columns.items()}
        wanted = {name for request in requests for name in request.requested_output_names()}
        names = [name for name in self._outputs if name in wanted]
        outputs = self._session.run(names, feed)
        if len(requests) == 1:  # also where a model has no batch dimension
            return [self._response(names, outputs)]
        responses, row = [], 0
        for part in columns[self._inputs[0]]:
            responses.append(self._response(names, [output[row : row + len(part)] for output in outputs]))
            row += len(part)
        return responses

    @staticmethod
    def _response(names: list[str], outputs: list[Any]) -> Any:
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(a)) for name, a in zip(names, outputs, strict=True)]
        return pb_utils.InferenceResponse(tensors)


def _session_options(num_threads: int) -> Any:
    """As :mod:`inference.engine.onnx` sets them; why is said there."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "SkipLayerNormFusion;BiasGeluFusion;BiasSkipLayerNormFusion"
    )
    if platform.machine().lower() in ("x86_64", "amd64") and "vnni" not in Path("/proc/cpuinfo").read_text():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _check(config: dict[str, Any], session: Any) -> None:
    """Refuse what the native backend refuses: inputs in number, names, types, dimensions."""
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    outputs = {tensor.name: tensor for tensor in session.get_outputs()}
    if len(config["input"]) != len(inputs):
        _refuse(f"expected {len(inputs)} inputs {sorted(inputs)}, the configuration has {len(config['input'])}")
    is_batched = config.get("max_batch_size", 0) > 0
    for kind, configured, graph in (("input", config["input"], inputs), ("output", config["output"], outputs)):
        for tensor in configured:
            name, known = tensor["name"], graph.get(tensor["name"])
            if known is None:
                _refuse(f"unexpected {kind} '{name}', the model has {sorted(graph)}")
            elif known.type != TYPES.get(tensor["data_type"]):
                _refuse(f"{kind} '{name}' is {known.type}, the configuration says {tensor['data_type']}")
            else:
                _check_dims(f"{kind} '{name}'", tensor, known.shape, is_batched)


def _check_dims(what: str, tensor: dict[str, Any], graph_shape: list[Any], is_batched: bool) -> None:
    shape = [dim if isinstance(dim, int) else -1 for dim in graph_shape]
    dims = [int(dim) for dim in (tensor.get("reshape") or {}).get("shape", tensor["dims"])]
    wanted = [-1, *dims] if is_batched else dims
    if is_batched and (not shape or shape[0] != -1):
        _refuse(f"{what}: the configuration batches, the model's first dimension is not free: {shape}")
    if len(shape) != len(wanted) or any(a not in (-1, b) for a, b in zip(shape, wanted, strict=True)):
        _refuse(f"{what} has shape {shape}, the configuration says {wanted}")


def _refuse(why: str) -> None:
    raise pb_utils.TritonModelException(why)
