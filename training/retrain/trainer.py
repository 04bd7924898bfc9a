"""Fits a candidate from the champion's own weights on new calls and a sample of the old.

The old calls are held to what the champion says of them (:mod:`training.intent.held`), so its calibration holds, and is
kept: found anew, it shifted thresholds by chance, and that cost more old scams than the new calls did.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from rich.console import Console

from inference.engine.sums import sha256_of_file
from inference.intent.calibration import CALIBRATION_FILE, load_calibration
from inference.intent.install import HEAD_FILE
from inference.service.sealed import seal_intent
from inference.weights.safetensors import read_safetensors
from training.evaluation.outcome import Outcome
from training.evaluation.run import judge_all
from training.evaluation.sets import TextSet
from training.intent.corrupt import Corruptor
from training.intent.data import Call
from training.intent.pipeline import Fitted, build_head, fit_version, write_calibration
from training.intent.recipe import TRAIN, Share, draw
from training.intent.version import write_head
from training.retrain.between import Tried, between, furthest
from training.retrain.compare import forgets_nothing
from training.retrain.incoming import SOURCE

if TYPE_CHECKING:
    from training.intent.fit import FitConfig

NEW_MASS = 0.25
"""Share of each label's weight that the new calls get, however few: the rest keeps what was known."""

SHARES = {**TRAIN, (SOURCE, True): Share(NEW_MASS, 10_000, 10_000, copies=3), (SOURCE, False): Share(NEW_MASS, 10_000, 10_000, copies=2)}  # fmt: skip  # noqa: E501


@dataclass(frozen=True, slots=True)
class WarmStart:
    """How a candidate is fitted.

    Attributes:
        epochs: passes over the new calls and what is rehearsed.
        num_rehearsed: old training calls beside them, so that nothing known is forgotten.
        num_dev: old development calls that say how far from the champion it may go.
        rate: factor on the learning rates of training from the published encoder: less is to be learnt. With .5 more is
            learnt of a campaign, and the gate of old families refused it for two calls each in two of eighteen
            (models/README.md); with .25 half of the way to the champion passes.
        kept: shares of the champion's weights in the candidate's, tried in turn until it forgets and alarms no more
            than gates allow (:mod:`training.retrain.between`).
        seed: of every draw.
    """

    epochs: int = 2
    num_rehearsed: int = 1000
    num_dev: int = 5000
    rate: float = 0.25
    kept: tuple[float, ...] = (0.0, 0.5, 0.75, 0.875)
    seed: int = 1


class Trainer(Protocol):
    """Makes a candidate; tests give a quick one."""

    def __call__(self, champion: Path, out: Path, known: Sequence[Call], new: Sequence[Call]) -> dict[str, Any]:
        """Write head, encoder.json, calibration.json and the built model to ``out``; returns what is to be recorded.

        Args:
            champion: version folder to start from.
            out: ``<work>/models/scam_intent/1``.
            known: old calls of all sides; only train and dev are looked at.
            new: likewise.
        """
        ...


class WarmTrainer:
    """The real :class:`Trainer`."""

    def __init__(self, config: WarmStart, console: Console, work: Path) -> None:
        self._config = config
        self._console = console
        self._work = work

    def __call__(self, champion: Path, out: Path, known: Sequence[Call], new: Sequence[Call]) -> dict[str, Any]:
        """See :class:`Trainer`."""
        config = self._config
        calls = [*_sampled(known, "train", config.num_rehearsed, config.seed), *new]
        corruptor = Corruptor(c for c in [*known, *new] if c.split == "train")
        fitted = self._fit(champion, out, draw(calls, SHARES, "train", config.seed), corruptor)
        tuned, shipped = (read_safetensors(folder / HEAD_FILE) for folder in (out, champion))
        scripts = [call for call in known if call.source.startswith("scripts")]
        old = _sampled(scripts, "dev", config.num_dev, config.seed)
        calibration = load_calibration(champion / CALIBRATION_FILE)
        before = self._judged(champion, old)

        def make(kept: float) -> Tried:
            sha256 = write_head(out / HEAD_FILE, between(tuned, shipped, kept))
            build_head(out, "int8")
            write_calibration(out, calibration.model_copy(update={"head_sha256": sha256}))
            return Tried(kept, forgets_nothing(before, self._judged(seal_intent(out), old)))

        tried = furthest(config.kept, make)
        self._checkpoint_of(champion).unlink(missing_ok=True)  # one stopped while it was tried need not fit anew
        return {
            "warm_start": dataclasses.asdict(config),
            "num_fitted": sum(fitted.num_calls.values()),
            "old_development_calls": [one.to_json() for one in tried],
        }

    def _checkpoint_of(self, champion: Path) -> Path:
        """A run with other settings, or from another head, is another run: it does not go on from this one."""
        key = hashlib.sha256(f"{self._config} {sha256_of_file(champion / HEAD_FILE)}".encode()).hexdigest()[:8]
        return self._work / f"fit-{key}.safetensors"

    def _fit(self, champion: Path, out: Path, calls: Sequence[Call], corruptor: Corruptor) -> Fitted:
        from training.intent.encoders import open_version

        encoder, shipped = open_version(champion), read_safetensors(champion / HEAD_FILE)
        recipe = self._recipe(champion).as_tuned(encoder.shape, shipped)
        console, checkpoint, holds = self._console, self._checkpoint_of(champion), lambda call: call.source != SOURCE
        return fit_version(out, calls, SHARES, corruptor, encoder, recipe, console, checkpoint, holds=holds)

    def _judged(self, version: Path, calls: list[Call]) -> Sequence[Outcome]:
        return judge_all(version, [TextSet("dev", "written text", calls)], self._console, lambda _line: None)["dev"]

    def _recipe(self, champion: Path) -> "FitConfig":
        """The champion's recipe, gentler."""
        from training.intent.fit import FitConfig

        try:
            said = json.loads((champion / "report.json").read_text(encoding="utf-8"))["training"]["recipe"]
        except (OSError, ValueError, KeyError, TypeError):
            said = {}
        known = {field.name for field in dataclasses.fields(FitConfig)}
        recipe = FitConfig(**{key: value for key, value in said.items() if key in known}).slowed(self._config.rate)
        config = self._config
        return dataclasses.replace(recipe, seed=config.seed, epochs=config.epochs, head_epochs=0)


def _sampled(calls: Sequence[Call], split: str, limit: int, seed: int) -> list[Call]:
    """At most ``limit`` calls of one side, both labels alike."""
    rng = np.random.default_rng(seed)
    chosen: list[Call] = []
    for is_scam in (True, False):
        its = [c for c in calls if c.split == split and c.is_scam == is_scam]
        chosen += [its[i] for i in rng.permutation(len(its))[: limit // 2]]
    return chosen
