"""A model of words: what a version's ``words.json`` says each word is worth, in nats. Everything else is real."""

import hashlib
import json
from pathlib import Path

import pytest
import typer.testing

from inference.intent.scores import FAMILIES, STAGES, IntentScores
from inference.intent.text import normalise
from inference.intent.versions import SpeechUsed, VersionRecord, seal

SPEECH = (SpeechUsed(weights_sha256="a" * 64, precision="int8"),)


class WordScorer:
    """Scores an utterance by its words; those worth more than a nat show an act."""

    def __init__(self, calibration, words) -> None:
        self.calibration = calibration
        self._words = words

    def score(self, items):
        return [self._one(normalise(item.current.text).split()) for item in items]

    def _one(self, said) -> IntentScores:
        worth = [self._words.get(word, 0.0) for word in said]
        strong = max(worth, default=0.0) > 1
        stages = dict.fromkeys(STAGES, 0.01) | ({"ask": 0.9, "lure": 0.9} if strong else {})
        families = dict.fromkeys(FAMILIES, 0.1 / (len(FAMILIES) - 1)) | {"refund": 0.9}
        return IntentScores(max(-3.0, min(3.0, sum(worth))), families, stages)


class Versions:
    """Makes version folders of word models."""

    def __init__(self, root: Path, calibration) -> None:
        self.root = root
        self._calibration = calibration.model_dump_json()

    def make(self, name: str, words: dict[str, float], **record) -> Path:
        """A sealed version ``<root>/models/scam_intent/<name>``, or at ``name`` where it is a path."""
        folder = Path(name) if "/" in str(name) else self.root / "models" / "scam_intent" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "words.json").write_text(json.dumps(words))
        for file in ("head.safetensors", "encoder.json", "model.onnx", "tokenizer.json"):
            (folder / file).write_text(f"{file} {sorted(words)}")
        (folder / "calibration.json").write_text(self._calibration)
        self.seal(folder, VersionRecord(head_sha256="0" * 64, speech=SPEECH, **record))
        return folder

    @staticmethod
    def seal(folder: Path, record: VersionRecord | None = None) -> Path:
        """In place of what reads the record from a graph."""
        digest = hashlib.sha256((folder / "head.safetensors").read_bytes()).hexdigest()
        seal(folder, (record or VersionRecord(head_sha256=digest)).model_copy(update={"head_sha256": digest}))
        return folder


@pytest.fixture
def versions(tmp_path, doubles, monkeypatch) -> Versions:
    """Versions whose model is one of words, for everything that evaluates or retrains."""
    made = Versions(tmp_path, doubles.CALIBRATION)

    def build_scorer(settings, *_more):
        words = json.loads((settings.models_dir / "scam_intent" / "1" / "words.json").read_text())
        return WordScorer(doubles.CALIBRATION, words)

    for module in (
        "training.evaluation.run",
        "training.evaluation.drift",
        "training.retrain.run",
        "inference.service.models",
    ):
        monkeypatch.setattr(f"{module}.build_scorer", build_scorer)
    monkeypatch.setattr("training.retrain.run.seal_intent", made.seal)
    return made


@pytest.fixture
def train_command(monkeypatch):
    """``train_command("evaluate", path)``: (exit code, output, message of the error)."""
    from training.cli import app

    def run(*arguments):
        done = typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])
        is_exit = done.exception is None or isinstance(done.exception, SystemExit)
        return done.exit_code, done.output, "" if is_exit else str(done.exception)

    return run


def _line(name, label, turns, more=None) -> str:
    """A turn is (leg, text) or (leg, text, stages)."""
    said = [dict(zip(("leg", "text", "stages"), turn, strict=False)) for turn in turns]
    return json.dumps({"id": name, "label": label, "turns": said} | (more or {}))


@pytest.fixture
def write_calls(tmp_path):
    """``write_calls(name, [(id, label, turns, {field: value})])``: JSON Lines of labelled calls."""

    def write(name, calls) -> Path:
        path = tmp_path / name
        path.write_text("".join(_line(*call) + "\n" for call in calls))
        return path

    return write
