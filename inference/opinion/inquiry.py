"""ONE call, as far as an opinion of it is concerned: what may be asked and when, and what an answer weighs.

An opinion is weighed with the very weights that the classifier's acts are weighed with: the utterances that it is about
are weighed again, its acts in place of the network's, and what their sums differ by is what it adds to the evidence, or
takes from it. Everything else of an utterance (the words as a whole, its stages) stays the network's, and so does the
rule that without an act it adds ``bare_limit`` at most (what such utterances add at most together is not looked at
here). All opinions of a call together add and take no more than ``max_added_nats`` and ``max_taken_nats``, whatever the
words have made of the model that read them.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from inference.audio import Leg
from inference.intent.acts import FAR_ACTS, SUBSCRIBER_ACTS
from inference.intent.calibration import Calibration
from inference.intent.context import Spoken
from inference.intent.scores import STAGES, Weighed
from inference.opinion.answer import Shown
from inference.opinion.config import OpinionConfig
from inference.opinion.question import Line, Question

SPARE_UTTERANCES = 8
"""Said while a question was under way; without them its answer would find its oldest utterances gone."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What an opinion makes of the call.

    Attributes:
        llr: nats that it adds to the evidence.
        held: per stage and act, the most that the call has shown of it, as it is known now.
    """

    llr: float
    held: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Heard:
    line: Line
    language: str
    weighed: Weighed | None


class Inquiry:
    """What was said last in one call, bounded, and what has been asked about it.

    Args:
        config: how often, how much.
        calibration: weights of the model that judges the call.
    """

    def __init__(self, config: OpinionConfig, calibration: Calibration) -> None:
        self._config = config
        self._calibration = calibration
        self._recent: deque[_Heard] = deque()
        self._held_before: dict[str, float] = {}  # by what is no longer in recent
        self._num_heard = 0
        self._num_asked = 0
        self._asked_s = -math.inf
        self._is_news = False  # the far party has spoken since
        self._given_llr = 0.0  # by all opinions together

    def add(self, utterance: Spoken, weighed: Weighed | None) -> None:
        """Note the call's next utterance, and what it was weighed as; None: it is no evidence."""
        self._num_heard += 1
        line = Line(self._num_heard, utterance.leg, utterance.text)
        self._recent.append(_Heard(line, utterance.language, weighed))
        self._is_news |= utterance.leg == "far" and bool(utterance.text.strip())
        if len(self._recent) > self._config.max_utterances + SPARE_UTTERANCES:
            gone = self._recent.popleft()
            if gone.weighed is not None:
                gone.weighed.note(self._held_before)

    def is_due(self, now_s: float) -> bool:
        """Whether there is something new to ask about, and it may be asked again; ``now_s`` is call time."""
        may_ask = self._num_asked < self._config.max_per_call and now_s >= self._asked_s + self._config.min_gap_s
        return self._is_news and may_ask

    def question(self, now_s: float) -> Question | None:
        """What to ask now; None where it is not due. What is given out counts as asked, whatever comes of it."""
        if not self.is_due(now_s):
            return None
        self._num_asked += 1
        self._asked_s = now_s
        self._is_news = False
        lines = [heard.line for heard in self._recent if heard.line.text.strip()]
        return Question(tuple(lines[-self._config.max_utterances :]))

    def revise(self, question: Question, shown: Shown, repeat: float, *, may_take: bool) -> Revision | None:
        """Weigh the utterances of ``question`` again, and remember them so.

        Args:
            question: what was asked.
            shown: what was answered.
            repeat: share that an act counts for which the call has shown before.
            may_take: whether the evidence may fall; where it may not and would, the opinion is forgotten.
        """
        acts = {line.number: shown.get(place, frozenset()) for place, line in enumerate(question.lines, 1)}
        again = [self._again(heard, acts.get(heard.line.number)) for heard in self._recent]
        before, _ = self._sum(self._recent, repeat)
        after, held = self._sum(again, repeat)
        most, least = self._config.max_added_nats, -self._config.max_taken_nats
        given = min(most, max(least, self._given_llr + after - before))
        llr = given - self._given_llr
        if llr < 0 and not may_take:
            return None
        self._recent, self._given_llr = deque(again), given
        return Revision(llr, held)

    def _again(self, heard: _Heard, acts: Collection[str] | None) -> _Heard:
        if heard.weighed is None or acts is None:
            return heard
        return replace(
            heard, weighed=weigh_again(heard.weighed, heard.line.leg, acts, heard.language, self._calibration)
        )

    def _sum(self, heard: Iterable[_Heard], repeat: float) -> tuple[float, dict[str, float]]:
        """Evidence of these utterances in turn, and what the call has shown by then."""
        held, total = dict(self._held_before), 0.0
        for weighed in (one.weighed for one in heard if one.weighed is not None):
            total += weighed.total(held, repeat)
            weighed.note(held)
        return total, held


def weigh_again(weighed: Weighed, leg: Leg, acts: Collection[str], language: str, calibration: Calibration) -> Weighed:
    """``weighed`` with ``acts`` in place of those that the network saw, each as if it were certain.

    Args:
        weighed: of the network.
        leg: whose utterance it is; an act of the other leg is none.
        acts: what it shows.
        language: of the utterance.
        calibration: what an act of it is worth.
    """
    weights = calibration.of(language).act_weights
    of_leg = SUBSCRIBER_ACTS if leg == "near" else FAR_ACTS
    parts = {name: part for name, part in weighed.acts.items() if name in STAGES}
    parts |= {act: weights.get(act, 0.0) for act in of_leg if act in acts}
    return calibration.bounded(replace(weighed, acts=parts), leg)
