"""A whole call given as text, scored as it would have been heard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inference.audio import Leg
from inference.intent.context import ContextWindow, RollingContext
from inference.intent.scores import IntentScores
from inference.intent.text import atoms, split_utterances, weight
from inference.opinion.answer import Asks
from inference.opinion.inquiry import Inquiry
from inference.speech.utterance import Utterance
from inference.verdict.verdict import Assessment, Level, Verdict, VerdictConfig, highest

WORDS_PER_S = 2.5
"""Pace of telephone talk: gives utterances of a text their times, so that evidence can be put in order."""


class TurnText(Protocol):
    """One turn of a call text."""

    @property
    def leg(self) -> Leg: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102


class Scores(Protocol):
    """What scores windows; :class:`~inference.intent.scorer.IntentScorer` does."""

    def score(self, items: Sequence[ContextWindow]) -> list[IntentScores]:
        """Scores of the current utterance of every window."""
        ...


@dataclass(frozen=True, slots=True)
class CallScore:
    """How a call text was judged.

    Attributes:
        level: the highest level reached.
        risk: after each turn given, in order.
        levels: level after each turn.
        llr: evidence that each utterance added by itself, per turn.
        first_alert_turn: index of the first turn after which the level was not ``none``; None: never.
        first_danger_turn: likewise for ``danger``.
        family, stage: as named when the highest level was first reached; None where it is ``none``.
        evidence: the utterances named then.
        acts: nats per act that the whole call has shown, those that weigh most first: why it was judged so.
    """

    level: Level
    risk: tuple[float, ...]
    levels: tuple[Level, ...]
    llr: tuple[tuple[float, ...], ...]
    first_alert_turn: int | None
    first_danger_turn: int | None
    family: str | None
    stage: str | None
    evidence: tuple[Utterance, ...]
    acts: tuple[tuple[str, float], ...] = ()


def score_call(
    scorer: Scores,
    config: VerdictConfig,
    turns: Sequence[TurnText],
    language: str = "en",
    inquiry: Inquiry | None = None,
    opinions: Asks | None = None,
) -> CallScore:
    """Run ``turns`` through intent and verdict.

    Each turn is cut into the utterances in which it would be heard
    (:func:`inference.intent.text.split_utterances`). The alert turn is that of the utterance that raised it, even if
    the level fell again within the turn.

    Args:
        scorer: the intent model.
        config: settings, with its operating point.
        turns: what was said.
        language: ISO 639-1 code.
        inquiry: what may be asked about the call.
        opinions: who is asked while it is in doubt, and waited for; None: nobody.

    Raises:
        EngineError: the scorer's engine failed.
    """
    spoken: list[tuple[int, Utterance]] = []
    now_s = 0.0
    for number, turn in enumerate(turns):
        for text in split_utterances(turn.text):
            end_s = now_s + sum(weight(atom) for atom in atoms(text)) / WORDS_PER_S
            spoken.append((number, Utterance(turn.leg, now_s, end_s, end_s, text, language)))
            now_s = end_s
    context = RollingContext()
    scores = scorer.score([context.add(utterance) for _, utterance in spoken])
    verdict = Verdict(config, inquiry)
    risk = [verdict.assessment.risk] * len(turns)
    levels: list[Level] = ["none"] * len(turns)
    llr: list[list[float]] = [[] for _ in turns]
    reached: dict[Level, int] = {}
    named = verdict.assessment
    for (number, utterance), scored in zip(spoken, scores, strict=True):
        judged = [verdict.update(utterance, scored), *_reconsidered(verdict, opinions, utterance.known_s)]
        now = judged[-1]
        risk[number:] = [now.risk] * (len(turns) - number)
        levels[number:] = [now.level] * (len(turns) - number)
        llr[number].append(scored.llr)
        for then in judged:
            if then.level != "none" and then.level not in reached:
                if then.level == highest([*reached, then.level]):
                    named = then
                reached[then.level] = number
    return CallScore(
        level=highest(list(reached)),
        risk=tuple(risk),
        levels=tuple(levels),
        llr=tuple(tuple(values) for values in llr),
        first_alert_turn=min(reached.values(), default=None),
        first_danger_turn=reached.get("danger"),
        family=named.family,
        stage=named.stage,
        evidence=named.evidence,
        acts=verdict.assessment.acts,
    )


def _reconsidered(verdict: Verdict, opinions: Asks | None, now_s: float) -> list[Assessment]:
    """What is thought of the call after an opinion; nothing where none was asked for, or came."""
    if opinions is None or opinions.is_paused:
        return []
    question = verdict.question(now_s)
    shown = None if question is None else opinions.ask(question).shown
    return [] if question is None or shown is None else [verdict.reconsider(question, shown)]
