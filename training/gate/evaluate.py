"""What the cascade saves and what it costs: recordings through the very stages live calls go through, with and without.

Every recording is followed twice: once with everything decoded, once with the gate deciding. Both times the same
segments, models, verdict and thresholds; a segment's words do not depend on the gate, so they are decoded once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from inference.audio.segment import SpeechSegment
from inference.gateway.recording import open_recording
from inference.service.call import Call, CallParts
from inference.service.events import AlertEvent
from inference.service.stages import DueSegment, Stages
from inference.speech.gate import Weigh
from inference.speech.recogniser import Recogniser
from inference.speech.utterance import Utterance
from training.gate.calibrate import exact_low
from training.recordings import labelled

ORDINARY_TOPICS = frozenset({"announcement", "everyday", "school", "clinic", "telecom", "work", "sales"})
"""What most calls are about; the other genuine calls were written to sound like scams."""


@dataclass(frozen=True, slots=True)
class Cascaded:
    """What became of one recording behind the gate, and what would have without it.

    Attributes:
        is_scam, topic, source: from its labels.
        is_ordinary: a genuine call that was not written to sound like a scam.
        ask_s: when the far party first asks.
        read_s: call time at which the first segment that was decoded begins; None where none was.
        num_segments, num_held: segments of both legs, and those never decoded.
        speech_s, held_s: the same in seconds.
        alert_s: call time of the first alert; None without.
        plain_alert_s: likewise where everything is decoded.
    """

    is_scam: bool
    topic: str
    source: str
    is_ordinary: bool
    ask_s: float | None
    read_s: float | None
    num_segments: int
    num_held: int
    speech_s: float
    held_s: float
    alert_s: float | None
    plain_alert_s: float | None


@dataclass(frozen=True, slots=True)
class _Followed:
    read_s: float | None
    num_held: int
    held_s: float
    alert_s: float | None


class _Once:
    """A recogniser that remembers: what it made of a segment is the same behind a gate, so it is decoded once.

    Args:
        recogniser: with a gate.
    """

    has_gate = is_gate_free = True

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._heard: dict[tuple[str, float], tuple[Utterance, float]] = {}

    def transcribe(
        self, segments: Sequence[SpeechSegment], languages: Sequence[str | None], weigh: Weigh
    ) -> list[Utterance]:
        """As of a recogniser."""
        out = []
        for index, (segment, language) in enumerate(zip(segments, languages, strict=True)):
            key = segment.leg, segment.start_s
            if key not in self._heard:
                said: list[float] = []
                (utterance,) = self._recogniser.transcribe(
                    [segment], [language], lambda _index, llr, said=said: said.append(llr) is None
                )
                self._heard[key] = utterance, said[0]
            utterance, llr = self._heard[key]
            out.append(utterance if weigh(index, llr) else replace(utterance, text="", is_held=True))
        return out


def follow(
    name: str, segments: Sequence[SpeechSegment], language: str, parts: CallParts, stages: Stages, *, is_gated: bool
) -> _Followed:
    """One call's segments through the models, in order."""
    call = Call(name, parts, language=language)
    read_s = alert_s = None
    num_held, held_s = 0, 0.0
    for segment in segments:
        # As the scheduler asks it: a call at suspect or above is decoded in any case.
        due = DueSegment(call, segment, stages.clock(), is_gated=is_gated and call.level == "none")
        outcome = stages.understand([due])[0]
        if outcome.is_held:
            num_held += 1
            held_s += segment.end_s - segment.start_s
        elif read_s is None:
            read_s = segment.start_s
        alerts = [event.alert.at_s for event in outcome.events if isinstance(event, AlertEvent)]
        alert_s = alerts[0] if alerts and alert_s is None else alert_s
    return _Followed(read_s, num_held, held_s, alert_s)


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
    once = cast(Recogniser, _Once(stages.recogniser))
    both = Stages(once, stages.scorer, stages.engine, clock=stages.clock, gates="always")
    plain = follow(recorded.id, segments, labels["lang"], parts, both, is_gated=False)
    gated = follow(recorded.id, segments, labels["lang"], parts, both, is_gated=True)
    is_scam = labels["label"] == "scam"
    return Cascaded(
        is_scam=is_scam,
        topic=labels["topic"],
        source=labels["source"],
        is_ordinary=not is_scam and labels["topic"] in ORDINARY_TOPICS,
        ask_s=labels["ask_s"],
        read_s=gated.read_s,
        num_segments=len(segments),
        num_held=gated.num_held,
        speech_s=sum(segment.end_s - segment.start_s for segment in segments),
        held_s=gated.held_s,
        alert_s=gated.alert_s,
        plain_alert_s=plain.alert_s,
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
    passed = sum(call.read_s is not None for call in scams)
    by_ask = sum(c.read_s is not None and (c.ask_s is None or c.read_s <= c.ask_s) for c in scams)
    return {
        "source": sorted({call.source for call in calls}),
        "scam_calls": len(scams),
        "scam_passed": passed,
        "scam_passed_low95": round(exact_low(passed, len(scams)), 4),
        "scam_passed_by_ask": by_ask,
        "warned_with_everything_decoded": sum(call.plain_alert_s is not None for call in scams),
        "warned": sum(call.alert_s is not None for call in scams),
        "warned_before_ask_with_everything_decoded": sum(_is_before_ask(c.plain_alert_s, c.ask_s) for c in scams),
        "warned_before_ask": sum(_is_before_ask(c.alert_s, c.ask_s) for c in scams),
        "scam_saved": _saved(scams),
        "genuine": _saved(genuine),
        "genuine_ordinary": _saved([call for call in genuine if call.is_ordinary]),
        "genuine_alike": _saved([call for call in genuine if not call.is_ordinary]),
        "false_alarms_with_everything_decoded": sum(call.plain_alert_s is not None for call in genuine),
        "false_alarms": sum(call.alert_s is not None for call in genuine),
    }


def _is_before_ask(alert_s: float | None, ask_s: float | None) -> bool:
    return alert_s is not None and ask_s is not None and alert_s < ask_s


def _saved(calls: Sequence[Cascaded]) -> dict[str, Any]:
    return {
        "calls": len(calls),
        "never_decoded": sum(call.read_s is None for call in calls),
        "segments": sum(call.num_segments for call in calls),
        "segments_saved": sum(call.num_held for call in calls),
        "speech_saved_share": round(sum(c.held_s for c in calls) / max(1e-9, sum(c.speech_s for c in calls)), 4),
    }


def lines(values: Mapping[str, Any]) -> Iterator[str]:
    """:func:`figures` for people; the first line says what was listened to."""
    num_scams, num_genuine = values["scam_calls"], values["genuine"]["calls"]
    yield f"{num_scams + num_genuine} recordings; {'; '.join(values['source'])}"
    yield (
        f"scam calls that pass the gate: {values['scam_passed']} of {num_scams} (95 % sure: at least "
        f"{values['scam_passed_low95']:.1%}), {values['scam_passed_by_ask']} with what is said at the ask"
    )
    for name, what in (
        ("genuine", "genuine calls"),
        ("genuine_ordinary", "of these, ordinary ones"),
        ("genuine_alike", "of these, written to sound like scams"),
    ):
        saved = values[name]
        yield (
            f"{what}: {saved['never_decoded']} of {saved['calls']} never decoded, {saved['segments_saved']} of "
            f"{saved['segments']} segments, {saved['speech_saved_share']:.1%} of the speech"
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
