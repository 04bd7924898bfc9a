"""Calls that are never blocked, at the door that proxies use: whatever speaks against them, the call goes on."""

import asyncio
import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.gateway.sip.agent import Agent
from inference.screening.backend import MemoryBackend
from inference.screening.bombing import BombingDetector
from inference.screening.lists import ListEntry, NumberLists
from inference.screening.passport import PassportVerifier
from inference.screening.remembered import WindowStore
from inference.screening.rules import RulesConfig
from inference.screening.score import LogisticRisk, load_risk
from inference.screening.screener import Screener
from inference.screening.sip.config import SipConfig
from inference.screening.sip.server import RedirectServer

_path = Path(__file__).parents[1] / "gateway" / "sip" / "wire.py"
_spec = importlib.util.spec_from_file_location("scamtap_tests_sip_wire", _path)
sip = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sip)

NOW_S = 1_800_000_000.0
SUBSCRIBER, VOUCHED = "441632960002", "441632960001"
CONFIG = SipConfig(
    trunk_header="X-Trunk",
    trust_psap_callback=True,
    redress_uri="https://operator.example/redress.jws",
    announcement_uri="sip:blocked@media.example",
    challenge_uri="sip:challenge@media.example",
)
EVERYBODY = [ListEntry(kind="deny", number=str(d), is_prefix=True, who="test", why="test") for d in range(10)]
NEVER_CALLS = ListEntry(kind="do_not_originate", number=VOUCHED, who="test", why="test")

numbers = st.one_of(
    st.sampled_from(
        ["+442079460000", "+447700900123", "+4411", "anonymous", "999", "+8613800138000", "", "%0d%0a", "٩٩٩"]
    ),
    st.from_regex(r"\+?[0-9]{3,15}", fullmatch=True),
)
trunks = st.sampled_from(["own", "national", "international", "moon"])
lines = st.lists(
    st.sampled_from(
        ["Identity: a.b.c;ppt=shaken", "Feature-Caps: *;+sip.608", "P-Asserted-Identity: <tel:+999>", "Subject: \x01"]
    ),
    max_size=2,
)
bombed = st.integers(0, 20)


def strictest(authority, allowed=()):
    """A screener that rejects all it may reject."""
    chain = [authority.leaf, authority.middle]
    return Screener(
        RulesConfig(
            region="GB", own_ranges=("44",), withheld="challenge", unallocated="reject", shielded="reject",
            prompt_from=0.001, challenge_from=0.002, reject_from=0.003, emergency_callers=(),
        ),
        NumberLists([*EVERYBODY, *allowed]),
        WindowStore(MemoryBackend(clock=lambda: NOW_S)),
        passports=PassportVerifier([authority.root], lambda _x5u: chain, lambda: NOW_S),
        model=LogisticRisk(load_risk()),
        bursts=BombingDetector(),
        clock=lambda: NOW_S,
    )  # fmt: skip


def answers(screener, *calls):
    """The final answer to each ``(caller, callee, trunk, more lines)``; ``to`` must be where the call was going."""

    async def run():
        server = RedirectServer(CONFIG, screener)
        server.agent = Agent(server, sip.Clock(), server.agent_config())
        wire, found = sip.Wire(), []
        for at, (caller, callee, trunk, more) in enumerate(calls):
            message = sip.request(
                uri=f"sip:{callee}@ims.example", call=f"c{at}", branch=f"z9hG4bK{at}",
                more=(f"X-Trunk: {trunk}", *more), From=f"<sip:{caller}@ims.example>;tag=t{at}",
            )  # fmt: skip
            server.agent.receive(message, wire)
            for _ in range(10):
                await asyncio.sleep(0)
            found.append(wire.take()[-1])
        assert server.counts["not decided"] == 0
        return found

    return asyncio.run(run())


def goes_on(answer, callee):
    """Whether a proxy that obeys lets the call ring."""
    target = (answer.headers.get("Contact") or "").strip("<>")
    return answer.status == 302 and target == f"sip:{callee}@ims.example"


def flood(count, callee=SUBSCRIBER):
    return [(f"+4479{n:08}", f"+{callee}", "international", ()) for n in range(count)]


slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@slow
@given(
    caller=numbers,
    trunk=trunks,
    more=lines,
    number=st.sampled_from(["999", "112", "911", "+44999", "+999", "999;phone-context=+44", "9%39%39"]),
)
def test_a_call_for_help(authority, caller, trunk, more, number):
    (answer,) = answers(strictest(authority), (caller, number, trunk, more))
    assert goes_on(answer, number)


@slow
@given(caller=numbers, trunk=trunks, more=lines, attempts=bombed)
def test_a_call_back_after_a_call_for_help(authority, caller, trunk, more, attempts):
    """The subscriber's own call for help came by this door too; whoever calls then may be the centre."""
    help_call = (f"+{SUBSCRIBER}", "999", "own", ())
    callee = f"+{SUBSCRIBER}"
    found = answers(strictest(authority), *flood(attempts), help_call, (caller, callee, trunk, more))
    assert goes_on(found[-1], callee)


@slow
@given(caller=numbers, trunk=st.sampled_from(["own", "national"]), more=lines, attempts=bombed)
def test_a_call_back_that_the_emergency_centres_switch_marks(authority, caller, trunk, more, attempts):
    callee = f"+{SUBSCRIBER}"
    marked = ("Priority: psap-callback", *more)
    assert goes_on(answers(strictest(authority), *flood(attempts), (caller, callee, trunk, marked))[-1], callee)


@slow
@given(
    trunk=trunks,
    more=st.lists(st.sampled_from(["Feature-Caps: *;+sip.608", "Subject: \x01"]), max_size=2),
    attempts=bombed,
    kind=st.sampled_from(["allow", "business"]),
    is_prefix=st.booleans(),
)
def test_an_allowed_number_that_is_vouched_for_in_full(authority, trunk, more, attempts, kind, is_prefix):
    allowed = ListEntry(kind=kind, number="44163" if is_prefix else VOUCHED, is_prefix=is_prefix, who="t", why="t")
    signed = f"Identity: {authority.passport()}"
    screener = strictest(authority, [allowed, NEVER_CALLS])
    callee = f"+{SUBSCRIBER}"
    found = answers(screener, *flood(attempts), (f"+{VOUCHED}", callee, trunk, (signed, *more)))
    assert goes_on(found[-1], callee)
    assert found[-1].headers.get("X-ScamTap-Reasons") == "ALLOW_ATTESTED"


@pytest.mark.parametrize("attest", ["B", "C", None])
def test_the_same_number_with_less_is_not_let_through(authority, attest):
    """So that the tests above can fail."""
    allowed = ListEntry(kind="business", number=VOUCHED, who="t", why="t")
    more = () if attest is None else (f"Identity: {authority.passport(attest=attest)}",)
    call = (f"+{VOUCHED}", f"+{SUBSCRIBER}", "national", more)
    (answer,) = answers(strictest(authority, [allowed]), call)
    assert answer.status in (607, 608) or "blocked@" in answer.headers.get("Contact")


def test_a_call_for_help_whose_address_is_malformed(authority):
    """Found by fuzzing: no number was read out of such an URI, and its caller was on a list."""
    (answer,) = answers(strictest(authority), ("+442079460000", "999@)x;y=", "international", ()))
    assert answer.status == 302
    assert answer.headers.get("X-ScamTap-Reasons") == "EMERGENCY_CALLEE"
