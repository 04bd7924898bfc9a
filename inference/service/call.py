"""ONE call, from its first packet to its last. The page to read first.

    audio ─► hear() ─► speech segments ─► (stages: words, scores) ─► judge() ─► utterances, alerts ─► close() ─► verdict

A call does no heavy work of its own: it cuts speech into segments, remembers what was said, and weighs the scores. The
models run between :meth:`Call.hear` and :meth:`Call.judge`, over the due segments of all calls at once
(:mod:`inference.service.stages`). It reads no clock: time is the call's own, so a recording replayed in a second and a
live call give the same events.

Of a call at ``suspect`` a language model may be asked for its opinion, where that is configured: :meth:`Call.question`,
:meth:`Call.reconsider`. Nothing above waits for it.
"""

import copy
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inference.alerts.alert import Alert
from inference.audio import LEGS, Leg
from inference.audio.segment import PCM, SpeechSegment
from inference.audio.segmenter import Presence, Segmenter
from inference.gate.evidence import GateEvidence
from inference.intent.context import ContextWindow, RollingContext
from inference.intent.scorer import IntentScorer
from inference.intent.scores import IntentScores
from inference.opinion.answer import Shown
from inference.opinion.question import Question
from inference.service.events import AlertEvent, Event, OpinionEvent, UtteranceEvent, VerdictEvent
from inference.speech.utterance import Utterance
from inference.verdict.verdict import LEVELS, Assessment, Level, Verdict


@dataclass(frozen=True, slots=True)
class CallParts:
    """How to make what every call needs; one set of factories serves all calls.

    Attributes:
        segmenter, verdict: of a leg, and of the call.
        model: names what judges.
        gate: what decides whether a call is read; None: every call is.
        scorer: what reads these calls; None: what the stages were made with. A call ends with what it began with.
    """

    segmenter: Callable[[Leg], Segmenter]
    verdict: Callable[[], Verdict]
    model: str = ""
    gate: Callable[[], GateEvidence] | None = None
    scorer: IntentScorer | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """What a call has noted of its speech before that is judged; see :meth:`Call.take_back`."""

    context: RollingContext
    gate: GateEvidence | None
    speech_s: dict[Leg, float]
    language: str | None


class Call:
    """State of one call.

    Args:
        call_id: the id under which signalling registered it.
        parts: factories for its segmenters and verdict.
        language: ISO 639-1 code, or None to detect it from the first segment in which words are found.
        begun_at_s: when it began, seconds since the epoch; None for a recording. Tells calls of one id apart.
    """

    def __init__(
        self, call_id: str, parts: CallParts, *, language: str | None = "en", begun_at_s: float | None = None
    ) -> None:
        self.id = call_id
        self.begun_at_s = begun_at_s
        self._model = parts.model
        self.scorer = parts.scorer
        self.language = language
        self._segmenters = {leg: parts.segmenter(leg) for leg in LEGS}
        self._context = RollingContext()
        self._verdict = parts.verdict()
        self._weighing = threading.Lock()  # scores come from the models' thread, an opinion from the loop's
        self.is_over = False
        self._gate = None if parts.gate is None else parts.gate()
        self._speech_s: dict[Leg, float] = dict.fromkeys(LEGS, 0.0)
        self._num_weighed = 0
        self._highest: Level = "none"
        self._first_alert_s: float | None = None

    @property
    def risk(self) -> float:
        """Calibrated probability that the call is a scam, so far."""
        return self._verdict.assessment.risk

    @property
    def level(self) -> Level:
        """The level now."""
        return self._verdict.assessment.level

    @property
    def suspect_in_llr(self) -> float:
        """Evidence that is missing to ``suspect``, nats; not above 0 where that is reached."""
        return self._verdict.thresholds[0] - self._verdict.evidence_llr

    def hear(self, leg: Leg, samples: PCM, start_sample: int, present: Presence | None = None) -> list[SpeechSegment]:
        """Take the next samples of one leg.

        Args:
            leg: whose they are.
            samples: int16 ``[num_samples]`` at 8 kHz.
            start_sample: number of the first on the call's time line, the same for both legs.
            present: bool ``[num_samples]``, False where the network lost the sample; None: all there.

        Returns:
            Speech that ended (or reached the length cap) with these samples, in order.
        """
        return self._segmenters[leg].push(samples, start_sample, present)

    def segmenter(self, leg: Leg) -> Segmenter:
        """What cuts this leg: to :meth:`hear` many legs of many calls at once."""
        return self._segmenters[leg]

    def hang_up(self) -> list[SpeechSegment]:
        """The audio is over: speech still open on either leg, in order of time."""
        return sorted((s for leg in LEGS for s in self._segmenters[leg].flush()), key=lambda s: s.end_s)

    def weigh(self, leg: Leg, llr: float) -> bool:
        """Add what the gate makes of the call's next segment, nats; returns whether the call is worth reading."""
        return self._gate is None or self._gate.weigh(leg, llr)

    def needed(self, leg: Leg) -> float:
        """Nats that the gate must say of the call's next segment for the call to be worth reading."""
        return -math.inf if self._gate is None else self._gate.needed(leg)

    def remember(self, utterance: Utterance) -> ContextWindow:
        """Add what was said to the transcript; returns the window in which it is to be scored."""
        self._speech_s[utterance.leg] += utterance.end_s - utterance.start_s
        if self.language is None and utterance.text:
            self.language = utterance.language
        return self._context.add(utterance)

    @property
    def noted(self) -> Noted:
        """What :meth:`weigh` and :meth:`remember` have noted so far."""
        return Noted(self._context.copy(), copy.copy(self._gate), dict(self._speech_s), self.language)

    def take_back(self, noted: Noted) -> None:
        """Forget what was noted since: the models failed, and the same speech may come again, or never."""
        self._context, self._gate = noted.context, noted.gate
        self._speech_s, self.language = noted.speech_s, noted.language

    def judge(self, utterance: Utterance, scores: IntentScores) -> list[Event]:
        """Weigh one scored utterance.

        Returns:
            The utterance with the risk after it, and an alert where it made the level rise.
        """
        with self._weighing:
            before = self._verdict.assessment.level
            now = self._verdict.update(utterance, scores)
            self._num_weighed += 1
            said = UtteranceEvent(self.id, utterance, now.risk, self._num_weighed)
            return [said, *self._risen(before, now, utterance.known_s)]

    def is_in_doubt(self, at_s: float) -> bool:
        """Whether an opinion of it is to be asked for; ``at_s`` is call time."""
        return not self.is_over and self._verdict.is_in_doubt(at_s)

    def question(self, at_s: float) -> Question | None:
        """What to ask about it at ``at_s``, call time; None where there is no doubt (any more)."""
        with self._weighing:
            return self._verdict.question(at_s)

    def reconsider(self, question: Question, shown: Shown, at_s: float) -> list[Event]:
        """Weigh an opinion that came at ``at_s``, call time.

        Args:
            question: what was asked.
            shown: the acts that were seen in it.
            at_s: call time.

        Returns:
            The opinion with the risk after it, and an alert where it made the level rise.
        """
        with self._weighing:
            before = self._verdict.assessment.level
            now = self._verdict.reconsider(question, shown)
            opinion = OpinionEvent(self.id, at_s, now.level, now.risk, now.acts, self._num_weighed)
            return [opinion, *self._risen(before, now, at_s)]

    def _risen(self, before: Level, now: Assessment, at_s: float) -> list[Event]:
        if not LEVELS.index(now.level) > max(LEVELS.index(before), LEVELS.index(self._highest)):
            return []
        self._highest = now.level
        self._first_alert_s = at_s if self._first_alert_s is None else self._first_alert_s
        looks_like = (now.risk, now.family, now.stage, now.evidence)
        return [AlertEvent(Alert(self.id, now.level, at_s, *looks_like, self.begun_at_s, self._model))]

    def close(self, packets: Mapping[str, Any] | None = None) -> VerdictEvent:
        """The last word on the call: the highest level it reached, the risk it ended with."""
        self.is_over = True
        return VerdictEvent(
            self.id,
            self._highest,
            self.risk,
            self._verdict.assessment.family if self._highest != "none" else None,
            self._first_alert_s,
            dict(self._speech_s),
            packets,
        )
