"""What a model version holds, proved before it is loaded: ``sha256sum`` lists beside the files.

A version folder has up to two of them, in the format that ``sha256sum --check`` reads:

    SHA256SUMS         what was trained and shipped: head, calibration, record
    SHA256SUMS.built   what this machine built of it and of pulled weights: model.onnx, tokenizer.json

A list proves that nothing was damaged or exchanged by mistake on disk or on the way; it is no signature, who may write
the folder may write the list.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from inference.engine.repository import BUILT_SUMS_FILE, REMEDY, write_atomically
from inference.errors import WeightsError

SUMS_FILE = "SHA256SUMS"
MAX_SUMS_BYTES = 1 << 20

_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[A-Za-z0-9._-]+)")


def sha256_of_file(path: Path) -> str:
    """Digest of a file's bytes, hex.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error


def write_sums(folder: Path, names: Iterable[str], sums_file: str = SUMS_FILE) -> None:
    """Put down the digests of ``names``, files of ``folder``.

    Raises:
        WeightsError: a file is missing, or the list cannot be written.
    """
    text = "".join(f"{sha256_of_file(folder / name)}  {name}\n" for name in sorted(names))
    write_atomically(folder / sums_file, lambda temporary: temporary.write_text(text, encoding="ascii"))


def read_sums(path: Path) -> dict[str, str]:
    """Name -> digest of one list; empty where there is none.

    Raises:
        WeightsError: it is no such list, or names a file outside its folder.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
    text = content[:MAX_SUMS_BYTES].decode("ascii", "replace")
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None or match["name"].startswith("."):
            raise WeightsError(f"{path}: line {number} is not 'sha256  file name'; restore it from the repository")
        sums[match["name"]] = match["digest"]
    return sums


def check_sums(folder: Path, needed: Iterable[str] = ()) -> None:
    """Read every listed file of ``folder`` and hold it against its digest.

    Args:
        folder: of one model version.
        needed: files that a list must cover; without, a folder without lists passes (a model of somebody's own).

    Raises:
        WeightsError: one bit differs, a file is gone, or one of ``needed`` is not listed; names the file.
    """
    _hold(folder, needed, _listed(folder))


def check_listed(folder: Path, names: Collection[str]) -> None:
    """Hold ``names`` alone against their digests, and no other file of ``folder``: the rest may lie on a server.

    Raises:
        WeightsError: one bit differs, a file is gone, or no list names it.
    """
    _hold(folder, names, [line for line in _listed(folder) if line[0] in names])


def _hold(folder: Path, needed: Iterable[str], listed: Sequence[tuple[str, str, str]]) -> None:
    if missing := sorted(set(needed) - {name for name, _, _ in listed}):
        remedy = REMEDY if (folder / SUMS_FILE).is_file() else f"restore {SUMS_FILE}, or accept it: scamtap models seal"
        raise WeightsError(f"{folder / missing[0]}: no list of digests names it, so it is not loaded; {remedy}")
    for name, digest, sums in listed:
        if sha256_of_file(folder / name) != digest:
            remedy = REMEDY if sums == BUILT_SUMS_FILE else "restore it, or accept it: scamtap models seal"
            raise WeightsError(f"{folder / name}: is not what {sums} says, so it is not loaded; {remedy}")


def _listed(folder: Path) -> list[tuple[str, str, str]]:
    """Name, digest, and the list that says so; a file that both lists name stands twice."""
    return [
        (name, digest, sums)
        for sums in (SUMS_FILE, BUILT_SUMS_FILE)
        for name, digest in read_sums(folder / sums).items()
    ]
