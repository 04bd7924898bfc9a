"""Attacks and crowds are simulated (:mod:`inference.screening.attacks`), and play through the real screener."""

import asyncio

import pytest

from inference.screening.bombing import BombingConfig, BombingDetector
from inference.screening.rehearsal import rehearse_attack, rehearse_crowd
from inference.screening.store import CalleeWindow


@pytest.mark.parametrize(
    ("kind", "per_minute"),
    [("random", 50), ("random", 600), ("sequential", 50), ("sequential", 600), ("withheld", 200), ("slow", 1.5)],
)
@pytest.mark.parametrize("seed", [11, 21])
def test_an_attack_is_noticed_and_stopped_and_contacts_come_through(kind, per_minute, seed):
    done = asyncio.run(rehearse_attack(kind, per_minute, seed))
    assert done.detected_after is not None
    assert done.detected_after <= 10 or done.detected_s <= 10
    assert done.stopped >= 0.99 * done.after
    assert done.known_through == done.known


@pytest.mark.slow
def test_the_worst_attack_is_stopped():
    done = asyncio.run(rehearse_attack("sequential", 5000, 3))
    assert done.detected_s <= 10
    assert done.stopped >= 0.99 * done.after


@pytest.mark.parametrize("kind", ["recall", "school", "birthday"])
def test_a_crowd_is_no_attack(kind):
    assert [asyncio.run(rehearse_crowd(kind, seed)).detected_s for seed in (11, 12)] == [None, None]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quiz", "recall", "school", "birthday"])
def test_crowds_are_no_attacks(kind):
    seeds = range(100, 103 if kind == "quiz" else 115)
    assert not [seed for seed in seeds if asyncio.run(rehearse_crowd(kind, seed)).detected_s is not None]


def test_a_shield_is_held_while_it_goes_on_and_ends_by_itself():
    detector = BombingDetector(BombingConfig(hold_s=600))
    still = CalleeWindow(attempts_60s=9, attempts_600s=40, shielded_until_s=1000.0)  # challenged: no ringing is seen
    assert detector.shield_until_s(still, 900.0) == 1500.0
    assert detector.shield_until_s(CalleeWindow(attempts_600s=2, shielded_until_s=1000.0), 900.0) is None


def test_a_burst_within_the_callees_own_habit_is_none():
    burst = {"attempts_60s": 30, "attempts_600s": 200, "short_rings_60s": 25, "served_60s": 2}
    assert BombingDetector().is_attack(CalleeWindow(**burst, baseline_peak_10min=20))
    assert not BombingDetector().is_attack(CalleeWindow(**burst, baseline_peak_10min=150))


def test_calls_that_go_on_are_no_sign():
    held = CalleeWindow(attempts_60s=20, attempts_600s=20, short_rings_60s=6, served_60s=0)
    assert not BombingDetector().is_attack(held)  # fourteen still ring or talk
