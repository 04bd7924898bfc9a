"""Windows of the transcript -> calibrated scam-intent scores, for all calls at once.

A language that has a model of its own (:func:`inference.intent.install.own_models`) is judged by that one, every other
by the one for all languages.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from inference.engine.base import Engine
from inference.errors import EngineError, WeightsError
from inference.intent.acts import ACTS, FAR_ACTS, SUBSCRIBER_ACTS
from inference.intent.calibration import Calibration, load_calibration
from inference.intent.context import ContextWindow, WindowTokenizer
from inference.intent.encoder import Reading
from inference.intent.reader import WindowReader
from inference.intent.scores import FAMILIES, STAGES, IntentScores
from inference.intent.text import is_filler

Floats = npt.NDArray[np.floating[Any]]


class IntentConfig(BaseModel):
    """Settings of the intent stage.

    Attributes:
        model: name in the model repository; ``<model>_<language>`` beside it is that language's own.
        max_batch: windows per request.
        max_tokens: longest window; what was said longer ago is not read.
        llr_limit: natural-log units; no single utterance adds or takes more than this.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "scam_intent"
    max_batch: int = Field(default=32, ge=1, le=512)
    max_tokens: int = Field(default=96, ge=48, le=512)
    llr_limit: float = Field(default=3.0, gt=0, le=10)


@dataclass(frozen=True, slots=True)
class Judge:
    """One intent model, ready to be asked.

    Attributes:
        reader: asks it.
        calibration: of the same version.
    """

    reader: WindowReader
    calibration: Calibration


def open_judge(engine: Engine, model: str, tokenizer_path: Path, calibration_path: Path, max_tokens: int) -> Judge:
    """Open the newest version of ``model``.

    Args:
        engine: serves it.
        model: its name.
        tokenizer_path: the encoder's tokenizer.json.
        calibration_path: calibration.json of the same version.
        max_tokens: longest window.

    Raises:
        EngineError: the model is not there, or not one of ours.
        WeightsError: tokenizer or calibration is missing, malformed, or belongs to another head.
    """
    calibration = load_calibration(calibration_path)
    metadata = engine.spec(model).metadata
    has_acts = metadata.get("acts", "")  # a head of an earlier training knows none
    known = metadata.get("families") == ",".join(FAMILIES) and metadata.get("stages") == ",".join(STAGES)
    if not known or has_acts not in ("", ",".join(ACTS)):
        raise EngineError(f"model {model} has other labels than this code; run: scamtap models pull")
    if metadata.get("head_sha256") != calibration.head_sha256:
        raise WeightsError(f"{calibration_path}: belongs to another head than model {model}; run: scamtap models pull")
    try:
        tokenizer = Tokenizer.from_file(str(tokenizer_path))
        reading: Reading = "utterances" if metadata.get("reading") == "utterances" else "window"
        windows = WindowTokenizer(tokenizer, max_tokens, reading=reading)
    # The tokenizers library raises plain Exception for every fault of the file.
    except Exception as error:
        raise WeightsError(f"{tokenizer_path}: not a BERT tokenizer; run: scamtap models pull") from error
    return Judge(WindowReader(engine, model, windows), calibration)


class IntentScorer:
    """Scores utterances in their context.

    Args:
        judge: the model for all languages.
        config: settings.
        own: language -> the model that knows it better.

    Raises:
        WeightsError: a model of a language was not trained on it, or counts acts otherwise.
    """

    def __init__(
        self,
        judge: Judge,
        config: IntentConfig | None = None,
        own: Mapping[str, Judge] | None = None,
    ) -> None:
        self.config = config or IntentConfig()
        self._judge, self._own = judge, dict(own or {})
        self.calibration = judge.calibration.with_own({code: own.calibration for code, own in self._own.items()})

    @property
    def fingerprint(self) -> str:
        """Hex digest of what judges: every head and its calibration."""
        judges = (self._judge, *(self._own[code] for code in sorted(self._own)))
        text = "".join(judge.calibration.model_dump_json() for judge in judges)  # a head's own hash is in it
        return hashlib.sha256(text.encode()).hexdigest()

    def score(self, items: Sequence[ContextWindow]) -> list[IntentScores]:
        """Score the current utterance of every window, in order.

        An utterance that says nothing ("yes", "mm-hm") or is in a language that the model was not trained on has an
        llr of exactly 0: it is no evidence.

        Raises:
            EngineError: the engine failed.
        """
        places: dict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(items):
            places[item.language if item.language in self._own else ""].append(place)
        out: dict[int, IntentScores] = {}
        for language, chosen in places.items():
            reader = self._own.get(language, self._judge).reader
            for start in range(0, len(chosen), self.config.max_batch):
                batch = chosen[start : start + self.config.max_batch]
                out |= zip(batch, self._score_batch(reader, [items[place] for place in batch]), strict=True)
        return [out[place] for place in range(len(items))]

    def _score_batch(self, reader: WindowReader, items: Sequence[ContextWindow]) -> list[IntentScores]:
        raw = reader.read(items)
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
