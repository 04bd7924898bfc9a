import asyncio
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from inference.errors import StoreError
from inference.screening.attempt import ACTIONS, CallAttempt, CallOutcome, Label
from inference.screening.backend import MemoryBackend
from inference.screening.lists import ListEntry, NumberLists
from inference.screening.remembered import WindowStore
from inference.screening.rules import RulesConfig
from inference.screening.screener import Screener

NOW_S = 1_800_000_000.0  # 08:00 UTC
CALLER, CALLEE = "+441212345678", "+442079460000"
CONFIG = RulesConfig(region="GB", own_ranges=("441632",))


class Away:
    """A backend that is gone, or slow."""

    waits = True

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s, self.is_away = wait_s, True
        self.memory = MemoryBackend(clock=lambda: NOW_S)

    async def run(self, commands):
        if not self.is_away:
            return await self.memory.run(commands)
        await asyncio.sleep(self.wait_s)
        raise StoreError("gone")

    async def aclose(self) -> None:
        pass


class Bursts:
    """Shields from the third attempt of a minute on."""

    def shield_until_s(self, window, at_s):
        return at_s + 600 if window.attempts_60s >= 3 else None


class Labels:
    def label(self, category, source, known):
        return Label(f"{category} by {source}", category, source, "en")


class Model:
    version = "m1"

    def risk(self, known):
        complaints = known.caller_window.complaints
        return min(0.9, complaints / 10), {"complaints": complaints}


def screener(backend=None, lists=(), **more) -> Screener:
    store = WindowStore(backend or MemoryBackend(clock=lambda: NOW_S))
    return Screener(CONFIG, NumberLists(lists, clock=lambda: NOW_S), store, clock=lambda: NOW_S, **more)


def attempt(caller=CALLER, callee=CALLEE, **more) -> CallAttempt:
    return CallAttempt(call_id="c1", caller=caller, callee=callee, **more)


def decide(made, *attempts):
    async def go():
        return [await made.decide(each) for each in attempts]

    return asyncio.run(go())


def test_a_decision_explains_itself():
    deny = ListEntry(kind="deny", number="441212345678", category="parcel", who="desk", why="reported")
    (decision,) = decide(screener(lists=[deny]), attempt())
    printed = decision.to_json()
    assert printed["decision"] == "reject"
    assert printed["reasons"] == ["DENY_LISTED"]
    assert printed["sip"] == {"code": 607, "reason": "Unwanted"}
    assert printed["rules_version"]
    assert printed["lists_version"].startswith("entries:")
    assert printed["degraded"] is False


def test_a_prompt_has_words():
    made = screener(model=Model(), labels=Labels())

    async def go():
        for number in range(6):
            await made._store.mark("441212345678", f"44207946{number}", "complaint", NOW_S)
        return await made.decide(attempt())

    decision = asyncio.run(go())
    assert (decision.action, decision.label.text) == ("prompt", "suspected_fraud by subscribers")
    assert decision.contributions == {"complaints": pytest.approx(6.0)}


def test_another_configuration_is_another_version():
    other = CONFIG.model_copy(update={"withheld": "challenge"})
    one, two = screener(), Screener(other, NumberLists(), WindowStore(MemoryBackend()))
    assert one.rules_version != two.rules_version
    assert screener(model=Model()).rules_version.endswith(".m1")


def test_a_burst_shields_the_callee_and_lets_contacts_through():
    made = screener(bursts=Bursts())

    async def go():
        await made._store.add_contact("442079460000", "441212345678")
        strangers = [await made.decide(attempt(f"+44121234000{n}")) for n in range(4)]
        return strangers, await made.decide(attempt()), await made.decide(attempt("+441212340009", "+442079460001"))

    strangers, contact, elsewhere = asyncio.run(go())
    assert [d.action for d in strangers] == ["allow", "allow", "challenge", "challenge"]
    assert strangers[-1].reasons == ("CALL_BOMBING",)
    assert (contact.action, contact.reasons[0]) == ("allow", "CONTACT")
    assert elsewhere.action == "allow"


def test_outcomes_reach_the_store():
    made = screener()

    async def go():
        await made.ended(CallOutcome(call_id="c1", caller=CALLER, callee=CALLEE, answered=True, talked_s=4))
        return await made._store.attempt("441212345678", "442079460000", NOW_S, is_night=False)

    assert asyncio.run(go()).caller.short == 1


@pytest.mark.parametrize("backend", [Away(), Away(wait_s=30)], ids=["refused", "silent"])
def test_without_its_store_calls_go_through_and_it_is_said_once(backend):
    deny = ListEntry(kind="deny", number="441212345678", who="desk", why="reported")
    made, now = screener(backend, [deny], model=Model()), [NOW_S]
    made._clock = lambda: now[0]
    with capture_logs() as lines:
        decisions = decide(made, attempt("+441212340000"), attempt("+441212340000"), attempt())
        backend.is_away = False
        decisions += decide(made, attempt("+441212340000"))
        backend.is_away = True  # it comes and goes: still the same trouble
        decide(made, attempt("+441212340000"))
        backend.is_away = False
        for now[0] in (NOW_S + 1, NOW_S + 30, NOW_S + 31):
            decide(made, attempt("+441212340000"))
        backend.is_away = True
    assert [d.action for d in decisions] == ["allow", "allow", "reject", "allow"]  # lists are here, not in the store
    assert [d.is_degraded for d in decisions] == [True, True, True, False]
    assert [line["log_level"] for line in lines] == ["error", "info"]


def test_a_clock_that_jumps_back_breaks_nothing():
    made = screener(bursts=Bursts())
    times = [NOW_S, NOW_S - 86_400, NOW_S + 86_400, NOW_S, 0.0]
    decisions = decide(made, *(attempt(at_s=at_s) for at_s in times))
    assert all(d.action in ACTIONS and not d.is_degraded for d in decisions)


@given(
    st.none() | st.text(max_size=80),
    st.text(min_size=1, max_size=80),
    st.sampled_from(["own", "national", "international", None]),
    st.none() | st.text(max_size=200),
)
def test_whatever_arrives_is_decided(caller, callee, trunk, identity):
    made = screener(bursts=Bursts(), labels=Labels())
    (decision,) = decide(made, attempt(caller, callee, trunk=trunk, identity=identity))
    assert decision.action in ACTIONS
    assert decision.reasons


def test_no_number_is_logged():
    with capture_logs() as lines:
        decide(screener(Away()), attempt(), attempt("nonsense"))
    assert "1212345678" not in repr(lines)


def test_a_decision_is_told():
    told = []
    made = screener(on_decision=lambda *what: told.append(what))
    (decision,) = decide(made, attempt())
    assert [(a.call_id, k.caller.e164, d) for a, k, d in told] == [("c1", "441212345678", decision)]
    assert dataclasses.asdict(decision)["action"] == "allow"


def test_a_giant_header_is_cut_and_the_call_is_decided():
    deny = ListEntry(kind="deny", number="441212345678", who="desk", why="reported")
    made = screener(lists=[deny])
    giant = CallAttempt(call_id="c" * 9999, caller=CALLER + ";x=" + "y" * 9999, callee=CALLEE, identity="A" * 99_999)
    long = CallAttempt(call_id="c", caller="1" * 9999, callee=CALLEE)
    denied, odd = decide(made, giant, long)
    assert (denied.action, denied.reasons) == ("reject", ("DENY_LISTED",))
    assert odd.reasons[0] == "NUMBER_MALFORMED"
