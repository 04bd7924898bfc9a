import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.screening.attempt import ACTIONS
from inference.screening.lists import Hit
from inference.screening.numbers import Number, parse_dialled, parse_number
from inference.screening.passport import NO_PASSPORT, PassportCheck
from inference.screening.rules import Known, RulesConfig, rule
from inference.screening.store import CalleeWindow, CallerWindow
from tests.thorough import cases

CONFIG = RulesConfig(region="GB", own_ranges=("441632",), roaming_ranges=("447700",), reject_from=0.99)
CALLER, CALLEE = parse_number("+441212345678", "GB"), parse_number("+442079460000", "GB")
OWN, ROAMER = (
    Number("valid", "441632960001", "441632960001", "GB"),
    Number("valid", "447700900001", "447700900001", "GB"),
)
VOUCHED = PassportCheck("valid", "A")


class Model:
    """A risk that a test sets."""

    version = "t"

    def __init__(self, risk: float) -> None:
        self._risk = risk

    def risk(self, known):
        return self._risk, {"short_calls": 2.0, "age": -1.0}


def known(**more) -> Known:
    base = Known(CALLER, CALLEE, "national", NO_PASSPORT, caller_window=CallerWindow(), callee_window=CalleeWindow())
    return dataclasses.replace(base, **more)


def hit(kind, num_digits=12, is_exact=True, category="parcel"):
    return Hit(kind, "entries", category, num_digits, is_exact)


@pytest.mark.parametrize(
    ("more", "action", "first"),
    [
        ({}, "allow", "DEFAULT"),
        ({"hits": [hit("deny")]}, "reject", "DENY_LISTED"),
        ({"hits": [hit("do_not_originate")]}, "reject", "DO_NOT_ORIGINATE"),
        ({"hits": [hit("deny", 4, False), hit("allow")]}, "allow", "ALLOW_LISTED"),
        ({"hits": [hit("deny"), hit("allow", 4, False)]}, "reject", "DENY_LISTED"),
        ({"hits": [hit("do_not_originate"), hit("allow")]}, "reject", "DO_NOT_ORIGINATE"),
        ({"caller": OWN, "trunk": "international"}, "reject", "SPOOFED_OWN_RANGE"),
        ({"caller": OWN, "trunk": "international", "hits": [hit("allow")]}, "reject", "SPOOFED_OWN_RANGE"),
        ({"caller": OWN, "trunk": "own"}, "allow", "DEFAULT"),
        ({"caller": OWN, "trunk": None}, "allow", "DEFAULT"),
        ({"caller": ROAMER, "trunk": "international"}, "prompt", "OWN_RANGE_FROM_ABROAD"),
        ({"caller": parse_number("+4411", "GB")}, "challenge", "NUMBER_IMPOSSIBLE"),
        ({"caller": parse_number("nonsense", "GB")}, "challenge", "NUMBER_MALFORMED"),
        ({"caller": parse_number("", "GB")}, "allow", "DEFAULT"),
        ({"caller": parse_number("999", "GB")}, "allow", "EMERGENCY_CALLER"),
        ({"caller": parse_number("999", "GB"), "trunk": "international"}, "prompt", "SPOOFED_EMERGENCY"),
        ({"callee": parse_number("999", "GB"), "hits": [hit("deny")]}, "allow", "EMERGENCY_CALLEE"),
        ({"is_callback_window": True, "hits": [hit("deny")]}, "allow", "EMERGENCY_CALLBACK"),
        ({"passport": VOUCHED, "hits": [hit("deny"), hit("business", 4, False)]}, "allow", "ALLOW_ATTESTED"),
        ({"is_attacked": True}, "challenge", "CALL_BOMBING"),
        ({"is_attacked": True, "is_contact": True}, "allow", "CONTACT"),
        ({"is_contact": True, "hits": [hit("deny")]}, "allow", "CONTACT"),
        ({"is_contact": True, "caller": OWN, "trunk": "international"}, "prompt", "CONTACT_SPOOFED"),
        (  # a denied range, an allowed number in it, and somebody abroad who shows it
            {"caller": OWN, "trunk": "international", "hits": [hit("allow"), hit("deny", 4, False)]},
            "reject",
            "DENY_LISTED",
        ),
        ({"callee": parse_dialled("+44999", "GB"), "is_attacked": True}, "allow", "EMERGENCY_CALLEE"),
        ({"callee": parse_dialled("urn:service:sos", "GB"), "hits": [hit("deny")]}, "allow", "EMERGENCY_CALLEE"),
        ({"passport": PassportCheck("bad_signature")}, "allow", "PASSPORT_BAD_SIGNATURE"),
    ],
)
def test_grounds(more, action, first):
    ruling = rule(known(**more), CONFIG, None)
    assert (ruling.action, ruling.reasons[0]) == (action, first)


@pytest.mark.parametrize(("risk", "action"), [(0.1, "allow"), (0.5, "prompt"), (0.95, "challenge"), (0.99, "reject")])
def test_the_model_decides_by_steps(risk, action):
    ruling = rule(known(), CONFIG, Model(risk))
    assert (ruling.action, ruling.risk) == (action, risk)
    assert ruling.reasons == (("DEFAULT",) if action == "allow" else ("RISK_SHORT_CALLS",))


def test_the_label_says_where_it_comes_from():
    heard = known(caller_window=CallerWindow(heard_danger=2.0))
    assert rule(heard, CONFIG, Model(0.6)).source == "listening"
    assert rule(known(caller_window=CallerWindow(complaints=3.0)), CONFIG, Model(0.6)).source == "subscribers"
    assert rule(known(hits=[hit("deny")]), CONFIG, None).source == "list:entries"


def test_without_its_store_nothing_is_held_against_behaviour():
    ruling = rule(known(caller_window=None, callee_window=None), CONFIG, Model(1.0))
    assert (ruling.action, ruling.risk) == ("allow", None)


def test_all_grounds_are_named_the_weightiest_first():
    ruling = rule(known(hits=[hit("deny")], is_attacked=True, passport=PassportCheck("stale")), CONFIG, Model(0.6))
    assert ruling.reasons == ("DENY_LISTED", "CALL_BOMBING", "RISK_SHORT_CALLS", "PASSPORT_STALE")


numbers = st.sampled_from(
    [CALLER, OWN, ROAMER, *(parse_number(t, "GB") for t in ("999", "", "x", "+4411", "+441110000000"))]
)
hits = st.lists(
    st.builds(
        hit,
        st.sampled_from(["allow", "deny", "do_not_originate", "business"]),
        st.integers(1, 12),
        st.booleans(),
    ),
    max_size=4,
)
passports = st.sampled_from([NO_PASSPORT, VOUCHED, PassportCheck("valid", "C"), PassportCheck("bad_chain")])
everything = st.builds(
    Known,
    numbers,
    st.sampled_from([CALLEE, parse_number("999", "GB")]),
    st.sampled_from(["own", "national", "international", None]),
    passports,
    hits,
    st.none() | st.just(CallerWindow(attempts=500)),
    st.none() | st.just(CalleeWindow()),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
configs = st.builds(
    RulesConfig,
    own_ranges=st.just(("441632",)),
    roaming_ranges=st.just(("447700",)),
    withheld=st.sampled_from(["allow", "challenge"]),
    unallocated=st.sampled_from(["allow", "reject"]),
    spoofed=st.sampled_from(["prompt", "reject"]),
    shielded=st.sampled_from(["challenge", "reject"]),
    reject_from=st.just(0.95) | st.none(),
)


def test_a_call_back_centre_is_known_by_either_way_of_writing_its_number():
    config = RulesConfig(region="GB", emergency_callers=("441212345678",))
    for text in ("+441212345678", "0121 234 5678"):
        ruling = rule(known(caller=parse_number(text, "GB"), hits=[hit("deny")]), config, None)
        assert ruling.reasons == ("EMERGENCY_CALLER",)


@settings(max_examples=cases(300, 1000))
@given(everything, configs, st.none() | st.builds(Model, st.floats(0, 1)))
def test_some_calls_are_never_blocked_whatever_speaks_against_them(what, config, model):
    ruling = rule(what, config, model)
    assert ruling.action in ACTIONS
    assert ruling.reasons
    is_vouched = what.passport == VOUCHED and (what.hit("allow") or what.hit("business"))
    if what.callee.kind == "emergency" or what.is_callback_window or is_vouched:
        assert ruling.action == "allow"
    if what.caller.kind == "emergency":
        assert ruling.action in (
            ("allow",) if what.trunk != "international" else ("allow", "prompt", "challenge", "reject")
        )
    if what.caller_window is None:
        assert ruling.risk is None


def test_contradicting_steps_are_refused():
    with pytest.raises(ValueError, match="must rise"):
        RulesConfig(prompt_from=0.9, challenge_from=0.5)
    with pytest.raises(ValueError, match="no prefix"):
        RulesConfig(own_ranges=("+44",))
