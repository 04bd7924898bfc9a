"""Shipped files are loaded as they are, or not at all."""

import gc
import shutil
import time
from pathlib import Path

import pytest

from inference.audio.vad import VAD_MODEL
from inference.config import Settings
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import BUILT_SUMS_FILE
from inference.engine.sums import SUMS_FILE, read_sums, sha256_of_file, write_sums
from inference.errors import EngineError, WeightsError
from inference.gate.install import GATE_MODEL, install_gate
from inference.gate.install import SHIPPED as GATE_SHIPPED
from inference.service.models import build_scorer
from inference.service.sealed import check_gate, check_speech_tokenizer

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize(("model", "names"), [(VAD_MODEL, ("model.onnx",)), (GATE_MODEL, GATE_SHIPPED)])
def test_what_git_holds_is_what_its_list_says(model, names):
    folder = MODELS / model / "1"
    assert read_sums(folder / SUMS_FILE) == {name: sha256_of_file(folder / name) for name in names}


@pytest.mark.parametrize("name", ["model.onnx", *GATE_SHIPPED])
def test_a_gate_with_one_bit_flipped_is_not_loaded(tmp_path, name):
    shutil.copytree(MODELS / GATE_MODEL, tmp_path / GATE_MODEL)
    install_gate(tmp_path)
    flip(tmp_path / GATE_MODEL / "1" / name)
    with pytest.raises(WeightsError, match=f"{name}: is not what SHA256SUMS"):
        OnnxEngine(tmp_path).spec(GATE_MODEL)


def test_voice_activity_with_one_bit_flipped_is_not_loaded(tmp_path):
    shutil.copytree(MODELS / VAD_MODEL, tmp_path / VAD_MODEL)
    OnnxEngine(tmp_path).spec(VAD_MODEL)
    flip(tmp_path / VAD_MODEL / "1" / "model.onnx")
    with pytest.raises(WeightsError, match=r"model\.onnx: is not what SHA256SUMS"):
        OnnxEngine(tmp_path).spec(VAD_MODEL)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_gate_s_calibration_is_held_against_its_list_wherever_its_graph_runs(tmp_path):
    shutil.copytree(MODELS / GATE_MODEL, tmp_path / GATE_MODEL)
    check_gate(tmp_path)  # its graph is not built here
    path = tmp_path / GATE_MODEL / "1" / "calibration.json"
    path.write_text(path.read_text().replace("-1.261", "99.0"))
    with pytest.raises(WeightsError, match=r"calibration\.json: is not what SHA256SUMS"):
        check_gate(tmp_path)
    (path.parent / SUMS_FILE).unlink()
    with pytest.raises(WeightsError, match="no list of digests names it"):
        check_gate(tmp_path)


def test_a_recogniser_s_tokenizer_is_held_against_its_list_where_a_server_runs_the_rest(tmp_path):
    folder = tmp_path / "speech" / "1"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    write_sums(folder, ["tokenizer.json"], BUILT_SUMS_FILE)
    check_speech_tokenizer(tmp_path)
    flip(folder / "tokenizer.json")
    with pytest.raises(WeightsError, match=r"tokenizer\.json: is not what SHA256SUMS"):
        check_speech_tokenizer(tmp_path)


class Engine:
    """Holds nothing that is asked of it, and counts how often it is closed."""

    closed = 0

    def spec(self, model):
        raise EngineError(f"model {model} is not on the server yet")

    def close(self):
        self.closed += 1


def test_an_engine_made_for_a_version_that_does_not_load_is_closed(monkeypatch, tmp_path):
    engine = Engine()
    monkeypatch.setattr("inference.service.models.build_engine", lambda _config, _models_dir: engine)
    with pytest.raises(EngineError, match="not on the server yet"):
        build_scorer(Settings(models_dir=tmp_path))
    assert engine.closed == 1


def test_an_engine_made_for_a_scorer_is_closed_when_nobody_has_that_any_more(models, monkeypatch):
    made = []

    def build(_config, models_dir):
        engine = OnnxEngine(models_dir)
        monkeypatch.setattr(engine, "close", lambda: made.append("closed"))
        return engine

    monkeypatch.setattr("inference.service.models.build_engine", build)
    scorer = build_scorer(models.settings)
    assert made == []
    del scorer
    gc.collect()
    for _ in range(500):
        if made:
            break
        time.sleep(0.01)
    assert made == ["closed"]
