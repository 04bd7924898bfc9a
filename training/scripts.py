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
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.audio import Leg
from inference.errors import ConfigError
from inference.intent.acts import ACTS, FAR_ACTS, SUBSCRIBER_ACTS
from inference.intent.scores import FAMILIES, STAGES

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
        if (self.label == "scam") != (self.family is not None):
            raise ValueError("family is for scam calls, and every scam call has one")
        if self.of is not None and self.pair is not None:
            raise ValueError("a call told anew stands where the one it tells stands; leave out 'pair'")
        if self.of is not None and not re.fullmatch(re.escape(self.of) + r"-rewritten-[a-z]+", self.id):
            raise ValueError(f"a call of {self.of} told anew has the id {self.of}-rewritten-<how>, not {self.id}")
        if self.family is not None and self.family not in FAMILIES:
            raise ValueError(f"unknown family {self.family!r}; known: {', '.join(FAMILIES)}")
        for number, turn in enumerate(self.turns, 1):
            known = (*STAGES, *FAR_ACTS) if turn.leg == "far" else (*STAGES, *SUBSCRIBER_ACTS)
            if unknown := {*turn.stages, *turn.acts} - set(known):
                raise ValueError(
                    f"turn {number}: unknown mark {sorted(unknown)}; the {turn.leg} leg has {', '.join(known)}"
                )
        if self.label == "scam" and self.ask_turn is None:
            raise ValueError("a scam call marks its ask: no turn has the stage 'ask'")
        return self

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
        bucket = int.from_bytes(hashlib.sha256((self.of or self.pair or self.id).encode()).digest()[:4], "big") % 100
        return "train" if bucket < 70 else "dev" if bucket < 85 else "test"


def with_implied(stages: Sequence[str], acts: Iterable[str]) -> tuple[str, ...]:
    """``stages`` as they were marked, then those that ``acts`` imply."""
    return tuple(dict.fromkeys((*stages, *(IMPLIED[act] for act in acts if act in IMPLIED))))


def parse_turns(block: str) -> tuple[Turn, ...]:
    """``far [ask]: ...`` lines -> turns.

    Raises:
        ValueError: a line is not ``far|near [stages]: text``; names the line number.
    """
    turns = []
    for number, line in enumerate(block.strip().splitlines(), 1):
        match = _TURN.match(line.strip())
        if match is None:
            raise ValueError(f"turn {number}: want 'far [stage, ...]: text' or 'near: text'")
        leg, marked, text = match.groups()
        marks = [mark.strip() for mark in marked.split(",")] if marked else []
        acts = [mark for mark in marks if mark in ACTS]
        stages = [mark for mark in marks if mark not in ACTS]
        turns.append(Turn.model_validate({"leg": leg, "text": text, "stages": stages, "acts": acts}))
    return tuple(turns)


def load_scripts(root: Path) -> Iterator[Script]:
    """Every call of every ``*.yaml`` under ``root`` in path order, or of the file that ``root`` is.

    A file that has not changed since is not read again: one command asks for the scripts several times.

    Raises:
        ConfigError: a file or call is malformed, or an id is used twice; names file, call and field.
    """
    seen: dict[str, Path] = {}
    for path in [root] if root.is_file() else sorted(root.rglob("*.yaml")):
        state = path.stat()
        for number, script in enumerate(_scripts_of(path, state.st_mtime_ns, state.st_size), 1):
            if script.id in seen:
                raise ConfigError(f"{path}: call {number}: id {script.id} is already used in {seen[script.id]}")
            seen[script.id] = path
            yield script


# libyaml's parser reads all scripts in two seconds, Python's own in twenty; some builds of PyYAML come without it.
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@lru_cache(maxsize=8192)
def _scripts_of(path: Path, _mtime_ns: int, _size: int) -> tuple[Script, ...]:
    try:
        calls = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 -- a safe one
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({str(error).splitlines()[0]}); fix the file") from error
    if not isinstance(calls, list):
        raise ConfigError(f"{path}: want a YAML list of calls")
    return tuple(_script_of(path, number, call) for number, call in enumerate(calls, 1))


def _script_of(path: Path, number: int, call: Any) -> Script:
    try:
        return Script.model_validate({**call, "turns": parse_turns(call["turns"])})
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        reason = f"lacks {reason}" if isinstance(error, KeyError) else reason
        raise ConfigError(f"{path}: call {number}: {reason}") from error
