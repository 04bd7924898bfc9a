"""Acts guessed by rules from outside scam texts."""

import json
from pathlib import Path

import pytest

from inference.intent.scores import STAGES
from training.intent.data import TRAINABLE, read_all
from training.intent.weak import RULES, weak_stages


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("Can you read me the verification code please?", ("ask",)),
        ("This is Officer Jones, badge number 44.", ("authority",)),
        ("There is a warrant out for you, so don’t hang up the phone.", ("lure", "isolation")),
        ("Congratulations! Press one to claim.", ("lure", "ask")),
        ("You need to download AnyDesk and buy two gift cards.", ("ask",)),
        ("I am calling about your order.", ("contact",)),
    ],
)
def test_words_that_hardly_say_anything_else_are_an_act(text: str, stages: tuple[str, ...]) -> None:
    assert weak_stages(text) == stages


@pytest.mark.parametrize("text", ["We went camping with the kids.", "I read the code of the game.", "", "pressing on"])
def test_where_no_rule_fires_nothing_is_labelled(text: str) -> None:
    assert weak_stages(text) is None


def test_rules_are_for_acts_we_know() -> None:
    assert set(RULES) == set(STAGES) - {"reassure"}


def test_only_the_far_leg_of_scam_texts_is_labelled(tmp_path: Path) -> None:
    rows = [
        {"id": label, "label": label, "group": label, "text": "Suspect: Press one now. Innocent: Press one now."}
        for label in ("scam", "benign")
    ]
    (tmp_path / "en_synthetic_bothbosu.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scam, benign = read_all(tmp_path, TRAINABLE)
    assert [piece.stages for piece in scam.pieces] == [("ask",), None]
    assert [piece.stages for piece in benign.pieces] == [None, None]
