"""Versions of an intent model: ``models/scam_intent/<number>/``, the highest is the one that serves.

    promote    a finished folder becomes the next number: copied beside, proved, moved into place in one step
    rollback   the highest becomes ``<number>.retired``: the one before serves again, nothing is copied or deleted

Both are renames, so a worker (or Triton) sees the old state or the new one and never half a version. ``version.json``
in the folder records what was evaluated together: a classifier read on another recogniser's text, or in another
precision, has other errors than those its figures tell of, so the worker refuses the pair.
"""

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.engine.repository import BUILT_SUMS_FILE, MODEL_FILE, newest_version, version_dir, write_atomically
from inference.engine.sums import SUMS_FILE, check_sums, sha256_of_file, write_sums
from inference.errors import ConfigError, WeightsError
from inference.intent.calibration import CALIBRATION_FILE
from inference.intent.encoder import ENCODER_FILE
from inference.intent.install import HEAD_FILE, INTENT_MODEL, TOKENIZER_FILE

RECORD_FILE = "version.json"
RETIRED = ".retired"
SHIPPED = (HEAD_FILE, ENCODER_FILE, CALIBRATION_FILE, RECORD_FILE)
BUILT = (MODEL_FILE, TOKENIZER_FILE)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class SpeechUsed(BaseModel):
    """The recogniser whose words the classifier was evaluated on, as its graph says of itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights_sha256: Sha256
    precision: str


class VersionRecord(BaseModel):
    """What belongs to one version of the classifier.

    Attributes:
        head_sha256: of its head.safetensors.
        precision: of the graph that was calibrated and evaluated.
        speech: recognisers that it was evaluated on the words of; none where on texts alone.
        parent: version that it was measured against; None for the first.
        parent_sha256: head of that version, since a number may be given again; None where it was not noted down.
        made_at: UTC, ISO 8601.
        data_sha256: name -> digest of the data that it learnt from beyond the parent's.
        gold_sha256: digest of the frozen calls that it had to hold its own on.
        gates: name -> what was measured; only versions that passed every gate have any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head_sha256: Sha256
    precision: str = "int8"
    speech: tuple[SpeechUsed, ...] = ()
    parent: int | None = Field(default=None, ge=1)
    parent_sha256: Sha256 | None = None
    made_at: str = ""
    data_sha256: dict[str, str] = {}
    gold_sha256: Sha256 | None = None
    gates: dict[str, str] = {}


def read_record(folder: Path) -> VersionRecord:
    """version.json of a version folder.

    Raises:
        WeightsError: it is missing or malformed.
    """
    path = folder / RECORD_FILE
    try:
        return VersionRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); run: scamtap models seal") from error
    except (ValidationError, ValueError) as error:
        raise WeightsError(f"{path}: is not a version's record; restore it, or run: scamtap models seal") from error


def seal(folder: Path, record: VersionRecord) -> None:
    """Write ``record`` and the digests of what is shipped: from now on one changed bit refuses to load.

    Raises:
        WeightsError: head or calibration is missing, or nothing can be written.
    """
    text = record.model_dump_json(indent=1) + "\n"
    write_atomically(folder / RECORD_FILE, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    write_sums(folder, SHIPPED, SUMS_FILE)
    if all((folder / name).is_file() for name in BUILT):
        write_sums(folder, BUILT, BUILT_SUMS_FILE)


def unseal(folder: Path) -> None:
    """Forget what was sealed: its files are about to change, or are accepted anew."""
    for name in (RECORD_FILE, SUMS_FILE, BUILT_SUMS_FILE):
        (folder / name).unlink(missing_ok=True)


def speech_used(metadata: Mapping[str, str]) -> SpeechUsed:
    """From the metadata of the speech encoder's graph.

    Raises:
        WeightsError: it is no graph of ours.
    """
    try:
        return SpeechUsed(weights_sha256=metadata["weights_sha256"], precision=metadata["precision"])
    except (KeyError, ValidationError) as error:
        raise WeightsError("the speech model does not say what it was built from; run: scamtap models pull") from error


def check_record(folder: Path, intent: Mapping[str, str], speech: Mapping[str, str] | None) -> VersionRecord:
    """Refuse a classifier beside models it was not evaluated with.

    Args:
        folder: of the version that is loaded.
        intent: metadata of the classifier's graph.
        speech: of the recogniser's; None where none is used (call texts).

    Raises:
        WeightsError: says which differs.
    """
    record = read_record(folder)
    if (found := intent.get("head_sha256")) != record.head_sha256:
        raise WeightsError(f"{folder}: the graph has head {str(found)[:12]}, its record another; run: {_PULL}")
    if (found := intent.get("precision")) != record.precision:
        raise WeightsError(f"{folder}: evaluated in {record.precision}, built in {found}; {_AGAIN}")
    if speech is not None and record.speech and (used := speech_used(speech)) not in record.speech:
        ours, *theirs = (f"{s.weights_sha256[:12]} {s.precision}" for s in (used, *record.speech))
        known = " and ".join(theirs)
        raise WeightsError(f"{folder}: evaluated on the words of speech model {known}, here is {ours}; {_AGAIN}")
    return record


_PULL = "scamtap models pull"
_AGAIN = "evaluate them together (scamtap-train evaluate), then: scamtap models seal"


def numbers(models_dir: Path, model: str = INTENT_MODEL) -> list[int]:
    """Every version number in use or retired, lowest first."""
    folder = models_dir / model
    names = [path.name.removesuffix(RETIRED) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def promote(candidate: Path, models_dir: Path, model: str = INTENT_MODEL) -> int:
    """Make a sealed folder the next version of ``model``; returns its number.

    Raises:
        WeightsError: the candidate is damaged, not sealed, or the repository cannot be written; nothing changes then.
    """
    check_sums(candidate, (*SHIPPED, *BUILT))
    record = read_record(candidate)
    if record.head_sha256 != sha256_of_file(candidate / HEAD_FILE):
        raise WeightsError(f"{candidate}: version.json is of another head; make the candidate again")
    number = max(numbers(models_dir, model), default=0) + 1
    target = models_dir / model / str(number)
    temporary = target.with_name(f".{number}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(candidate, temporary, ignore=shutil.ignore_patterns("*.tmp", ".*"))
        check_sums(temporary, (*SHIPPED, *BUILT))  # what arrived, not what was sent
        _sync(temporary)
        temporary.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written ({error.strerror}); make room, then promote again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return number


def rollback(models_dir: Path, model: str = INTENT_MODEL) -> tuple[int, int]:
    """Retire the newest version of ``model``; returns its number and that of the one that serves now.

    Raises:
        ConfigError: there is none before it.
        WeightsError: the one before is damaged, or the folder cannot be renamed; the newest stays then.
    """
    newest = newest_version(models_dir, model)
    folder = version_dir(models_dir, model)
    before = max((n for n in _serving(folder.parent) if n < newest), default=None)
    if before is None:
        raise ConfigError(f"{folder}: there is no version before it; promote one first")
    check_sums(folder.with_name(str(before)), (*SHIPPED, *BUILT))
    try:
        folder.rename(folder.with_name(f"{newest}{RETIRED}"))
        _sync(folder.parent)
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be renamed ({error.strerror}); check its permissions") from error
    return newest, before


def _serving(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def _sync(folder: Path) -> None:
    """The rename must not reach the disk before what it names."""
    for path in (*folder.iterdir(), folder):
        if path.is_dir() and path != folder:
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # some file systems cannot sync a folder
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
