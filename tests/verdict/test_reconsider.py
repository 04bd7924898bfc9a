"""An opinion moves a call within bounds, whatever it says: it proves no danger, and clears none."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.intent.acts import ACTS, FAR_ACTS
from inference.intent.calibration import REASSURING, Calibration, OperatingPoint
from inference.intent.scores import FAMILIES, STAGES, IntentScores, Weighed
from inference.opinion.config import OpinionConfig
from inference.opinion.inquiry import Inquiry
from inference.speech.utterance import Utterance
from inference.verdict.verdict import Verdict, VerdictConfig
from tests.thorough import cases

CONFIG = VerdictConfig(suspect_llr=2.0, danger_llr=4.0, act_repeat=0.3)
POINT = OperatingPoint(suspect_llr=2, danger_llr=4, suspect_false_alarms=0.05, danger_false_alarms=0.01, num_genuine=0)
WEIGHTS = {name: -1.0 if name in REASSURING else 1.0 for name in (*STAGES, *ACTS)}
CALIBRATION = Calibration(
    head_sha256="0" * 64,
    languages=("en",),
    far_scale=1,
    far_bias=0,
    act_weights=WEIGHTS,
    operating_point=POINT,
    stage_thresholds=dict.fromkeys(STAGES, 0.5),
)
MAX_NATS = 1.5


def begun(max_nats: float = MAX_NATS) -> Verdict:
    bounds = {"max_added_nats": max_nats, "max_taken_nats": max_nats}
    asks = OpinionConfig(url="http://127.0.0.1:1/v1", model="m", min_gap_s=0, max_per_call=100, **bounds)
    return Verdict(CONFIG, inquiry=Inquiry(asks, CALIBRATION))


def hear(verdict: Verdict, base: float, stages: tuple[str, ...] = (), leg: str = "far", **acts: float):
    made = Weighed(base, acts, 10.0, 10.0)
    families = dict.fromkeys(FAMILIES, 1 / len(FAMILIES))
    shown = {stage: 0.9 if stage in stages else 0.1 for stage in STAGES}
    scores = IntentScores(made.total({}, 1.0), families, shown, acts, made)
    return verdict.update(Utterance(leg, 0.0, 1.0, 1.0, "words", "en"), scores)


def opine(verdict: Verdict, **shown: list[str]):
    """``u1=[...]``: the acts of the question's first utterance."""
    question = verdict.question(0.0)
    assert question is not None
    return verdict.reconsider(question, {int(place[1:]): frozenset(acts) for place, acts in shown.items()})


def test_a_suspect_call_rises_to_danger_and_says_why() -> None:
    verdict = begun()
    hear(verdict, 0.5, ("contact",), threat=1.0)
    assert hear(verdict, 1.2, ("lure",)).level == "suspect"
    now = opine(verdict, u1=["threat"], u2=["secrecy", "credential"])
    assert (now.level, verdict.evidence_llr) == ("danger", pytest.approx(2.7 + MAX_NATS))
    assert dict(now.acts) == {"threat": 1.0, "secrecy": 1.0, "credential": 1.0}
    assert now.risk > 0.7


def test_a_suspect_call_is_cleared() -> None:
    verdict = begun()
    assert hear(verdict, 0.5, ("lure",), threat=1.0, secrecy=0.8).level == "suspect"
    now = opine(verdict, u1=["official_channel", "asks_nothing"])
    assert (now.level, verdict.evidence_llr) == ("none", pytest.approx(2.3 - MAX_NATS))
    assert dict(now.acts) == {"official_channel": -1.0, "asks_nothing": -1.0}
    assert verdict.question(1.0) is None


def test_an_opinion_alone_never_makes_danger() -> None:
    one_utterance, one_act = begun(6), begun(6)
    hear(one_utterance, 2.9, ("lure", "ask"))
    hear(one_act, 1.2, ("lure",))
    hear(one_act, 1.2, ("lure",))
    for verdict in (one_utterance, one_act):
        now = opine(verdict, u1=list(FAR_ACTS[:9]), u2=list(FAR_ACTS[:9]))
        assert verdict.evidence_llr > CONFIG.danger_llr
        assert now.level == "suspect"


def test_a_call_in_danger_is_neither_asked_about_nor_cleared() -> None:
    verdict = begun(6)
    hear(verdict, 1.2, ("contact",))
    hear(verdict, 1.2, ("lure",))
    question = verdict.question(0.0)
    assert hear(verdict, 2.0, ("ask",), credential=1.0).level == "danger"
    assert not verdict.is_in_doubt(100.0)
    before = verdict.assessment
    assert verdict.reconsider(question, {1: frozenset({"accepts_refusal"})}) == before
    assert verdict.reconsider(question, dict.fromkeys((1, 2), frozenset({"threat"}))).risk > before.risk


def test_below_suspect_nobody_is_asked() -> None:
    verdict = begun()
    assert hear(verdict, 1.9, threat=0.0).level == "none"
    assert verdict.question(0.0) is None


def test_without_an_inquiry_nobody_is_asked() -> None:
    verdict = Verdict(CONFIG)
    assert hear(verdict, 2.5).level == "suspect"
    assert (verdict.is_in_doubt(0.0), verdict.question(0.0)) == (False, None)


utterances = st.tuples(
    st.sampled_from(["far", "near"]),
    st.floats(-2, 2),
    st.dictionaries(st.sampled_from(["threat", "gain", "asks_nothing"]), st.floats(0, 1), max_size=3),
    st.sets(st.sampled_from(STAGES)),
    st.none() | st.dictionaries(st.integers(1, 12), st.frozensets(st.sampled_from(ACTS)), max_size=12),
)


def played(verdict: Verdict, call: list[tuple], check: Callable[[Verdict], None] = lambda _verdict: None) -> None:
    for leg, base, acts, stages, shown in call:
        signed = {act: part * WEIGHTS[act] for act, part in acts.items()}
        hear(verdict, base, tuple(stages), leg, **signed)
        question = verdict.question(0.0)
        if question is not None and shown is not None:
            level = verdict.assessment.level
            verdict.reconsider(question, shown)
            check(verdict)
            assert level != "danger" or verdict.assessment.level == "danger"


@given(st.lists(utterances, max_size=25))
@settings(deadline=None, max_examples=cases(60, 150))
def test_opinions_of_a_call_move_it_by_no_more_than_allowed(call: list[tuple]) -> None:
    def check(verdict: Verdict) -> None:
        assert verdict._inquiry is not None
        assert abs(verdict._inquiry._given_llr) <= MAX_NATS + 1e-9
        assert -CONFIG.floor_llr <= verdict.evidence_llr <= CONFIG.ceiling_llr
        if verdict.assessment.level == "danger":
            assert verdict._far_utterances >= CONFIG.min_far_utterances
            assert len(verdict._acts) >= CONFIG.min_acts

    played(begun(), call, check)


@given(st.lists(utterances, max_size=25))
@settings(deadline=None, max_examples=cases(50, 100))
def test_a_call_that_may_be_asked_about_and_is_not_is_judged_as_any(call: list[tuple]) -> None:
    unasked = [(*utterance[:4], None) for utterance in call]
    asked, plain = begun(), Verdict(CONFIG)
    played(asked, unasked)
    played(plain, unasked)
    assert asked.assessment == plain.assessment
