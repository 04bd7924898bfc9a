"""Alerts when their disk or endpoint fails in the middle of things: nothing dies, nothing is lost."""

import asyncio
import sqlite3
import time

import pytest
from structlog.testing import capture_logs

from inference.alerts.alert import Alert
from inference.alerts.dispatcher import AlertsConfig, Dispatcher
from inference.alerts.outbox import Outbox
from inference.errors import AlertError, ConfigError
from inference.gateway.spec import CallSpec

ALERT = Alert("call-1", "danger", 31.25, 0.971, "card_otp", "ask", (), id="alr_1")


class Channel:
    """Takes what it is given, after ``takes_s``."""

    name = "jsonl"

    def __init__(self, takes_s: float = 0.0) -> None:
        self.taken: list[str] = []
        self.takes_s = takes_s

    async def deliver(self, delivery) -> None:
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        self.taken.append(delivery.alert_id)

    async def aclose(self) -> None:
        return None


def test_an_outbox_that_cannot_be_read_for_a_while_delivers_afterwards(doubles, monkeypatch):
    outbox, channel = Outbox(None), Channel()
    due, failures = outbox.due, []

    def failing(*arguments):
        if len(failures) < 2:
            failures.append(1)
            raise AlertError("alert outbox cannot be used (disk I/O error); check its disk")
        return due(*arguments)

    monkeypatch.setattr(outbox, "due", failing)

    async def run():
        dispatcher = Dispatcher(outbox, [channel], idle_s=0.01)
        dispatcher.start()
        dispatcher.send(ALERT)
        await doubles.until(lambda: channel.taken)
        await dispatcher.aclose()

    asyncio.run(run())
    assert channel.taken == ["alr_1"]
    assert len(failures) == 2


def test_errors_of_the_database_are_ours_and_one_line(tmp_path):
    path = tmp_path / "outbox.db"
    box = Outbox(path)
    box.put("a1", {"call": "c1"}, ["jsonl"])
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE delivery")
    other.close()
    for use in (lambda: box.due("jsonl"), box.pending, lambda: box.put("a2", {}, ["jsonl"])):
        with pytest.raises(AlertError, match=r"^alert outbox cannot be [^\n]*$"):
            use()
    box.close()


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "outbox.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=r"alerts.outbox_path"):
        Outbox(tmp_path / "outbox.db")


def test_what_a_full_outbox_refuses_is_still_tried_once():
    outbox, channel, outcomes = Outbox(None, max_pending=0), Channel(), []

    async def run():
        dispatcher = Dispatcher(outbox, [channel], on_outcome=lambda *outcome: outcomes.append(outcome))
        with pytest.raises(AlertError, match="full"):
            dispatcher.send(ALERT)
        await dispatcher.aclose()

    asyncio.run(run())
    assert channel.taken == ["alr_1"]
    assert outcomes == [("jsonl", "delivered")]


def test_a_new_alert_goes_before_a_backlog_of_failed_ones():
    now_s = [0.0]
    outbox = Outbox(None, clock=lambda: now_s[0])
    for number in range(3):
        outbox.put(f"old_{number}", {}, ["jsonl"])
    for owed in outbox.due("jsonl"):
        outbox.failed(owed)
    now_s[0] = 1000.0
    outbox.put("new_0", {}, ["jsonl"])
    tried = []

    class Down(Channel):
        async def deliver(self, delivery) -> None:
            tried.append(delivery.alert_id)
            if len(tried) == 2:
                dispatcher.send(ALERT)  # while the channel waits in vain
            raise AlertError("webhook not reached")

    async def run():
        for _ in range(2):
            await dispatcher.deliver_due(channel)
            dispatcher._wake["jsonl"].clear()

    channel = Down()
    dispatcher = Dispatcher(outbox, [channel])
    asyncio.run(run())
    outbox.close()
    assert tried[:3] == ["new_0", "old_0", "alr_1"]


def test_leaving_delivers_more_than_one_pass_takes():
    outbox, channel = Outbox(None), Channel()
    for number in range(150):
        outbox.put(f"alr_{number}", {}, ["jsonl"])
    asyncio.run(Dispatcher(outbox, [channel]).aclose())
    assert len(channel.taken) == 150


@pytest.mark.parametrize(("name", "event"), [("outbox.db", "alerts kept"), (None, "alerts lost")])
def test_leaving_says_what_becomes_of_undelivered_alerts(tmp_path, name, event):
    outbox = Outbox(tmp_path / name if name else None)
    outbox.put("alr_1", {}, ["webhook"])
    outbox.failed(outbox.due("webhook")[0])
    with capture_logs() as logs:
        asyncio.run(Dispatcher(outbox, []).aclose())
    assert [line["deliveries"] for line in logs if line["event"].startswith(event)] == [1]


def test_leaving_does_not_wait_for_ever_and_keeps_what_is_owed(tmp_path):
    path, channel = tmp_path / "outbox.db", Channel(takes_s=60)

    async def run():
        dispatcher = Dispatcher(Outbox(path), [channel], drain_s=0.05)
        dispatcher.send(ALERT)
        await dispatcher.aclose()

    began_s = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began_s < 10
    after = Outbox(path)
    assert [owed.alert_id for owed in after.due("jsonl")] == ["alr_1"]
    after.close()


def test_a_full_outbox_costs_an_alert_on_disk_and_not_the_call(bench, spec_of, doubles, monkeypatch):
    def full(_alert):
        raise AlertError("alert outbox is full (1 deliveries); is the webhook down?")

    async def run():
        async with bench() as b:
            monkeypatch.setattr(b.watch._publisher._dispatcher, "send", full)
            b.watch.begin(CallSpec.model_validate(spec_of()))
            follower = b.bus.follow()
            await b.play({30000: doubles.packets(doubles.speech(doubles.THREAT, doubles.ASK))})
            await b.watch.end("c1")
            return [event.to_json()["type"] for event in list(follower._waiting)]

    assert asyncio.run(run()) == ["utterance", "alert", "utterance", "alert", "verdict"]


@pytest.mark.parametrize("url", ["https://x:port", "http://xn--a", "https://", "mailto:a@b"])
def test_urls_that_could_never_work_are_refused_at_the_start(url):
    with pytest.raises(ValueError, match="webhook_url"):
        AlertsConfig(webhook_url=url, webhook_secret="whsec_QUJDQUJDQUJDQUJDQUJDQUJD")
