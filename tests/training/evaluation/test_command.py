"""``scamtap-train evaluate`` as its user meets it."""

import hashlib
import json
import shutil
from collections import Counter

import pytest

from training.scripts import load_scripts

WORDS = {"danger": 3.5, "code": 3.5}


@pytest.fixture
def texts(write_calls):
    scam = [
        (f"s{i}", "scam", [("far", f"your account is in danger {'abcdefgh'[i]}")], {"topic": "bank"}) for i in range(8)
    ]
    genuine = [(f"g{i}", "genuine", [("far", f"hello there {'abcdefgh'[i]}")], {"topic": "bank"}) for i in range(8)]
    return write_calls("texts.jsonl", [*scam, *genuine])


def test_texts_give_a_line_a_report_a_page_and_plots(versions, train_command, texts, tmp_path):
    out = tmp_path / "report"
    code, said, _ = train_command("evaluate", texts, "--model", versions.make("1", WORDS), "--report", out)
    assert code == 0
    assert "texts (written text): 8 scam; 8 genuine" in said
    assert "suspect: recall 8/8" in said
    assert "false suspect 0/8 (95 %: at most 312 per 1,000)" in said
    assert {path.name for path in out.iterdir()} >= {"report.json", "index.html", "det.png", "reliability.png"}
    report = json.loads((out / "report.json").read_text())
    assert [model["name"] for model in report["models"]] == ["scam_intent/1"]
    assert report["sets"]["texts"]["topic_pairs"]["bank"]["auc"] == 1.0


def test_simulated_errors_make_sets_of_their_own(versions, train_command, texts, tmp_path):
    model = versions.make("1", WORDS)
    code, _, _ = train_command(
        "evaluate", texts, "--model", model, "--errors", 0, "--errors", 35, "--out", tmp_path / "o.json"
    )
    assert code == 0
    sets = json.loads((tmp_path / "o.json").read_text())["sets"]
    assert set(sets) == {"texts", "texts-errors-35"}
    hits = [sets[name]["recall_suspect"]["hits"] for name in ("texts", "texts-errors-35")]
    assert hits[0] == 8 > hits[1]


def test_only_names_a_set(versions, train_command, texts):
    code, _, error = train_command("evaluate", texts, "--model", versions.make("1", WORDS), "--only", "scripts")
    assert code == 1
    assert error == "--only scripts: no such set; there are texts"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--split", "train"), "give test or dev"),
        (("--update", "--split", "dev"), "--update is for all the standing test figures"),
        (("--drift",), "--drift wants traffic"),
        (("--model", "nowhere"), "nowhere: is no version of the intent model"),
        (("missing.jsonl",), "missing.jsonl: cannot be read"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(versions, train_command, arguments, says):
    if "--model" not in arguments:
        arguments = (*arguments, "--model", versions.make("1", WORDS))
    _, _, error = train_command("evaluate", *arguments)
    assert says in error
    assert "\n" not in error


@pytest.fixture
def measured(versions, train_command):
    """A version with the scores of a standing evaluation beside it."""
    from training.evaluation.drift import reference_of, write_reference
    from training.evaluation.outcome import Alarm, Outcome

    def outcome(i, is_scam):
        alarms = {"suspect": Alarm(1, 1)} if is_scam else {}
        risk = 0.6 + i / 100 if is_scam else 0.05
        return Outcome(f"{i}", is_scam, None, "x", "en", "x", "written text", risk, alarms, 10, 10)

    version = versions.make("1", WORDS)
    write_reference(version, reference_of([outcome(i, is_scam) for i in range(30) for is_scam in (True, False)], 0.05))
    return version


@pytest.mark.parametrize(
    ("text", "code", "says"), [("hello", 0, "calibration holds"), ("a danger", 3, "calibration no longer holds")]
)
def test_drift_of_unlabelled_texts_has_an_exit_code(measured, train_command, tmp_path, text, code, says):
    lines = "".join(json.dumps({"id": i, "text": f"{text} {i}"}) + "\n" for i in range(40))
    (tmp_path / "traffic.jsonl").write_text(lines)
    out = tmp_path / "drift.json"
    found, said, _ = train_command("evaluate", "--drift", tmp_path / "traffic.jsonl", "--model", measured, "--out", out)
    assert (found, says in said) == (code, True)
    assert json.loads(out.read_text())["calibration_holds"] is (code == 0)


def test_help_teaches(train_command):
    _, said, _ = train_command("evaluate", "--help")
    assert "scamtap-train evaluate calls.jsonl --report out/" in said
    assert "Exit code 3" in said


SCRIPT = """
- id: {id}
  label: genuine
  topic: bank
  turns: |
    far: hello there, this is your branch
    near: Good morning.
"""


@pytest.fixture
def dealt(tmp_path):
    """A file of scripts, and how many of them stand on each side."""
    names = [f"en-genuine-branch-{number}" for number in range(40)]
    path = tmp_path / "scripts" / "en" / "genuine" / "branch.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("".join(SCRIPT.format(id=name) for name in names))
    return path, Counter(script.split for script in load_scripts(path))


def test_of_scripts_that_a_model_was_trained_on_its_test_side_alone_is_measured(versions, train_command, dealt):
    (path, sides), version = dealt, versions.make("1", WORDS)
    assert "40 genuine" in train_command("evaluate", path, "--model", version)[1]
    files = {"scripts/en/genuine/branch.yaml": hashlib.sha256(path.read_bytes()).hexdigest()}
    (version / "report.json").write_text(json.dumps({"training": {"data": {"scripts": files}}}))
    assert f"{sides['test']} genuine" in train_command("evaluate", path, "--model", version)[1]
    assert f"{sides['dev']} genuine" in train_command("evaluate", path, "--model", version, "--split", "dev")[1]
    path.write_text(path.read_text() + SCRIPT.format(id="en-genuine-branch-new"))  # grown since: most of it was learnt
    assert "40 genuine" not in train_command("evaluate", path, "--model", version)[1]


def test_files_of_one_name_are_two_sets(versions, train_command, texts, tmp_path):
    other = tmp_path / "other" / texts.name
    other.parent.mkdir()
    shutil.copy(texts, other)
    out = tmp_path / "out.json"
    train_command("evaluate", texts, other, "--model", versions.make("1", WORDS), "--out", out)
    sets = json.loads(out.read_text())["sets"]
    assert {name: values["num_scam"] for name, values in sets.items()} == {"texts": 8, "texts-2": 8}


def test_calls_in_a_language_that_the_model_does_not_judge_are_refused(versions, train_command, tmp_path):
    path = tmp_path / "zh.yaml"
    path.write_text(SCRIPT.format(id="zh-genuine-branch"))
    _, _, error = train_command("evaluate", path, "--model", versions.make("1", WORDS))
    assert "does not judge calls in zh" in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--drift", "--report", "x"), "--report means nothing with --drift"),
        (("--errors", 25), "--errors means nothing without files"),
        (("texts.jsonl", "--limit", 3), "--limit means nothing with files"),
        (("texts.jsonl", "--update"), "--update means nothing with files"),
        (("--report", "pyproject.toml"), "pyproject.toml: is a file; give a folder"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(train_command, arguments, says):
    _, _, error = train_command("evaluate", *arguments)
    assert says in error
