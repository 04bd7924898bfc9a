"""The command line of ``scamtap-train retrain``: what it refuses, and what an explicit option is worth."""

from string import ascii_letters

import pytest
import yaml

from training.retrain import command
from training.retrain.trainer import WarmStart
from training.scripts import load_scripts


@pytest.fixture
def ordered(monkeypatch, tmp_path, delivery):
    """``ordered("--quick")``: what would be carried out."""
    from typer.testing import CliRunner

    from training.cli import app

    orders = []
    monkeypatch.setattr(command, "_carry_out", lambda order, _threads: orders.append(order) or tmp_path)

    def run(*arguments):
        done = CliRunner().invoke(app, ["retrain", str(delivery()), *arguments])
        assert done.exception is None, done.output
        return orders[-1].extent

    return run


def test_new_scripts_stand_where_the_scripts_stand_that_they_are_paired_with(
    train_command, versions, known, monkeypatch, tmp_path
):
    """Of eight told after gold calls none is learnt from; of those told after training calls none is measured on."""
    seen = []

    class Trainer:
        def __init__(self, *_arguments):
            pass

        def __call__(self, _champion, out, _old, new):
            seen.extend(new)
            versions.make(out, {"danger": 3.5})
            return {}

    monkeypatch.setattr("training.retrain.trainer.WarmTrainer", Trainer)
    monkeypatch.setattr(command, "use_cores", lambda *_cores, **_more: None)
    pairs = {f"en-new-{s.split}-{i}": s.id for i, s in enumerate(load_scripts(known)) if s.split != "dev"}
    pairs |= {f"en-new-alone-{i}": None for i in range(10)}
    written = []
    for letter, (name, pair) in zip(ascii_letters, pairs.items(), strict=False):
        turns = f"far [ask]: send {letter * 5} and {letter * 6} now {letter * 7}\nnear: no"
        written.append({"id": name, "label": "scam", "family": "tax", "topic": "tax", "pair": pair, "turns": turns})
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(written))
    (tmp_path / "recognised").mkdir()
    (tmp_path / "recognised" / "none.jsonl").touch()
    given = {"--known": known, "--recognised": tmp_path / "recognised", "--work": tmp_path / "work"}
    given |= {"--scripts": tmp_path / "new.yaml", "--model": versions.make("1", {"danger": 3.5})}
    _, said, _ = train_command("retrain", "--no-voice", *(part for option in given.items() for part in option))
    assert "26 new calls" in said
    sides = {name: {c.split for c in seen if c.id.startswith(f"en-new-{name}-")} for name in ("train", "test", "alone")}
    assert sides == {"train": {"train"}, "test": {"test"}, "alone": {"train"}}


def test_what_is_said_counts_for_more_than_quick(ordered):
    assert ordered("--quick") == command.QUICK
    assert ordered() == command.WHOLE
    said = ordered("--quick", "--epochs", "3", "--rehearse", "0", "--gold", "100")
    assert (said.epochs, said.num_rehearsed, said.max_gold, said.num_dev) == (3, 0, 100, command.QUICK.num_dev)


@pytest.mark.parametrize("few", [("--quick",), ("--gold", "12")])
def test_few_gold_calls_do_not_decide_a_promotion(train_command, delivery, few):
    code, _, error = train_command("retrain", delivery(), "--promote", *few)
    assert (code, error) == (1, "--promote is decided on all gold calls: leave out --quick and --gold")


def test_the_rate_is_that_of_a_warm_start_where_none_is_given():
    assert WarmStart().rate == command.DEFAULT_RATE


def test_an_earlier_delivery_without_provenance_is_refused(train_command, versions, delivery):
    model, earlier = versions.make("1", {"danger": 3.5}), delivery("earlier.jsonl", consent=None)
    code, _, error = train_command("retrain", delivery(), "--history", earlier, "--model", model)
    assert (code, "earlier.jsonl: n0: provenance is missing (consent), in 20 calls" in error) == (1, True)


def test_earlier_scripts_are_read_as_scripts(known):
    calls = command._earlier(known)
    assert len(calls) == 24
    assert not any(call.lacks for call in calls)
