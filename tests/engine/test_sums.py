"""Digests beside the files: one changed bit refuses to load, and the list is one that sha256sum reads."""

import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.graph import GraphBuilder
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_model
from inference.engine.sums import BUILT_SUMS_FILE, check_sums, read_sums, write_sums
from inference.errors import WeightsError


def doubler(factor=2.0):
    graph = GraphBuilder("fp32")
    graph.input("x", np.float32, ["batch"])
    graph.output("y", graph.op("Mul", "x", graph.floats(factor)), np.float32, ["batch"])
    return graph.build({})


@pytest.fixture
def folder(tmp_path):
    write_model(tmp_path, "doubler", doubler())
    (tmp_path / "doubler/1/head.safetensors").write_bytes(bytes(range(256)))
    write_sums(tmp_path / "doubler/1", ["model.onnx"], BUILT_SUMS_FILE)
    write_sums(tmp_path / "doubler/1", ["head.safetensors"])
    return tmp_path / "doubler/1"


@pytest.mark.parametrize("name", ["model.onnx", "head.safetensors"])
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_one_flipped_bit_of_any_listed_file_is_not_loaded(folder, name, bit):
    engine = OnnxEngine(folder.parents[1])
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1 << bit
    (folder / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name}: is not what SHA256SUMS"):
        engine.infer("doubler", {"x": np.ones(2, np.float32)})


def test_what_is_whole_loads(folder):
    check_sums(folder, ("model.onnx", "head.safetensors"))
    out = OnnxEngine(folder.parents[1]).infer("doubler", {"x": np.ones(2, np.float32)})
    assert out["y"].tolist() == [2, 2]


def test_what_no_list_names_is_refused_where_it_is_needed(folder):
    (folder / "other").touch()
    with pytest.raises(WeightsError, match="other: no list of digests names it"):
        check_sums(folder, ("other",))


def test_a_listed_file_that_is_gone_is_said(folder):
    (folder / "head.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"head.safetensors: cannot be read \(No such file"):
        check_sums(folder)


def test_a_model_that_is_written_anew_makes_the_old_list_of_builds_void(folder):
    write_model(folder.parents[1], "doubler", doubler(3.0))
    assert not (folder / BUILT_SUMS_FILE).exists()
    assert (folder / "SHA256SUMS").exists()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_sha256sum_itself_agrees(folder):
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert done.returncode == 0


@pytest.mark.parametrize("line", ["x", "0" * 64, "0" * 64 + "  ../etc/passwd", "0" * 64 + "  a/b", "0" * 64 + "  ."])
def test_a_list_that_leads_outside_or_is_none_is_refused(tmp_path, line):
    (tmp_path / "SHA256SUMS").write_text(f"{line}\n")
    with pytest.raises(WeightsError, match="line 1 is not"):
        read_sums(tmp_path / "SHA256SUMS")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_list_or_one_line_of_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("sums") / "SHA256SUMS"
    path.write_bytes(content)
    try:
        sums = read_sums(path)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert all(len(digest) == 64 and "/" not in name for name, digest in sums.items())
