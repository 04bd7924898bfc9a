"""``scamtap-train evaluate`` as its user meets it."""

import json

import pytest

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
    assert report["model"]["name"] == "scam_intent/1"
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
