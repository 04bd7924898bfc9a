import json
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from inference.alerts.deadletters import DeadLetters
from inference.alerts.notice import Envelope
from inference.alerts.outbox import RETRY_AFTER_S, Outbox
from inference.errors import AlertError, ConfigError

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def envelope(id_: str = "a1", call: str = "c1") -> Envelope:
    return Envelope(id_, call, json.dumps({"id": id_, "subject": call}))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outbox(clock):
    box = Outbox(None, clock=clock)
    yield box
    box.close()


def ids(deliveries) -> list[str]:
    return [delivery.envelope.id for delivery in deliveries]


def test_what_was_put_survives_a_restart(tmp_path):
    path = tmp_path / "deep" / "outbox.db"
    first = Outbox(path)
    first.put([envelope()], ["webhook", "jsonl"])
    first.close()
    second = Outbox(path)
    (owed,) = second.due("webhook")
    assert (owed.envelope, owed.attempts) == (envelope(), 0)
    assert second.pending() == 2
    second.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_accepted_is_synced_to_the_disk_and_in_wal(tmp_path):
    outbox, statements = Outbox(tmp_path / "outbox.db"), []
    outbox._db.set_trace_callback(statements.append)
    outbox.put([envelope()], ["webhook"])
    outbox._db.set_trace_callback(None)
    assert statements[0] == "PRAGMA synchronous = FULL"
    assert list(outbox._db.execute("PRAGMA journal_mode")) == [("wal",)]
    outbox.close()


def test_putting_twice_owes_once(outbox):
    outbox.put([envelope()], ["webhook"])
    outbox.put([envelope(), envelope("a2")], ["webhook"])
    assert outbox.pending() == 2
    assert ids(outbox.due("webhook")) == ["a1", "a2"]


def test_many_are_accepted_together_or_not_at_all(outbox):
    with pytest.raises(AlertError, match="written"):
        outbox.put([envelope(), Envelope("a2", "c1", None)], ["webhook"])
    assert (outbox.pending(), outbox.due("webhook")) == (0, [])


def test_failures_are_retried_on_schedule_then_given_up(outbox, clock):
    outbox.put([envelope()], ["webhook"])
    for pause_s in RETRY_AFTER_S:
        (owed,) = outbox.due("webhook")
        assert outbox.failed(owed, "webhook answered 400") == "retry"
        clock.now_s += pause_s - 0.001
        assert outbox.due("webhook") == []
        clock.now_s += 0.001
    (owed,) = outbox.due("webhook")
    with capture_logs():
        assert outbox.failed(owed, "webhook answered 400") == "dropped"
    assert outbox.pending() == 0


def test_what_is_given_up_becomes_a_dead_letter(tmp_path, clock):
    outbox = Outbox(None, dead_letters=DeadLetters(tmp_path / "dead.jsonl"), retry_after_s=(), clock=clock)
    outbox.put([envelope()], ["webhook", "jsonl"])
    with capture_logs() as logs:
        assert outbox.failed(outbox.due("webhook")[0], "webhook answered 410") == "dead_letter"
    assert [(line["event"], line["alert"]) for line in logs] == [("alert given up", "a1")]
    assert json.loads((tmp_path / "dead.jsonl").read_text()) == {
        "sink": "webhook",
        "why": "webhook answered 410",
        "attempts": 1,
        "given_up_s": 1000.0,
        "event": {"id": "a1", "subject": "c1"},
    }
    assert (outbox.due("webhook"), ids(outbox.due("jsonl"))) == ([], ["a1"])
    outbox.close()


def test_where_dead_letters_cannot_be_written_nothing_is_given_up(tmp_path, clock):
    dead_letters = DeadLetters(tmp_path / "dead.jsonl", max_bytes=10)
    outbox = Outbox(None, dead_letters=dead_letters, retry_after_s=(60.0,), clock=clock)
    outbox.put([envelope()], ["webhook"])
    assert outbox.failed(outbox.due("webhook")[0], "no") == "retry"
    clock.now_s += 60
    with capture_logs() as logs:
        assert outbox.failed(outbox.due("webhook")[0], "no") == "retry"
    assert "max" not in logs[0]["why"]
    assert "full (10 bytes)" in logs[0]["why"]
    assert outbox.due("webhook") == []
    clock.now_s += 60
    assert ids(outbox.due("webhook")) == ["a1"]
    outbox.close()


def test_a_sink_that_is_away_costs_a_delivery_no_attempt_but_its_turn(outbox, clock):
    outbox.put([envelope(f"a{number}") for number in range(4)], ["webhook"])
    assert outbox.postpone(outbox.due("webhook", 2), 1.0, "away") == ["retry", "retry"]
    assert ids(outbox.due("webhook")) == ["a2", "a3"]
    clock.now_s += 1
    assert ids(outbox.due("webhook")) == ["a2", "a3", "a0", "a1"]
    assert {delivery.attempts for delivery in outbox.due("webhook")} == {0}


def test_a_sink_that_is_away_for_days_becomes_dead_letters(tmp_path, clock):
    outbox = Outbox(None, dead_letters=DeadLetters(tmp_path / "dead.jsonl"), clock=clock)
    outbox.put([envelope("old")], ["webhook"])
    clock.now_s += sum(RETRY_AFTER_S)
    outbox.put([envelope("new")], ["webhook"])
    with capture_logs():
        assert outbox.postpone(outbox.due("webhook"), 1.0, "away") == ["retry", "dead_letter"]
    assert json.loads((tmp_path / "dead.jsonl").read_text())["event"]["id"] == "old"
    assert outbox.pending() == 1
    outbox.close()


def test_new_ones_go_before_failed_ones_each_oldest_first(outbox, clock):
    outbox.put([envelope("a1"), envelope("a2")], ["webhook"])
    for delivery in outbox.due("webhook"):
        outbox.failed(delivery, "no")
    clock.now_s += 1000
    outbox.put([envelope("a3"), envelope("a4")], ["webhook"])
    assert ids(outbox.due("webhook")) == ["a3", "a4", "a1", "a2"]


def test_a_clock_that_is_set_back_holds_up_nothing_new(outbox, clock):
    outbox.put([envelope()], ["webhook"])
    clock.now_s -= 500
    assert ids(outbox.due("webhook")) == ["a1"]


def test_a_full_outbox_without_dead_letters_says_so_and_holds_for_each_sink_alone(clock):
    outbox = Outbox(None, max_owed=2, clock=clock)
    outbox.put([envelope("a1"), envelope("a2")], ["webhook"])
    with pytest.raises(AlertError, match=r"full.*webhook"):
        outbox.put([envelope("a3")], ["webhook"])
    outbox.put([envelope("a3")], ["jsonl"])
    assert outbox.pending() == 3
    outbox.close()


def test_a_full_outbox_gives_up_its_oldest_for_a_fresh_warning(tmp_path, clock):
    outbox = Outbox(None, max_owed=2, dead_letters=DeadLetters(tmp_path / "dead.jsonl"), clock=clock)
    outbox.put([envelope("a1"), envelope("a2")], ["webhook", "jsonl"])
    outbox.done(outbox.due("jsonl"))
    with capture_logs() as logs:
        outbox.put([envelope("a3")], ["webhook", "jsonl"])
    assert [line["sink"] for line in logs] == ["webhook"]
    assert ids(outbox.due("webhook")) == ["a2", "a3"]
    assert ids(outbox.due("jsonl")) == ["a3"]
    assert json.loads((tmp_path / "dead.jsonl").read_text())["event"]["id"] == "a1"
    outbox.close()


def test_more_at_once_than_there_is_room_for_is_refused_and_nothing_given_up(tmp_path):
    outbox = Outbox(None, max_owed=2, dead_letters=DeadLetters(tmp_path / "dead.jsonl"))
    outbox.put([envelope("a0")], ["webhook"])
    with pytest.raises(AlertError, match="full"):
        outbox.put([envelope(f"a{number}") for number in range(1, 5)], ["webhook"])
    assert ids(outbox.due("webhook")) == ["a0"]
    outbox.close()


def test_what_was_delivered_is_not_due_again_while_that_cannot_be_recorded(outbox):
    outbox.put([envelope("a1"), envelope("a2")], ["webhook"])
    outbox._db.execute("PRAGMA query_only = ON")  # as on a disk that takes nothing
    with pytest.raises(AlertError, match="cannot be written"):
        outbox.done(outbox.due("webhook", 1))
    assert ids(outbox.due("webhook")) == ["a2"]
    assert outbox.pending() == 1
    outbox._db.execute("PRAGMA query_only = OFF")
    outbox.done([])
    assert list(outbox._db.execute("SELECT event_id FROM delivery")) == [("a2",)]


def test_a_number_is_never_used_again(outbox):
    outbox.put([envelope("a1")], ["webhook"])
    (first,) = outbox.due("webhook")
    outbox.done([first])
    outbox.put([envelope("a2")], ["webhook"])
    outbox.done([first])  # late word of one that is gone must not take the next with it
    assert ids(outbox.due("webhook")) == ["a2"]
    assert outbox.pending() == 1


def test_a_second_worker_is_refused_in_one_line_while_the_first_lives(tmp_path):
    path = tmp_path / "outbox.db"
    code = (
        "import sys, pathlib; from inference.alerts.outbox import Outbox\n"
        "try: Outbox(pathlib.Path(sys.argv[1])).put([], ['jsonl'])\n"
        "except Exception as error: print(error)"
    )
    first = Outbox(path)
    first.put([envelope()], ["jsonl"])

    def second() -> str:
        ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT, check=True)
        return ran.stdout

    assert (
        second() == f"alerts.outbox_path: {path} belongs to another worker that is running; give each worker its own\n"
    )
    with pytest.raises(ConfigError, match="another worker"):
        Outbox(path)
    first.put([envelope("a2")], ["jsonl"])  # unharmed
    first.close()
    assert second() == ""


def test_an_unusable_path_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"outbox.*cannot be opened"):
        Outbox(tmp_path / "file" / "outbox.db")


def test_a_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "outbox.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE delivery (alert_id TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another version or another program"):
        Outbox(path)
    assert path.read_bytes()[100:] == before[100:]
