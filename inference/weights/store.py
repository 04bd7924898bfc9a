"""The cache folder: where pulled weights lie, how they are written (whole or not at all) and checked.

    <home>/weights/<artefact>/     canonical files + manifest.json, moved into place as one folder
    <home>/downloads/<artefact>/   carriers, and ``.part`` files that a later pull resumes; gone after success

``home`` is ``SCAMTAP_HOME``, by default the user's cache folder.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import platformdirs

from inference.errors import WeightsError
from inference.weights.lock import Artefact, Pinned
from inference.weights.safetensors import Writer

CHUNK_BYTES = 1 << 20
MANIFEST = "manifest.json"

Step = Literal["wait", "skip", "download", "unpack", "build", "verify"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Something to show while pulling.

    Attributes:
        artefact: which weights.
        step: what is being done; ``skip``: a source did not work, ``what`` says why in one line.
        what: the file, or the source.
        done_bytes, total_bytes: how far; ``total_bytes`` is 0 where nothing is counted.
    """

    artefact: str
    step: Step
    what: str
    done_bytes: int = 0
    total_bytes: int = 0


class ProgressCallback(Protocol):
    """Called from the pulling thread, up to a few hundred times a file."""

    def __call__(self, progress: Progress, /) -> None:
        """Show it."""


def cache_dir(home: Path | None = None) -> Path:
    """``home`` if given, else ``SCAMTAP_HOME``, else the user's cache folder for scamtap. Not created here."""
    if home is not None:
        return home
    configured = os.environ.get("SCAMTAP_HOME", "").strip()
    return Path(configured).expanduser() if configured else Path(platformdirs.user_cache_dir("scamtap"))


def artefact_dir(name: str, home: Path | None = None) -> Path:
    """Where the canonical files of ``name`` lie once pulled."""
    return cache_dir(home) / "weights" / name


def downloads_dir(name: str, home: Path | None = None) -> Path:
    """Where the carriers of ``name`` lie while it is pulled."""
    return cache_dir(home) / "downloads" / name


def lock_key(artefact: Artefact) -> str:
    """A digest of what the lock wants in the cache; differs once the lock moves to other weights."""
    pins = {name: [pin.size, pin.sha256] for name, pin in artefact.pins().items()}
    return hashlib.sha256(json.dumps(pins, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, str]:
    """What :func:`install` wrote; empty where there is none that can be read."""
    try:
        value = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}


def fault(folder: Path, pins: dict[str, Pinned], *, deep: bool) -> str | None:
    """What is wrong with the files of ``folder``, in a few words, or None.

    Args:
        folder: an artefact's folder.
        pins: what must lie there.
        deep: hash every byte; else only look at the sizes.
    """
    for name, pin in pins.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError:
            return f"{name} is missing"
        if size != pin.size:
            return f"{name} has {size} bytes, expected {pin.size}"
        if deep and hash_file(path) != pin.sha256:
            return f"{name} does not have the locked sha256"
    return None


def hash_file(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """sha256 of a file, hex; ``on_bytes`` hears the count of each chunk.

    Raises:
        WeightsError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                if on_bytes:
                    on_bytes(len(chunk))
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


class DiskFullError(WeightsError):
    """The disk is full: trying another source would not help."""


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the OSErrors of writing at ``path`` into one WeightsError line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFullError(
                f"no space left to write {path}; free some, or set SCAMTAP_HOME to a larger disk, and pull again"
            ) from error
        raise WeightsError(
            f"cannot write {path}: {error.strerror or error}; set SCAMTAP_HOME to a folder you may write"
        ) from error


class HashingWriter:
    """A binary file being written: counts, hashes and forwards to ``on_bytes``."""

    def __init__(self, file: Writer, on_bytes: Callable[[int], None] | None = None) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> None:
        """Write all of ``data``."""
        self._file.write(data)
        self.digest.update(data)
        self.size += len(data)
        if self._on_bytes:
            self._on_bytes(len(data))

    def matches(self, pin: Pinned) -> bool:
        """Whether exactly the pinned bytes were written."""
        return self.size == pin.size and self.digest.hexdigest() == pin.sha256


def install(built: Path, folder: Path, manifest: dict[str, str]) -> None:
    """Move a completely built folder into place; what lay there before is replaced.

    Raises:
        WeightsError: the disk refused.
    """
    with disk_errors(folder):
        (built / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        for path in built.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
            built.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            built.rename(folder)


@contextmanager
def only_one(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on ``path``, so that two pulls of one artefact do not write at once.

    Raises:
        WeightsError: the lock file cannot be made.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file gives the lock back, also when the process is killed
