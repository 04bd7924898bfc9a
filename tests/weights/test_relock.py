"""Making the lock: running it again over the same raw files changes nothing."""

import json
import shutil

from inference.weights import load_lock
from inference.weights.relock import main, relock


def test_it_finds_the_hashes_that_stand_in_the_lock(tiny, tmp_path):
    shutil.copy(tiny.lock_dir / "lock.json", tmp_path)
    for form in ("ct2", "hub"):
        pins = relock("tiny", tiny.write(getattr(tiny, form), tmp_path / form), tmp_path)
        artefact = load_lock(tiny.lock_dir).artefact("tiny")
        assert pins == {name: pin.model_dump() for name, pin in artefact.pins().items()}
        assert (tmp_path / "tiny.tensors.json").read_bytes() == (tiny.lock_dir / "tiny.tensors.json").read_bytes()


def test_the_command_prints_pins_or_one_line(tmp_path, capsys):
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("usage: ")
    assert main(["kokoro-82m", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "model.onnx of Kokoro is missing\n"
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    assert main(["kokoro-82m", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["model.onnx"]["size"] == 4
