"""Call scripts: the calls we wrote, as data under ``datasets/scripts/<lang>/``.

A file is a YAML list of calls of one topic. ``turns`` is a block of lines, one turn a line::

    - id: en-parcel-lost-deposit
      label: scam                 # or genuine
      family: parcel              # scam calls only, one of inference.intent.scores.FAMILIES
      topic: parcel               # what the call seems to be about; matches genuine and scam calls of one kind
      manner: polite, oblique ask
      turns: |
        far [contact]: Good morning, is that the Alvarez household?
        near: It is, who's this?
        far [authority, lure]: ...

The marks in brackets are stages (:data:`inference.intent.scores.STAGES`) and acts (:mod:`inference.intent.acts`) of
that turn, in any order; a stage that an act implies need not be written (:data:`IMPLIED`). ``ask`` marks asking for a
payment, code, credential, secrecy or remote access, in genuine calls too (a collector does ask for money).

Calls that were written as a pair (the same situation, one a scam and one genuine) carry the same ``pair: <name>``, and
stand on one side of the split, so that neither teaches what the other is tested on.

A rewritten call (the same plot in another wording, under ``datasets/rewritten/<lang>/``) names the one that it tells
anew, ``of: en-parcel-lost-deposit``, and stands on its side of the split; its id is that id and ``-rewritten-<how>``.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.audio import Leg
from inference.errors import ConfigError
from inference.intent.acts import ACTS, FAR_ACTS, SUBSCRIBER_ACTS
from inference.intent.scores import FAMILIES, STAGES
from training.script_faults import LOADER, CallError, CallFault, ScriptFault, call_lines, fault_line, faults_of

_MARKS = {"far": (*STAGES, *FAR_ACTS), "near": (*STAGES, *SUBSCRIBER_ACTS)}
_TURN = re.compile(r"^(far|near)(?: \[([a-z_, ]+)\])?: (\S.*)$")

IMPLIED = {
    "claims_authority": "authority",
    "threat": "lure",
    "gain": "lure",
    "secrecy": "isolation",
    "offers_callback": "reassure",
    "warns_of_codes": "reassure",
    "accepts_refusal": "reassure",
    "asks_nothing": "reassure",
}
"""Act -> the stage that it is a kind of, by the words that define both. Half of the scripts' acts stand without theirs.
With it a second hand's marks agree better with the first one's (kappa): ``authority`` .39 to .60, ``lure`` .39 to .70,
``isolation`` .66 to .83, ``reassure`` .12 to .59. ``ask`` is left as it was marked: it is the moment that warnings are
timed against."""

Split = Literal["train", "dev", "test"]

WANTED_TURNS = "want a block (|) of lines, one turn a line: 'far [stage, ...]: text' or 'near: text'"


class Turn(BaseModel):
    """One turn of a script: who speaks, what, and what that does, as it was marked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    leg: Leg
    text: str
    stages: tuple[str, ...] = ()
    acts: tuple[str, ...] = ()

    @property
    def all_stages(self) -> tuple[str, ...]:
        """Those that were marked, and those that its acts imply: what is learnt."""
        return with_implied(self.stages, self.acts)


class Script(BaseModel):
    """One written call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z]{2}-[a-z0-9-]+$")
    label: Literal["scam", "genuine"]
    family: str | None = None
    topic: str
    manner: str = ""
    pair: str | None = Field(default=None, pattern=r"^[a-z]{2}-[a-z0-9-]+$")
    of: str | None = None
    turns: tuple[Turn, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _check(self) -> "Script":
        if found := list(self._faults()):
            raise CallError(found)
        return self

    def _faults(self) -> Iterator[CallFault]:
        if self.label == "genuine" and self.family is not None:
            yield CallFault("family", "is for scam calls: leave it out")
        if self.label == "scam" and self.family is None:
            yield CallFault("family", f"every scam call has one: add it; known: {', '.join(FAMILIES)}")
        if self.family is not None and self.family not in FAMILIES:
            yield CallFault("family", f"unknown {self.family!r}; known: {', '.join(FAMILIES)}")
        if self.of is not None and self.pair is not None:
            yield CallFault("pair", "a call told anew stands where the one it tells stands: leave 'pair' out")
        if self.of is not None and not re.fullmatch(re.escape(self.of) + r"-rewritten-[a-z]+", self.id):
            yield CallFault("id", f"a call of {self.of} told anew has the id {self.of}-rewritten-<how>, not {self.id}")
        if self.label == "scam" and self.ask_turn is None:
            yield CallFault("turns", "a scam call marks its ask: give the far turn that asks the stage 'ask'")

    @property
    def lang(self) -> str:
        """ISO 639-1 code, from the id."""
        return self.id[:2]

    @property
    def ask_turn(self) -> int | None:
        """Index of the first turn that asks; None where nobody does."""
        return next((i for i, turn in enumerate(self.turns) if turn.leg == "far" and "ask" in turn.stages), None)

    @property
    def split(self) -> Split:
        """Where the call belongs: a stable hash of its id or pair, so that adding calls moves none (70/15/15 %)."""
        return split_of_name(self.of or self.pair or self.id)


def split_of_name(name: str) -> Split:
    """The side of a name by a stable hash: 70 % train, 15 % dev, 15 % test."""
    bucket = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100
    return "train" if bucket < 70 else "dev" if bucket < 85 else "test"


def with_implied(stages: Sequence[str], acts: Iterable[str]) -> tuple[str, ...]:
    """``stages`` as they were marked, then those that ``acts`` imply."""
    return tuple(dict.fromkeys((*stages, *(IMPLIED[act] for act in acts if act in IMPLIED))))


def parse_turns(block: object) -> tuple[Turn, ...]:
    """``far [ask]: ...`` lines -> turns.

    Raises:
        CallError: it is no block of such lines; holds every line that is none, and every mark that is unknown.
    """
    turns, found = _turns_of(block)
    if found:
        raise CallError(found)
    return turns


def _turns_of(block: object) -> tuple[tuple[Turn, ...], list[CallFault]]:
    if not isinstance(block, str) or not block.strip():
        is_empty = block is None or isinstance(block, str)
        return (), [CallFault("turns", f"{'is empty' if is_empty else 'is no block of text'}: {WANTED_TURNS}")]
    turns: list[Turn] = []
    found: list[CallFault] = []
    first = block[: len(block) - len(block.lstrip())].count("\n")  # empty lines before
    for number, line in enumerate(block.strip().splitlines(), 1):
        at = first + number - 1
        match = _TURN.match(line.strip())
        if match is None:
            found.append(CallFault("turns", f"turn {number}: want 'far [stage, ...]: text' or 'near: text'", at))
            continue
        leg, marked, text = match.groups()
        marks = [mark.strip() for mark in marked.split(",")] if marked else []
        acts = [mark for mark in marks if mark in ACTS]
        stages = [mark for mark in marks if mark not in ACTS]
        if unknown := [mark for mark in marks if mark not in _MARKS[leg]]:
            what = f"turn {number}: unknown mark {unknown[0]!r}; the {leg} leg has {', '.join(_MARKS[leg])}"
            found.append(CallFault("turns", what, at))
        turns.append(Turn.model_validate({"leg": leg, "text": text, "stages": stages, "acts": acts}))
    return tuple(turns), found


def script_of(call: object) -> Script:
    """A call as YAML has it -> the script.

    Raises:
        CallError: it is none; holds every fault.
    """
    if not isinstance(call, Mapping):
        raise CallError([CallFault("", "is no call: want the fields id, label, topic and turns")])
    turns, found = _turns_of(call["turns"]) if "turns" in call else ((), [])
    given = {**call, "turns": turns} if "turns" in call else call
    try:
        script = Script.model_validate(given)
    except ValidationError as error:
        more = faults_of(error, Script.model_fields)
        # With turns that cannot be read, that there are too few of them, or none that asks, is no fault of its own.
        raise CallError([*found, *(f for f in more if not (found and f.field == "turns"))]) from None
    if found:
        raise CallError(found)
    return script


@dataclass(frozen=True, slots=True)
class Placed:
    """A script, and where it stands: the ``number``-th call of ``path``, from 1."""

    path: Path
    number: int
    script: Script


def walk_scripts(root: Path) -> Iterator[Placed | ScriptFault]:
    """Every call and every fault of every ``*.yaml`` under ``root`` in path order, or of the file that ``root`` is.

    A file that has not changed since is not read again: one command asks for the scripts several times.
    """
    seen: dict[str, Placed] = {}
    for path in [root] if root.is_file() else sorted(root.rglob("*.yaml")):
        state = path.stat()
        calls, faults = _file(path, state.st_mtime_ns, state.st_size)
        yield from faults
        for placed in calls:
            if (first := seen.setdefault(placed.script.id, placed)) is placed:
                yield placed
            else:
                what = f"{placed.script.id} is already used in {first.path}:{line_of(first, 'id')}; give each its own"
                yield ScriptFault(path, line_of(placed, "id"), "id", what)


def line_of(placed: Placed, field: str) -> int:
    """The line of a script's field in its file, from 1; slow: the file is read once more."""
    return call_lines(placed.path.read_text(encoding="utf-8"))[placed.number - 1].of(field)


def load_scripts(root: Path) -> Iterator[Script]:
    """The calls of :func:`walk_scripts`.

    Raises:
        ConfigError: a file or call is malformed, or an id is used twice; names file, line, field and remedy.
    """
    for found in walk_scripts(root):
        if isinstance(found, ScriptFault):
            raise ConfigError(found.text)
        yield found.script


@lru_cache(maxsize=8192)
def _file(path: Path, _mtime_ns: int, _size: int) -> tuple[tuple[Placed, ...], tuple[ScriptFault, ...]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        return (), (ScriptFault(path, 0, "", f"cannot be read ({error.strerror}); make it readable, or take it away"),)
    try:
        text = content.decode("utf-8")
        calls = yaml.load(text, Loader=LOADER)  # noqa: S506 -- a safe one
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a date that is none
        what = f"not valid YAML ({str(error).splitlines()[0]}); fix the file"
        return (), (ScriptFault(path, fault_line(content, error), "", what),)
    if not isinstance(calls, list):
        return (), (ScriptFault(path, 1, "", "want a YAML list of calls: - id: ..."),)
    placed: list[Placed] = []
    faults: list[tuple[int, CallFault]] = []
    for number, call in enumerate(calls, 1):
        try:
            placed.append(Placed(path, number, script_of(call)))
        except CallError as error:
            faults += [(number, fault) for fault in error.found]
    if not faults:
        return tuple(placed), ()
    lines = call_lines(text)
    return tuple(placed), tuple(
        ScriptFault(path, lines[number - 1].of(fault.field, fault.line), fault.field, fault.what)
        for number, fault in faults
    )
