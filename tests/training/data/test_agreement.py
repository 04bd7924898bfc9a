"""Two hands on the same calls: kappa by hand, scripts that changed left out, and the command that prints it."""

import json

import pytest
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from inference.errors import ConfigError
from training.data.agreement import Agreement, agreements, read_second, words_sha256
from training.data.command import app
from training.scripts import load_scripts

CALLS = """
- id: en-bank-one
  label: scam
  family: card_otp
  topic: bank
  turns: |
    far [contact, claims_authority]: This is the bank.
    near [doubts]: Who is this?
    far [ask, credential]: Read me the code.
    far: Nice weather.
- id: en-bank-two
  label: genuine
  topic: bank
  turns: |
    far [reassure, asks_nothing]: Nothing to do, your card is in the post.
    near: Thank you.
"""


@pytest.fixture
def scripts(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "bank.yaml").write_text(CALLS)
    return tmp_path / "scripts"


def marked(scripts, name, marks, words=None):
    script = next(script for script in load_scripts(scripts) if script.id == name)
    return json.dumps({"id": name, "words_sha256": words or words_sha256(script), "marks": marks}) + "\n"


def test_a_mark_is_held_against_the_turns_of_its_leg(scripts, tmp_path) -> None:
    second = tmp_path / "second.jsonl"
    said = {"0": ["contact"], "1": ["doubts"], "2": ["ask", "credential"], "3": ["claims_authority"]}
    second.write_text(marked(scripts, "en-bank-one", said) + marked(scripts, "en-bank-two", {"0": ["asks_nothing"]}))
    found, num_scripts = agreements(load_scripts(scripts), read_second(second))
    assert num_scripts == 2
    assert found["ask"] == Agreement(turns=4, first=1, second=1, both=1)
    assert found["claims_authority"] == Agreement(turns=4, first=1, second=1, both=0)
    assert found["doubts"] == Agreement(turns=2, first=1, second=1, both=1)
    assert found["reassure"] == Agreement(turns=4, first=1, second=0, both=0)
    assert found["threat"].kappa is None


@pytest.mark.parametrize(("first", "second"), [([1, 0, 0, 1, 1, 0], [1, 0, 1, 1, 0, 0]), ([1, 0, 0, 0], [0, 1, 0, 0])])
def test_kappa_is_cohen_s(first, second) -> None:
    both = sum(a and b for a, b in zip(first, second, strict=True))
    made = Agreement(len(first), sum(first), sum(second), both)
    assert made.kappa == pytest.approx(cohen_kappa_score(first, second))


def test_a_script_that_was_changed_since_is_left_out(scripts, tmp_path) -> None:
    second = tmp_path / "second.jsonl"
    second.write_text(marked(scripts, "en-bank-one", {}, words="0" * 64) + marked(scripts, "en-bank-two", {}))
    assert agreements(load_scripts(scripts), read_second(second))[1] == 1
    shown = CliRunner().invoke(app, ["agreement", str(second), "--scripts", str(scripts)])
    assert shown.exit_code == 0
    assert "1 scripts; 1 left out" in shown.output


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": "x", "marks": {}}', '{"id": "x", "words_sha256": "", "marks": []}']
)
def test_a_line_that_is_none_is_named(line, tmp_path) -> None:
    (tmp_path / "second.jsonl").write_text(line)
    with pytest.raises(ConfigError, match="line 1: want id"):
        read_second(tmp_path / "second.jsonl")


def test_an_unknown_mark_is_named(scripts, tmp_path) -> None:
    (tmp_path / "second.jsonl").write_text(marked(scripts, "en-bank-two", {"0": ["asking"]}))
    with pytest.raises(ConfigError, match="unknown mark asking"):
        read_second(tmp_path / "second.jsonl")
