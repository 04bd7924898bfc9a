"""The gate of the model repository: encoder states of many segments -> what each says for a scam."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inference.engine.base import Engine, Tensor
from inference.errors import EngineError, WeightsError
from inference.gate.calibration import BORN_WITH, load_gate_calibration
from inference.gate.graph import LLR, NUM_FRAMES, STATES, num_frames_of
from inference.speech.graph import ENCODER


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
