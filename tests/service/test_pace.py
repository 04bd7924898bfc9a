"""How a worker's ticks follow one another, in virtual time."""

import pytest

from inference.service.pace import CONTROL_SHARE, Pace


def run(took_s, num=100, period_s=0.06):
    """Ticks that take so long each; the lag told before each, and the share of the time left to others."""
    now_s, lags, spent_s = 0.0, [], 0.0
    pace = Pace(period_s, now_s)
    for number in range(num):
        took = took_s(number)
        lags.append(pace.begin(now_s))
        now_s, spent_s = now_s + took, spent_s + took
        now_s += pace.end(now_s)
    return lags, now_s, spent_s


def test_short_ticks_keep_their_period_and_stand_for_no_lag():
    lags, now_s, _ = run(lambda _: 0.03)
    assert now_s == pytest.approx(100 * 0.06)
    assert lags == [pytest.approx(0, abs=1e-9)] * 100


def test_one_stall_is_made_good_at_once_and_is_no_shortage():
    lags, now_s, _ = run(lambda number: 1.5 if number == 50 else 0.03)
    assert max(lags) == pytest.approx(0, abs=1e-9)
    assert now_s < 100 * 0.06 + 1.5 + 0.5


@pytest.mark.parametrize(("took_s", "lag_s"), [(0.31, 1.0), (0.56, 2.0), (1.06, 4.0)])
def test_ticks_that_are_always_long_are_a_shortage(took_s, lag_s):
    lags, now_s, spent_s = run(lambda _: took_s)
    assert lags[:4] == [pytest.approx(0, abs=1e-9)] * 4
    assert lags[5] == pytest.approx(lag_s, abs=0.01)
    assert 1 - spent_s / now_s == pytest.approx(CONTROL_SHARE, abs=0.01)


def test_a_tick_that_begins_late_says_so():
    pace = Pace(0.06, 0.0)
    pace.begin(0.0)
    pace.end(0.01)
    assert pace.begin(2.06) == pytest.approx(2.0)
