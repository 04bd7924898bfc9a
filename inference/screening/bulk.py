"""Published lists of millions of numbers: read as a stream, kept as sorted arrays, swapped in one step.

A file is text, a line a number: ``number[,category]``; ``number*`` is a prefix; ``#`` begins a comment. Bad lines are
reported by number and skipped. What is built is one ``.npz`` in a folder, written beside and renamed, so a reader sees
the old list or the new one, whole.
"""

import hashlib
import io
import re
import zipfile
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from inference.errors import ConfigError
from inference.screening.lists import BulkList, ListKind

MAX_REPORTED = 100
MAX_CATEGORIES = 256
MAX_PREFIXES = 100_000
MAX_LINE_BYTES = 4096
ADVANCE_BYTES = 1 << 18
_LINE = re.compile(rb"^\+?([0-9]{2,15})(\*)?(?:,([A-Za-z0-9_ .-]{1,64}))?$")
_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}$")


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes:
        num_numbers, num_prefixes: distinct ones taken.
        num_bad: lines that are no number.
        bad_lines: numbers of the first of them, with what is wrong.
    """

    num_numbers: int = 0
    num_prefixes: int = 0
    num_bad: int = 0
    bad_lines: list[tuple[int, str]] = field(default_factory=list)

    def bad(self, number: int, why: str) -> None:
        """Note a bad line."""
        self.num_bad += 1
        if len(self.bad_lines) < MAX_REPORTED:
            self.bad_lines.append((number, why))


def read_bulk(
    path: Path, name: str, kind: ListKind, advance: Callable[[int], None] = lambda _bytes: None
) -> tuple[BulkList, Imported]:
    """Read a list from text.

    Args:
        path: the file.
        name: lower-case letters, digits, ``-`` and ``_``.
        kind: which list it is.
        advance: told how many bytes were read since it was last told.

    Raises:
        ConfigError: the file cannot be read, or the name or kind is none.
    """
    if not _NAME.match(name):
        raise ConfigError(f"list name {name!r}: want lower-case letters, digits, - and _")
    if kind not in get_args(ListKind):
        raise ConfigError(f"list kind {kind!r}: want one of {', '.join(get_args(ListKind))}")
    report, names = Imported(), {"other": 0}
    numbers, categories, prefixes = array("q"), array("B"), dict[str, str]()
    try:
        with path.open("rb") as file:
            for at, line in _lines(file, report, advance):
                match = _LINE.match(line)
                if match is None:
                    report.bad(at, "is no number: want +8613800138000, 86138*, or a number, a comma and a category")
                    continue
                digits, star, category = match.group(1), match.group(2), (match.group(3) or b"other").decode()
                if star:
                    if len(prefixes) < MAX_PREFIXES:
                        prefixes[digits.decode()] = category
                    else:
                        report.bad(at, f"is one prefix more than {MAX_PREFIXES}")
                    continue
                if len(names) == MAX_CATEGORIES and category not in names:
                    report.bad(at, f"has one category more than {MAX_CATEGORIES}")
                    continue
                if digits[:1] == b"0":
                    report.bad(at, "begins with 0: want E.164, with the country code")
                    continue
                numbers.append(int(digits))
                categories.append(names.setdefault(category, len(names)))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a list of numbers") from error
    made = _make(name, kind, numbers, categories, prefixes, tuple(names))
    report.num_numbers, report.num_prefixes = len(made.numbers), len(made.prefixes)
    return made, report


def _lines(file: io.BufferedReader, report: Imported, advance: Callable[[int], None]) -> Iterator[tuple[int, bytes]]:
    """Numbered lines that hold something; a line that never ends is bounded."""
    number = unsaid = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        unsaid += len(line)
        if unsaid >= ADVANCE_BYTES:  # a progress bar told of every line takes longer than the lines
            advance(unsaid)
            unsaid = 0
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            report.bad(number, "is too long")
            while rest := file.readline(MAX_LINE_BYTES):
                advance(len(rest))
                if rest.endswith(b"\n"):
                    break
            continue
        text = line.partition(b"#")[0].strip()
        if text:
            yield number, text
    advance(unsaid)


def _make(
    name: str,
    kind: ListKind,
    numbers: "array[int]",
    categories: "array[int]",
    prefixes: dict[str, str],
    names: tuple[str, ...],
) -> BulkList:
    values, first = np.unique(np.frombuffer(numbers, np.int64), return_index=True)
    of_values = np.frombuffer(categories, np.uint8)[first]
    digest = hashlib.sha256(
        values.tobytes() + of_values.tobytes() + repr((sorted(prefixes.items()), names, kind)).encode()
    )
    return BulkList(name, kind, digest.hexdigest(), values, of_values, prefixes, names)


def save_bulk(folder: Path, made: BulkList) -> Path:
    """Write a list into the folder of published lists, in one step; the former one of its name is replaced.

    Raises:
        ConfigError: it cannot be written.
    """
    path = folder / f"{made.name}.npz"
    temporary = path.with_suffix(".npz.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(
                file,
                numbers=made.numbers,
                categories=made.categories,
                prefixes=np.array(list(made.prefixes), np.str_),
                prefix_categories=np.array(list(made.prefixes.values()), np.str_),
                category_names=np.array(made.category_names, np.str_),
                kind=np.array(made.kind),
                version=np.array(made.version),
            )
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); free some disk or choose a folder") from error
    return path


def load_bulk(folder: Path) -> list[BulkList]:
    """Every published list in the folder, by name.

    Raises:
        ConfigError: there is no such folder, or a file is no list; names it.
    """
    if not folder.is_dir():  # a typing mistake, or a disk that is not there, must not let everybody through in silence
        raise ConfigError(f"screening.lists_dir: {folder} is no folder; make it, or import a list into it")
    found = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                prefixes = dict(zip(held["prefixes"].tolist(), held["prefix_categories"].tolist(), strict=True))
                names = tuple(held["category_names"].tolist())
                numbers, categories = held["numbers"], held["categories"]
                kind, version = str(held["kind"]), str(held["version"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{path}: is no imported list; import it again or take it away") from error
        if kind not in get_args(ListKind) or len(numbers) != len(categories) or not names:
            raise ConfigError(f"{path}: is no imported list; import it again or take it away")
        found.append(BulkList(path.stem, kind, version, numbers, categories, prefixes, names))  # type: ignore[arg-type]
    return found
