import pytest

from inference.alerts.outbox import RETRY_AFTER_S, Outbox
from inference.errors import AlertError, ConfigError

BODY = {"type": "alert", "call": "c1"}


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_what_was_put_survives_a_restart(tmp_path):
    path = tmp_path / "deep" / "outbox.db"
    first = Outbox(path)
    first.put("a1", BODY, ["webhook", "jsonl"])
    first.close()
    second = Outbox(path)
    (owed,) = second.due("webhook")
    assert (owed.alert_id, owed.attempts) == ("a1", 0)
    assert second.pending() == 2
    second.close()


def test_putting_twice_owes_once():
    box = Outbox(None)
    box.put("a1", BODY, ["webhook"])
    box.put("a1", BODY, ["webhook"])
    assert box.pending() == 1
    box.close()


def test_failures_are_retried_on_schedule_then_given_up():
    clock = Clock()
    box = Outbox(None, clock=clock)
    box.put("a1", BODY, ["webhook"])
    for pause_s in RETRY_AFTER_S:
        (owed,) = box.due("webhook")
        assert box.failed(owed)
        clock.now_s += pause_s - 0.001
        assert box.due("webhook") == []
        clock.now_s += 0.001
    (owed,) = box.due("webhook")
    assert not box.failed(owed)
    assert box.pending() == 0
    box.close()


def test_a_full_outbox_says_so():
    box = Outbox(None, max_pending=2)
    box.put("a1", BODY, ["webhook", "jsonl"])
    with pytest.raises(AlertError, match="full"):
        box.put("a2", BODY, ["webhook"])
    box.close()


def test_an_unusable_path_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"outbox.*cannot be opened"):
        Outbox(tmp_path / "file" / "outbox.db")
