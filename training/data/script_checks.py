"""What a folder of call scripts must hold: every fault, with file, line, field and remedy; and what is worth a look."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.shingles import NearCopy, near_copies
from training.script_faults import ScriptFault
from training.scripts import Placed, Script, line_of, walk_scripts


@dataclass(frozen=True, slots=True)
class CheckedScripts:
    """A folder of scripts as far as it could be read.

    Attributes:
        scripts: that are in order.
        errors: faults that must be put right.
        odd_pairs: pairs that are not one scam and one genuine call; they cannot be told apart by what they share.
        copies: scripts that share many words.
    """

    scripts: list[Script]
    errors: list[ScriptFault]
    odd_pairs: list[ScriptFault]
    copies: list[NearCopy]


def check_scripts(folder: Path, alike: float) -> CheckedScripts:
    """Read every script under ``folder`` and find every fault.

    Args:
        folder: with ``*.yaml``, at any depth.
        alike: share of the words that two scripts have in common to be reported, 0 to 1.
    """
    found = list(walk_scripts(folder))
    placed = [one for one in found if isinstance(one, Placed)]
    scripts = [one.script for one in placed]
    copies = near_copies({script.id: " ".join(turn.text for turn in script.turns) for script in scripts}, alike)
    errors = [one for one in found if isinstance(one, ScriptFault)]
    return CheckedScripts(scripts, errors, list(_odd_pairs(placed)), copies)


def _odd_pairs(placed: Sequence[Placed]) -> Iterator[ScriptFault]:
    by_pair: dict[str, list[Placed]] = defaultdict(list)
    for one in placed:
        if one.script.pair is not None:
            by_pair[one.script.pair].append(one)
    for name, members in by_pair.items():
        labels = [one.script.label for one in members]
        if (scams := labels.count("scam"), genuine := labels.count("genuine")) != (1, 1):
            what = (
                f"{name} has {scams} scam and {genuine} genuine calls, not one of each; put new calls right, but leave "
                "those that a model has read: the name fixes their side of the split"
            )
            yield ScriptFault(members[0].path, line_of(members[0], "pair"), "pair", what)
