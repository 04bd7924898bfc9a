import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ConfigError
from inference.screening.numbers import Number
from inference.screening.passport import NO_PASSPORT, PassportCheck
from inference.screening.rules import UNATTESTED_HEARD_CAP, Known, heard
from inference.screening.score import SIGNS, LogisticRisk, features, load_risk
from inference.screening.store import CallerWindow

CALLER = Number("valid", "441212345678", "441212345678", "GB")
MODEL = LogisticRisk(load_risk())


def known(window=None, **more) -> Known:
    base = Known(CALLER, CALLER, "national", NO_PASSPORT, caller_window=window or CallerWindow())
    return dataclasses.replace(base, **more)


def risk(window=None, **more) -> float:
    return MODEL.risk(known(window, **more))[0]


def test_the_shipped_model_says_it_learnt_from_simulated_traffic():
    weights = load_risk()
    assert "simulated" in weights.data["what"]
    assert set(weights.weights) == set(SIGNS)


counts = st.integers(0, 500)
windows = st.builds(
    lambda attempts, ended, answered, short, **more: CallerWindow(
        attempts=attempts + ended, ended=ended, answered=min(answered, ended), short=min(short, answered, ended), **more
    ),
    counts,
    counts,
    counts,
    counts,
    attempts_1h=counts,
    distinct_callees=counts,
    complaints=st.floats(0, 50),
    not_a_scam=st.floats(0, 50),
    heard_suspect=st.floats(0, 20),
    heard_danger=st.floats(0, 20),
    heard_attested=st.floats(0, 20),
)


@given(windows, st.sampled_from(["complaints", "heard_danger", "heard_suspect", "attempts_1h", "distinct_callees"]))
def test_more_of_what_speaks_against_a_number_never_lowers_its_risk(window, name):
    more = dataclasses.replace(window, **{name: getattr(window, name) + 3})
    assert risk(more) >= risk(window)


@given(windows)
def test_who_says_it_was_no_scam_and_who_vouches_never_raise_it(window):
    more = dataclasses.replace(window, not_a_scam=window.not_a_scam + 2)
    assert risk(more) <= risk(window)
    assert risk(window, passport=PassportCheck("valid", "A")) <= risk(window)
    assert risk(window, passport=PassportCheck("bad_chain")) >= risk(window)


@given(windows)
def test_contributions_add_up_to_the_risk(window):
    import math

    value, parts = MODEL.risk(known(window))
    odds = load_risk().intercept + sum(parts.values())
    assert value == pytest.approx(1 / (1 + math.exp(-max(-30, min(30, odds)))))
    assert all(parts[name] * SIGNS[name] >= 0 for name in parts)


def test_one_callee_moves_nothing_and_a_number_nobody_vouches_for_is_not_burned():
    assert heard(CallerWindow(heard_danger=1.0)) == 0
    assert heard(CallerWindow(heard_danger=2.0)) == 2.0
    assert heard(CallerWindow(heard_danger=50.0)) == UNATTESTED_HEARD_CAP
    assert heard(CallerWindow(heard_danger=50.0, heard_attested=3.0)) == 50.0
    assert heard(CallerWindow(heard_danger=3.0, not_a_scam=2.0)) == 0


def test_a_rarer_crime_is_a_lower_risk():
    window = CallerWindow(heard_danger=2.0, attempts=10)
    assert LogisticRisk(load_risk(), prior=0.001).risk(known(window))[0] < risk(window)


def test_without_a_window_nothing_remembered_counts():
    assert features(known(caller_window=None))["complaints"] == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body["weights"].update(complaints=-1.0),
        lambda body: body["weights"].pop("heard"),
        lambda body: body.update(intercept=float("nan")),
        lambda body: body.clear(),
    ],
)
def test_a_model_that_is_none_is_refused_in_one_line(tmp_path, spoil):
    body = load_risk().model_dump()
    spoil(body)
    path = tmp_path / "risk.json"
    path.write_text(json.dumps(body))
    with pytest.raises(ConfigError, match="scamtap-train screening"):
        load_risk(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_risk(tmp_path / "none.json")
