"""Promotion and rollback of model versions: in one step, proved, and what was evaluated together stays together."""

import hashlib

import pytest

from inference.engine.repository import newest_version, version_dir
from inference.errors import ConfigError, WeightsError
from inference.intent.install import INTENT_MODEL, calibration_path, tokenizer_path
from inference.intent.versions import (
    SpeechUsed,
    VersionRecord,
    check_record,
    promote,
    read_record,
    rollback,
    seal,
)

SPEECH = {"weights_sha256": "a" * 64, "precision": "int8"}


def candidate(folder, mark=b"head"):
    """A sealed version; its files are not a model, and nothing here loads them."""
    folder.mkdir(parents=True)
    for name in ("head.safetensors", "encoder.json", "calibration.json", "model.onnx", "tokenizer.json", "report.json"):
        (folder / name).write_bytes(mark + name.encode())
    digest = hashlib.sha256((folder / "head.safetensors").read_bytes()).hexdigest()
    seal(folder, VersionRecord(head_sha256=digest, speech=(SpeechUsed(**SPEECH),)))
    return folder


@pytest.fixture
def models(tmp_path):
    candidate(tmp_path / "models" / INTENT_MODEL / "1", b"one ")
    return tmp_path / "models"


def test_a_promoted_folder_is_the_next_number_and_one_command_goes_back(models, tmp_path):
    assert promote(candidate(tmp_path / "new", b"two "), models) == 2
    assert version_dir(models, INTENT_MODEL).name == "2"
    assert calibration_path(models).read_bytes() == b"two calibration.json"
    assert rollback(models) == (2, 1)
    assert tokenizer_path(models).read_bytes() == b"one tokenizer.json"
    assert (models / INTENT_MODEL / "2.retired" / "head.safetensors").read_bytes() == b"two head.safetensors"


def test_a_number_is_never_used_twice(models, tmp_path):
    promote(candidate(tmp_path / "new", b"two "), models)
    rollback(models)
    assert promote(candidate(tmp_path / "newer", b"three "), models) == 3
    assert rollback(models) == (3, 1)


def test_the_first_version_cannot_be_rolled_back(models):
    with pytest.raises(ConfigError, match="no version before it"):
        rollback(models)
    assert newest_version(models, INTENT_MODEL) == 1


def test_a_damaged_version_is_not_rolled_back_to(models, tmp_path):
    promote(candidate(tmp_path / "new", b"two "), models)
    (models / INTENT_MODEL / "1" / "model.onnx").write_bytes(b"oNe model.onnx")
    with pytest.raises(WeightsError, match=r"is not what SHA256SUMS\.built says"):
        rollback(models)
    assert newest_version(models, INTENT_MODEL) == 2


@pytest.mark.parametrize("name", ["head.safetensors", "calibration.json", "version.json", "model.onnx"])
def test_a_damaged_candidate_changes_nothing(models, tmp_path, name):
    new = candidate(tmp_path / "new")
    content = bytearray((new / name).read_bytes())
    content[0] ^= 1
    (new / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        promote(new, models)
    assert [path.name for path in (models / INTENT_MODEL).iterdir()] == ["1"]


def test_an_unsealed_candidate_is_refused(models, tmp_path):
    new = candidate(tmp_path / "new")
    (new / "SHA256SUMS").unlink()
    with pytest.raises(WeightsError, match="no list of digests names it"):
        promote(new, models)


def test_no_room_leaves_nothing_behind(models, tmp_path, monkeypatch):
    new = candidate(tmp_path / "new")

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inference.intent.versions.shutil.copytree", full)
    with pytest.raises(WeightsError, match="make room"):
        promote(new, models)
    assert [path.name for path in (models / INTENT_MODEL).iterdir()] == ["1"]


def test_a_classifier_is_refused_beside_what_it_was_not_evaluated_with(models):
    folder = version_dir(models, INTENT_MODEL)
    intent = {"head_sha256": read_record(folder).head_sha256, "precision": "int8"}
    check_record(folder, intent, SPEECH)
    check_record(folder, intent, None)
    for wrong_intent, wrong_speech, says in (
        (intent | {"precision": "fp16"}, SPEECH, "evaluated in int8, built in fp16"),
        (intent | {"head_sha256": "b" * 64}, SPEECH, "its record another"),
        (intent, SPEECH | {"precision": "fp16"}, "speech model aaaaaaaaaaaa int8, here is aaaaaaaaaaaa fp16"),
        (intent, SPEECH | {"weights_sha256": "c" * 64}, "here is cccccccccccc int8"),
        (intent, {}, "does not say what it was built from"),
    ):
        with pytest.raises(WeightsError, match=says):
            check_record(folder, wrong_intent, wrong_speech)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"head_sha256": "x"}', '{"head_sha256": 1, "more": 2}'])
def test_a_record_that_is_none_is_said_in_a_line(tmp_path, content):
    (tmp_path / "version.json").write_text(content)
    with pytest.raises(WeightsError, match="is not a version's record"):
        read_record(tmp_path)
