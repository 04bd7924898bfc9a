"""What goes over the wire to a Triton server and comes back: descriptions, tensors, errors.

The KServe predict protocol, version 2, in Triton's gRPC form.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import InferInput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

from inference.engine.base import Batch, ModelSpec, Tensor, TensorSpec
from inference.errors import EngineError

RESTRICTED = "protocol is restricted"
NOT_READY = "not at ready state"
FULL = ("maximum queue size", "timeout expired")
"""How Triton words a full queue, and a request that waited in it for too long."""


class Failure(enum.Enum):
    """What became of a request that was not answered, and so what to do."""

    ABSENT = enum.auto()  # nobody there: ask again
    GONE = enum.auto()  # the server is there, this version is not: being replaced, or the server is on its way out
    SILENT = enum.auto()  # no answer in time: ask again, with care
    FULL = enum.auto()  # too much work there: shed it, asking again would only add to it
    FAULT = enum.auto()  # asking again would not help


@dataclass(frozen=True, slots=True)
class Known:
    """One model as a server described it.

    Attributes:
        spec: as the engine in process would give it.
        is_batched: the server's own first dimension stands before all shapes.
        warmup: a small request that it is known to take.
    """

    spec: ModelSpec
    is_batched: bool
    warmup: Batch


def describe(config: Any, versions: Sequence[str]) -> Known:
    """Read a server's ``ModelConfig`` and the versions that it serves.

    Raises:
        EngineError: it serves none, or a type that we do not know.
    """
    numbers = [int(version) for version in versions if version.isdecimal()]
    if not numbers:
        raise EngineError(f"the Triton server has no version of model {config.name} ready")
    is_batched = config.max_batch_size > 0
    metadata = {key: value.string_value for key, value in config.parameters.items()}
    inputs, outputs = (
        tuple(_tensor_spec(config.name, tensor, is_batched=is_batched) for tensor in tensors)
        for tensors in (config.input, config.output)
    )
    spec = ModelSpec(config.name, max(numbers), inputs, outputs, metadata)
    samples = {key: value.dims for warmup in config.model_warmup[:1] for key, value in warmup.inputs.items()}
    return Known(spec, is_batched, {tensor.name: _zeros(tensor, samples, is_batched) for tensor in inputs})


def _tensor_spec(model: str, tensor: Any, *, is_batched: bool) -> TensorSpec:
    # TYPE_INT16 of the configuration is INT16 of requests.
    name = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name
    dtype = triton_to_np_dtype(name.removeprefix("TYPE_"))
    if dtype is None:
        raise EngineError(f"model {model}: '{tensor.name}' has type {name} on the Triton server, which we do not take")
    dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
    shape = tuple(None if dim < 0 else int(dim) for dim in dims)
    return TensorSpec(tensor.name, np.dtype(dtype).name, (None, *shape) if is_batched else shape)


def _zeros(tensor: TensorSpec, samples: Mapping[str, Sequence[int]], is_batched: bool) -> Tensor:
    """One row of nothing, as large as the warm-up says; where it says nothing, 1 for every free dimension."""
    dims = list(samples.get(tensor.name, ()))
    shape = [1, *dims] if is_batched else dims
    if len(shape) != len(tensor.shape):  # of a vector with one value a row, see inference.engine.pbtxt
        shape = [1 if dim is None else dim for dim in tensor.shape]
    return np.zeros(shape, tensor.dtype)


def requests(known: Known, batch: Batch) -> list[InferInput]:
    """Tensors as the server takes them.

    Raises:
        EngineError: naming the input that is not what the model takes.
    """
    expected = {spec.name: spec for spec in known.spec.inputs}
    if batch.keys() != expected.keys():
        missing, unknown = sorted(expected.keys() - batch.keys()), sorted(batch.keys() - expected.keys())
        raise EngineError(f"model {known.spec.name}: inputs missing {missing}, unknown {unknown}")
    inputs = []
    for name, tensor in batch.items():
        spec = expected[name]
        if not isinstance(tensor, np.ndarray) or tensor.dtype.name != spec.dtype:
            found = tensor.dtype.name if isinstance(tensor, np.ndarray) else type(tensor).__name__
            raise EngineError(f"model {known.spec.name}: input {name} is {found}, expected {spec.dtype}")
        if tensor.ndim != len(spec.shape) or any(
            d not in (None, n) for d, n in zip(spec.shape, tensor.shape, strict=True)
        ):
            shape = tensor.shape
            raise EngineError(f"model {known.spec.name}: input {name} has shape {shape}, expected {spec.shape}")
        if known.is_batched and tensor.ndim == 1:
            tensor = tensor[:, None]
        sent = InferInput(name, list(tensor.shape), np_to_triton_dtype(tensor.dtype.type))
        sent.set_data_from_numpy(np.ascontiguousarray(tensor))
        inputs.append(sent)
    return inputs


def responses(known: Known, result: InferResult) -> dict[str, Tensor]:
    """Outputs by name, read-only.

    Raises:
        EngineError: the server left one out.
    """
    outputs: dict[str, Tensor] = {}
    for spec in known.spec.outputs:
        tensor = result.as_numpy(spec.name)
        if tensor is None:
            raise EngineError(f"model {known.spec.name}: the Triton server's answer lacks {spec.name}")
        outputs[spec.name] = tensor[:, 0] if tensor.ndim > len(spec.shape) else tensor
    return outputs


def failure_of(error: InferenceServerException) -> Failure:
    """What kind of failure the client met."""
    status, message = str(error.status()), error.message() or ""
    if "DEADLINE_EXCEEDED" in status:
        return Failure.SILENT
    if "UNAVAILABLE" in status and RESTRICTED in message:
        return Failure.FAULT
    if "UNAVAILABLE" in status and any(words in message.lower() for words in FULL):
        return Failure.FULL
    if "NOT_FOUND" in status or ("UNAVAILABLE" in status and NOT_READY in message):
        return Failure.GONE
    if "UNAVAILABLE" in status:
        return Failure.ABSENT
    return Failure.FAULT


def explain(error: InferenceServerException) -> str:
    """Status and first line of what the server said, short; it never holds what was said in a call."""
    status = str(error.status() or "").removeprefix("StatusCode.")
    first = ((error.message() or "").strip() or "no message").splitlines()[0][:160]
    return f"{status}: {first}"
