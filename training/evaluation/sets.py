"""Which calls are measured: our test scripts and outside texts, or what files hold; each with what its words are."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.errors import ConfigError
from training.evaluation.labelled import read_labelled
from training.evaluation.outcome import What
from training.intent.corrupt import Corruptor
from training.intent.data import (
    EVALUATION_ONLY,
    TRAINABLE,
    Call,
    read_all,
    read_demo,
    read_outside,
    read_scripts,
    script_call,
)
from training.intent.recipe import long_chats
from training.intent.sources import Sources, recognised_calls
from training.manifest import RecordedCall, load_manifest
from training.scripts import Split, load_scripts

ERROR_RATES = (0.10, 0.25, 0.35)
"""Simulated word errors that scripts are read with, beside none: real telephone recordings had .26."""

VOICED: What = "written words, synthetic voice"
OUTSIDE: dict[str, What] = {
    "bothbosu": "generated text",
    "youtube": "real text",
    "ftc": "real text",
    "sgd": "written text",
    "teleantifraud": "generated text",
    "switchboard": "real text",
}


@dataclass(frozen=True, slots=True)
class TextSet:
    """Calls as text under one name."""

    name: str
    what: What
    calls: list[Call]


@dataclass(frozen=True, slots=True)
class RecordingSet:
    """Recordings of one manifest."""

    name: str
    manifest: Path
    calls: list[RecordedCall]


def gold_sets(sources: Sources, split: Split = "test") -> list[TextSet]:
    """Our own calls of ``split``: as they were written, a set per language, and as our recogniser heard them."""
    written = [c for c in read_scripts(sources.scripts, sources.languages) if c.split == split]
    recognised = [c for c in recognised_calls(sources)[0] if c.split == split and c.language in sources.languages]
    sets = [
        *(TextSet(_scripts_in(e), "written text", [c for c in written if c.language == e]) for e in sources.languages),
        TextSet("scripts-recognised", VOICED, [c for c in recognised if "-espeak-" in c.id]),
        TextSet("scripts-recognised-kokoro", VOICED, [c for c in recognised if "-kokoro-" in c.id]),
    ]
    return [of_name for of_name in sets if of_name.calls]


def _scripts_in(language: str) -> str:
    return "scripts" if language == "en" else f"scripts-{language}"


def standing_sets(sources: Sources, limit: int, split: Split = "test") -> list[TextSet]:
    """The calls of ``split`` that every model is measured on; at most ``limit`` per outside source and label.

    Switchboard and the demo calls belong to no split and are looked at with the test alone.
    """
    gold = {of_name.name: of_name for of_name in gold_sets(sources, split)}
    vocabulary = read_scripts(sources.scripts, sources.languages)
    outside = [c for c in read_all(sources.data, TRAINABLE, sources.languages) if c.split == split]
    is_english = "en" in sources.languages
    switchboard = sources.data / "en_benign_switchboard.jsonl" if sources.data is not None else None
    if is_english and split == "test" and switchboard is not None and switchboard.exists():
        outside += read_all(sources.data, EVALUATION_ONLY)
    drawn = {source: _draw([c for c in outside if c.source == source], limit) for source in OUTSIDE}
    sets: list[TextSet] = []
    for name in (_scripts_in(language) for language in sources.languages):
        if (its := gold.pop(name, None)) is None:
            continue
        sets += [its, *with_errors(name, its.what, its.calls, vocabulary)]
        sets.append(TextSet(f"{name}-rewritten", its.what, _rewritten(sources, its.calls)))
    english = next((of_name.calls for of_name in sets if of_name.name == "scripts"), [])
    sets += [
        *gold.values(),
        TextSet("demo", "written text", read_demo(sources.scripts) if is_english and split == "test" else []),
        *(TextSet(source, what, drawn[source]) for source, what in OUTSIDE.items()),
        TextSet("chats", "written text", long_chats([*english, *drawn["bothbosu"], *drawn["sgd"]], seed=7)),
    ]
    return [of_name for of_name in sets if of_name.calls]


def _rewritten(sources: Sources, calls: Sequence[Call]) -> list[Call]:
    """Those of ``calls`` that are told in other words, too, and what they become; none where nobody rewrote any."""
    told = {script.id: script for script in load_scripts(sources.rewritten) if script.of is not None}
    named = {script.of for script in told.values()}
    originals = [c for c in calls if c.id in named]
    kept = {c.id for c in originals}
    return originals + [script_call(script) for script in told.values() if script.of in kept]


def with_errors(
    name: str, what: What, calls: Sequence[Call], vocabulary: Sequence[Call], rates: Sequence[float] = ERROR_RATES
) -> list[TextSet]:
    """``calls`` with simulated recognition errors, a set per rate; confusions are drawn from ``vocabulary``."""
    corruptor = Corruptor(vocabulary)
    sets = []
    for rate in rates:
        rng = np.random.default_rng([7, round(100 * rate)])
        damaged = [corruptor.call(call, rng, rate=rate, mono=0.0) for call in calls]
        sets.append(TextSet(f"{name}-errors-{round(100 * rate)}", what, damaged))
    return sets


def _draw(pool: Sequence[Call], limit: int) -> list[Call]:
    pool = [pool[i] for i in np.random.default_rng(3).permutation(len(pool))]
    return [c for label in (True, False) for c in [c for c in pool if c.is_scam == label][:limit]]


def read_set(path: Path, split: Split | None = None) -> TextSet | RecordingSet:
    """The calls of a file: a manifest of recordings, call texts, call scripts, or an outside source by its name.

    Args:
        path: JSON Lines, or YAML for scripts.
        split: of a manifest whose calls have been dealt, only those.

    Raises:
        ConfigError: the file is none of these; names line, field and remedy.
    """
    if path.suffix == ".yaml":
        if not path.is_file():
            raise ConfigError(f"{path}: is not there; give call scripts, see datasets/scripts/README.md")
        if not (written := [script_call(script) for script in load_scripts(path)]):
            raise ConfigError(f"{path}: no call in it; give call scripts, see datasets/scripts/README.md")
        return TextSet(path.stem, "written text", written)
    outside = {**TRAINABLE, **EVALUATION_ONLY}.get(path.stem)
    if outside is not None:
        if not path.is_file():
            raise ConfigError(f"{path}: is not there; see datasets/README.md")
        return TextSet(path.stem, OUTSIDE[outside], list(read_outside(path, outside)))
    if is_manifest(path):
        calls = load_manifest(path)
        is_dealt = any(call.split is not None for call in calls)
        chosen = [c for c in calls if split is None or not is_dealt or c.split == split]
        if not chosen:
            raise ConfigError(f"{path}: no call of the split {split}; deal them: scamtap-train data split")
        return RecordingSet(path.stem, path, chosen)
    labelled = read_labelled(path)
    is_real = all(call.real for call in labelled)
    return TextSet(path.stem, "real text" if is_real else "written text", [call.to_call() for call in labelled])


def is_manifest(path: Path) -> bool:
    """Whether the first line has a recording.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            first = json.loads(next((line for line in file if line.strip()), b"{}"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give JSON Lines of calls") from error
    except (ValueError, RecursionError):
        return False  # the reader of texts says what is wrong, and where
    return isinstance(first, dict) and "audio_filepath" in first


def narrowed(
    sets: Sequence[TextSet | RecordingSet], only: Sequence[str], on_unknown: Callable[[str], Exception]
) -> list[TextSet | RecordingSet]:
    """The sets that are asked for by name; all where none is."""
    names = [of_name.name for of_name in sets]
    if unknown := set(only) - set(names):
        raise on_unknown(f"--only {min(unknown)}: no such set; there are {', '.join(names)}")
    return [of_name for of_name in sets if not only or of_name.name in only]
