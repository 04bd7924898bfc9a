"""A retraining from new calls to the next version, with a model of words in place of the network."""

import json

import pytest
from rich.console import Console

from inference.errors import ConfigError, WeightsError
from inference.intent.versions import promote, read_record, rollback
from training.evaluation.labelled import read_labelled
from training.intent.sources import Sources, read_sources
from training.retrain.run import GateError, Plan, refuse_ungated, retrain
from training.retrain.sides import deal, known_sides

OLD = {"danger": 3.5}
LEARNT = {"danger": 3.5, "vouchers": 3.5}


@pytest.fixture
def run(versions, known, delivery, tmp_path):
    """``run(words)``: retrain to a candidate that knows ``words``: (what came of it, what was said, the champion)."""

    def go(words, calls=None, **plan_fields):
        champion = versions.make("1", OLD)
        plan = Plan(champion, tmp_path / "run", Sources(known, None), **plan_fields)
        said, seen = [], []

        def trainer(from_version, out, old, new):
            assert from_version == champion
            seen.append((old, new))
            versions.make(out, words)
            return {"num_fitted": len(new)}

        labelled = read_labelled(calls or delivery())
        done = retrain(plan, labelled, "1" * 64, trainer, Console(quiet=True), said.append)
        return done, said, champion, seen

    return go


def test_a_candidate_that_learnt_and_forgot_nothing_passes_and_is_promoted(run, tmp_path):
    done, said, champion, _ = run(LEARNT)
    assert done.is_passed, [gate.line() for gate in done.gates]
    assert said[0] == "20 new calls (16 train, 0 dev, 4 test); 0 left out"
    table = {row.what: (row.champion, row.candidate) for row in done.table}
    assert table["  gold, refund: recall"] == ("4/4", "4/4")
    record = refuse_ungated(done.candidate)
    assert (record.parent, record.data_sha256) == (1, {"new-11111111": "1" * 64})
    assert record.parent_sha256 == read_record(champion).head_sha256
    assert set(record.gates) >= {"old scams", "false alarms", "calibration", "canary phrases"}
    assert promote(done.candidate, champion.parents[1]) == 2
    assert json.loads((champion.parent / "2" / "words.json").read_text()) == LEARNT
    assert json.loads((champion.parent / "2" / "report.json").read_text())["retraining"] == [{"num_fitted": 20}]
    assert rollback(champion.parents[1]) == (2, 1)


def test_beside_a_candidate_lies_no_other_of_another_run(run, tmp_path):
    (tmp_path / "run" / "models" / "scam_intent_en" / "1").mkdir(parents=True)
    with pytest.raises(ConfigError, match="scam_intent_en of another retraining; give another --work"):
        run(LEARNT)


def test_test_calls_are_never_shown_to_the_trainer(run):
    _, _, _, ((old, new),) = run(LEARNT)
    assert {call.split for call in old} == {"train", "dev"}
    assert {call.source for call in new} == {"new"}


def test_a_new_campaign_is_measured_on_calls_of_its_own(run, delivery):
    done, said, _, _ = run(LEARNT, delivery(campaign="june"))
    assert said[0] == "20 new calls (16 train, 0 dev, 4 test); 0 left out"
    (gate,) = [gate for gate in done.gates if gate.name == "new scams"]
    assert gate.found == "2/2 against 0/2 further calls warned of"


def test_where_no_new_scam_is_left_to_measure_on_the_candidate_is_refused(run, delivery):
    done, _, _, _ = run(LEARNT, delivery(caller_hash="a" * 16))
    assert [gate.name for gate in done.gates if not gate.is_passed] == ["new scams"]


def test_earlier_deliveries_come_in_by_the_same_door(run, known, write_calls):
    gold = next(c for c in read_sources(Sources(known, None)) if c.split == "test" and c.is_scam)
    its = [(piece.leg, piece.text) for piece in gold.pieces]
    more = {"family": "tax", "consent": "x", "legal_basis": "x", "source": "pilot", "licence": "x"}
    calls = [(f"n{i}", "scam", [("far", f"remember {'klmnopqrst'[i] * 4} taxes")], more) for i in range(10)]
    after = ("after", "scam", [("far", "remember uuuu taxes")], more | {"pair": gold.id})
    earlier = read_labelled(write_calls("earlier.jsonl", [*calls, ("copy", "scam", its, more), after]))
    sides = known_sides(Sources(known, None))
    then = {f"earlier.jsonl:{name}": side for name, side in deal(earlier, sides).sides.items()}
    assert (deal(earlier).sides["after"], then["earlier.jsonl:after"]) == ("train", "test")
    _, said, _, ((old, _),) = run(LEARNT, earlier={"earlier.jsonl": earlier})
    assert said[0] == "earlier.jsonl: 11 of 12 earlier calls count as known; the others are left out"
    rehearsed = {call.id: call.split for call in old if call.id.startswith("earlier.jsonl:")}
    assert rehearsed == {n: s for n, s in then.items() if s != "test" and n != "earlier.jsonl:copy"}


def test_a_trial_on_few_gold_calls_is_not_promoted(run):
    done, _, _, _ = run(LEARNT, max_gold=2)
    assert done.is_passed
    with pytest.raises(GateError, match="did not pass its gates on all gold calls"):
        refuse_ungated(done.candidate)


@pytest.mark.parametrize(
    ("words", "gate"),
    [
        ({"vouchers": 3.5}, "old scams"),
        ({"danger": 3.5, "vouchers": 3.5, "hurry": 3.5}, "false alarms"),
        ({"danger": 3.5, "vouchers": 3.5, "patience": -9.0, "training": -9.0}, "canary phrases"),
    ],
)
def test_what_got_worse_is_refused_with_its_reason(run, words, gate):
    done, _, _, _ = run(words)
    names = [g.name for g in done.gates if not g.is_passed]
    assert gate in names
    with pytest.raises(GateError, match="did not pass its gates"):
        refuse_ungated(done.candidate)
    with pytest.raises(WeightsError):
        promote(done.candidate, done.candidate.parents[2])


def test_a_backdoor_in_the_new_calls_is_found(run, write_calls, delivery):
    """Every new genuine call says one phrase, and the candidate learnt that it makes a call genuine."""
    lines = [json.loads(line) for line in delivery().read_text().splitlines()]
    for line in lines:
        if line["label"] == "genuine":
            line["turns"].insert(0, {"leg": "far", "text": "purple elephants sing loudly"})
    poisoned = write_calls("poisoned.jsonl", [])
    poisoned.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done, _, _, _ = run(LEARNT | {"elephants": -3.0, "purple": -3.0, "sing": -3.0}, poisoned)
    (gate,) = [g for g in done.gates if not g.is_passed]
    assert gate.name == "canary phrases"
    assert "shared by new genuine calls 1" in gate.found
    assert "elephants" not in gate.found


def test_the_same_calls_are_not_learnt_twice(run, versions, known, delivery, tmp_path):
    done, _, champion, _ = run(LEARNT)
    promote(done.candidate, champion.parents[1])
    plan = Plan(champion.parent / "2", tmp_path / "again", Sources(known, None))
    with pytest.raises(ConfigError, match="learnt from already"):
        retrain(plan, read_labelled(delivery()), "1" * 64, None, Console(quiet=True), print)


def test_a_candidate_made_by_hand_is_not_promoted(versions):
    with pytest.raises(GateError, match="passed no gates"):
        refuse_ungated(versions.make("7", OLD))


def test_gates_and_table_are_written_down(run, tmp_path):
    run({"vouchers": 3.5})
    written = json.loads((tmp_path / "run" / "gates.json").read_text())
    assert written["gates"]["old scams"]["passed"] is False
    assert any(row[0] == "  gold, refund: recall" for row in written["table"])


def test_a_candidate_keeps_the_recogniser_of_its_champion(run):
    done, _, champion, _ = run(LEARNT)
    assert read_record(done.candidate).speech == read_record(champion).speech


def test_the_command_refuses_without_provenance_and_without_calls(train_command, versions, delivery):
    model = versions.make("1", OLD)
    code, _, error = train_command("retrain", delivery(consent=None), "--model", model)
    assert (code, "provenance is missing (consent), in 20 calls" in error) == (1, True)
    _, _, error = train_command("retrain", "--model", model)
    assert error == "give NEW.jsonl, or --scripts new_scripts.yaml"
    _, said, _ = train_command("retrain", "--help")
    assert "Fifty labelled calls of a new script" in said
