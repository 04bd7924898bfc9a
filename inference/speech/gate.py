"""The door of the cascade: before segments are decoded, a small model on their encoder states says what it hears.

Decoding costs more than encoding, and most talk on most calls is nobody's business. With a gate
(:mod:`inference.gate`), segments of calls that nothing speaks against are encoded, and decoded only once the gate's
evidence on their call suffices.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from inference.engine.base import Tensor

STATES = "states"
"""The speech model's output that a gate reads."""

Weigh: TypeAlias = Callable[[int, float], bool]
"""Told the index of a segment and what the gate makes of it, nats; says whether it is to be decoded."""


class CascadeConfig(BaseModel):
    """Whether every segment is decoded.

    Attributes:
        gate: name of a gate in the model repository; None: the gate stands open, everything is decoded.
        when: ``overload``: only while the worker cannot keep up; ``always``: also when it can, to serve more calls.
            Calls at ``suspect`` or above are decoded in any case.
        pass_llr: nats of evidence from which a call passes the gate; None: the gate's own operating point.
        fusion: factor on what the gate hears of a far segment where its words have a score too: that much is added to
            it. 0: words speak for themselves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_]{0,63}$")
    when: Literal["overload", "always"] = "overload"
    pass_llr: float | None = Field(default=None, ge=-20, le=20)
    fusion: float = Field(default=0.0, ge=0, le=2)


class Gate(Protocol):
    """Says what encoder states speak for; thread-safe. :class:`~inference.gate.gate.ScamGate` does."""

    def llr(self, states: Tensor, num_samples: Sequence[int]) -> list[float]:
        """What each segment says for a scam, nats.

        Args:
            states: float32 ``[batch, time, width]``, as the model ``speech`` gives them.
            num_samples: of each segment's speech, without the silence behind it.

        Raises:
            EngineError: the engine failed.
        """
        ...


class GateWithin(Protocol):
    """A gate that is part of ``speech_text``; :class:`~inference.gate.gate.ScamGateWithin` is."""

    def ask(self, num_samples: Sequence[int], needed: Sequence[float]) -> dict[str, Tensor]:
        """Inputs of ``speech_text``: of each segment how much is speech, and what must be said of it to decode it."""
        ...

    def heard(self, raw: Tensor) -> list[float]:
        """What each segment says for a scam, nats, of the output ``llr``."""
        ...
