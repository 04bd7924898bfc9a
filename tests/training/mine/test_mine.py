"""Mining: what is worth a label comes first, near copies once; out to Label Studio and back to retraining."""

import json
import re
import stat
import unicodedata
from pathlib import Path

import pytest
import typer.testing
from hypothesis import assume, example, given
from hypothesis import strategies as st

from inference.errors import ConfigError
from inference.intent.text import normalise
from inference.verdict.verdict import VerdictConfig
from training.evaluation.labelled import read_labelled
from training.mine.label_studio import ExportedTask, labelled_lines, masked, page, read_export, tasks
from training.mine.rank import KeptCall, novelty, rank, read_kept

KNOWN = ["your parcel is held at customs please pay the duty now", "the bank never asks for codes call us back"]
NEW_SCRIPTS = Path(__file__).parents[3] / "datasets" / "new"
VERDICT = VerdictConfig(suspect_llr=3.0, danger_llr=4.6)
AT_THRESHOLD = 0.514  # prior .05 and 3 nats


def kept(call_id, risk, text=KNOWN[0], **more):
    said = [{"leg": "far", "start_s": 0.0, "text": text}, {"leg": "near", "start_s": 3.0, "text": "who is this"}]
    return KeptCall.model_validate({"id": call_id, "peak_risk": risk, "utterances": said, **more})


def reworded(call_id, risk, **more):
    """Unlike other calls of this file in most of its words, which hold no digit: the model reads none."""
    letters = "".join(chr(97 + ord(character) % 26) for character in call_id)
    return kept(call_id, risk, f"{KNOWN[0]} and also {' '.join(letters + chr(97 + i) for i in range(14))}", **more)


def test_a_warning_called_wrong_comes_first_then_doubt_then_the_rest():
    calls = [
        reworded("sure", 0.999),
        reworded("doubtful", AT_THRESHOLD),
        reworded("wronged", 0.9, feedback=["not_a_scam"], alerts=[["suspect", 4.0, 0]]),
        reworded("again", 0.9, feedback=["not_a_scam"], alerts=[["suspect", 4.0, 0], ["danger", 9.0, 1]]),
    ]
    ranked = rank(calls, KNOWN, VERDICT, 10)
    assert [r.call.id for r in ranked] == ["again", "wronged", "doubtful", "sure"]
    assert ranked[0].reasons["alarm after feedback"] == 2.0
    assert ranked[2].reasons["near threshold"] == pytest.approx(1.5, abs=0.02)


def test_what_is_unlike_everything_learnt_is_novel():
    same, new = novelty([KNOWN[0], "zebras graze on purple volcanoes at dawn"], KNOWN)
    assert same < 0.05
    assert new > 0.7
    assert novelty(["anything"], []) == [1.0]


def test_of_near_copies_one_is_asked_for():
    calls = [
        kept(f"robocall-{i}", 0.5, "press one to speak to an agent about your car warranty today") for i in range(20)
    ]
    ranked = rank([*calls, reworded("other", 0.2)], KNOWN, VERDICT, 5)
    assert len(ranked) == 2
    assert ranked[1].call.id == "other"


def test_tasks_hold_the_dialogue_masked_and_the_models_guess():
    call = kept(
        "c1", 0.9, "card 4929 1234 5678 9012 code 77", level="danger", family="card_otp", model="scam_intent:abc"
    )
    (task,) = tasks(rank([call], KNOWN, VERDICT, 1))
    assert task["data"]["dialogue"][0] == {"author": "caller", "start_s": 0.0, "text": "card number code number"}
    (guess,) = task["predictions"]
    assert guess["model_version"] == "scam_intent:abc"
    assert [r["value"]["choices"] for r in guess["result"]] == [["scam"], ["card_otp"]]
    assert all(r["to_name"] == "dialogue" and f'name="{r["from_name"]}"' in page() for r in guess["result"])
    (bare,) = tasks(rank([call], KNOWN, VERDICT, 1), mask=False)
    assert "4929" in bare["data"]["dialogue"][0]["text"]


DIGITS = st.text("0123456789٣ ,.:/()+-$£%'abnyzm２²十九", max_size=40)
SAID = st.lists(
    st.sampled_from(("four", "Nine", "hundred", "and", "oh", "x", "4929", "、", "#", ", ", "-")), max_size=9
)
DIGIT = r"(?:[\d十]|九+|four|nine|oh|hundred)"
READ_OUT = re.compile(rf"{DIGIT}(?:[^\w'$£€%]+(?:and[^\w]+)?{DIGIT}){{2,}}", re.IGNORECASE)


@given(
    st.one_of(
        DIGITS,
        st.text(max_size=40),
        st.from_regex(r"[a-z ]{0,9}\d{2,6}[-, .]\d{1,9}", fullmatch=True),
        SAID.map(" ".join),
        SAID.map("".join),
    )
)
@example("press 1 or 12, it's £4,929.50 and twenty 5")
@example("it's four, nine. Two-nine; 四九二九, 千万 and one")
def test_a_masked_text_is_read_as_the_text_is(text):
    codes = READ_OUT.findall(unicodedata.normalize("NFKC", text))
    assume(not any(re.search(r"[\d十九]", code) for code in codes))  # see the next test
    assert normalise(masked(text)) == normalise(text)
    assert not re.search(r"\d\d", masked(text))


@pytest.mark.parametrize(
    "said",
    [
        "4 9 2 9",
        "4, 9, 2",
        "4929 1 2 3",
        "4-9-2",
        "four nine two nine",
        "Four. Nine. Two",
        "4 double 9 two",
        "四九二九",
        "four nought treble nine",
        "四 九 二 九",
        "四，九、二",
        "四 九 二九",
    ],
)
def test_a_code_read_digit_by_digit_is_masked_too(said):
    (task,) = tasks(rank([kept("c1", 0.5, f"my code is {said}")], KNOWN, VERDICT, 1))
    assert task["data"]["dialogue"][0]["text"] == "my code is number"


PROVENANCE = {
    "consent": "subscribers of the pilot",
    "legal_basis": "contract 4.2",
    "source": "pilot",
    "licence": "ours",
}


def annotated(task, **choices):
    result = [
        {"from_name": n, "to_name": "dialogue", "type": "choices", "value": {"choices": [v]}}
        for n, v in choices.items()
    ]
    return {**task, "annotations": [{"result": result}]}


def test_labels_come_back_as_calls_that_retraining_reads(tmp_path):
    made = tasks(rank([reworded(f"c{i}", 0.5) for i in range(4)], KNOWN, VERDICT, 4))
    exported = [
        annotated(made[0], label="scam", family="parcel"),
        annotated(made[1], label="genuine"),
        annotated(made[2], label="unclear"),
        {**made[3], "annotations": [{"was_cancelled": True, "result": []}]},
    ]
    (tmp_path / "export.json").write_text(json.dumps(exported))
    lines = labelled_lines(read_export(tmp_path / "export.json"), PROVENANCE)
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    calls = read_labelled(tmp_path / "new.jsonl")
    assert [(c.label, c.family, c.real, c.lacks) for c in calls] == [
        ("scam", "parcel", True, []),
        ("genuine", None, True, []),
    ]


def test_the_last_annotation_alone_counts():
    (task,) = tasks(rank([reworded("c", 0.5)], KNOWN, VERDICT, 1))
    scam = annotated(task, label="scam", family="parcel")["annotations"]
    genuine = annotated(task, label="genuine")["annotations"]

    def chosen(annotations):
        return ExportedTask.model_validate({**task, "annotations": annotations}).chosen

    assert chosen(scam + genuine) == {"label": "genuine"}
    assert chosen([*scam, {"was_cancelled": True, "result": genuine[0]["result"]}]) == {
        "label": "scam",
        "family": "parcel",
    }
    assert chosen([*scam, {"result": []}]) == {}
    assert chosen([]) == {}


def test_labels_without_provenance_are_refused():
    with pytest.raises(ConfigError, match="consent is missing"):
        labelled_lines([], PROVENANCE | {"consent": " "})


@pytest.mark.parametrize("content", ["", "{}", "[1]", "[" * 5000, '[{"data": 1}]', '[{"annotations": 0.5}]'])
def test_an_export_that_is_none_is_said_in_a_line(tmp_path, content):
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(ConfigError, match="export the project as JSON"):
        read_export(tmp_path / "export.json")


@pytest.mark.parametrize("line", ["{}", "nonsense", '{"id": "x", "peak_risk": 2, "utterances": []}'])
def test_a_damaged_line_is_named_and_not_quoted(tmp_path, line):
    (tmp_path / "2026-01-01.jsonl").write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"2026-01-01\.jsonl:1: is no kept call"):
        list(read_kept(tmp_path))


@pytest.fixture
def command():
    from training.cli import app

    def run(*arguments):
        return typer.testing.CliRunner().invoke(app, [str(a) for a in arguments])

    return run


def test_without_a_setting_that_keeps_transcripts_nothing_is_mined(command, tmp_path):
    done = command("mine", "--out", tmp_path / "tasks.json")
    assert "privacy.transcripts.folder is not set" in str(done.exception)
    assert not (tmp_path / "tasks.json").exists()


def test_the_command_writes_tasks_for_their_owner_alone(command, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/2026-01-01.jsonl").write_text(kept("c1", 0.5).model_dump_json() + "\n")
    (tmp_path / "scamtap.yaml").write_text(f"privacy: {{transcripts: {{folder: {tmp_path / 'kept'}}}}}\n")
    arguments = ("--config", tmp_path / "scamtap.yaml", "--scripts", NEW_SCRIPTS, "--out", tmp_path / "tasks.json")
    done = command("mine", *arguments)
    assert done.exit_code == 0, done.output
    assert stat.S_IMODE((tmp_path / "tasks.json").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "tasks.json").read_text())[0]["data"]["id"] == "c1"
    assert (tmp_path / "tasks.xml").read_text() == page()
