"""The models, over the due segments of all calls at once: segment -> words -> scores -> judgement."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from inference.audio.segment import SpeechSegment
from inference.engine.base import Engine
from inference.intent.context import ContextWindow
from inference.intent.scorer import IntentScorer
from inference.intent.scores import IntentScores
from inference.service.call import Call
from inference.service.events import Event
from inference.speech.recogniser import Recogniser
from inference.speech.utterance import Utterance


@dataclass(frozen=True, slots=True)
class DueSegment:
    """A segment waiting for the models.

    Attributes:
        call: whose it is.
        segment: the speech.
        due_s: reading of the pipeline's clock when it became due; what passes since then is the pipeline's own
            delay and is added to the time at which the words are known.
        is_gated: whether it is decoded only if its call passes the gate of the cascade.
    """

    call: Call
    segment: SpeechSegment
    due_s: float
    is_gated: bool = False


Gates: TypeAlias = Literal["never", "overload", "always"]
"""When low-risk segments go through the recogniser's gate."""


def is_gated(gates: Gates, call: Call, *, is_overloaded: bool) -> bool:
    """Whether a segment of ``call`` that is sent to the models now is decoded only if the call passes the gate."""
    return call.level == "none" and (gates == "always" or (gates == "overload" and is_overloaded))


Shed: TypeAlias = Literal["late", "full"]
"""Why speech was given up: it waited too long, or there was no room."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a segment.

    Attributes:
        events: what happened; none where no words were found.
        is_held: the gate held it back.
        shed: it never came to the models, and why.
    """

    events: list[Event] = field(default_factory=list)
    is_held: bool = False
    shed: Shed | None = None


class Stages:
    """Runs the models. Thread-safe only in that one thread at a time understands segments of one call.

    Args:
        recogniser, scorer: the two models.
        engine: what they run on; closed with the stages.
        clock: monotonic seconds; a recording's replay and a live call both measure compute with it.
        gates: when low-risk segments go through the recogniser's gate: never (it has none), while a worker cannot keep
            up, or always.
        fusion: factor on the gate's word on a far segment where it is added to the score of its words.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        scorer: IntentScorer,
        engine: Engine,
        *,
        clock: Callable[[], float] = time.monotonic,
        gates: Gates = "never",
        fusion: float = 0.0,
    ) -> None:
        self.recogniser = recogniser
        self.scorer = scorer
        self.engine = engine
        self.clock = clock
        self.gates = gates
        self.fusion = fusion

    def understand(self, batch: Sequence[DueSegment]) -> list[Outcome]:
        """Recognise, score and judge ``batch``; a call's own segments must come in order of time.

        Returns:
            What came of each segment, in the order of ``batch``.

        Raises:
            EngineError: the models failed; the calls are as they were.
        """
        noted = {due.call: due.call.noted for due in batch}
        try:
            heard, said, scores = self._read(batch)
        except BaseException:
            for call, before in noted.items():
                call.take_back(before)
            raise
        known_s = self.clock()
        outcomes = [Outcome(is_held=utterance.is_held) for utterance in heard]
        for index, scored in scores.items():
            due = batch[index]
            delay_s = max(0.0, known_s - due.due_s)
            utterance = replace(heard[index], known_s=due.segment.known_s + delay_s)
            if self.fusion and index in said and utterance.leg == "far":
                scored = scored.plus(self.fusion * said[index])
            outcomes[index].events.extend(due.call.judge(utterance, scored))
        return outcomes

    def _read(self, batch: Sequence[DueSegment]) -> tuple[list[Utterance], dict[int, float], dict[int, IntentScores]]:
        """What was heard in ``batch``, what the gate says of it, and scores of what has words, by place in it."""
        segments, languages = [due.segment for due in batch], [due.call.language for due in batch]
        said: dict[int, float] = {}

        def weigh(index: int, llr: float) -> bool:
            due = batch[index]
            said[index] = llr
            return due.call.weigh(due.segment.leg, llr) or not due.is_gated

        if self.gates == "never":
            heard = self.recogniser.transcribe(segments, languages)
        else:
            # It costs next to nothing, so the gate hears all: it knows a call by the time it is asked about it.
            needed = [due.call.needed(due.segment.leg) if due.is_gated else -math.inf for due in batch]
            heard = self.recogniser.transcribe(segments, languages, weigh, needed)
        worded = [index for index, utterance in enumerate(heard) if utterance.text]
        windows = [batch[index].call.remember(heard[index]) for index in worded]
        scores = self._score([batch[index].call.scorer or self.scorer for index in worded], windows)
        return heard, said, dict(zip(worded, scores, strict=True))

    def window_samples(self, num_samples: int) -> int:
        """Samples that the models hear for a segment of ``num_samples``."""
        return self.recogniser.window_samples(num_samples)

    @property
    def is_mixing(self) -> bool:
        """Whether a batch may hold windows of any length."""
        return self.recogniser.is_mixing

    def _score(self, scorers: Sequence[IntentScorer], windows: Sequence[ContextWindow]) -> list[IntentScores]:
        """Each window by its call's own scorer: after a promotion two versions judge, for as long as old calls last."""
        scores: dict[int, IntentScores] = {}
        for scorer in {id(scorer): scorer for scorer in scorers}.values():
            its = [index for index, other in enumerate(scorers) if other is scorer]
            scores |= zip(its, scorer.score([windows[index] for index in its]), strict=True)
        return [scores[index] for index in range(len(windows))]

    def close(self) -> None:
        """Release the models."""
        self.engine.close()
