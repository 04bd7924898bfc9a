"""The models, over the due segments of all calls at once: segment -> words -> scores -> judgement."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from inference.audio.segment import SpeechSegment
from inference.engine.base import Engine
from inference.intent.context import ContextWindow
from inference.intent.scorer import IntentScorer
from inference.intent.scores import IntentScores
from inference.service.call import Call
from inference.service.events import Event
from inference.speech.recogniser import Recogniser


@dataclass(frozen=True, slots=True)
class DueSegment:
    """A segment waiting for the models.

    Attributes:
        call: whose it is.
        segment: the speech.
        due_s: reading of the pipeline's clock when it became due; what passes since then is the pipeline's own
            delay and is added to the time at which the words are known.
    """

    call: Call
    segment: SpeechSegment
    due_s: float


class Stages:
    """Runs the models. Thread-safe only in that one thread at a time calls :meth:`understand`.

    Args:
        recogniser, scorer: the two models.
        engine: what they run on; closed with the stages.
        clock: monotonic seconds; a recording's replay and a live call both measure compute with it.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        scorer: IntentScorer,
        engine: Engine,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.recogniser = recogniser
        self.scorer = scorer
        self.engine = engine
        self.clock = clock

    def understand(self, batch: Sequence[DueSegment]) -> list[list[Event]]:
        """Recognise, score and judge ``batch``; a call's own segments must come in order of time.

        Returns:
            The events of each segment, in the order of ``batch``; empty where no words were found.
        """
        heard = self.recogniser.transcribe([due.segment for due in batch], [due.call.language for due in batch])
        worded = [index for index, utterance in enumerate(heard) if utterance.text]
        windows = [batch[index].call.remember(heard[index]) for index in worded]
        scores = self._score([batch[index].call.scorer or self.scorer for index in worded], windows)
        known_s = self.clock()
        events: list[list[Event]] = [[] for _ in batch]
        for index, scored in zip(worded, scores, strict=True):
            due = batch[index]
            delay_s = max(0.0, known_s - due.due_s)
            utterance = replace(heard[index], known_s=due.segment.known_s + delay_s)
            events[index] = due.call.judge(utterance, scored)
        return events

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
