"""Call texts judged as they would be heard: when, before the ask or after it, in seconds of far-leg speech."""

import pytest

from inference.errors import ConfigError
from training.evaluation.labelled import read_labelled
from training.evaluation.run import judge_all
from training.evaluation.sets import read_set

WORDS = {"danger": 3.5, "code": 3.5, "verify": -2.0}
FIVE = "one two three four five"


@pytest.fixture
def judged(versions, write_calls):
    """``judged([(id, label, turns, fields)])``: outcomes by id."""
    from rich.console import Console

    def judge(calls):
        version = versions.make("1", WORDS)
        lines = []
        (outcomes,) = judge_all(
            version, [read_set(write_calls("calls.jsonl", calls))], Console(quiet=True), lines.append
        ).values()
        assert len(lines) == 1
        return {outcome.id: outcome for outcome in outcomes}

    return judge


def scam(name, *turns, **more):
    return (name, "scam", turns, {"family": "refund", "topic": "refund", **more})


def test_an_alarm_is_told_in_seconds_of_far_speech_and_of_the_call(judged):
    found = judged([scam("s", ("far", FIVE), ("near", FIVE), ("far", "a danger to your account"))])["s"]
    assert found.level == "suspect"
    assert found.alarms["suspect"].far_s == pytest.approx(4.0)  # ten words at 2.5 a second
    assert found.alarms["suspect"].at_s == pytest.approx(6.0)
    assert "danger" not in found.alarms
    assert (found.far_s, found.talk_s, found.what) == (pytest.approx(4.0), pytest.approx(6.0), "written text")


def test_a_warning_within_the_ask_is_not_before_it(judged):
    early = (
        ("far", "an account in danger", ["lure"]),
        ("far", f"{FIVE} {FIVE} {FIVE}", []),
        ("far", "read it", ["ask"]),
    )
    late = (("far", FIVE, ["contact"]), ("far", "read me the code", ["ask"]))
    found = judged([scam("early", *early), scam("late", *late)])
    assert found["early"].lead_s("suspect") == pytest.approx(6.0)
    assert found["early"].act_far_s == 0.0
    assert found["late"].lead_s("suspect") == pytest.approx(-1.6)
    assert found["late"].act_far_s == pytest.approx(2.0)


def test_a_genuine_call_has_no_ask_and_no_alarm(judged):
    found = judged([("g", "genuine", [("far", "please verify with us"), ("near", FIVE)])])["g"]
    assert (found.is_scam, dict(found.alarms), found.ask_s, found.lead_s("suspect")) == (False, {}, None, None)


def test_real_words_and_rewritten_ones_are_told_apart(judged):
    calls = [scam("a", ("far", "danger"), real=True), scam("a-rewritten-polite", ("far", "peril"), real=True)]
    found = judged(calls)
    assert found["a"].what == "real text"
    assert dict(found["a-rewritten-polite"].slices) == {"rewritten": "polite"}


def test_labels_are_read_in_more_than_one_shape(write_calls):
    path = write_calls("x.jsonl", [(1, "benign", [("far", "hello")]), ("2", "scam", [("far", "hello")])])
    first, second = read_labelled(path)
    assert (first.id, first.label, first.family) == ("1", "genuine", None)
    assert second.family == "other"
    assert first.lacks == ["consent", "legal_basis", "source", "licence"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("nonsense", "not JSON"),
        ('{"id": "a"}', "label: Field required"),
        ('{"id": "a", "label": "spam", "turns": []}', "label"),
        ('{"id": "a", "label": "genuine", "family": "tax", "text": "secretword"}', "family: a scam call has one"),
        ('{"id": "a", "label": "scam", "family": "secretword", "text": "x"}', "family: is none of"),
        ('{"id": "a", "label": "genuine", "turns": [{"leg": "up", "text": "secretword"}]}', "turns.0.leg"),
        ('{"id": "a", "label": "genuine", "turns": [{"leg": "far", "text": " "}]}', "nothing is said"),
    ],
)
def test_a_faulty_line_is_named_and_what_was_said_is_not(tmp_path, line, says):
    (tmp_path / "calls.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(ConfigError, match=r"calls.jsonl:2") as error:
        read_labelled(tmp_path / "calls.jsonl")
    assert says in str(error.value)
    assert "secretword" not in str(error.value)
