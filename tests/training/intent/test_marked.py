"""Marks of outside texts: they fit the pieces that were read, or are left out."""

import json
from pathlib import Path

import pytest

from inference.errors import ConfigError
from training.intent.data import read_outside
from training.intent.marked import MARKS_FILE, read_marks, with_marks

SHIPPED = Path(__file__).parents[3] / "datasets" / MARKS_FILE


def write(path: Path, **changes: object) -> Path:
    row = {"source": "bothbosu", "id": "a", "label": "scam", "num_pieces": 3, "marks": {"0": ["contact", "threat"]}}
    path.write_text(json.dumps(row | changes) + "\n")
    return path


@pytest.fixture
def calls(tmp_path: Path) -> list:
    text = "Suspect: You will be arrested. Innocent: Who is this? Suspect: Pay now."
    rows = [{"id": "a", "group": "g", "text": text, "label": label} for label in ("scam", "benign")]
    path = tmp_path / "en_synthetic_bothbosu.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read_outside(path, "bothbosu"))


def test_marks_go_to_the_call_they_name_and_the_rest_of_it_shows_none(calls: list, tmp_path: Path) -> None:
    scam, genuine = with_marks(calls, read_marks(write(tmp_path / "marks.jsonl")))
    assert [(p.stages, p.acts) for p in scam.pieces] == [(("contact", "lure"), ("threat",)), ((), ()), ((), ())]
    assert {(p.stages, p.acts) for p in genuine.pieces} == {(None, None)}


def test_a_call_cut_otherwise_stays_unmarked(calls: list, tmp_path: Path) -> None:
    assert with_marks(calls, read_marks(write(tmp_path / "marks.jsonl", num_pieces=4))) == calls
    assert with_marks(calls, read_marks(tmp_path / "missing.jsonl")) == calls


@pytest.mark.parametrize(
    "change", [{"label": "spam"}, {"marks": {"x": []}}, {"marks": {"0": ["greed"]}}, {"marks": []}]
)
def test_a_malformed_line_is_named(tmp_path: Path, change: dict) -> None:
    with pytest.raises(ConfigError, match="line 1"):
        read_marks(write(tmp_path / "marks.jsonl", **change))


def test_what_is_shipped_is_read() -> None:
    marks = read_marks(SHIPPED)
    assert len(marks) == len(SHIPPED.read_text().splitlines()) == 280
    assert {source for source, _, _ in marks} == {"bothbosu", "ftc", "sgd", "youtube"}
