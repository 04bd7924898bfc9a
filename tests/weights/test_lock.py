"""The lock file itself: valid, complete, and naming packages, not places."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from inference.errors import WeightsError
from inference.weights import load_lock
from inference.weights.lock import LOCK_DIR, HubSource, PackagesSource, load_tensor_lock


def test_it_knows_the_artefacts_and_their_licences():
    artefacts = load_lock().artefacts
    assert {name: (a.licence, a.training_only) for name, a in artefacts.items()} == {
        "whisper-base": ("MIT", False),
        "all-minilm-l6-v2": ("Apache-2.0", True),
        "multilingual-e5-small": ("MIT", False),
        "all-mpnet-base-v2": ("Apache-2.0", False),
        "kokoro-82m": ("Apache-2.0", True),
    }


def test_sources_are_in_the_order_folder_hub_packages():
    assert [s.kind for s in load_lock().artefact("whisper-base").sources] == ["folder", "hub", "packages"]


@pytest.mark.parametrize("name", ["whisper-base", "all-minilm-l6-v2", "multilingual-e5-small"])
def test_tensor_hashes_fit_the_size_of_the_canonical_file(name):
    artefact, tensors = load_lock().artefact(name), load_tensor_lock(name).tensors
    item = {"float16": 2, "float32": 4}[artefact.dtype]
    num_bytes = sum(math.prod(pin.shape) * item for pin in tensors.values())
    assert 0 < artefact.tensors.size - num_bytes < 200 * len(tensors)  # the rest is the header


def test_whisper_base_has_its_published_shapes():
    tensors = load_tensor_lock("whisper-base").tensors
    assert tensors["model.decoder.embed_tokens.weight"].shape == (51865, 512)
    assert tensors["model.encoder.conv1.weight"].shape == (512, 80, 3)
    assert sum(math.prod(pin.shape) for pin in tensors.values()) == 72_593_920  # "74 M", tied embedding counted once
    joined = load_lock().artefact("whisper-base").sources[2].joined["model.bin"]
    assert joined.sha256.startswith("905e5bf8")


def test_members_fill_the_joined_files_exactly():
    for artefact in load_lock().artefacts.values():
        for source in artefact.sources:
            if isinstance(source, PackagesSource):
                for name, pin in source.joined.items():
                    members = [m for package in source.packages for m in package.members if m.into == name]
                    assert sum(member.size for member in members) == pin.size


def test_hub_files_come_small_ones_first_so_that_a_mismatch_costs_little():
    for artefact in load_lock().artefacts.values():
        for source in artefact.sources:
            if isinstance(source, HubSource):
                assert next(reversed(source.files)) == "model.safetensors"


def test_no_address_of_a_registry_or_hub_stands_in_this_room():
    for path in Path(LOCK_DIR).glob("*.*"):
        assert not re.search(r"https?://\w", path.read_text(encoding="utf-8")), path.name


def _edited(tmp_path: Path, edit) -> Path:
    lock = json.loads((LOCK_DIR / "lock.json").read_text())
    edit(lock)
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    return tmp_path


@pytest.mark.parametrize("name", ["../../.bashrc", "/etc/passwd", "a/b", "", ".hidden", "a\\b"])
def test_a_raw_file_name_that_could_leave_the_folder_is_refused(tmp_path, name):
    def edit(lock):
        lock["artefacts"]["whisper-base"]["sources"][2]["packages"][0]["members"][0]["into"] = name

    with pytest.raises(WeightsError, match=r"lock.json is damaged at .*into"):
        load_lock(_edited(tmp_path, edit))


def test_unknown_keys_and_broken_files_are_one_line(tmp_path):
    with pytest.raises(WeightsError, match=r"lock.json is damaged at artefacts.kokoro-82m.url") as error:
        load_lock(_edited(tmp_path, lambda lock: lock["artefacts"]["kokoro-82m"].update(url="x")))
    assert "\n" not in str(error.value)
    for text in ("{", "\xff", ""):
        folder = tmp_path / str(len(text)) / str(hash(text))
        folder.mkdir(parents=True)
        (folder / "lock.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(WeightsError, match=r"lock.json is not JSON"):
            load_lock(folder)
    with pytest.raises(WeightsError, match="cannot read"):
        load_lock(tmp_path / "nowhere")


def test_a_copy_of_the_lock_is_the_lock(tmp_path):
    for path in LOCK_DIR.glob("*.json"):
        shutil.copy(path, tmp_path)
    assert load_lock(tmp_path) == load_lock()
