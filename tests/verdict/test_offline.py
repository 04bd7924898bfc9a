"""Call texts scored as they would be heard."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from inference.audio import Leg
from inference.intent.context import ContextWindow
from inference.intent.scores import FAMILIES, STAGES, IntentScores
from inference.verdict.offline import score_call
from inference.verdict.verdict import VerdictConfig

CONFIG = VerdictConfig(suspect_llr=1.5, danger_llr=3.0)


@dataclass(frozen=True)
class Turn:
    leg: Leg
    text: str


class WordScorer:
    """2 nats for 'code', -2 for 'never'; shows an ask and a lure with the first."""

    def __init__(self) -> None:
        self.windows: list[ContextWindow] = []

    def score(self, items: Sequence[ContextWindow]) -> list[IntentScores]:
        self.windows += items
        return [self._one(item) for item in items]

    def _one(self, item: ContextWindow) -> IntentScores:
        words = item.current.text.replace(".", "").split()
        llr = 2.0 * ("code" in words) - 2.0 * ("never" in words)
        shown = {"ask": 0.9, "lure": 0.8} if llr > 0 else {}
        stages = {stage: shown.get(stage, 0.0) for stage in STAGES}
        return IntentScores(llr, {name: float(name == "card_otp") for name in FAMILIES}, stages)


def test_risk_after_each_turn_and_first_alert() -> None:
    turns = [
        Turn("far", "hello"),
        Turn("near", "hi"),
        Turn("far", "the code"),
        Turn("near", "why"),
        Turn("far", "code"),
    ]
    result = score_call(WordScorer(), CONFIG, turns)
    assert len(result.risk) == len(result.levels) == len(result.llr) == 5
    assert result.risk[0] == result.risk[1] < result.risk[2] == result.risk[3] < result.risk[4]
    assert (result.first_alert_turn, result.first_danger_turn) == (2, 4)
    assert (result.level, result.family, result.stage) == ("danger", "card_otp", "ask")
    assert [u.text for u in result.evidence] == ["the code", "code"]


def test_a_turn_is_cut_into_utterances_and_an_alert_within_it_counts() -> None:
    scorer = WordScorer()
    filling = " ".join(["word"] * 19)
    turns = [Turn("far", f"{filling} code. {filling} code. {filling} never. {filling} never.")]
    result = score_call(scorer, CONFIG, turns)
    assert len(scorer.windows) == 4
    assert (result.level, result.first_danger_turn, result.levels) == ("danger", 0, ("none",))
    assert scorer.windows[3].before == tuple(w.current for w in scorer.windows[:3])


def test_nothing_said_is_the_prior() -> None:
    for turns in ([], [Turn("far", "  ")]):
        result = score_call(WordScorer(), CONFIG, turns)
        assert (result.level, result.first_alert_turn, result.family, result.stage) == ("none", None, None, None)
        assert result.risk == pytest.approx([CONFIG.prior] * len(turns))


def test_language_reaches_the_scorer() -> None:
    scorer = WordScorer()
    score_call(scorer, CONFIG, [Turn("far", "你好")], language="zh")
    assert scorer.windows[0].language == "zh"
