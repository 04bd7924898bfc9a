"""Runs the model repository in this process, on ONNX Runtime."""

import platform
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from inference.engine.base import Batch, ModelSpec, Tensor, TensorSpec
from inference.engine.repository import REMEDY, find_model
from inference.engine.sums import check_sums
from inference.errors import EngineError

# ONNX Runtime's exceptions share no base below Exception.
_RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    error
    for error in vars(runtime_errors).values()
    if isinstance(error, type) and issubclass(error, Exception) and error.__module__ == runtime_errors.__name__
)
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True, slots=True)
class _Model:
    spec: ModelSpec
    session: Any
    input_dims: dict[str, tuple[int | str, ...]]  # free dimensions by their name: equal names must be equal sizes


class OnnxEngine:
    """In-process :class:`~inference.engine.base.Engine`; models are loaded on first use.

    One thread per request by default: throughput comes from many calls at once, and on shared cores two threads a
    request measured five times slower than one.
    """

    def __init__(
        self, models_dir: Path, *, num_threads: int = 1, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        """Serve ``models_dir``.

        Args:
            models_dir: the model repository.
            num_threads: cores that one request may use.
            providers: ONNX Runtime execution providers, best first.

        Raises:
            EngineError: this ONNX Runtime lacks one of the providers.
        """
        missing = sorted(set(providers) - set(ort.get_available_providers()))
        if missing:
            raise EngineError(f"ONNX Runtime here has no {', '.join(missing)}; install scamtap[gpu] or use the CPU")
        self._models_dir = models_dir
        self._providers = list(providers)
        self._options = _session_options(num_threads)
        self._models: dict[str, _Model] = {}
        self._lock = threading.Lock()  # of loading and closing; running needs none
        self._is_closed = False

    def spec(self, model: str) -> ModelSpec:
        """See :meth:`inference.engine.base.Engine.spec`."""
        return self._load(model).spec

    def infer(self, model: str, batch: Batch) -> dict[str, Tensor]:
        """See :meth:`inference.engine.base.Engine.infer`."""
        loaded = self._load(model)
        _check(loaded, batch)
        try:
            outputs = loaded.session.run(None, dict(batch))
        except _RUNTIME_ERRORS as error:
            raise EngineError(f"model {model} failed: {_first_line(error)}") from error
        return dict(zip((spec.name for spec in loaded.spec.outputs), outputs, strict=True))

    def close(self) -> None:
        """See :meth:`inference.engine.base.Engine.close`."""
        with self._lock:
            self._is_closed = True
            self._models.clear()

    def _load(self, name: str) -> _Model:
        loaded = self._models.get(name)
        if loaded is not None:
            return loaded
        with self._lock:
            if self._is_closed:
                raise EngineError(f"model {name} was asked of a closed engine")
            if name not in self._models:
                self._models[name] = self._open(name)
            return self._models[name]

    def _open(self, name: str) -> _Model:
        version, path = find_model(self._models_dir, name)
        check_sums(path.parent)
        try:
            session = ort.InferenceSession(str(path), self._options, providers=self._providers)
        except _RUNTIME_ERRORS as error:
            raise EngineError(f"{path} is not a model that loads ({_first_line(error)}); {REMEDY}") from error
        spec = ModelSpec(
            name=name,
            version=version,
            inputs=tuple(_tensor_spec(arg) for arg in session.get_inputs()),
            outputs=tuple(_tensor_spec(arg) for arg in session.get_outputs()),
            metadata=dict(session.get_modelmeta().custom_metadata_map),
        )
        return _Model(spec, session, {arg.name: tuple(arg.shape) for arg in session.get_inputs()})


def _session_options(num_threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors reach us as exceptions; its warnings would go to stderr unasked
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Both fused operators are slower on CPU than what they replace (residual + norm .94 ms against .24 for 350 x 512).
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "SkipLayerNormFusion;BiasGeluFusion;BiasSkipLayerNormFusion"
    )
    if not _has_exact_products():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _has_exact_products() -> bool:
    """Whether this CPU adds u8 x s8 products in 32 bits.

    x86 without VNNI adds pairs of them in 16 bits and saturates. ONNX Runtime can avoid that, at twice the time, and
    does so wherever it is told to: so it is only told where it must be.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux: unknown, so the safe way
        return False


def _tensor_spec(arg: Any) -> TensorSpec:
    shape = tuple(dim if isinstance(dim, int) else None for dim in arg.shape)
    return TensorSpec(arg.name, _DTYPES.get(arg.type, arg.type), shape)


def _check(model: _Model, batch: Batch) -> None:
    """Refuse what the graph does not take, as a Triton server would.

    Raises:
        EngineError: naming the input and what it should be.
    """
    name = model.spec.name
    expected = {spec.name: spec for spec in model.spec.inputs}
    if batch.keys() != expected.keys():
        missing, unknown = sorted(expected.keys() - batch.keys()), sorted(batch.keys() - expected.keys())
        raise EngineError(f"model {name}: inputs missing {missing}, unknown {unknown}")
    sizes: dict[str, int] = {}
    for key, tensor in batch.items():
        spec, dims = expected[key], model.input_dims[key]
        if not isinstance(tensor, np.ndarray) or tensor.dtype != np.dtype(spec.dtype):
            found = tensor.dtype.name if isinstance(tensor, np.ndarray) else type(tensor).__name__
            raise EngineError(f"model {name}: input {key} is {found}, expected {spec.dtype}")
        fits = tensor.ndim == len(dims) and all(
            size == (dim if isinstance(dim, int) else sizes.setdefault(dim or f"{key}{axis}", size))
            for axis, (dim, size) in enumerate(zip(dims, tensor.shape, strict=True))
        )
        if not fits:
            raise EngineError(f"model {name}: input {key} has shape {tensor.shape}, expected {dims} with {sizes}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
