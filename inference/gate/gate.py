"""The gate of the model repository: encoder states of many segments -> what each says for a scam."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inference.engine.base import Engine, Tensor
from inference.errors import EngineError, WeightsError
from inference.gate.calibration import BORN_WITH, load_gate_calibration
from inference.gate.graph import LLR, LLR_LIMIT, NUM_FRAMES, STATES, num_frames_of
from inference.speech.graph import ENCODER
from inference.speech.whole import HOLD, WHOLE

HEAD_DRAWN = "gate_head_sha256"
"""Metadata of a speech model with a gate in it: which."""

NEVER = 4 * LLR_LIMIT  # further above the least than the gate ever says


class ScamGate:
    """Scores segments by their encoder states; thread-safe.

    Args:
        engine: serves the gate and the speech model.
        model: name of the gate in the model repository.
        calibration_path: calibration.json of the same version.

    Raises:
        EngineError: the model is not there, is no gate, or was trained on states of other weights or in another
            precision than the speech model gives: int8 states are a tenth away from fp32 ones, and a threshold chosen
            on one means nothing on the other.
        WeightsError: the calibration is missing, malformed, or belongs to another head.
    """

    def __init__(self, engine: Engine, model: str, calibration_path: Path) -> None:
        self._engine, self._model = engine, model
        self.calibration = load_gate_calibration(calibration_path)
        spec, speech = engine.spec(model), engine.spec(ENCODER)
        width = {output.name: output.shape for output in speech.outputs}[STATES][-1]
        takes = {(one.name, one.dtype, one.shape[1:]) for one in spec.inputs}
        gives = {(one.name, one.dtype, len(one.shape)) for one in spec.outputs}
        if takes != {(STATES, "float32", (None, width)), (NUM_FRAMES, "int64", ())} or gives != {(LLR, "float32", 1)}:
            raise EngineError(
                f"model {model} is no gate for model {ENCODER}: want {STATES} float32 [batch, time, {width}] and "
                f"{NUM_FRAMES} int64 [batch] in, {LLR} float32 [batch] out"
            )
        if spec.metadata.get("head_sha256") != self.calibration.head_sha256:
            raise WeightsError(
                f"{calibration_path}: belongs to another head than model {model}; run: scamtap models pull"
            )
        for name in BORN_WITH:
            what = name.removeprefix("states_")
            wanted, found = spec.metadata.get(name), speech.metadata.get(what)
            if wanted != found or wanted != self.calibration.born_with[name]:
                raise EngineError(
                    f"model {model} was trained on states of {what} {wanted}, model {ENCODER} gives {found}: train the "
                    "gate on these (scamtap-train gate), or set cascade.gate to null"
                )

    def llr(self, states: Tensor, num_samples: Sequence[int]) -> list[float]:
        """What each segment says for a scam, calibrated, nats.

        Args:
            states: float32 ``[batch, time, width]`` as the model ``speech`` gives them.
            num_samples: of each segment's speech, without the silence behind it.

        Raises:
            EngineError: the engine failed.
        """
        frames = np.array([num_frames_of(number) for number in num_samples], np.int64)
        raw = self._engine.infer(self._model, {STATES: states, NUM_FRAMES: frames})[LLR]
        return [self.calibration.llr(value) for value in raw.astype(np.float64).tolist()]


class ScamGateWithin:
    """The same gate where it is part of ``speech_text``, on a server: what is asked of it and what it says.

    Args:
        engine: serves the speech model.
        calibration_path: calibration.json of the gate that was drawn into it.

    Raises:
        EngineError: none was drawn into it.
        WeightsError: the calibration is missing, malformed, or belongs to another head than was drawn.
    """

    def __init__(self, engine: Engine, calibration_path: Path) -> None:
        self.calibration = load_gate_calibration(calibration_path)
        drawn = engine.spec(WHOLE).metadata.get(HEAD_DRAWN)
        if drawn is None:
            raise EngineError(
                f"model {WHOLE} on the server has no gate in it: build it where there is one (scamtap models pull), or "
                "set cascade.gate to null"
            )
        if drawn != self.calibration.head_sha256:
            raise WeightsError(
                f"{calibration_path}: belongs to another head than was built into {WHOLE}; run: scamtap models pull"
            )

    def ask(self, num_samples: Sequence[int], needed: Sequence[float]) -> dict[str, Tensor]:
        """Inputs of ``speech_text``.

        Args:
            num_samples: of each segment's speech, without the silence behind it.
            needed: nats that the gate must say of each for it to be decoded.
        """
        raw = [self.calibration.raw(llr) for llr in needed]
        return {
            NUM_FRAMES: np.array([num_frames_of(number) for number in num_samples], np.int64),
            HOLD: np.array([min(max(0.0, least + LLR_LIMIT), NEVER) for least in raw], np.float32),
        }

    def heard(self, raw: Tensor) -> list[float]:
        """The network's raw word ``[batch]``, calibrated."""
        return [self.calibration.llr(value) for value in raw.astype(np.float64).tolist()]
