"""From the dispatcher's door to its sinks, with sinks that refuse, hang and go away."""

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from inference.alerts.alert import Alert
from inference.alerts.dispatcher import Dispatcher
from inference.alerts.notice import Notice
from inference.alerts.outbox import Outbox
from inference.alerts.pump import MAX_HELD, NUM_AT_ONCE
from inference.errors import AlertError, SinkDownError
from inference.speech.utterance import Utterance

SAID = "plantedwords read me the code"
ALERT = Alert("call-1", "danger", 31.25, 0.971, "card_otp", "ask", (Utterance("far", 28.0, 30.5, 31.25, SAID, "en"),))
PAUSES_S = (0.01, 0.02)


class Sink:
    """Takes what it is given, unless ``error`` says else of it."""

    def __init__(self, name="sink", error=lambda _envelope: None) -> None:
        self.name = name
        self.taken: list[str] = []
        self.bodies: list[str] = []
        self.error = error
        self.num_under_way = self.most_under_way = 0

    async def deliver(self, envelope) -> None:
        self.num_under_way += 1
        self.most_under_way = max(self.most_under_way, self.num_under_way)
        await asyncio.sleep(0)
        self.num_under_way -= 1
        if (error := self.error(envelope)) is not None:
            raise error
        self.taken.append(envelope.id)
        self.bodies.append(envelope.body)

    async def aclose(self) -> None:
        return None


def notice(number: int, call: str = "") -> Notice:
    return Notice("alert", f"n{number}", call or f"call-{number}", 0.0, {})


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def test_an_alert_reaches_every_sink_as_the_same_event():
    one, other = Sink("one"), Sink("other")

    async def run():
        dispatcher = Dispatcher(Outbox(None), [one, other], source="/here", clock=lambda: 0.0)
        dispatcher.send(ALERT)
        assert await dispatcher.deliver_due() == 2
        await dispatcher.aclose()

    asyncio.run(run())
    assert one.bodies == other.bodies
    event = json.loads(one.bodies[0])
    assert (event["type"], event["source"], event["id"]) == ("org.scamtap.alert.v1", "/here", ALERT.id)
    assert (event["subject"], event["time"]) == ("call-1", "1970-01-01T00:00:00.000Z")
    assert event["data"] == ALERT.to_json(with_text=False)


@pytest.mark.parametrize("include_text", [False, True])
def test_what_was_said_leaves_only_where_configured(include_text):
    sink = Sink()

    async def run():
        dispatcher = Dispatcher(Outbox(None), [sink], include_text=include_text)
        dispatcher.send(ALERT)
        await dispatcher.aclose()

    asyncio.run(run())
    assert (SAID in sink.bodies[0]) == include_text


def test_the_same_alert_sent_again_while_it_waits_is_delivered_once():
    sink = Sink()

    async def run():
        dispatcher = Dispatcher(Outbox(None), [sink])
        dispatcher.send(ALERT)
        dispatcher.send(ALERT)
        await dispatcher.aclose()

    asyncio.run(run())
    assert sink.taken == [ALERT.id]


def test_other_kinds_of_notices_go_the_same_way():
    sink = Sink()

    async def run():
        dispatcher = Dispatcher(Outbox(None), [sink])
        dispatcher.tell(Notice("feedback", "fb_1", "call-1", 0.0, {"answer": "not a scam"}))
        await dispatcher.aclose()

    asyncio.run(run())
    assert json.loads(sink.bodies[0])["type"] == "org.scamtap.feedback.v1"


def test_calls_go_side_by_side_within_a_bound_and_each_in_its_order():
    sink = Sink()

    async def run():
        dispatcher = Dispatcher(Outbox(None), [sink])
        dispatcher.tell(*(notice(number, f"call-{number % 25}") for number in range(100)))
        await dispatcher.aclose()

    asyncio.run(run())
    assert sink.most_under_way == NUM_AT_ONCE
    assert len(sink.taken) == 100
    for call in range(25):
        of_call = [taken for taken in sink.taken if int(taken[1:]) % 25 == call]
        assert of_call == [f"n{number}" for number in range(call, 100, 25)]


def test_a_sink_that_is_away_holds_up_no_other_and_gets_all_when_it_is_back():
    is_away, outcomes = [True], []
    broken = Sink("broken", lambda _envelope: SinkDownError("not reached") if is_away[0] else None)
    well = Sink("well")

    async def run():
        outbox = Outbox(None)
        dispatcher = Dispatcher(
            outbox, [broken, well], idle_s=0.01, pauses_s=PAUSES_S, on_outcome=lambda *outcome: outcomes.append(outcome)
        )
        dispatcher.start()
        for number in range(40):
            dispatcher.tell(notice(number))
        await until(lambda: len(well.taken) == 40)
        await until(lambda: outcomes.count(("broken", "retry")) > 100)
        assert broken.taken == []
        assert {delivery.attempts for delivery in outbox.due("broken", 100)} == {0}  # it is not the deliveries' fault
        is_away[0] = False
        await until(lambda: len(broken.taken) == 40)
        await dispatcher.aclose()

    with capture_logs() as logs:
        asyncio.run(run())
    assert [line["event"] for line in logs] == ["alerts wait: the sink is away", "the sink is back"]  # once each
    assert sorted(broken.taken) == sorted(well.taken)


def test_while_a_sink_is_away_nothing_overtakes_within_a_call_and_each_call_waits_once():
    tried = []

    def away_at_first(envelope):
        tried.append(envelope.id)
        return SinkDownError("not reached") if len(tried) == 1 else None

    sink = Sink(error=away_at_first)

    async def run():
        dispatcher = Dispatcher(Outbox(None), [sink], idle_s=0.01, pauses_s=PAUSES_S)
        dispatcher.start()
        dispatcher.tell(*(notice(number, "call-0") for number in range(4)))
        await until(lambda: len(sink.taken) == 4)
        await dispatcher.aclose()

    with capture_logs():
        asyncio.run(run())
    assert tried == ["n0", "n0", "n1", "n2", "n3"]


def test_one_that_is_refused_waits_alone():
    outcomes = []
    sink = Sink(error=lambda envelope: AlertError("answered 400") if envelope.id == "n1" else None)

    async def run():
        outbox = Outbox(None)
        dispatcher = Dispatcher(outbox, [sink], on_outcome=lambda *outcome: outcomes.append(outcome))
        dispatcher.tell(*(notice(number) for number in range(3)))
        await dispatcher.deliver_due()
        assert outbox.pending() == 1
        await dispatcher.aclose()

    asyncio.run(run())
    assert sink.taken == ["n0", "n2"]
    assert sorted(outcomes) == [("sink", "delivered"), ("sink", "delivered"), ("sink", "retry")]


def test_one_that_always_breaks_the_connection_does_not_stop_the_others():
    poison = {f"n{number}" for number in range(2 * NUM_AT_ONCE)}
    sink = Sink(error=lambda envelope: SinkDownError("broken off") if envelope.id in poison else None)

    async def run():
        dispatcher = Dispatcher(Outbox(None), [sink], idle_s=0.01, pauses_s=PAUSES_S)
        dispatcher.start()
        dispatcher.tell(*(notice(number) for number in range(3 * NUM_AT_ONCE)))
        await until(lambda: len(sink.taken) == NUM_AT_ONCE)
        await dispatcher.aclose()

    asyncio.run(run())
    assert not poison & set(sink.taken)


def test_what_was_taken_is_recorded_even_if_the_pass_is_cut_short(tmp_path):
    class Hangs(Sink):
        async def deliver(self, envelope) -> None:
            if envelope.id == "n1":
                await asyncio.Event().wait()
            await super().deliver(envelope)

    async def run():
        outbox = Outbox(tmp_path / "outbox.db")
        sink = Hangs()
        dispatcher = Dispatcher(outbox, [sink], drain_s=0.05)
        dispatcher.start()
        dispatcher.tell(notice(0), notice(1))
        await until(lambda: sink.taken)
        await dispatcher.aclose()

    asyncio.run(run())
    after = Outbox(tmp_path / "outbox.db")
    assert [delivery.envelope.id for delivery in after.due("sink")] == ["n1"]
    after.close()


def test_what_the_disk_refuses_waits_in_memory_and_is_written_when_there_is_room():
    is_away = [True]
    sink = Sink(error=lambda _envelope: SinkDownError("away") if is_away[0] else None)

    async def run():
        outbox = Outbox(None)
        dispatcher = Dispatcher(outbox, [sink], idle_s=0.01, pauses_s=PAUSES_S)
        dispatcher.start()
        outbox._db.execute("PRAGMA query_only = ON")
        with pytest.raises(AlertError, match="cannot be written"):
            dispatcher.send(ALERT)
        await asyncio.sleep(0.05)
        assert (sink.taken, outbox.pending()) == ([], 0)
        outbox._db.execute("PRAGMA query_only = OFF")
        await until(outbox.pending)
        is_away[0] = False
        await until(lambda: sink.taken)
        await dispatcher.aclose()

    with capture_logs():
        asyncio.run(run())
    assert sink.taken == [ALERT.id]


def test_what_is_held_in_memory_is_bounded_and_its_loss_said():
    outcomes = []
    sink = Sink(error=lambda _envelope: SinkDownError("away"))

    async def run():
        outbox = Outbox(None, max_owed=0)
        dispatcher = Dispatcher(outbox, [sink], on_outcome=lambda *outcome: outcomes.append(outcome))
        for number in range(MAX_HELD + 5):
            with pytest.raises(AlertError, match="full"):
                dispatcher.tell(notice(number))
        assert outcomes == [("sink", "dropped")] * 5
        await dispatcher.aclose()

    with capture_logs() as logs:
        asyncio.run(run())
    assert [line["deliveries"] for line in logs if line["event"].startswith("alerts lost")] == [MAX_HELD]


def test_notices_left_by_a_former_process_are_delivered_first(tmp_path):
    path, sink = tmp_path / "outbox.db", Sink()
    before = Outbox(path)
    before.put([notice(0).sealed("/scamtap")], ["sink"])
    before.close()

    async def run() -> None:
        dispatcher = Dispatcher(Outbox(path), [sink])
        dispatcher.tell(notice(1, "call-0"))
        await dispatcher.aclose()

    asyncio.run(run())
    assert sink.taken == ["n0", "n1"]
