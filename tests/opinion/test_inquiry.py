"""What an opinion weighs, and when one is asked for."""

import pytest

from inference.intent.acts import ACTS
from inference.intent.calibration import Calibration, OperatingPoint, Weights
from inference.intent.scores import STAGES, Weighed
from inference.opinion.config import OpinionConfig
from inference.opinion.inquiry import SPARE_UTTERANCES, Inquiry, weigh_again
from inference.speech.utterance import Utterance

POINT = OperatingPoint(suspect_llr=2, danger_llr=4, suspect_false_alarms=0.05, danger_false_alarms=0.01, num_genuine=0)
WEIGHTS = dict.fromkeys(STAGES, 0.0) | {"threat": 1.0, "secrecy": 0.8, "offers_callback": -0.6, "complies": 0.5}
MANDARIN = Weights(far_scale=1, far_bias=0, act_weights=WEIGHTS | {"threat": 0.25}, operating_point=POINT)
CALIBRATION = Calibration(
    head_sha256="0" * 64,
    languages=("en", "zh"),
    far_scale=1,
    far_bias=0,
    act_weights=WEIGHTS,
    operating_point=POINT,
    by_language={"zh": MANDARIN},
    stage_thresholds=dict.fromkeys(STAGES, 0.5),
)


def config(**more) -> OpinionConfig:
    return OpinionConfig(
        url="http://127.0.0.1:1/v1", model="m", **{"max_added_nats": 6, "max_taken_nats": 6, "min_gap_s": 0, **more}
    )


def said(text: str = "words", leg: str = "far", language: str = "en") -> Utterance:
    return Utterance(leg, 0.0, 1.0, 1.0, text, language)


def weighed(base: float = 0.0, **acts: float) -> Weighed:
    return Weighed(base, acts, 3.0, 3.0)


def inquiry(*heard: Weighed | None, **more) -> Inquiry:
    made = Inquiry(config(**more), CALIBRATION)
    for one in heard:
        made.add(said(), one)
    return made


def revised(made: Inquiry, shown, repeat: float = 0.0, *, may_take: bool = True):
    question = made.question(0.0)
    assert question is not None
    revision = made.revise(question, {k: frozenset(v) for k, v in shown.items()}, repeat, may_take=may_take)
    return None if revision is None else (pytest.approx(revision.llr), revision.held)


def test_what_the_network_missed_is_added_and_what_it_made_up_is_taken() -> None:
    made = inquiry(weighed(0.3, threat=0.9), weighed(0.1, ask=0.4))
    # The first utterance, left without an act, adds no more than the limit of such: nothing, in this calibration.
    assert revised(made, {2: ["secrecy"]}) == (0.8 - 0.9 - 0.3, {"secrecy": 0.8, "ask": 0.4})


def test_agreement_makes_sure_what_was_likely() -> None:
    made = inquiry(weighed(0.3, threat=0.7))
    assert revised(made, {1: ["threat"]}) == (0.3, {"threat": 1.0})


@pytest.mark.parametrize(("repeat", "llr"), [(0.0, 0.8), (0.5, 1.2), (1.0, 1.6)])
def test_an_act_counts_once_or_its_share(repeat: float, llr: float) -> None:
    made = inquiry(weighed(), weighed())
    assert revised(made, {1: ["secrecy"], 2: ["secrecy"]}, repeat) == (llr, {"secrecy": 0.8})


def test_an_act_shown_before_the_window_is_held_still() -> None:
    made = Inquiry(config(max_utterances=2), CALIBRATION)
    made.add(said(), weighed(threat=1.0))
    for _ in range(2 + SPARE_UTTERANCES):
        made.add(said(), weighed())
    assert revised(made, {1: ["threat"], 2: ["secrecy"]}) == (0.8, {"threat": 1.0, "secrecy": 0.8})


def test_what_was_said_while_it_was_asked_keeps_its_place() -> None:
    made = inquiry(weighed(threat=1.0))
    question = made.question(0.0)
    made.add(said(), weighed(threat=1.0))  # counted for nothing: it had been shown before
    revision = made.revise(question, {}, 0.0, may_take=True)
    assert (revision.llr, revision.held) == (pytest.approx(0.0), {"threat": 1.0})


def test_the_second_opinion_takes_the_place_of_the_first() -> None:
    made = inquiry(weighed())
    assert revised(made, {1: ["threat"]}) == (1.0, {"threat": 1.0})
    made.add(said(), weighed())
    assert revised(made, {2: ["secrecy"]}) == (0.8 - 1.0, {"secrecy": 0.8})


def test_all_opinions_together_are_bounded() -> None:
    made = inquiry(weighed(), max_added_nats=1.0, max_taken_nats=0.5)
    assert revised(made, {1: ["threat", "secrecy"]})[0] == 1.0
    made.add(said(), weighed())
    assert revised(made, {1: ["threat", "secrecy"], 2: ["threat"]}, 1.0)[0] == 0.0
    made.add(said(), weighed())
    assert revised(made, {3: ["offers_callback"]}, 1.0)[0] == -1.5


def test_where_it_may_not_take_it_is_forgotten() -> None:
    made = inquiry(weighed(threat=1.0))
    assert revised(made, {}, may_take=False) is None
    made.add(said(), weighed())
    assert revised(made, {1: ["threat"], 2: ["secrecy"]}, may_take=False) == (0.8, {"threat": 1.0, "secrecy": 0.8})


def test_weights_are_those_of_the_language_and_the_leg() -> None:
    made = Inquiry(config(), CALIBRATION)
    made.add(said(language="zh"), weighed())
    made.add(said(leg="near"), weighed())
    made.add(said(language="fr"), None)  # not evidence: not in a language that the model knows
    everything = {place: list(ACTS) for place in (1, 2, 3)}
    assert revised(made, everything)[1] == {"threat": 0.25, "secrecy": 0.8, "offers_callback": -0.6, "complies": 0.5}


def test_an_utterance_that_only_reassures_adds_little_however_it_sounds() -> None:
    def total(bare_limit: float, leg: str = "far", acts: tuple[str, ...] = ("offers_callback",), **shown: float):
        calibration = CALIBRATION.model_copy(update={"bare_limit": bare_limit})
        return pytest.approx(weigh_again(weighed(2.0, **shown), leg, acts, "en", calibration).total({}, 0.0))

    assert [total(limit, threat=1.0) for limit in (0.0, 0.5, 9.0)] == [0.0, 0.5, 1.4]
    assert total(0.0, acts=(), ask=0.1) == 2.1  # what it asks stays
    assert total(0.0, acts=("threat",)) == 3.0
    assert total(0.0, "near", acts=()) == 2.0


def test_the_latest_words_are_asked_about_and_empty_ones_are_not() -> None:
    made = Inquiry(config(max_utterances=2), CALIBRATION)
    for text in ("one", "two", " ", "three"):
        made.add(said(text), weighed())
    question = made.question(0.0)
    assert [(line.number, line.text) for line in question.lines] == [(2, "two"), (4, "three")]


def test_asked_again_only_where_the_far_party_has_spoken_and_time_has_passed() -> None:
    made = inquiry(weighed(), min_gap_s=10, max_per_call=3)
    assert made.question(5.0) is not None
    assert not made.is_due(30.0)
    made.add(said(leg="near"), weighed())
    assert not made.is_due(30.0)
    made.add(said(), weighed())
    assert (made.is_due(14.9), made.is_due(15.0)) == (False, True)
    assert made.question(14.9) is None
    for at_s in (15.0, 25.0):
        assert made.question(at_s) is not None
        made.add(said(), weighed())
    assert not made.is_due(1000.0)  # three times is enough


def test_memory_is_bounded() -> None:
    made = Inquiry(config(max_utterances=3), CALIBRATION)
    for _ in range(500):
        made.add(said(), weighed(threat=0.5))
    assert len(made._recent) == 3 + SPARE_UTTERANCES
