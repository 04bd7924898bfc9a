"""The door every model is called through: tensors in, tensors out.

An engine knows nothing of calls or speech. ``OnnxEngine`` runs the graphs of the model repository in
process, ``TritonEngine`` on servers; both hold to the same contract (tests/triton/test_contract.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.generic]
Batch = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, NumPy dtype name and shape (``None`` = any) of one input or output."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a loaded model takes and gives.

    Attributes:
        name, version: as in the model repository, ``<name>/<version>/model.onnx``.
        metadata: free strings stored in the graph (weights' sha256, precision, ...).
    """

    name: str
    version: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]


class Engine(Protocol):
    """Runs named models on batches; thread-safe."""

    def infer(self, model: str, batch: Batch) -> dict[str, Tensor]:
        """Run ``model`` on ``batch`` (input name -> array, batch first) and return all its outputs.

        Raises:
            EngineError: unknown model, wrong inputs, or the runtime or server failed or is away.
            CapacityError: the server has too much to do: shed, do not retry.
        """
        ...

    def spec(self, model: str) -> ModelSpec:
        """Describe ``model``, loading it if need be.

        Raises:
            EngineError: it is not in the repository or cannot be loaded.
        """
        ...

    def close(self) -> None:
        """Release every model; later calls raise EngineError."""
        ...
