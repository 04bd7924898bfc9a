import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.alerts.alert import Alert
from inference.speech.utterance import Utterance

SAID = "plantedwords read me the code"
UTTERANCE = Utterance("far", 28.0, 30.5, 31.25, SAID, "en")
MONDAY_S, TUESDAY_S = 1_700_000_000.0, 1_700_086_400.0


def alert(**more) -> Alert:
    fields = {
        "call": "call-1",
        "level": "danger",
        "at_s": 31.25,
        "risk": 0.971,
        "family": "card_otp",
        "stage": "ask",
        "evidence": (UTTERANCE,),
        "begun_at_s": MONDAY_S,
        "model": "scam_intent:0123456789ab",
    }
    return Alert(**fields | more)


@pytest.mark.parametrize(
    "more", [{}, {"at_s": 31.9}, {"risk": 0.95}, {"family": "tax"}, {"stage": None}, {"evidence": ()}]
)
def test_the_same_decision_has_the_same_id_whatever_came_with_it(more):
    assert alert(**more).id == alert().id


@pytest.mark.parametrize(
    "more",
    [{"call": "call-2"}, {"level": "suspect"}, {"rise": 2}, {"model": "scam_intent:ba9876543210"},
     {"begun_at_s": TUESDAY_S}, {"begun_at_s": None}],
)  # fmt: skip
def test_another_call_level_decision_or_model_has_another_id(more):
    assert alert(**more).id != alert().id


def test_ids_do_not_depend_on_the_process():
    assert alert().id == "alr_8df9c0281f1ee7be952bc4e33e44328b"


keys = st.tuples(st.text(max_size=8), st.none() | st.integers(0, 2**41), st.integers(1, 9), st.text(max_size=8))


@given(keys, keys)
def test_ids_are_equal_only_where_all_that_counts_is(one, other):
    def of(key):
        call, begun_ms, rise, model = key
        begun_at_s = None if begun_ms is None else begun_ms / 1000
        return alert(call=call, begun_at_s=begun_at_s, rise=rise, model=model).id

    assert (of(one) == of(other)) == (one == other)


def test_what_was_said_is_in_the_notice_only_where_asked_for():
    assert SAID not in alert().notice(with_text=False, now_s=0.0).sealed("/scamtap").body
    assert SAID in alert().notice(with_text=True, now_s=0.0).sealed("/scamtap").body


def test_an_alert_is_dated_by_its_call_and_one_of_a_recording_by_now():
    assert alert().notice(with_text=False, now_s=5.0).at_s == MONDAY_S + 31.25
    assert alert(begun_at_s=None).notice(with_text=False, now_s=5.0).at_s == 5.0
