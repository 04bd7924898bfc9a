"""Calibration, on made outputs."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.intent.acts import ACTS
from inference.intent.calibration import Calibration, Counting
from inference.intent.scores import STAGES
from inference.verdict.verdict import DANGER_FALSE_ALARMS, SUSPECT_FALSE_ALARMS, VerdictConfig
from training.intent.calibrate import (
    BOUNDS,
    BUDGETS,
    NUM_PLAIN,
    RIDGE,
    calibrate,
    fit_weights,
    stage_thresholds,
    weighted_quantile,
)
from training.intent.data import Call, Piece
from training.intent.raw import RawCall
from training.intent.weighing import MARKS, accumulated

PLAIN = Counting(floor=0.5, repeat=1.0, bare_limit=9.0)


def call(is_scam: bool, num_pieces: int, ask_turn: int | None = None) -> Call:
    pieces = tuple(Piece("far", "words", i, ("ask",) if i % 2 else ()) for i in range(num_pieces))
    return Call("id", "scripts", is_scam, "tax" if is_scam else None, "tax", "id", "dev", pieces, ask_turn)


def raw(is_scam: bool, llr: float, num_pieces: int = 6) -> RawCall:
    stages = np.full((num_pieces, len(STAGES)), 0.1)
    stages[1::2, STAGES.index("ask")] = 0.55
    ones = np.ones(num_pieces, bool)
    acts = np.full((num_pieces, len(ACTS)), 0.1)
    acts[1:4, ACTS.index("credential")] = (0.7, 0.9, 0.8)
    return RawCall(call(is_scam, num_pieces), np.full(num_pieces, llr), ones, ones, stages, acts)


def test_overconfident_outputs_are_tempered() -> None:
    rng = np.random.default_rng(0)
    honest = [raw(bool(y), float(rng.normal(0.5 if y else -0.5, 0.9))) for y in rng.integers(0, 2, 80)]
    loud = [dataclasses.replace(r, llr=r.llr * 4) for r in honest]
    (quiet_scale, *_), _ = fit_weights(honest, [1.0] * 80, VerdictConfig(), PLAIN)
    (loud_scale, *_), _ = fit_weights(loud, [1.0] * 80, VerdictConfig(), PLAIN)
    assert 0 < loud_scale < quiet_scale


def test_an_act_that_tells_gets_weight_and_one_that_does_not_gets_little() -> None:
    rng = np.random.default_rng(1)
    calls = []
    for y in rng.integers(0, 2, 120):
        one = raw(bool(y), 0.0)
        stages = rng.uniform(0, 0.2, one.stages.shape)
        stages[:, STAGES.index("isolation")] += 0.4 * y
        calls.append(dataclasses.replace(one, stages=stages))
    weights, _ = fit_weights(calls, [1.0] * 120, VerdictConfig(), PLAIN)
    acts = dict(zip(MARKS, weights[NUM_PLAIN:], strict=True))
    assert acts["isolation"] > 0.5
    assert acts["isolation"] > 2 * acts["lure"]
    assert acts["reassure"] <= 0


@pytest.mark.parametrize("counting", [PLAIN, PLAIN._replace(repeat=0.5), PLAIN._replace(repeat=0, bare_budget=0.4)])
def test_the_slope_of_the_loss_finds_the_minimum_that_a_search_without_it_finds(counting: Counting) -> None:
    rng = np.random.default_rng(3)
    calls = []
    for y in rng.integers(0, 2, 60):
        one = raw(bool(y), float(rng.normal(0.4 if y else -0.4, 0.8)))
        acts = rng.uniform(0, 0.7, one.acts.shape)
        acts[:, ACTS.index("secrecy")] += 0.3 * y
        acts[:, ACTS.index("offers_callback")] += 0.3 * (1 - y)
        calls.append(dataclasses.replace(one, acts=acts))
    weights, loss = fit_weights(calls, [1.0] * 60, VerdictConfig(), counting)
    by_name = dict(zip(MARKS, weights[NUM_PLAIN:], strict=True))
    assert by_name["secrecy"] > 0.1
    assert by_name["offers_callback"] < -0.1
    for index in range(len(weights)):
        for step in (-0.05, 0.05):
            moved = list(weights)
            moved[index] += step
            low, high = BOUNDS[index]
            if low <= moved[index] <= high:
                assert loss_of(calls, moved, counting) >= loss - 1e-3


def loss_of(calls: list[RawCall], weights: list[float], counting: Counting) -> float:
    """The loss that is fitted, said again in the plainest way."""
    verdict = VerdictConfig()
    total = 0.0
    for one in calls:
        sums = accumulated(one, weights, counting, verdict)
        sign = 1 if one.call.is_scam else -1
        total += float(np.logaddexp(0, -sign * sums).mean())
    return total / len(calls) + RIDGE * float((np.array(weights[NUM_PLAIN:]) ** 2).sum()) / len(MARKS)


def test_operating_point_keeps_the_stated_share_of_genuine_calls_below() -> None:
    genuine = [raw(False, value) for value in np.linspace(-2, 0.5, 100)]
    scam = [raw(True, value) for value in np.linspace(0.2, 2, 40)]
    calibration, _ = calibrate([*genuine, *scam], [1.0] * 140, "0" * 64)
    verdict = VerdictConfig().calibrated(calibration)
    weights = (calibration.far_scale, calibration.far_bias, *calibration.act_weights.values())
    peaks = [accumulated(r, weights, calibration.counting(), verdict).max() for r in genuine]
    suspect, danger = verdict.thresholds()
    assert np.mean(np.array(peaks) >= suspect) <= SUSPECT_FALSE_ALARMS
    assert np.mean(np.array(peaks) >= danger) <= DANGER_FALSE_ALARMS
    assert calibration.operating_point.num_genuine == 100


def test_a_language_with_calls_enough_is_weighed_by_itself() -> None:
    rng = np.random.default_rng(4)
    calls = []
    for number in range(400):
        is_scam, language = bool(number % 2), "zh" if number % 4 < 2 else "en"
        one = raw(is_scam, 0.0)
        acts = rng.uniform(0, 0.7, one.acts.shape)
        tells = "secrecy" if language == "zh" else "threat"
        acts[:, ACTS.index(tells)] += 0.3 * is_scam
        calls.append(dataclasses.replace(one, acts=acts, call=dataclasses.replace(one.call, language=language)))
    calibration, _ = calibrate(calls, [1.0] * 400, "0" * 64)
    english, mandarin = calibration.of("en").act_weights, calibration.of("zh").act_weights
    assert english["threat"] > mandarin["threat"]
    assert mandarin["secrecy"] > english["secrecy"]
    assert calibration.of("ko").act_weights == calibration.act_weights
    assert calibration.of("zh").operating_point.num_genuine == 100
    few, _ = calibrate([*calls[:100], calls[2]], [1.0] * 101, "0" * 64)
    assert few.by_language == {}


def test_stage_thresholds_find_the_gap() -> None:
    thresholds = stage_thresholds([raw(True, 1.0)])
    assert 0.1 < thresholds["ask"] <= 0.55
    assert set(thresholds) == set(STAGES)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.floats(0, 0.9))
@settings(deadline=None, max_examples=100)
def test_quantile_leaves_at_most_the_share_above(values: list[float], above: float) -> None:
    threshold = weighted_quantile(values, [1.0] * len(values), above)
    assert sum(v > threshold for v in values) <= above * len(values) + 1e-9


def test_small_talk_is_bounded_in_the_languages_that_real_talk_was_measured_in() -> None:
    def made(*languages: str) -> Calibration:
        calls = [
            dataclasses.replace(one, call=dataclasses.replace(one.call, language=language))
            for language in languages
            for one in (raw(is_scam, 0.3 if is_scam else -0.3) for is_scam in (True, False) for _ in range(70))
        ]
        return calibrate(calls, [1.0] * len(calls), "0" * 64)[0]

    assert made("en").counting().bare_budget == BUDGETS["en"]
    assert made("zh").counting().bare_budget is None
    both = made("en", "zh")
    assert (both.of("en").bare_budget, both.of("zh").bare_budget) == (BUDGETS["en"], None)
    assert both.counting().bare_budget is None


def many(rng: np.random.Generator, num_of_each: int) -> list[RawCall]:
    return [raw(y, float(rng.normal(0.5 if y else -0.5, 0.9))) for y in (True, False) for _ in range(num_of_each)]
