"""The steps of overload in virtual time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.service.overload import STEPS, Overload, OverloadConfig

CONFIG = OverloadConfig(long_hop_from_s=0.5, gate_only_from_s=1.5, refuse_from_s=3, calm_s=5)


@pytest.mark.parametrize(
    ("lag_s", "step"),
    [(0.49, "normal"), (0.5, "long_hop"), (1.5, "gate_only"), (2.99, "gate_only"), (3, "refusing"), (1e9, "refusing")],
)
def test_it_rises_at_once_and_as_far_as_need_be(lag_s, step):
    overload = Overload(CONFIG, 0)
    assert overload.update(lag_s, 1) == (step != "normal")
    assert overload.step == step


def test_it_falls_one_step_at_a_time_and_only_after_a_calm():
    overload = Overload(CONFIG, 0)
    overload.update(10, 0)
    steps = []
    for second in range(1, 20):
        overload.update(0, second)
        steps.append(overload.step)
    assert [steps.index(step) + 1 for step in reversed(STEPS[:3])] == [5, 10, 15]


def test_a_lag_between_half_and_whole_holds_the_step():
    overload = Overload(CONFIG, 0)
    overload.update(3, 0)
    for second in range(1, 100):
        assert not overload.update(1.6, second)
    assert overload.step == "refusing"


@given(lags=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), max_size=50))
def test_it_never_skips_a_step_down_nor_lags_behind_up_and_accounts_for_all_time(lags):
    overload, now_s = Overload(CONFIG, 0), 0.0
    for lag_s, passed_s in lags:
        now_s += passed_s
        before = STEPS.index(overload.step)
        is_changed = overload.update(lag_s, now_s)
        after = STEPS.index(overload.step)
        assert is_changed == (before != after)
        assert after >= before - 1
        assert after >= sum(lag_s >= from_s for from_s in (0.5, 1.5, 3)) or after >= before
    assert sum(overload.seconds.values()) == pytest.approx(now_s)


def test_steps_out_of_order_are_refused():
    with pytest.raises(ValueError, match="long_hop_from_s <= gate_only_from_s <= refuse_from_s"):
        OverloadConfig(long_hop_from_s=60)
