"""The sequential test over one call: bounds, order, levels."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from inference.audio import Leg
from inference.errors import WeightsError
from inference.intent.calibration import Calibration, OperatingPoint, Weights
from inference.intent.scores import FAMILIES, STAGES, IntentScores, Weighed
from inference.speech.utterance import Utterance
from inference.verdict.verdict import LEVELS, Verdict, VerdictConfig, highest

CONFIG = VerdictConfig(suspect_llr=2.0, danger_llr=4.0)
NUMBERS = itertools.count()


def said(leg: Leg = "far") -> Utterance:
    start_s = float(next(NUMBERS))
    return Utterance(leg, start_s, start_s + 1, start_s + 1.5, f"words {start_s}", "en")


def scores(llr: float, *acts: str, family: str = "tax") -> IntentScores:
    share = 0.1 / (len(FAMILIES) - 1)
    return IntentScores(
        llr,
        {name: 0.9 if name == family else share for name in FAMILIES},
        {stage: 0.9 if stage in acts else 0.1 for stage in STAGES},
    )


llrs = st.floats(-3, 3)
legs = st.sampled_from(["far", "near"])
acts = st.sets(st.sampled_from(STAGES))
calls = st.lists(st.tuples(legs, llrs, acts), max_size=40)


@given(calls)
@settings(deadline=None, max_examples=100)
def test_risk_is_a_probability_and_evidence_is_bounded_and_in_order(call: list[tuple[Leg, float, set[str]]]) -> None:
    verdict = Verdict(CONFIG)
    for leg, llr, shown in call:
        now = verdict.update(said(leg), scores(llr, *shown))
        assert 0 < now.risk < 1
        assert len(now.evidence) <= CONFIG.max_evidence
        assert [u.start_s for u in now.evidence] == sorted(u.start_s for u in now.evidence)
        assert -CONFIG.floor_llr <= verdict.evidence_llr <= CONFIG.ceiling_llr
        assert (now.family is None) == (now.level == "none")


@given(calls, st.integers(0, 39), st.floats(0, 2))
@settings(deadline=None, max_examples=100)
def test_more_evidence_in_any_utterance_never_lowers_the_final_risk(
    call: list[tuple[Leg, float, set[str]]], where: int, more: float
) -> None:
    low, high = Verdict(CONFIG), Verdict(CONFIG)
    for index, (leg, llr, shown) in enumerate(call):
        low.update(said(leg), scores(llr, *shown))
        high.update(said(leg), scores(llr + (more if index == where else 0.0), *shown))
    assert high.assessment.risk >= low.assessment.risk


@given(st.lists(st.tuples(legs, st.floats(-3, 0), acts), max_size=20), st.floats(0, 20))
@settings(deadline=None, max_examples=100)
def test_never_danger_on_one_utterance(before: list[tuple[Leg, float, set[str]]], llr: float) -> None:
    verdict = Verdict(CONFIG)
    for leg, low, shown in before:
        verdict.update(said(leg), scores(low, *shown))
    assert verdict.update(said("far"), scores(llr, *STAGES)).level != "danger"


@given(st.lists(st.floats(0, 3), max_size=30))
@settings(deadline=None, max_examples=50)
def test_never_danger_on_what_the_subscriber_says_alone(values: list[float]) -> None:
    verdict = Verdict(CONFIG)
    for llr in values:
        assert verdict.update(said("near"), scores(llr, *STAGES)).level != "danger"


def test_danger_wants_two_utterances_and_two_acts() -> None:
    verdict = Verdict(CONFIG)
    assert verdict.update(said(), scores(3, "lure")).level == "suspect"
    assert verdict.update(said(), scores(3, "lure")).level == "suspect"
    now = verdict.update(said(), scores(0.5, "ask"))
    assert (now.level, now.family, now.stage) == ("danger", "tax", "ask")


def test_a_model_s_own_threshold_decides_what_counts_as_an_act() -> None:
    strict = Verdict(replace_config(stage_probability={"": {"lure": 0.95, "ask": 0.95}}))
    assert [strict.update(said(), scores(3, "lure", "ask")).level for _ in range(3)] == ["suspect"] * 3


def test_levels_have_hysteresis() -> None:
    verdict = Verdict(replace_config(hysteresis_llr=1.0))
    assert verdict.update(said(), scores(2.1, "lure")).level == "suspect"
    assert verdict.update(said(), scores(-0.5)).level == "suspect"
    assert verdict.update(said(), scores(-0.8)).level == "none"
    assert verdict.update(said(), scores(0.6)).level == "none"


def replace_config(**changes: float) -> VerdictConfig:
    return VerdictConfig.model_validate(CONFIG.model_dump() | changes)


def test_reassurance_counts_but_cannot_buy_off_what_follows() -> None:
    verdict = Verdict(CONFIG)
    for _ in range(100):
        verdict.update(said(), scores(-3, "reassure"))
    assert verdict.evidence_llr == -CONFIG.floor_llr
    levels = [verdict.update(said(), scores(2.5, act)).level for act in ("lure", "ask", "isolation")]
    assert levels[-1] == "danger"


def test_risk_starts_at_the_prior_and_no_evidence_keeps_it() -> None:
    verdict = Verdict(CONFIG)
    assert math.isclose(verdict.assessment.risk, CONFIG.prior)
    assert math.isclose(verdict.update(said(), scores(0.0, *STAGES)).risk, CONFIG.prior)


def test_evidence_is_what_moved_it_most() -> None:
    verdict = Verdict(replace_config(max_evidence=2))
    utterances = [said() for _ in range(4)]
    for utterance, llr in zip(utterances, (0.1, 2.0, -1.0, 1.0), strict=True):
        verdict.update(utterance, scores(llr, "lure"))
    assert verdict.assessment.evidence == (utterances[1], utterances[3])


def test_without_thresholds_wald_s_bound_holds() -> None:
    suspect, danger = VerdictConfig().thresholds()
    assert math.isclose(suspect, math.log(1 / 0.03))
    assert math.isclose(danger, math.log(1 / 0.01))


def made_calibration(suspect_llr: float, danger_llr: float, **languages: tuple[float, float]) -> Calibration:
    """Weights of nothing, with these thresholds, and those of languages that have their own."""

    def weights(suspect: float, danger: float) -> Weights:
        point = OperatingPoint(
            suspect_llr=suspect, danger_llr=danger, suspect_false_alarms=0.05, danger_false_alarms=0.01, num_genuine=10
        )
        return Weights(far_scale=1, far_bias=0, act_weights=dict.fromkeys(STAGES, 0), operating_point=point)

    return Calibration(
        **weights(suspect_llr, danger_llr).model_dump(exclude={"stage_thresholds"}),
        head_sha256="0" * 64,
        languages=("en", *languages),
        by_language={code: weights(*point) for code, point in languages.items()},
        stage_thresholds=dict.fromkeys(STAGES, 0.5),
    )


def test_the_operating_point_fills_what_is_not_set_by_hand() -> None:
    calibration = made_calibration(1.5, 3.5)
    assert VerdictConfig().calibrated(calibration).thresholds() == (1.5, 3.5)
    assert VerdictConfig(danger_llr=6).calibrated(calibration).thresholds() == (1.5, 6)


def test_a_language_with_thresholds_of_its_own_is_judged_by_them() -> None:
    config = VerdictConfig(suspect_llr=3.0, danger_llr=5.0, language_llr={"zh": (1.0, 4.0)})
    for language, level in (("en", "none"), ("zh", "suspect")):
        verdict = Verdict(config)
        assert verdict.update(replace(said(), language=language), scores(2.0, "lure")).level == level
        assert verdict.thresholds == config.thresholds(language)
    with pytest.raises(ValidationError, match="suspect_llr <= danger_llr"):
        VerdictConfig(language_llr={"zh": (4.0, 1.0)})


def test_thresholds_of_a_language_come_from_the_model_unless_set_by_hand() -> None:
    calibration = made_calibration(1.5, 3.5, zh=(1.0, 4.5))
    assert VerdictConfig().calibrated(calibration).thresholds("zh") == (1.0, 4.5)
    assert VerdictConfig().calibrated(calibration).thresholds("en") == (1.5, 3.5)
    assert VerdictConfig(danger_llr=9).calibrated(calibration).thresholds("zh") == (1.0, 9)
    by_hand = VerdictConfig(language_llr={"zh": (2.0, 8.0)})
    assert by_hand.calibrated(calibration).thresholds("zh") == (2.0, 8.0)


def test_contradicting_thresholds_are_refused() -> None:
    with pytest.raises(ValidationError, match="suspect_llr <= danger_llr"):
        VerdictConfig(suspect_llr=5, danger_llr=4)
    with pytest.raises(ValidationError):
        VerdictConfig(min_far_utterances=1)


def test_highest() -> None:
    assert highest([]) == "none"
    assert highest(list(reversed(LEVELS))) == "danger"
    assert replace(Verdict(CONFIG).assessment, level="suspect").level == "suspect"


def weighed(base: float, **acts: float) -> IntentScores:
    made = Weighed(base, acts, ceiling=3.0, limit=3.0)
    return replace(scores(made.total({}, 1.0)), weighed=made)


def test_words_that_only_sound_like_a_scam_never_alarm() -> None:
    verdict = Verdict(CONFIG.model_copy(update={"needs_act": True}))
    bare = replace(weighed(0.9), stages=dict.fromkeys(STAGES, 0.1) | {"contact": 0.9, "reassure": 0.9})
    assert {verdict.update(said(), bare).level for _ in range(20)} == {"none"}
    asks = replace(bare, acts={"credential": 0.6, "offers_callback": 0.9})
    assert verdict.update(said(leg="near"), asks).level == "none"
    assert verdict.update(said(), replace(asks, acts={"credential": 0.4, "offers_callback": 0.9})).level == "none"
    assert verdict.update(said(), asks).level != "none"
    assert verdict.update(said(), bare).level != "none"  # what was shown stays shown
    staged = Verdict(CONFIG.model_copy(update={"needs_act": True}))
    assert {staged.update(said(), replace(bare, stages=bare.stages | {"lure": 0.6})).level for _ in range(9)} > {"none"}


def test_small_talk_is_bounded_in_the_language_that_bounds_it() -> None:
    """And an utterance that shows an act adds to what is held so."""
    config = CONFIG.model_copy(update={"language_budget": {"": None, "en": 1.5}})
    talk = replace(weighed(0.5), weighed=Weighed(0.5, {}, ceiling=1.0, limit=3.0, is_bare=True))
    held = {}
    for language in ("en", "zh"):
        verdict = Verdict(config)
        levels = {verdict.update(replace(said(), language=language), talk).level for _ in range(10)}
        held[language] = verdict.evidence_llr
        assert ("suspect" in levels) == (language == "zh")
        verdict.update(replace(said(), language=language), weighed(0.0, ask=1.0))
        assert verdict.evidence_llr == pytest.approx(held[language] + 1.0)
    assert held == {"en": pytest.approx(1.5), "zh": pytest.approx(5.0)}


@pytest.mark.parametrize(("repeat", "total"), [(1.0, 3.0), (0.5, 2.0), (0.0, 1.0)])
def test_an_act_that_was_shown_before_counts_for_its_share(repeat: float, total: float) -> None:
    verdict = Verdict(CONFIG.model_copy(update={"act_repeat": repeat}))
    for _ in range(3):
        verdict.update(said(), weighed(0.0, secrecy=1.0))
    assert verdict.evidence_llr == pytest.approx(total)


def test_what_is_shown_more_surely_counts_for_the_rest() -> None:
    verdict = Verdict(CONFIG.model_copy(update={"act_repeat": 0.0}))
    for part in (0.4, 1.0, 0.7):
        verdict.update(said(), weighed(0.0, secrecy=part, offers_callback=-part / 2))
    assert verdict.evidence_llr == pytest.approx(1.0 - 0.5)
    assert verdict.assessment.acts == (("secrecy", 1.0), ("offers_callback", -0.5))


def test_stages_are_no_acts_and_no_act_is_named_that_weighs_nothing() -> None:
    verdict = Verdict(CONFIG)
    now = verdict.update(said(), weighed(0.1, ask=1.0, gain=0.0))
    assert now.acts == ()


@given(st.lists(st.dictionaries(st.sampled_from(["threat", "gain"]), st.floats(0, 2)), max_size=12), st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_more_acts_of_a_scam_never_lower_the_evidence(shown: list[dict[str, float]], repeat: float) -> None:
    config = CONFIG.model_copy(update={"act_repeat": repeat})
    less, more = Verdict(config), Verdict(config)
    for acts in shown:
        less.update(said(), weighed(-0.1, **acts))
        more.update(said(), weighed(-0.1, **acts, secrecy=0.5))
        assert more.evidence_llr >= less.evidence_llr - 1e-9


def test_thresholds_of_a_model_that_do_not_fit_the_settings_are_said_in_one_line(doubles) -> None:
    point = doubles.CALIBRATION.operating_point.model_copy(update={"danger_llr": 50.0})
    own = doubles.CALIBRATION.model_copy(update={"operating_point": point})
    with pytest.raises(WeightsError, match=r"calibration\.json does not go with the settings of verdict: "):
        VerdictConfig().calibrated(own)


def test_a_calibration_that_is_no_text_is_malformed(tmp_path) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(b'{"head_sha256": "\xff"}')
    with pytest.raises(WeightsError, match=r"calibration\.json: .*restore it"):
        VerdictConfig().calibrated(path)
