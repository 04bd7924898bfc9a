"""Windows of the transcript -> calibrated scam-intent scores, for all calls at once."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from inference.engine.base import Engine
from inference.errors import EngineError, WeightsError
from inference.intent.acts import ACTS, FAR_ACTS, SUBSCRIBER_ACTS
from inference.intent.calibration import load_calibration
from inference.intent.context import ContextWindow, WindowTokenizer
from inference.intent.encoder import Reading
from inference.intent.scores import FAMILIES, STAGES, IntentScores
from inference.intent.text import is_filler

Floats = npt.NDArray[np.floating[Any]]


class IntentConfig(BaseModel):
    """Settings of the intent stage.

    Attributes:
        model: name in the model repository.
        max_batch: windows per request.
        max_tokens: longest window; what was said longer ago is not read.
        llr_limit: natural-log units; no single utterance adds or takes more than this.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "scam_intent"
    max_batch: int = Field(default=32, ge=1, le=512)
    max_tokens: int = Field(default=96, ge=48, le=512)
    llr_limit: float = Field(default=3.0, gt=0, le=10)


class IntentScorer:
    """Scores utterances in their context.

    Args:
        engine: serves ``config.model``.
        tokenizer_path: the encoder's tokenizer.json.
        calibration_path: calibration.json of the same model version.
        config: settings.

    Raises:
        EngineError: the model is not there, or not one of ours.
        WeightsError: tokenizer or calibration is missing, malformed, or belongs to another head.
    """

    def __init__(
        self, engine: Engine, tokenizer_path: Path, calibration_path: Path, config: IntentConfig | None = None
    ) -> None:
        self.config = config or IntentConfig()
        self._engine = engine
        self.calibration = load_calibration(calibration_path)
        metadata = engine.spec(self.config.model).metadata
        has_acts = metadata.get("acts", "")  # a head of an earlier training knows none
        known = metadata.get("families") == ",".join(FAMILIES) and metadata.get("stages") == ",".join(STAGES)
        if not known or has_acts not in ("", ",".join(ACTS)):
            raise EngineError(f"model {self.config.model} has other labels than this code; run: scamtap models pull")
        if metadata.get("head_sha256") != self.calibration.head_sha256:
            raise WeightsError(
                f"{calibration_path}: belongs to another head than model {self.config.model}; run: scamtap models pull"
            )
        try:
            tokenizer = Tokenizer.from_file(str(tokenizer_path))
            reading: Reading = "utterances" if metadata.get("reading") == "utterances" else "window"
            self._tokenizer = WindowTokenizer(tokenizer, self.config.max_tokens, reading=reading)
        # The tokenizers library raises plain Exception for every fault of the file.
        except Exception as error:
            raise WeightsError(f"{tokenizer_path}: not a BERT tokenizer; run: scamtap models pull") from error

    def score(self, items: Sequence[ContextWindow]) -> list[IntentScores]:
        """Score the current utterance of every window, in order.

        An utterance that says nothing ("yes", "mm-hm") or is in a language that the model was not trained on has an
        llr of exactly 0: it is no evidence.

        Raises:
            EngineError: the engine failed.
        """
        out: list[IntentScores] = []
        for start in range(0, len(items), self.config.max_batch):
            out += self._score_batch(items[start : start + self.config.max_batch])
        return out

    def _score_batch(self, items: Sequence[ContextWindow]) -> list[IntentScores]:
        tokens = self._tokenizer.batch(items)
        raw = self._engine.infer(self.config.model, {"input_ids": tokens.input_ids, "part": tokens.part})
        families = _softmax(np.asarray(raw["families"], np.float64))
        stages = _sigmoid(raw["stages"]).tolist()
        acts = _sigmoid(raw["acts"]).tolist() if "acts" in raw else [[] for _ in items]
        rows = zip(items, raw["llr"].tolist(), families.tolist(), stages, acts, strict=True)
        return [self._one(*row) for row in rows]

    def _one(
        self, item: ContextWindow, raw: float, families: list[float], stages: list[float], acts: list[float]
    ) -> IntentScores:
        leg = item.current.leg
        of_leg = SUBSCRIBER_ACTS if leg == "near" else FAR_ACTS
        shown = dict(zip(STAGES, stages, strict=True))
        done = {act: p for act, p in zip(ACTS, acts, strict=False) if act in of_leg}
        weighed = None
        if item.language in self.calibration.languages and not is_filler(item.current.text) and math.isfinite(raw):
            weighed = self.calibration.weigh(item.language, leg, raw, shown | done, self.config.llr_limit)
        llr = weighed.total({}, 1.0) if weighed else 0.0
        return IntentScores(llr, dict(zip(FAMILIES, families, strict=True)), shown, done, weighed)


def _sigmoid(logits: npt.ArrayLike) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, np.float64).clip(-30, 30))))


def _softmax(logits: Floats) -> Floats:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
