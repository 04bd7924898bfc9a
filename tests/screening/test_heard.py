"""The loop closed: what is heard in one call is known before the next."""

import asyncio

import pytest
from pydantic import SecretStr

from inference.screening.attempt import CallAttempt
from inference.screening.backend import MemoryBackend
from inference.screening.heard import HeardBook, HeardCall
from inference.screening.journal import Journal, JournalConfig
from inference.screening.labels import Labels, LabelsConfig
from inference.screening.lists import NumberLists
from inference.screening.passport import PassportCheck
from inference.screening.remembered import WindowStore
from inference.screening.rules import RulesConfig
from inference.screening.score import LogisticRisk, load_risk
from inference.screening.screener import Screener
from inference.screening.store import Preferences

NOW_S = 1_800_000_000.0
CALLER = "+441212345678"
CALLEES = [f"+44207946{7 * number:04}" for number in range(40)]  # not one after the other


class Vouching:
    """Verifies nothing: says what a test says."""

    def __init__(self, check) -> None:
        self._check = check

    def check(self, identity, caller, callee, call_id=""):
        return self._check


class Scene:
    """A screener and a heard book over one store, in virtual time."""

    def __init__(self, attestation=None) -> None:
        self.now_s = NOW_S
        check = PassportCheck("valid", attestation) if attestation else PassportCheck("none")
        self.store = WindowStore(MemoryBackend(clock=lambda: self.now_s))
        labels = Labels(LabelsConfig())
        self.journal = Journal(JournalConfig(callee_key=SecretStr("k")), clock=lambda: self.now_s)
        self.book = HeardBook(self.store, self.journal, labels, region="GB", time_zone="Europe/London")
        self.screener = Screener(
            RulesConfig(),
            NumberLists(),
            self.store,
            passports=Vouching(check),
            model=LogisticRisk(load_risk()),
            labels=labels,
            clock=lambda: self.now_s,
            on_decision=self.journal.decided,
        )
        self.is_attested = attestation == "A"

    async def call(self, callee, level="danger", **more):
        """Somebody calls; where it rings, it is answered, heard to the end, and remembered."""
        self.now_s += 60
        decision = await self.screener.decide(CallAttempt(call_id="c", caller=CALLER, callee=callee))
        messages = []
        if decision.action in ("allow", "prompt"):
            self.now_s += 120
            heard = HeardCall("c", CALLER, callee, level, "parcel", self.now_s, self.is_attested, **more)
            messages = await self.book.heard(heard)
        return decision, messages


def test_heard_on_two_calls_prompted_on_the_third_intercepted_in_the_end():
    async def go():
        scene = Scene("A")
        return [(await scene.call(callee))[0] for callee in CALLEES]

    decisions = asyncio.run(go())
    actions = [d.action for d in decisions]
    assert actions[:2] == ["allow", "allow"]
    assert actions[2] == "prompt"
    assert decisions[2].reasons[0] == "HEARD"
    assert decisions[2].label.source == "listening"
    assert actions[-1] == "challenge"
    assert actions == sorted(actions, key=["allow", "prompt", "challenge"].index)


def test_a_number_that_nobody_vouches_for_is_not_cut_off_for_what_was_heard():
    """It may be a victim's number, borrowed by a spoofer."""

    async def go():
        scene = Scene()
        return [(await scene.call(callee))[0].action for callee in CALLEES]

    actions = asyncio.run(go())
    assert "prompt" in actions
    assert not {"challenge", "reject"} & set(actions)


def test_one_callee_alone_moves_nothing():
    async def go():
        scene = Scene("A")
        return [(await scene.call(CALLEES[0]))[0].action for _ in range(10)]

    assert set(asyncio.run(go())) == {"allow"}


def test_a_number_is_forgiven_in_time_and_by_its_callees():
    async def go():
        scene = Scene("A")
        for callee in CALLEES[:4]:
            await scene.call(callee)
        before = (await scene.call(CALLEES[10], "none"))[0].action
        for callee in CALLEES[:4]:
            await scene.store.mark("441212345678", callee.removeprefix("+"), "not_a_scam", scene.now_s)
        forgiven = (await scene.call(CALLEES[11], "none"))[0].action
        other = Scene("A")
        for callee in CALLEES[:4]:
            await other.call(callee)
        other.now_s += 40 * 86_400
        return before, forgiven, (await other.call(CALLEES[12], "none"))[0].action

    before, forgiven, later = asyncio.run(go())
    assert before != "allow"
    assert (forgiven, later) == ("allow", "allow")


def test_the_message_after_the_call_says_what_it_was():
    async def go():
        scene = Scene()
        _, messages = await scene.call(CALLEES[0])
        await scene.store.prefer("442079460007", Preferences(guardian="447700900001", language="zh"))
        _, both = await scene.call(CALLEES[1])
        await scene.store.prefer("442079460014", Preferences(reminders=False))
        _, none = await scene.call(CALLEES[2])
        return messages, both, none, scene.journal.counts

    messages, both, none, counts = asyncio.run(go())
    (message,) = messages
    assert message.to == "442079460000"
    assert "sounded like parcel fraud" in message.text
    assert "08:03" in message.text  # the time on the subscriber's clock
    assert [(m.kind, m.to) for m in both] == [("reminder", "442079460007"), ("guardian", "447700900001")]
    assert all("快递包裹诈骗" in m.text for m in both)
    assert none == []
    assert counts["reminder", "HEARD", "parcel"] == 2
    assert counts["guardian", "HEARD", "parcel"] == 1


@pytest.mark.parametrize("more", [{"level": "suspect"}, {"level": "none"}, {"said_not_a_scam": True}])
def test_no_message_where_it_was_not_sure_or_the_callee_disagreed(more):
    async def go():
        return (await Scene().call(CALLEES[0], **more))[1]

    assert asyncio.run(go()) == []


def test_who_is_bombed_is_told_once_unless_it_does_not_want_to():
    async def go():
        scene = Scene()
        message = await scene.book.shielded("442079460000", NOW_S)
        await scene.store.prefer("442079460000", Preferences(reminders=False))
        return message, await scene.book.shielded("442079460000", NOW_S)

    message, none = asyncio.run(go())
    assert (message.kind, message.to) == ("shield", "442079460000")
    assert "your contacts ring as always" in message.text
    assert "442079460000" not in message.call_id
    assert none is None


def test_the_attestation_of_the_set_up_counts_for_what_is_heard_later():
    """Listening does not see the PASSporT; the decision did."""

    async def go(attestation):
        scene = Scene(attestation)
        scene.is_attested = False
        for callee in CALLEES[:2]:
            await scene.call(callee)
        number = CALLER.removeprefix("+")
        seen = await scene.store.attempt(number, CALLEES[3][1:], scene.now_s, is_night=False)
        return seen.caller.heard_danger, seen.caller.heard_attested

    assert asyncio.run(go("A")) == pytest.approx((2, 2), abs=0.01)
    assert asyncio.run(go("B")) == pytest.approx((2, 0), abs=0.01)


def test_messages_have_a_daily_most_that_an_attack_cannot_use_up():
    async def go():
        scene = Scene()
        callee = CALLEES[0].removeprefix("+")
        shields = [await scene.book.shielded(callee, NOW_S + n) for n in range(5)]
        kinds = [[m.kind for m in (await scene.call(CALLEES[0]))[1]] for _ in range(5)]
        scene.now_s += 86_400
        return [s is not None for s in shields], kinds, [m.kind for m in (await scene.call(CALLEES[0]))[1]]

    shields, kinds, tomorrow = asyncio.run(go())
    assert shields == [True, True, True, False, False]
    assert kinds == [["reminder"]] * 3 + [[]] * 2
    assert tomorrow == ["reminder"]


@pytest.mark.parametrize(
    ("subscriber", "guardian", "told"),
    [(True, True, ["reminder", "guardian"]), (False, True, ["guardian"]), (True, False, ["reminder"])],
)
def test_each_reader_may_opt_out_the_guardian_too(subscriber, guardian, told):
    async def go():
        scene = Scene()
        await scene.store.prefer(CALLEES[0][1:], Preferences(reminders=subscriber, guardian=CALLEES[1][1:]))
        await scene.store.prefer(CALLEES[1][1:], Preferences(reminders=guardian))
        return [m.kind for m in (await scene.call(CALLEES[0]))[1]]

    assert asyncio.run(go()) == told
