"""Figures of detection, against values worked out by hand or by another route."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import metrics

scores = st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=40)


def test_a_share_has_wilsons_interval() -> None:
    found = metrics.share(8, 10)
    assert found["share"] == 0.8
    assert found["ci95"] == pytest.approx([0.4902, 0.9433], abs=2e-4)  # Wilson 1927, z = 1.96
    assert metrics.share(0, 0)["share"] is None


def test_no_false_alarm_in_300_calls_is_no_proof_of_less_than_one_percent() -> None:
    found = metrics.per_thousand(0, 300)
    assert found["upper95"] == pytest.approx(1000 * (1 - 0.05 ** (1 / 300)), abs=1e-3)
    assert found["upper95"] < 10 < metrics.per_thousand(0, 290)["upper95"]


def test_no_false_alarm_in_an_hour_leaves_three_an_hour() -> None:
    assert metrics.per_hour(0, 1.0)["upper95"] == pytest.approx(-math.log(0.05), abs=1e-3)
    assert metrics.per_hour(2, 10.0)["upper95"] == pytest.approx(0.6296, abs=1e-3)  # Poisson, 2 seen: 6.296
    assert metrics.per_hour(0, 0.0)["per_hour"] is None


@given(scores, scores)
def test_auc_is_the_share_of_pairs_in_order(positive, negative) -> None:
    pairs = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert metrics.auc(positive, negative) == pytest.approx(np.mean(pairs))


def test_without_one_kind_of_call_there_is_no_curve() -> None:
    assert metrics.auc([], [0.1]) is metrics.auc([0.1], []) is metrics.det([], [0.2]) is None
    assert metrics.recall_at([0.5], [], 0.01) is None


def test_recall_at_a_false_alarm_rate_lets_no_more_through() -> None:
    negative = [i / 100 for i in range(100)]
    assert metrics.recall_at([0.985, 0.975, 0.5], negative, 0.01) == pytest.approx(1 / 3)
    assert metrics.recall_at([0.985, 0.975, 0.5], negative, 0.03) == pytest.approx(2 / 3)


def test_risk_that_is_probability_has_no_calibration_error() -> None:
    risk, truth = [0.05] * 100, [True] * 5 + [False] * 95
    assert metrics.reliability(risk, truth, prior=0.05).ece == pytest.approx(0.0, abs=1e-9)
    assert metrics.reliability([0.9] * 100, truth, prior=0.05).ece == pytest.approx(0.85)
    assert metrics.reliability(risk, [False] * 100, 0.05) is None


def test_a_set_of_half_scams_is_weighed_to_the_prior() -> None:
    found = metrics.reliability([0.05] * 100, [True] * 50 + [False] * 50, prior=0.05)
    assert found.ece == pytest.approx(0.0, abs=1e-9)
    assert sum(weight for _, _, weight in found.bins) == pytest.approx(1, abs=1e-4)


def test_missed_calls_are_censored_not_forgotten() -> None:
    found = metrics.survival([3.0, 5.0, None, 8.0, None], [20.0, 20.0, 4.0, 20.0, 30.0])
    # By hand (Kaplan and Meier 1958): 4/5 after 3, the call lost at 4, 4/5 * 2/3 after 5, * 1/2 after 8.
    assert [step[1] for step in found.curve] == pytest.approx([0.8, 0.8, 0.5333, 0.2667, 0.2667], abs=1e-4)
    assert (found.median, found.p90, found.warned, found.censored) == (8.0, None, 3, 2)
    nothing = metrics.survival([None, None], [5.0, 6.0])
    assert (nothing.median, nothing.censored) == (None, 2)
    assert metrics.survival([], []) is None


def test_early_warnings_cost_less_than_late_ones_and_misses_cost_all() -> None:
    assert metrics.erde([0.0], 0, 2, 10) < metrics.erde([30.0], 0, 2, 10) <= metrics.erde([None], 0, 2, 10) == 0.5
    assert metrics.erde([10.0], 0, 1, 10) == 0.5  # at the deadline a warning is worth half
    assert metrics.erde([None], 1, 2, 10) == pytest.approx((1 + 0.5) / 2)
    assert metrics.erde([1e9], 0, 1, 10) == 1.0


def test_latency_takes_its_share_of_f1() -> None:
    found = metrics.latency_f1([30.0, 30.0, None], 1, half_life=30.0)
    assert found["f1"] == pytest.approx(2 * 2 / (3 + 2 + 1), abs=1e-4)
    assert found["latency_f1"] == pytest.approx(found["f1"] / 2, abs=1e-4)
    assert metrics.latency_f1([None], 0, 30.0) == {"f1": 0.0, "latency_f1": 0.0}


def test_scores_that_did_not_move_are_no_drift_and_those_that_did_are() -> None:
    rng = np.random.default_rng(1)
    reference = rng.beta(1, 8, 500)
    assert not metrics.shift(reference, np.ones(500), rng.beta(1, 8, 400)).is_drift
    moved = metrics.shift(reference, np.ones(500), rng.beta(2, 5, 400))
    assert moved.is_drift
    assert moved.psi > 0.25
    assert moved.p_value < 1e-6


def test_few_calls_are_not_called_drift_by_chance() -> None:
    rng = np.random.default_rng(2)
    reference = rng.beta(1, 8, 300)
    found = [metrics.shift(reference, np.ones(300), rng.beta(1, 8, 30)).is_drift for _ in range(200)]
    assert sum(found) <= 2  # each at the 1 % level of two tests that must agree


def test_the_reference_counts_by_its_weights() -> None:
    mixed = [0.1] * 100 + [0.9] * 100
    rare = np.r_[np.full(100, 0.95 / 100), np.full(100, 0.05 / 100)]
    traffic = [0.1] * 190 + [0.9] * 10
    assert not metrics.shift(mixed, rare, traffic).is_drift
    assert metrics.shift(mixed, np.ones(200), traffic).is_drift


def test_scores_that_left_the_one_that_most_calls_share_are_drift() -> None:
    reference = [0.05] * 95 + [0.9] * 5
    assert not metrics.shift(reference, np.ones(100), [0.05] * 57 + [0.9] * 3).is_drift
    assert metrics.shift(reference, np.ones(100), [0.64] * 60).is_drift
