"""The gate of the cascade: a small model on encoder states decides which segments are worth decoding.

Decoding costs more than encoding, and most talk on most calls is nobody's business. With a gate, segments of calls that
nothing speaks against are encoded, and decoded only where the gate passes them.
"""

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from inference.engine.base import Engine, Tensor
from inference.errors import ConfigError, EngineError
from inference.speech.graph import ENCODER

Passes = npt.NDArray[np.bool_]

STATES, PROBABILITY = "states", "probability"
"""What a gate model takes: float32 ``[batch, time, width]``, and gives: float32 ``[batch]``."""
BORN_WITH = ("weights_sha256", "precision")
"""The speech model's metadata that a gate repeats as ``states_...``: states of other weights, or of the same in another
precision (10 % apart), are not what its threshold was chosen on."""


class CascadeConfig(BaseModel):
    """Whether every segment is decoded.

    Attributes:
        gate: name of a gate in the model repository; None: the gate stands open, everything is decoded.
        when: ``overload``: only while the worker cannot keep up; ``always``: also when it can, to serve more calls.
            Calls at ``suspect`` or above are decoded in any case.
        threshold: probability from which a segment passes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,63}$")
    when: Literal["overload", "always"] = "overload"
    threshold: float = Field(default=0.1, gt=0, lt=1)


class Gate(Protocol):
    """Decides what is decoded; thread-safe."""

    def passes(self, states: Tensor) -> Passes:
        """Whether each window is worth decoding.

        Args:
            states: float32 ``[batch, time, width]``, as the model ``speech`` gives them.

        Returns:
            bool ``[batch]``.

        Raises:
            EngineError: the engine failed.
        """
        ...


class ModelGate:
    """A gate of the model repository."""

    def __init__(self, engine: Engine, config: CascadeConfig) -> None:
        """Load ``config.gate``.

        Raises:
            ConfigError: no gate is named.
            EngineError: it is not there, is no gate, or was made for states of other weights or another precision.
        """
        if config.gate is None:
            raise ConfigError("cascade.gate names no model")
        spec, speech = engine.spec(config.gate), engine.spec(ENCODER)
        given = {output.name: output.shape for output in speech.outputs}[STATES]
        takes = {(one.name, one.dtype, len(one.shape), one.shape[-1]) for one in spec.inputs}
        gives = {(one.name, one.dtype, len(one.shape)) for one in spec.outputs}
        if takes != {(STATES, "float32", 3, given[-1])} or (PROBABILITY, "float32", 1) not in gives:
            raise EngineError(
                f"model {config.gate} is no gate: want {STATES} float32 [batch, time, {given[-1]}] in and "
                f"{PROBABILITY} float32 [batch] out"
            )
        for what in BORN_WITH:
            wanted, found = spec.metadata.get(f"states_{what}"), speech.metadata.get(what)
            if wanted != found:
                raise EngineError(
                    f"model {config.gate} was made for states of {what} {wanted}, model {ENCODER} has {found}: "
                    "train the gate on this one, or set cascade.gate to null"
                )
        self._engine, self._model, self._threshold = engine, config.gate, config.threshold

    def passes(self, states: Tensor) -> Passes:
        """See :meth:`Gate.passes`."""
        probability = np.asarray(self._engine.infer(self._model, {STATES: states})[PROBABILITY], np.float32)
        # A NaN passes: what cannot be judged is heard.
        return ~(probability < self._threshold)
