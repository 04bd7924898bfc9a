"""Stages and acts that were marked by hand in a subset of the outside texts.

Those texts are no part of the repository; the marks are (``datasets/marks/outside.jsonl``, a call a line): ``source``,
``id`` and ``label`` name the call, ``marks`` gives stages and acts by number of its piece, as
:func:`training.intent.data.read_outside` cuts it. The first ``num_pieces`` were read; a piece without marks shows none.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from inference.errors import ConfigError
from inference.intent.acts import ACTS
from inference.intent.scores import STAGES
from training.intent.data import MAX_PIECES, Call, Piece
from training.scripts import with_implied

MARKS_FILE = "marks/outside.jsonl"

Marks = dict[tuple[str, str, bool], tuple[int, dict[int, tuple[str, ...]]]]
"""(source, id, is a scam) -> pieces that were read, marks by piece. Ids of one source are not always unique."""


def read_marks(path: Path) -> Marks:
    """The marks of ``path``; none where it is missing.

    Raises:
        ConfigError: a line is not as described above; names file and line.
    """
    if not path.exists():
        return {}
    marks: Marks = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            by_piece = {int(piece): tuple(names) for piece, names in row["marks"].items()}
            key = (str(row["source"]), str(row["id"]), {"scam": True, "genuine": False}[row["label"]])
            marks[key] = (int(row["num_pieces"]), by_piece)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: line {number}: want source, id, label, num_pieces, marks") from error
        if unknown := {name for names in by_piece.values() for name in names} - {*STAGES, *ACTS}:
            raise ConfigError(f"{path}: line {number}: unknown mark {min(unknown)}")
    return marks


def with_marks(calls: Iterable[Call], marks: Marks) -> list[Call]:
    """``calls`` with the marks that fit them; a call that is cut into other pieces than were read stays unmarked."""
    return [_marked(call, *marks.get((call.source, call.id, call.is_scam), (0, {}))) for call in calls]


def _marked(call: Call, num_read: int, marks: dict[int, tuple[str, ...]]) -> Call:
    if num_read == 0 or num_read != min(MAX_PIECES, len(call.pieces)):
        return call
    pieces = [_piece(piece, marks.get(number, ())) for number, piece in enumerate(call.pieces[:num_read])]
    return replace(call, pieces=(*pieces, *call.pieces[num_read:]))


def _piece(piece: Piece, marks: tuple[str, ...]) -> Piece:
    acts = tuple(mark for mark in marks if mark in ACTS)
    return replace(piece, stages=with_implied([mark for mark in marks if mark in STAGES], acts), acts=acts)
