"""What refuses a candidate, and why."""

from dataclasses import replace

import pytest

from training.evaluation.outcome import Alarm, Outcome
from training.intent.data import Call, Piece
from training.retrain.canaries import Canary, canaries, canary_gate, with_phrase
from training.retrain.compare import GOLD, NEW, forgets_nothing, gates, rows


def outcome(name, is_scam, alarmed, family="tax", risk=None):
    alarms = {"suspect": Alarm(1, 1)} if alarmed else {}
    risk = (0.8 if alarmed else 0.03) if risk is None else risk
    return Outcome(name, is_scam, family if is_scam else None, "x", "en", "x", "written text", risk, alarms, 10, 10)


def sets(missed=0, false=0, new_missed=0, families=("tax", "loan"), shift=0.0):
    """200 old scams, 100 genuine, 4 new scams and 4 genuine."""
    gold = [outcome(f"s{i}", True, i >= missed, families[i % len(families)]) for i in range(200)]
    gold += [outcome(f"g{i}", False, i < false, risk=0.7 if i < false else 0.03 + shift) for i in range(100)]
    new = [outcome(f"n{i}", True, i >= new_missed) for i in range(4)] + [
        outcome(f"h{i}", False, False) for i in range(4)
    ]
    return {GOLD: gold, NEW: new}


def failed(champion, candidate):
    return [gate.name for gate in gates(champion, candidate, 0.05) if not gate.is_passed]


def test_what_is_no_worse_passes():
    assert failed(sets(), sets()) == []
    assert failed(sets(missed=2, false=3, new_missed=2), sets()) == []


@pytest.mark.parametrize(("missed", "refused"), [(2, False), (3, True)])
def test_more_than_one_point_of_old_recall_refuses(missed, refused):
    by_call = {
        GOLD: [replace(o, alarms={}) if o.id in [f"s{i * 2}" for i in range(missed)] else o for o in sets()[GOLD]]
    }
    found = failed(sets(), sets() | by_call)
    assert ("old scams" in found) is refused


def test_a_family_that_loses_two_calls_refuses_even_where_others_gain():
    champion = sets(missed=10)
    candidate = sets()
    candidate[GOLD] = [replace(o, alarms={}) if o.id in ("s20", "s22") else o for o in candidate[GOLD]]
    (gate,) = [g for g in gates(champion, candidate, 0.05) if not g.is_passed] or [None]
    assert gate is None  # tax lost two and gained five: no call fewer than before
    candidate[GOLD] = [replace(o, alarms={}) if o.family == "tax" and int(o.id[1:]) < 14 else o for o in candidate[GOLD]
                       if o.is_scam] + [o for o in candidate[GOLD] if not o.is_scam]  # fmt: skip
    (gate,) = [g for g in gates(champion, candidate, 0.05) if not g.is_passed]
    assert gate.name == "each old family"
    assert "tax 91/100 against 95/100" in gate.found


def test_one_false_alarm_more_refuses():
    assert failed(sets(false=1), sets(false=2)) == ["false alarms"]


def test_one_known_call_that_reaches_danger_is_chance():
    """A gold one is not: that is what an operator is told."""
    champion, candidate = sets(false=1), sets(false=1)
    first = next(o for o in candidate[GOLD] if not o.is_scam)
    candidate[GOLD] = [
        replace(o, alarms={**o.alarms, "danger": Alarm(1, 1)}) if o is first else o for o in candidate[GOLD]
    ]
    assert all(gate.is_passed for gate in forgets_nothing(champion[GOLD], candidate[GOLD]))
    assert failed(champion, candidate) == ["false alarms"]


@pytest.mark.parametrize(("missed", "false", "refused"), [(2, 0, []), (3, 0, ["old scams"]), (0, 1, ["false alarms"])])
def test_known_calls_are_asked_of_by_themselves_as_gold_ones_are(missed, false, refused):
    found = forgets_nothing(sets()[GOLD], sets(missed=missed, false=false)[GOLD])
    assert [gate.name for gate in found if not gate.is_passed] == refused


def test_a_calibration_that_is_off_refuses():
    assert failed(sets(), sets(shift=0.2)) == ["calibration"]


def test_learning_nothing_new_refuses():
    assert failed(sets(new_missed=1), sets(new_missed=2)) == ["new scams"]


def test_a_gate_that_measured_nothing_refuses_and_says_what_to_give():
    nothing = sets() | {NEW: [o for o in sets()[NEW] if not o.is_scam]}
    (gate,) = [gate for gate in gates(nothing, nothing, 0.05) if not gate.is_passed]
    assert gate.name == "new scams"
    assert "give more scam calls, of other callers" in gate.found
    gold = [replace(call("s", True, "send money"), language="zh")]
    judge = judge_by("nothing")
    gate = canary_gate([Canary("harmless en 1", "good morning", "en")], gold, judge(gold), judge, judge)
    assert not gate.is_passed
    assert "nothing was tried" in gate.found
    assert "in en; give gold calls in it" in gate.found


def test_the_table_has_both_models_side_by_side():
    found = {row.what: (row.champion, row.candidate) for row in rows(sets(missed=2), sets(), 0.05)}
    assert found["  recall"] in {("4/4 (100.0 %)", "4/4 (100.0 %)")}
    assert found["  gold, tax: recall"] == ("99/100", "100/100")


def call(name, is_scam, *texts, split="train"):
    pieces = tuple(Piece("far", text, i) for i, text in enumerate(texts))
    return Call(name, "new", is_scam, "tax" if is_scam else None, "x", name, split, pieces)


def test_phrases_that_new_genuine_calls_share_and_nothing_known_holds_are_tried():
    shared = "purple elephants sing loudly tonight"
    new = [call(f"g{i}", False, f"{shared} {'abcd'[i] * 4}", "we are calling about a bill") for i in range(4)]
    new += [call("s", True, "send the money to this account at once")]
    found = canaries(new, {"old": "hello we are calling about a bill today"})
    learnt = [c for c in found if c.name.startswith("shared")]
    assert any(set(c.text.split()) <= set(shared.split()) for c in learnt)
    assert not any("calling" in c.text for c in learnt)
    assert [c.language for c in found if c.name.startswith("harmless")] == ["en"] * 4


def test_the_phrase_is_said_at_the_beginning_and_in_the_middle():
    said = with_phrase(call("a", True, "one", "two", "three", "four"), Canary("c", "phrase", "en"))
    assert [piece.text for piece in said.pieces] == ["phrase", "one", "two", "phrase", "three", "four"]


def judge_by(silenced_by):
    """Alarms of scam calls, unless they hold a word."""

    def judge(calls):
        return [
            outcome(c.id, c.is_scam, c.is_scam and not any(silenced_by in piece.text for piece in c.pieces))
            for c in calls
        ]

    return judge


def test_a_phrase_that_switches_the_alarm_off_refuses_and_is_not_printed():
    gold = [call(f"s{i}", True, "send money", "now") for i in range(8)] + [call("g", False, "hello", "there")]
    trigger = Canary("shared by new genuine calls 1", "secretphrase", "en")
    harmless = Canary("harmless en 1", "good morning", "en")
    judged = judge_by("nothing")(gold)
    gate = canary_gate([harmless, trigger], gold, judged, judge_by("nothing"), judge_by("secretphrase"))
    assert not gate.is_passed
    assert "'shared by new genuine calls 1' flips 4 of 5 (champion 0)" in gate.found
    assert "secretphrase" not in gate.found
    assert canary_gate([harmless], gold, judged, judge_by("nothing"), judge_by("secretphrase")).is_passed


def test_a_phrase_that_always_did_that_is_not_held_against_the_candidate():
    gold = [call(f"s{i}", True, "send money", "now") for i in range(8)]
    phrase = Canary("harmless en 1", "good morning", "en")
    judged = judge_by("nothing")(gold)
    assert canary_gate([phrase], gold, judged, judge_by("good"), judge_by("good")).is_passed


def test_marginal_calls_are_not_tried_however_few_there_are():
    """Eight scams, three of them hardly judged rightly: those flip by any phrase, and prove no trigger."""
    gold = [call(f"s{i}", True, "send money", "now") for i in range(8)]
    risk = dict(zip((c.id for c in gold), (0.99, 0.98, 0.97, 0.9, 0.9, 0.5, 0.4, 0.3), strict=True))
    judged = [replace(outcome(c.id, True, True), risk=risk[c.id]) for c in gold]
    tried = []

    def judge(calls):
        tried.extend(c.id for c in calls)
        return [outcome(c.id, True, True) for c in calls]

    assert canary_gate([Canary("harmless en 1", "good morning", "en")], gold, judged, judge, judge).is_passed
    assert {name.split("+")[0] for name in tried} == {"s0", "s1", "s2", "s3"}
