"""Calls as the intent model learns them: legs, pieces of speech, labels; from our scripts and from outside texts.

Outside texts (JSON Lines: ``id, text, label, lang, group, source``) are never part of the repository. Which file may
train shipped weights is fixed here: :data:`TRAINABLE`; Switchboard is licensed for evaluation only.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from inference.audio import Leg
from inference.errors import ConfigError
from inference.intent.context import CONTEXT_UTTERANCES, ContextWindow, Said
from inference.intent.text import split_utterances
from training.manifest import read_lines
from training.scripts import Script, Split, load_scripts, split_of_name

HELD_OUT_PREFIX = "en-demo-"
"""The two demo calls: in no split, looked at only by the final evaluation."""

TRAINABLE = {
    "en_synthetic_bothbosu": "bothbosu",
    "en_scam_calls_youtube": "youtube",
    "en_scam_robocalls_ftc": "ftc",
    "en_benign_sgd": "sgd",
    "zh_synthetic_teleantifraud": "teleantifraud",
}
"""File stem -> source name, of the outside texts that may train shipped weights."""

LANGUAGES = ("en", "zh")
"""That training reads where nothing else is said."""

MAX_PIECES = 24
"""Utterances of a call that are trained on; nearly all calls are shorter."""

EVALUATION_ONLY = {"en_benign_switchboard": "switchboard"}
"""Licences that allow no more (LDC, non-commercial)."""

_PREFIX: dict[str, dict[str, Leg]] = {
    "bothbosu": {"Suspect": "far", "Innocent": "near"},
    # In these task dialogues the CALLER is a customer who rings a service: the subscriber is the caller.
    "sgd": {"CALLEE": "far", "CALLER": "near"},
    "switchboard": {"A": "far", "B": "near"},
    "teleantifraud": {"CALLER": "far", "CALLEE": "near"},
}

_FAMILY_RULES: tuple[tuple[str, str], ...] = (
    ("warranty", r"warrant(?!.{0,20}(arrest|issued|police))|health insurance|auto insurance|car insurance"),
    ("gift_card", r"gift cards?\b.{0,80}(code|number|scratch|store|buy)|(buy|purchase).{0,40}gift card"),
    ("benefits", r"social security|medicare|medicaid|benefit|pension|stimulus|health program"),
    ("tax", r"\birs\b|internal revenue|\btax"),
    ("utility", r"electric|utility|power (will|is|cut)|energy|gas bill|water bill"),
    (
        "tech_support",
        r"computer|virus|microsoft|windows|remote|any ?desk|team ?viewer|malware|antivirus|router|internet",
    ),
    ("refund", r"refund|subscription|renewal|invoice|amazon|order|auto.?debit|charged|cancel"),
    ("parcel", r"parcel|package|customs|courier|fedex|\bdhl\b|\bups\b|shipment|deliver"),
    ("prize", r"prize|lottery|sweepstake|winner|\bwon\b|reward|free (cruise|vacation|trip)|congratulations|gift card"),
    ("loan", r"\bloan|debt|interest rate|credit card (services|rate)|lower your|student|financ|mortgage"),
    ("investment", r"invest|crypto|bitcoin|trading|stock"),
    ("family_emergency", r"grand(ma|pa|son|mother)|bail|accident|your (son|daughter|nephew)"),
    ("romance", r"dating|love|met online"),
    ("job", r"\bjob\b|work from home|employ|hiring|task"),
    (
        "card_otp",
        r"one.?time|passcode|\botp\b|verification code|card (has been|is|was) (block|lock)|debit card|credit card",
    ),
    ("bank_safe_account", r"bank|account"),
    ("authority", r"police|warrant|arrest|court|legal|immigration|officer|federal|crime|case"),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One utterance of a call: leg, words, which turn it comes from, stages and acts (None: nobody labelled them)."""

    leg: Leg
    text: str
    turn: int
    stages: tuple[str, ...] | None = None
    acts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call as training and evaluation see it.

    Attributes:
        source: ``scripts``, ``scripts-zh``, ``recognised`` or the outside source; weights and slices go by it.
        is_scam, family: labels; the family of outside calls is a keyword rule's guess (weak).
        group: what must stay on one side of a split.
        ask_turn: index of the turn that asks, for our scam scripts.
    """

    id: str
    source: str
    is_scam: bool
    family: str | None
    topic: str
    group: str
    split: Split
    pieces: tuple[Piece, ...]
    ask_turn: int | None = None
    language: str = "en"


def split_of(group: str) -> Split:
    """70/15/15 % by a stable hash of the group, as :attr:`training.scripts.Script.split` does by id."""
    return split_of_name(group)


def guess_family(text: str) -> str:
    """Family of an outside scam text by keywords: the rule with the most hits, the earlier one on a tie."""
    lowered = text.lower()
    hits = [(len(re.findall(pattern, lowered)), -rank, family) for rank, (family, pattern) in enumerate(_FAMILY_RULES)]
    count, _, family = max(hits)
    return family if count else "other"


def outside_turns(source: str, text: str) -> list[tuple[Leg, str]]:
    """Text of an outside row -> turns; a source without speaker marks is one turn of the far leg."""
    prefixes = _PREFIX.get(source)
    if prefixes is None:
        return [("far", text)]
    parts = re.split(rf"\b({'|'.join(prefixes)}):", text)
    turns: list[tuple[Leg, str]] = []
    for mark, words in zip(parts[1::2], parts[2::2], strict=True):
        leg = prefixes[mark]
        if turns and turns[-1][0] == leg:
            turns[-1] = (leg, f"{turns[-1][1]} {words.strip()}")
        elif words.strip():
            turns.append((leg, words.strip()))
    return turns or [("far", text)]


@lru_cache(maxsize=65536)  # cutting is most of what reading the scripts takes
def script_call(script: Script) -> Call:
    """A written call, cut into pieces; every piece of a turn carries the turn's stages and acts.

    Acts count as labelled where the script marks any: nearly every call has one, if only that nothing is asked.
    """
    has_acts = any(turn.acts for turn in script.turns)
    pieces = tuple(
        Piece(turn.leg, text, number, turn.all_stages, turn.acts if has_acts else None)
        for number, turn in enumerate(script.turns)
        for text in split_utterances(turn.text)
    )
    return Call(
        id=script.id,
        source="scripts" if script.lang == "en" else f"scripts-{script.lang}",
        is_scam=script.label == "scam",
        family=script.family,
        topic=script.topic,
        group=script.id,
        split=script.split,
        pieces=pieces,
        ask_turn=script.ask_turn if script.label == "scam" else None,
        language=script.lang,
    )


def read_scripts(root: Path, languages: Sequence[str] = LANGUAGES) -> list[Call]:
    """Every script under ``root`` in one of ``languages``, but the demo calls."""
    return [script_call(s) for s in load_scripts(root) if s.lang in languages and not s.id.startswith(HELD_OUT_PREFIX)]


def read_demo(root: Path) -> list[Call]:
    """The demo calls alone."""
    return [script_call(s) for s in load_scripts(root) if s.id.startswith(HELD_OUT_PREFIX)]


def read_outside(path: Path, source: str) -> Iterator[Call]:
    """Calls of one JSON Lines file of outside texts.

    Raises:
        ConfigError: a line is not the JSON described above, or not UTF-8; names file and line.
    """
    for number, line in read_lines(path):
        try:
            row = json.loads(line.decode("utf-8"))
            is_scam = {"scam": True, "benign": False}[row["label"]]
            text, group, call_id = str(row["text"]), str(row["group"]), str(row["id"])
            split = split_of(group)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: line {number}: is not UTF-8; write the file anew as UTF-8") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"{path}: line {number}: want JSON with id, text, group, label scam|benign") from error
        pieces = tuple(
            Piece(leg, piece, turn)
            for turn, (leg, words) in enumerate(outside_turns(source, text))
            for piece in split_utterances(words)
        )
        if pieces:
            language = path.stem[:2]
            family = guess_family(text) if is_scam and language == "en" else None  # the rules read English
            topic = family or source
            yield Call(call_id, source, is_scam, family, topic, group, split, pieces, language=language)


def read_all(data: Path | None, files: dict[str, str], languages: Sequence[str] = LANGUAGES) -> list[Call]:
    """All calls of the outside ``files`` (stem -> source) that lie under ``data``, in one of ``languages``.

    Raises:
        ConfigError: ``data`` is given and holds none of them.
    """
    if data is None:
        return []
    found = [(data / f"{stem}.jsonl", source) for stem, source in files.items() if stem[:2] in languages]
    present = [(path, source) for path, source in found if path.exists()]
    if not present:
        raise ConfigError(
            f"{data}: none of {', '.join(path.name for path, _ in found)} is there; see datasets/README.md"
        )
    return [call for path, source in present for call in read_outside(path, source)]


def sha256_of(folder: Path, pattern: str) -> dict[str, str]:
    """Path below ``folder``, with its name before it -> sha256, of every file there that fits; for report.json."""
    files = sorted(folder.rglob(pattern))
    return {
        f"{folder.name}/{path.relative_to(folder).as_posix()}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def windows_of(call: Call, limit: int | None = None) -> list[ContextWindow]:
    """The windows in which the utterances of ``call`` are scored, fillers included."""
    said = [Said(p.leg, p.text) for p in call.pieces[:limit]]
    return [
        ContextWindow(s, tuple(said[max(0, i - CONTEXT_UTTERANCES) : i]), call.language) for i, s in enumerate(said)
    ]
