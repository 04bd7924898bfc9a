"""Shipped files are loaded as they are, or not at all."""

import shutil
from pathlib import Path

import pytest

from inference.audio.vad import VAD_MODEL
from inference.engine.onnx import OnnxEngine
from inference.engine.sums import SUMS_FILE, read_sums, sha256_of_file
from inference.errors import WeightsError
from inference.gate.install import GATE_MODEL, install_gate
from inference.gate.install import SHIPPED as GATE_SHIPPED

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
