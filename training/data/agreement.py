"""How far two people who mark the same calls agree: Cohen's kappa per stage and act.

A second hand marks calls without seeing the first one's marks, or whether they are scams. What it says is a file beside
the scripts (``datasets/marks/second.jsonl``), a call a line: ``id`` of the script, ``words_sha256`` of its turns (a
script that was changed since is left out), and ``marks``, stages and acts by number of the turn, from 0; a turn without
any shows none. Kappa (Cohen 1960) is the agreement beyond what chance gives: 1 the same, 0 no better than chance.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inference.errors import ConfigError
from inference.intent.acts import ACTS, FAR_ACTS, SUBSCRIBER_ACTS
from inference.intent.scores import STAGES
from training.scripts import Script

OF_LEG = {"far": (*STAGES, *FAR_ACTS), "near": SUBSCRIBER_ACTS}
"""Marks that are asked for per leg."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one mark, over the turns that it was asked for.

    Attributes:
        turns: how many.
        first, second, both: turns that the first hand, the second, and both gave it to.
    """

    turns: int
    first: int
    second: int
    both: int

    @property
    def kappa(self) -> float | None:
        """None where neither hand gave the mark, or both gave it everywhere: chance alone agrees wholly."""
        agreed = (self.turns - self.first - self.second + 2 * self.both) / self.turns
        first, second = self.first / self.turns, self.second / self.turns
        chance = first * second + (1 - first) * (1 - second)
        return None if chance == 1 else (agreed - chance) / (1 - chance)

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.turns + other.turns, self.first + other.first, self.second + other.second, self.both + other.both
        )


@dataclass(frozen=True, slots=True)
class SecondMarks:
    """What a second hand says of one script."""

    script_id: str
    words_sha256: str
    by_turn: Mapping[int, frozenset[str]]


def words_sha256(script: Script) -> str:
    """Of what is said in a script, turn by turn; its marks are not in it."""
    text = "\n".join(f"{turn.leg}: {turn.text}" for turn in script.turns)
    return hashlib.sha256(text.encode()).hexdigest()


def read_second(path: Path) -> list[SecondMarks]:
    """The file of a second hand.

    Raises:
        ConfigError: it cannot be read, or a line is not as described above; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read; want the JSON Lines of a second hand") from error
    out = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            marks = {int(turn): frozenset(names) for turn, names in row["marks"].items()}
            out.append(SecondMarks(str(row["id"]), str(row["words_sha256"]), marks))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: line {number}: want id, words_sha256, marks") from error
        if unknown := {name for names in marks.values() for name in names} - {*STAGES, *ACTS}:
            raise ConfigError(f"{path}: line {number}: unknown mark {min(unknown)}")
    return out


def agreements(scripts: Iterable[Script], second: Iterable[SecondMarks]) -> tuple[dict[str, Agreement], int]:
    """Agreement per mark, in the order of stages and acts, and how many scripts it is over."""
    known = {script.id: script for script in scripts}
    out = {mark: Agreement(0, 0, 0, 0) for mark in (*STAGES, *ACTS)}
    num_scripts = 0
    for marks in second:
        script = known.get(marks.script_id)
        if script is None or words_sha256(script) != marks.words_sha256:
            continue
        num_scripts += 1
        for number, turn in enumerate(script.turns):
            said = marks.by_turn.get(number, frozenset())
            for mark in OF_LEG[turn.leg]:
                first, again = mark in (*turn.all_stages, *turn.acts), mark in said
                out[mark] += Agreement(1, first, again, first and again)
    return out, num_scripts
