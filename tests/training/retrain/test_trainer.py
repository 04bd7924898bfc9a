"""What a retraining hands to the fit: old calls are held, and a run that was stopped goes on only as the same run."""

from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("torch")

from inference.intent.encoder import EncoderShape
from inference.weights.safetensors import write_safetensors
from training.intent.encoders import Encoder
from training.intent.sources import Sources, read_sources
from training.retrain import trainer as module
from training.retrain.trainer import WarmStart, WarmTrainer


class StoppedError(Exception):
    """The fit was broken off."""


@pytest.fixture
def handed(known, monkeypatch, tmp_path):
    """``handed(bias, config)``: what the fit is given to go on from the champion of that bias: calls, file, holds."""
    calls = read_sources(Sources(known, None, languages=("en",)))
    new = [replace(c, source="new", id=f"new-{c.id}") for c in calls if c.split == "train"]
    given = []

    def fit_version(_out, drawn, _shares, _corruptor, _encoder, _recipe, _console, checkpoint, *, holds):
        given.append((drawn, checkpoint, holds))
        raise StoppedError

    encoder = Encoder("none", EncoderShape(artefact=None, num_layers=1), {}, tmp_path / "tokenizer.json")
    monkeypatch.setattr("training.intent.encoders.open_version", lambda _version: encoder)
    monkeypatch.setattr(module, "fit_version", fit_version)

    def run(bias, config):
        with (tmp_path / "head.safetensors").open("wb") as file:
            write_safetensors(file, {"head.llr.bias": (1,)}, "float16", lambda _name: np.float16([bias]))
        with pytest.raises(StoppedError):
            WarmTrainer(config, Console(quiet=True), tmp_path / "work")(tmp_path, tmp_path / "out", calls, new)
        return given.pop()

    return run


def test_old_calls_are_held_and_new_ones_are_not(handed):
    drawn, _, holds = handed(0.5, WarmStart())
    assert {holds(call) for call in drawn if call.id.startswith("new-")} == {False}
    assert {holds(call) for call in drawn if not call.id.startswith("new-")} == {True}


def test_a_run_goes_on_from_the_same_champion_with_the_same_settings_alone(handed):
    """Of a champion promoted since, what it learnt would be missing in weights that were tuned from the one before."""
    begun = handed(0.5, WarmStart())[1]
    assert handed(0.5, WarmStart())[1] == begun
    assert handed(0.25, WarmStart())[1] != begun
    assert handed(0.5, WarmStart(epochs=3))[1] != begun
