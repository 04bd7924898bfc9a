"""The command line of ``scamtap-train retrain``: what it refuses, and what an explicit option is worth."""

import pytest

from training.retrain import command


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


def test_what_is_said_counts_for_more_than_quick(ordered):
    assert ordered("--quick") == command.QUICK
    assert ordered() == command.WHOLE
    said = ordered("--quick", "--epochs", "3", "--rehearse", "0", "--gold", "100")
    assert (said.epochs, said.num_rehearsed, said.max_gold, said.num_dev) == (3, 0, 100, command.QUICK.num_dev)


@pytest.mark.parametrize("few", [("--quick",), ("--gold", "12")])
def test_few_gold_calls_do_not_decide_a_promotion(train_command, delivery, few):
    code, _, error = train_command("retrain", delivery(), "--promote", *few)
    assert (code, error) == (1, "--promote is decided on all gold calls: leave out --quick and --gold")


def test_an_earlier_delivery_without_provenance_is_refused(train_command, versions, delivery):
    model, earlier = versions.make("1", {"danger": 3.5}), delivery("earlier.jsonl", consent=None)
    code, _, error = train_command("retrain", delivery(), "--history", earlier, "--model", model)
    assert (code, "earlier.jsonl: n0: provenance is missing (consent), in 20 calls" in error) == (1, True)


def test_earlier_scripts_are_read_as_scripts(known):
    calls = command._earlier(known)
    assert len(calls) == 24
    assert not any(call.lacks for call in calls)
