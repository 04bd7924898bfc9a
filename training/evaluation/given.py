"""What a command line asks to have measured: files, and the versions that judge what is in them."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inference.errors import ConfigError
from inference.intent.versions import RECORD_FILE, read_record
from training.evaluation.run import languages_of
from training.evaluation.serving import newest_model
from training.evaluation.sets import RecordingSet, TextSet, read_set, with_errors
from training.intent.report import REPORT_FILE, read_report
from training.scripts import Split

Measured = TextSet | RecordingSet


def read_given(
    paths: Sequence[Path], split: Split | None, error_rates: Sequence[float], model: Path | None
) -> list[Measured]:
    """The calls of files, a set each, texts with simulated errors as well.

    Of a file that the judging model was trained on, its own side of the split alone is measured: the rest was learnt.

    Args:
        paths: manifests, labelled texts, scripts.
        split: the side to measure of every file; None: the test side of those that were dealt or trained on, all of
            the rest.
        error_rates: shares of words that are wrong.
        model: the version that judges; None: those that serve.

    Raises:
        ConfigError: a file cannot be read, or nothing in it is to be measured.
    """
    sets: list[Measured] = []
    named: Counter[str] = Counter()
    for path in paths:
        found = read_set(path, split or "test")
        named[found.name] += 1
        if named[found.name] > 1:
            found = dataclasses.replace(found, name=f"{found.name}-{named[found.name]}")
        if isinstance(found, TextSet):
            found = _apart(path, found, split, judges_of([found], model))
            sets += [found, *with_errors(found.name, found.what, found.calls, found.calls, error_rates)]
        else:
            sets.append(found)
    return sets


def _apart(path: Path, found: TextSet, split: Split | None, judges: Iterable[Path]) -> TextSet:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    for version in judges:
        if (version / RECORD_FILE).is_file() and sha256 in read_record(version).data_sha256.values():
            raise ConfigError(f"{path}: {version} learnt from it; give calls that it has not read")
    if split is None and not any(_is_known(path, sha256, version) for version in judges):
        return found
    side = split or "test"
    if not (kept := [call for call in found.calls if call.split == side]):
        raise ConfigError(f"{path}: was trained on, and no call in it is on the {side} side; give others, or --split")
    return dataclasses.replace(found, calls=kept)


def _is_known(path: Path, sha256: str, version: Path) -> bool:
    """Whether ``version`` was trained on this file, as it is or as it was."""
    parts: Any = read_report(version / REPORT_FILE).get("training", {}).get("data", {}).values()
    files = {name: digest for part in parts for name, digest in part.items()}
    return sha256 in files.values() or any(path.resolve().as_posix().endswith(f"/{name}") for name in files)


def languages_in(measured: Measured) -> set[str]:
    """ISO 639-1 codes of the calls of a set."""
    if isinstance(measured, TextSet):
        return {call.language for call in measured.calls}
    return {call.lang for call in measured.calls}


def judges_of(sets: Iterable[Measured], model: Path | None) -> list[Path]:
    """The versions that judge these calls: the one that was asked for, or of those that serve each for its languages.

    Raises:
        ConfigError: the one that was asked for does not judge a language in them.
    """
    languages = sorted({language for measured in sets for language in languages_in(measured)})
    if model is None:
        return sorted({newest_model(language) for language in languages})
    if unknown := set(languages) - set(languages_of(model)):
        raise ConfigError(f"{model}: does not judge calls in {min(unknown)}; leave --model out, or those calls")
    return [model]
