"""What the cascade saves and what it costs: recordings through the very stages live calls go through, with and without.

Every recording is followed twice: once with everything decoded, once with the gate deciding. Both times the same
segments, models, verdict and thresholds; a segment's words do not depend on the gate, so they are decoded once.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from inference.audio.segment import SpeechSegment
from inference.gateway.recording import open_recording
from inference.intent.context import ContextWindow
from inference.intent.scorer import IntentScorer
from inference.intent.scores import IntentScores
from inference.service.call import Call, CallParts
from inference.service.events import AlertEvent
from inference.service.stages import DueSegment, Stages
from inference.speech.gate import Weigh
from inference.speech.recogniser import Recogniser
from inference.speech.utterance import Utterance
from training.gate.calibrate import exact_low
from training.metrics import auc
from training.recordings import labelled

ORDINARY_TOPICS = frozenset({"announcement", "everyday", "school", "clinic", "telecom", "work", "sales"})
"""What most calls are about; the other genuine calls were written to sound like scams."""

FUSIONS = (0.0, 0.25, 0.5, 1.0)
"""Factors on the gate's word that are looked at; none is chosen on test calls."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What became of a call.

    Attributes:
        is_read: whether any segment was decoded.
        is_read_at_ask: whether the far party's segment was in which it first asks; without an ask, its last.
        num_held, held_s: segments of both legs that were never decoded, and their seconds.
        alert_s: call time of the first alert; None without.
        scores: of each far segment with words, what they and the gate say, nats.
    """

    is_read: bool
    is_read_at_ask: bool
    num_held: int
    held_s: float
    alert_s: float | None
    scores: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Cascaded:
    """One recording behind the gate, and without it.

    Attributes:
        is_scam, topic, source, ask_s: from its labels.
        num_segments, speech_s: of both legs.
        gated, plain: what became of it.
    """

    is_scam: bool
    topic: str
    source: str
    ask_s: float | None
    num_segments: int
    speech_s: float
    gated: Followed
    plain: Followed

    @property
    def is_ordinary(self) -> bool:
        """A genuine call that was not written to sound like a scam."""
        return not self.is_scam and self.topic in ORDINARY_TOPICS


class _Remembering:
    """Recogniser and scorer that keep what they said: words do not depend on the gate, so they are decoded once."""

    def __init__(self, recogniser: Recogniser, scorer: IntentScorer) -> None:
        self._recogniser, self._scorer = recogniser, scorer
        self._heard: dict[tuple[str, float], tuple[Utterance, float]] = {}
        self.words_llr = 0.0  # of the last utterance that was scored

    def transcribe(
        self,
        segments: Sequence[SpeechSegment],
        languages: Sequence[str | None],
        weigh: Weigh,
        _needed: Sequence[float],
    ) -> list[Utterance]:
        """As of a recogniser."""
        out = []
        for index, (segment, language) in enumerate(zip(segments, languages, strict=True)):
            utterance, llr = self.heard(segment, language)
            out.append(utterance if weigh(index, llr) else replace(utterance, text="", is_held=True))
        return out

    def heard(self, segment: SpeechSegment, language: str | None) -> tuple[Utterance, float]:
        """A segment's words, and what the gate says of it."""
        key = segment.leg, segment.start_s
        if key not in self._heard:
            said: list[float] = []

            def weigh(_index: int, llr: float) -> bool:
                said.append(llr)
                return True

            (utterance,) = self._recogniser.transcribe([segment], [language], weigh)
            self._heard[key] = utterance, said[0]
        return self._heard[key]

    def score(self, items: Sequence[ContextWindow]) -> list[IntentScores]:
        """As of a scorer."""
        scores = self._scorer.score(items)
        self.words_llr = scores[-1].llr if scores else self.words_llr
        return scores


def cascade(path: Path, labels: Mapping[str, Any], parts: CallParts, stages: Stages) -> Cascaded:
    """One recording, with everything decoded and with the gate deciding.

    Args:
        path: of the recording.
        labels: of the same.
        parts: with a gate.
        stages: likewise.
    """
    (recorded,) = open_recording(path)
    hearing = Call(recorded.id, parts)
    heard = [s for b in recorded.blocks() for s in hearing.hear(b.leg, b.samples, b.start_sample, b.present)]
    segments = [*heard, *hearing.hang_up()]
    models = _Remembering(stages.recogniser, stages.scorer)
    both = Stages(
        cast(Recogniser, models), cast(IntentScorer, models), stages.engine, clock=stages.clock, gates="always"
    )

    def follow(*, is_gated: bool) -> Followed:
        call = Call(recorded.id, parts, language=labels["lang"])
        ask_s = math.inf if labels["ask_s"] is None else labels["ask_s"]
        alert_s = None
        is_read = is_read_at_ask = False
        num_held, held_s = 0, 0.0
        scores = []
        for segment in segments:
            # As the scheduler asks it: a call at suspect or above is decoded in any case.
            due = DueSegment(call, segment, both.clock(), is_gated=is_gated and call.level == "none")
            outcome = both.understand([due])[0]
            num_held += outcome.is_held
            held_s += (segment.end_s - segment.start_s) * outcome.is_held
            is_read = is_read or not outcome.is_held
            if segment.leg == "far" and segment.start_s <= ask_s:
                is_read_at_ask = not outcome.is_held
            if segment.leg == "far" and outcome.events:
                scores.append((models.words_llr, models.heard(segment, call.language)[1]))
            alerts = [event.alert.at_s for event in outcome.events if isinstance(event, AlertEvent)]
            alert_s = alerts[0] if alerts and alert_s is None else alert_s
        return Followed(is_read, is_read_at_ask, num_held, held_s, alert_s, tuple(scores))

    return Cascaded(
        is_scam=labels["label"] == "scam",
        topic=labels["topic"],
        source=labels["source"],
        ask_s=labels["ask_s"],
        num_segments=len(segments),
        speech_s=sum(segment.end_s - segment.start_s for segment in segments),
        gated=follow(is_gated=True),
        plain=follow(is_gated=False),
    )


def cascade_all(
    folders: Sequence[Path], parts: CallParts, stages: Stages, on_call: Callable[[int], None] = lambda _total: None
) -> list[Cascaded]:
    """:func:`cascade` for every recording of ``folders``; ``on_call`` is told the number of all after each."""
    recordings = list(labelled(folders))
    out = []
    for path, labels in recordings:
        out.append(cascade(path, labels, parts, stages))
        on_call(len(recordings))
    return out


def figures(calls: Sequence[Cascaded]) -> dict[str, Any]:
    """The numbers a reader wants."""
    scams = [call for call in calls if call.is_scam]
    genuine = [call for call in calls if not call.is_scam]
    passed = sum(call.gated.is_read_at_ask for call in scams)
    return {
        "source": sorted({call.source for call in calls}),
        "scam_calls": len(scams),
        "scam_passed": passed,
        "scam_passed_low95": round(exact_low(passed, len(scams)), 4),
        "warned": sum(call.gated.alert_s is not None for call in scams),
        "warned_with_everything_decoded": sum(call.plain.alert_s is not None for call in scams),
        "warned_before_ask": sum(_is_before(call.gated.alert_s, call.ask_s) for call in scams),
        "warned_before_ask_with_everything_decoded": sum(_is_before(c.plain.alert_s, c.ask_s) for c in scams),
        "false_alarms": sum(call.gated.alert_s is not None for call in genuine),
        "false_alarms_with_everything_decoded": sum(call.plain.alert_s is not None for call in genuine),
        "scam": _saved(scams),
        "genuine": _saved(genuine),
        "genuine_ordinary": _saved([call for call in genuine if call.is_ordinary]),
        "genuine_alike": _saved([call for call in genuine if not call.is_ordinary]),
        "fusion_auc": {str(factor): _fused_auc(scams, genuine, factor) for factor in FUSIONS},
    }


def _is_before(alert_s: float | None, ask_s: float | None) -> bool:
    return alert_s is not None and ask_s is not None and alert_s < ask_s


def _saved(calls: Sequence[Cascaded]) -> dict[str, Any]:
    return {
        "calls": len(calls),
        "never_decoded": sum(not call.gated.is_read for call in calls),
        "segments": sum(call.num_segments for call in calls),
        "segments_saved": sum(call.gated.num_held for call in calls),
        "speech_saved_share": round(sum(c.gated.held_s for c in calls) / max(1e-9, sum(c.speech_s for c in calls)), 4),
    }


def _fused_auc(scams: Sequence[Cascaded], genuine: Sequence[Cascaded], factor: float) -> float | None:
    """How well what all far words say, and ``factor`` times what the gate says of them, tells calls apart."""
    scam, other = (
        [sum(words + factor * gate for words, gate in call.plain.scores) for call in calls]
        for calls in (scams, genuine)
    )
    value = auc(scam, other)
    return None if value is None else round(value, 4)


def lines(values: Mapping[str, Any]) -> Iterator[str]:
    """:func:`figures` for people; the first line says what was listened to."""
    num_scams, num_genuine = values["scam_calls"], values["genuine"]["calls"]
    yield f"{num_scams + num_genuine} recordings; {'; '.join(values['source'])}"
    yield (
        f"scam calls that pass the gate, which is that they are read when the far party asks: {values['scam_passed']} "
        f"of {num_scams} (95 % sure: at least {values['scam_passed_low95']:.1%})"
    )
    for name, what in (
        ("genuine", "genuine calls"),
        ("genuine_ordinary", "of these, ordinary ones"),
        ("genuine_alike", "of these, written to sound like scams"),
        ("scam", "scam calls"),
    ):
        saved = values[name]
        yield (
            f"{what}: {saved['segments_saved']} of {saved['segments']} segments of {saved['calls']} calls not decoded, "
            f"{saved['speech_saved_share']:.1%} of the speech; {saved['never_decoded']} calls not at all"
        )
    yield (
        f"recall with the cascade: {values['warned']} of {num_scams} warned, {values['warned_before_ask']} before the "
        f"ask; everything decoded: {values['warned_with_everything_decoded']}, "
        f"{values['warned_before_ask_with_everything_decoded']} before the ask"
    )
    yield (
        f"false alarms with the cascade: {values['false_alarms']} of {num_genuine}; everything decoded: "
        f"{values['false_alarms_with_everything_decoded']}"
    )
    told = ", ".join(f"{value} with {factor} of it" for factor, value in values["fusion_auc"].items())
    yield f"AUC of calls by their far words and the gate's word added: {told}"
