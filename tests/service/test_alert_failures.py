"""Alerts when their disk or endpoint fails in the middle of things: nothing dies, nothing is lost."""

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from inference.alerts.alert import Alert
from inference.alerts.dispatcher import Dispatcher
from inference.alerts.notice import Envelope
from inference.alerts.outbox import Outbox
from inference.errors import AlertError, ConfigError
from inference.gateway.spec import CallSpec
from inference.service.events import AlertEvent

ALERT = Alert("call-1", "danger", 31.25, 0.971, "card_otp", "ask", ())


class Sink:
    """Takes what it is given, after ``takes_s``."""

    name = "jsonl"

    def __init__(self, takes_s: float = 0.0) -> None:
        self.taken: list[str] = []
        self.takes_s = takes_s

    async def deliver(self, envelope) -> None:
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        self.taken.append(envelope.id)

    async def aclose(self) -> None:
        return None


def envelope(id_: str) -> Envelope:
    return Envelope(id_, id_, "{}")


def test_an_outbox_that_cannot_be_read_for_a_while_delivers_afterwards(doubles, monkeypatch):
    outbox, sink = Outbox(None), Sink()
    due, failures = outbox.due, []

    def failing(*arguments):
        if len(failures) < 2:
            failures.append(1)
            raise AlertError("alert outbox cannot be read (disk I/O error); check its disk")
        return due(*arguments)

    monkeypatch.setattr(outbox, "due", failing)

    async def run():
        dispatcher = Dispatcher(outbox, [sink], idle_s=0.01)
        dispatcher.start()
        dispatcher.send(ALERT)
        await doubles.until(lambda: sink.taken)
        await dispatcher.aclose()

    asyncio.run(run())
    assert sink.taken == [ALERT.id]
    assert len(failures) == 2


def test_errors_of_the_database_are_ours_and_one_line():
    box = Outbox(None)
    box.put([envelope("a1")], ["jsonl"])
    (owed,) = box.due("jsonl")
    box._db.execute("DROP TABLE delivery")
    for use in (
        lambda: box.due("jsonl"),
        lambda: box.put([envelope("a2")], ["jsonl"]),
        lambda: box.done([owed]),
        lambda: box.failed(owed, "no"),
        lambda: box.postpone([owed], 1.0, "away"),
    ):
        with pytest.raises(AlertError, match=r"^alert outbox cannot be [^\n]*$"):
            use()
    box.close()


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "outbox.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=r"alerts.outbox_path"):
        Outbox(tmp_path / "outbox.db")


def test_what_a_full_outbox_refuses_is_still_delivered():
    outbox, sink, outcomes = Outbox(None, max_owed=0), Sink(), []

    async def run():
        dispatcher = Dispatcher(outbox, [sink], on_outcome=lambda *outcome: outcomes.append(outcome))
        with pytest.raises(AlertError, match="full"):
            dispatcher.send(ALERT)
        await dispatcher.aclose()

    asyncio.run(run())
    assert sink.taken == [ALERT.id]
    assert outcomes == [("jsonl", "delivered")]


def test_leaving_delivers_more_than_one_pass_takes():
    outbox, sink = Outbox(None), Sink()
    outbox.put([envelope(f"alr_{number}") for number in range(150)], ["jsonl"])
    asyncio.run(Dispatcher(outbox, [sink]).aclose())
    assert len(sink.taken) == 150


@pytest.mark.parametrize(("name", "event"), [("outbox.db", "alerts kept"), (None, "alerts lost")])
def test_leaving_says_what_becomes_of_undelivered_alerts(tmp_path, name, event):
    outbox = Outbox(tmp_path / name if name else None)
    outbox.put([envelope("alr_1")], ["webhook"])
    outbox.failed(outbox.due("webhook")[0], "no")
    with capture_logs() as logs:
        asyncio.run(Dispatcher(outbox, []).aclose())
    assert [line["deliveries"] for line in logs if line["event"].startswith(event)] == [1]


def test_leaving_does_not_wait_for_ever_and_keeps_what_is_owed(tmp_path):
    path, sink = tmp_path / "outbox.db", Sink(takes_s=60)

    async def run():
        dispatcher = Dispatcher(Outbox(path), [sink], drain_s=0.05)
        dispatcher.send(ALERT)
        await dispatcher.aclose()

    began_s = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began_s < 10
    after = Outbox(path)
    assert [owed.envelope.id for owed in after.due("jsonl")] == [ALERT.id]
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


def test_a_call_id_that_is_used_again_makes_alerts_of_its_own(bench, spec_of, doubles):
    async def run():
        async with bench() as b:
            follower = b.bus.follow()
            for port in (30000, 31000):
                b.watch.begin(CallSpec.model_validate(spec_of(far=port)))
                await b.play({port: doubles.packets(doubles.speech(doubles.THREAT, doubles.ASK))})
                await b.watch.end("c1")
            return [event.alert for event in list(follower._waiting) if isinstance(event, AlertEvent)]

    alerts = asyncio.run(run())
    assert [alert.level for alert in alerts] == ["suspect", "danger"] * 2
    assert len({alert.id for alert in alerts}) == 4
    assert alerts[0].begun_at_s == alerts[1].begun_at_s < alerts[2].begun_at_s
