"""Which calls a training reads: our scripts, those told anew, those heard by our recogniser, outside texts."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.errors import ConfigError
from training.intent.data import (
    EVALUATION_ONLY,
    LANGUAGES,
    TRAINABLE,
    Call,
    read_all,
    read_scripts,
    sha256_of,
)
from training.intent.heard import read_recognised
from training.intent.marked import MARKS_FILE, read_marks, with_marks
from training.scripts import load_scripts


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the data lies, and what is done with it.

    Attributes:
        languages: of the calls that are read.
        is_marked: whether the marks of outside texts are learnt from (:mod:`training.intent.marked`). Acts need them;
            stages alone did no better with them.
        without: scam families and topics of which no call is read, scam or genuine: how does an unseen kind fare?
    """

    scripts: Path
    data: Path | None
    recognised: Path | None = None
    languages: tuple[str, ...] = LANGUAGES
    without: tuple[str, ...] = ()
    is_marked: bool = False

    @property
    def rewritten(self) -> Path:
        """Beside the scripts: some told anew (``of`` in :mod:`training.scripts`), each on the side of its original."""
        return self.scripts.parent / "rewritten"

    def is_left_out(self, call: Call) -> bool:
        """Whether :attr:`without` names the kind of this call."""
        return call.family in self.without or call.topic in self.without


def read_sources(sources: Sources) -> list[Call]:
    """All calls that may train, our own first.

    Raises:
        ConfigError: no script, none of a kind that is to be left out, or malformed data.
    """
    scripts = read_scripts(sources.scripts, sources.languages)
    if not scripts:
        spoken = " or ".join(sources.languages)
        raise ConfigError(
            f"{sources.scripts}: no call scripts in {spoken} there; give other languages, or their folder"
        )
    kinds = {kind for call in scripts for kind in (call.family, call.topic) if kind}
    if unknown := set(sources.without) - kinds:
        raise ConfigError(f"nothing can be left out as {min(unknown)!r}; there are {', '.join(sorted(kinds))}")
    scripts += read_scripts(sources.rewritten, sources.languages)
    heard = [call for call in recognised_calls(sources)[0] if call.language in sources.languages]
    outside = read_all(sources.data, TRAINABLE, sources.languages)
    if sources.is_marked:
        outside = with_marks(outside, read_marks(sources.scripts.parent / MARKS_FILE))
    return [call for call in scripts + heard + outside if not sources.is_left_out(call)]


def recognised_calls(sources: Sources) -> tuple[list[Call], int]:
    """Our scripts as our recogniser heard them, and how many copies are left out as their script has changed since."""
    return read_recognised(sources.recognised, {script.id: script for script in load_scripts(sources.scripts)})


def counts(calls: Sequence[Call]) -> dict[str, int]:
    """Calls per source and label, for the report."""
    counted = Counter(f"{c.source} {'scam' if c.is_scam else 'genuine'}" for c in calls)
    return dict(sorted(counted.items()))


def digests(sources: Sources) -> dict[str, Any]:
    """What the standing sets are read of: files per part, and one sha256 over their names and own digests."""
    read = provenance(sources)
    if sources.data is not None:
        for stem in EVALUATION_ONLY:
            read["outside"] |= sha256_of(sources.data, f"{stem}.jsonl")
    lines = {part: "".join(f"{digest}  {name}\n" for name, digest in files.items()) for part, files in read.items()}
    return {
        part: {"files": len(read[part]), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        for part, text in lines.items()
    }


def provenance(sources: Sources) -> dict[str, Any]:
    """Hashes of everything read."""
    scripts = sha256_of(sources.scripts, "*.yaml") | sha256_of(sources.rewritten, "*.yaml")
    outside: dict[str, str] = {}
    if sources.data is not None:
        for stem in TRAINABLE:
            outside |= sha256_of(sources.data, f"{stem}.jsonl")
    recognised = sha256_of(sources.recognised, "*.jsonl") if sources.recognised else {}
    return {"scripts": scripts, "recognised": recognised, "outside": outside}
