"""What training fits to is what the service adds up, on made outputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.audio import Leg
from inference.intent.acts import ACTS
from inference.intent.calibration import REASSURING, Calibration, Counting, OperatingPoint
from inference.intent.scores import FAMILIES, STAGES, IntentScores
from inference.speech.utterance import Utterance
from inference.verdict.verdict import Verdict, VerdictConfig
from training.intent.data import Call, Piece
from training.intent.raw import RawCall, evidence
from training.intent.weighing import LLR_LIMIT, MARKS, accumulated

FAMILY = dict.fromkeys(FAMILIES, 1 / len(FAMILIES))


def raw(seed: int, num_utterances: int = 40) -> RawCall:
    """A long call of which a third of the utterances shows an act, and many sound like a scam."""
    rng = np.random.default_rng(seed)
    is_far = rng.random(num_utterances) < 0.7
    acts = rng.random((num_utterances, len(ACTS))) * (rng.random((num_utterances, len(ACTS))) < 0.05)
    stages = rng.random((num_utterances, len(STAGES))) * (rng.random((num_utterances, len(STAGES))) < 0.05)
    pieces = tuple(Piece("far" if far else "near", "words", turn, ()) for turn, far in enumerate(is_far))
    made = Call("id", "scripts", True, "tax", "tax", "id", "dev", pieces, None)
    llr = rng.normal(0.3, 1.2, num_utterances)
    return RawCall(made, llr, np.ones(num_utterances, bool), is_far, stages, acts)


def calibration(counting: Counting) -> Calibration:
    return Calibration(
        far_scale=1.1,
        far_bias=-0.05,
        act_weights={mark: -0.4 if mark in REASSURING else 0.6 for mark in MARKS},
        operating_point=OperatingPoint(
            suspect_llr=2, danger_llr=4, suspect_false_alarms=0.03, danger_false_alarms=0.01, num_genuine=1
        ),
        stage_thresholds=dict.fromkeys(STAGES, 0.5),
        head_sha256="0" * 64,
        languages=("en",),
        act_floor=counting.floor,
        act_repeat=counting.repeat,
        bare_limit=counting.bare_limit,
        bare_budget=counting.bare_budget,
    )


@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from([0.0, 0.5, 9.0]),
    st.sampled_from([None, 0.0, 0.7, 1.75]),
)
@settings(deadline=None, max_examples=60)
def test_training_and_service_add_up_alike(seed: int, repeat: float, bare_limit: float, budget: float | None) -> None:
    counting, one = Counting(0.3, repeat, bare_limit, budget), raw(seed)
    served = calibration(counting)
    config = VerdictConfig().calibrated(served)
    weights = (served.far_scale, served.far_bias, *served.act_weights.values())
    verdict, held = Verdict(config), []
    for index, piece in enumerate(one.call.pieces):
        leg: Leg = piece.leg
        marks = dict(zip(MARKS, [*one.stages[index].tolist(), *one.acts[index].tolist()], strict=True))
        made = served.weigh("en", leg, float(one.llr[index]), marks, LLR_LIMIT)
        stages = dict(zip(STAGES, one.stages[index].tolist(), strict=True))
        verdict.update(Utterance(leg, 0.0, 1.0, 1.0, "words", "en"), IntentScores(0.0, FAMILY, stages, {}, made))
        held.append(verdict.evidence_llr)
    assert accumulated(one, weights, served.counting(), config) == pytest.approx(np.array(held))


@pytest.mark.parametrize(("budget", "highest"), [(None, 12.0), (1.75, 1.75), (0.0, 0.0)])
def test_an_hour_of_small_talk_adds_up_to_the_budget_at_most(budget: float | None, highest: float) -> None:
    assert evidence([0.3] * 400, [True] * 400, budget, 3.0, 12.0).max() == pytest.approx(highest)


def test_what_was_done_is_added_to_small_talk_and_the_rest_is_not_lost() -> None:
    llr, bare = [1.0, 1.0, 2.0, 1.0, -1.0, 1.0], [True, True, False, True, True, True]
    assert evidence(llr, bare, 1.5, 3.0, 12.0).tolist() == [1.0, 1.5, 3.5, 3.5, 2.5, 2.5]


@given(st.lists(st.tuples(st.floats(-2, 2), st.booleans(), st.floats(0, 1)), min_size=1, max_size=30), st.floats(0, 2))
@settings(deadline=None, max_examples=200)
def test_to_speak_more_for_a_scam_or_to_show_an_act_never_lowers_the_evidence(
    said: list[tuple[float, bool, float]], budget: float
) -> None:
    less = evidence([llr for llr, _, _ in said], [bare for _, bare, _ in said], budget, 3.0, 12.0)
    louder = evidence([llr + more for llr, _, more in said], [bare for _, bare, _ in said], budget, 3.0, 12.0)
    doing = evidence([llr + more for llr, _, more in said], [False] * len(said), budget, 3.0, 12.0)
    assert (louder >= less - 1e-9).all()
    assert (doing >= louder - 1e-9).all()
