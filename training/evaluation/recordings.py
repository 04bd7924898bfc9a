"""Recordings of a manifest through ``inference.service.call``, packet of audio by packet of audio, as live calls go."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from inference.audio import LEGS, Leg
from inference.errors import MediaError
from inference.gateway.recording import open_recording
from inference.service.call import CallParts
from inference.service.events import AlertEvent, UtteranceEvent, VerdictEvent
from inference.service.replay import replay
from inference.service.stages import Stages
from training.data.splits import voice_side
from training.evaluation.outcome import Alarm, AlarmLevel, Outcome, What, alarm_levels
from training.evaluation.texts import OPENING, rewriting
from training.manifest import LegFacts, RecordedCall
from training.voice.voices import RESERVED
from training.wer import word_errors

_SEXES = {"f": "female", "m": "male"}


def judge_recording(manifest: Path, labels: RecordedCall, parts: CallParts, stages: Stages) -> Outcome:
    """Replay one call as fast as the machine goes, and hold what was said of it against its labels.

    Args:
        manifest: where ``labels`` stands; the audio is relative to it.
        labels: the call.
        parts: as a live call has them.
        stages: likewise. Compute counts in the times, as it does live.

    Raises:
        MediaError: the recording cannot be read.
    """
    (recorded,) = open_recording(labels.path(manifest), far_channel=labels.channels["far"])
    heard: dict[Leg, list[tuple[float, str]]] = {leg: [] for leg in LEGS}
    far_s = risk = 0.0
    alarms: dict[AlarmLevel, Alarm] = {}
    named: str | None = None
    for event in replay(recorded, parts, stages, language=labels.lang):
        match event:
            case UtteranceEvent(utterance=utterance):
                heard[utterance.leg].append((utterance.start_s, utterance.text))
                far_s += utterance.end_s - utterance.start_s if utterance.leg == "far" else 0.0
                risk = max(risk, event.risk)
            case AlertEvent(alert=alert):
                named = alert.family
                alarms |= {lv: Alarm(alert.at_s, far_s) for lv in alarm_levels(alert.level) if lv not in alarms}
            case VerdictEvent():
                far_s = event.speech_s.get("far", far_s)
    errors = [_errors(labels, leg, heard[leg]) for leg in LEGS if leg in labels.channels]
    return Outcome(
        id=labels.id,
        is_scam=labels.label == "scam",
        family=labels.family,
        topic=labels.topic,
        lang=labels.lang,
        source=labels.source,
        what=what_of(labels),
        risk=risk,
        alarms=alarms,
        far_s=far_s,
        talk_s=recorded.duration_s,
        ask_s=labels.ask_s,
        act_far_s=_act_far_s(labels),
        family_named=named,
        slices=rewriting(labels.script or labels.id) | voice_slices(labels) | line_slices(labels),
        num_errors=sum(wrong for wrong, _ in errors),
        num_words=sum(words for _, words in errors),
    )


def _errors(labels: RecordedCall, leg: Leg, heard: Sequence[tuple[float, str]]) -> tuple[int, int]:
    said = " ".join(segment.text for segment in labels.segments if segment.leg == leg)
    text = " ".join(text for _, text in sorted(heard))
    if labels.lang == "zh":  # characters are counted there
        said, text = " ".join(said), " ".join(text)
    return word_errors(said, text) if said.strip() else (0, 0)


def _act_far_s(labels: RecordedCall) -> float | None:
    far = [segment for segment in labels.segments if segment.leg == "far"]
    acts = [index for index, segment in enumerate(far) if set(segment.stages or ()) - OPENING]
    return sum(segment.duration for segment in far[: acts[0]]) if acts else None


def what_of(labels: RecordedCall) -> What:
    """What a recording is, by its labels: people, or voices that read what people said, or what was written."""
    if not labels.voices:
        return "real recording"
    return "real words, synthetic voice" if labels.script is None else "written words, synthetic voice"


def voice_slices(labels: RecordedCall) -> dict[str, str]:
    """Gender of the synthetic voices, and whether neither voices nor script were in training.

    A script is unseen where it is known to stand on the test side as text: who dealt the recordings says nothing of it.
    """
    if not labels.voices:
        return {}
    sexes = sorted({_sex(voice) for voice in labels.voices} - {""})
    is_new = all(voice_side(voice) in ("test", None) for voice in labels.voices)
    slices = {"voices": "+".join(sexes)} if sexes else {}
    slices["synthesiser"] = "espeak" if any("+" in voice for voice in labels.voices) else "kokoro"
    if any(voice in RESERVED for voice in labels.voices):
        slices["voice set"] = "reserved"
    if labels.split is not None:
        is_new = is_new and labels.split == labels.script_split == "test"
        slices["unseen"] = "voice and script" if is_new else "not both"
    return slices


def _sex(voice: str) -> str:
    if "+" in voice:  # espeak's variants say it only in f1, m1 and the like
        variant = voice.partition("+")[2].partition("@")[0]
        return _SEXES.get(variant[:1], "") if variant[1:].isdecimal() else ""
    return _SEXES.get(voice[1:2], "")


def line_slices(labels: RecordedCall) -> dict[str, str]:
    """The far party's line and, of people, voice, as far as the manifest knows them."""
    facts = labels.legs.get("far") or LegFacts()
    slices = {}
    if facts.codec is not None:
        slices["codec"] = facts.codec
    if (loss := facts.loss) is not None:
        slices["loss"] = "none" if loss == 0 else "to 2 %" if loss <= 0.02 else "to 5 %" if loss <= 0.05 else "over 5 %"
    if (snr_db := facts.snr_db) is not None:
        slices["SNR"] = "to 10 dB" if snr_db <= 10 else "to 20 dB" if snr_db <= 20 else "over 20 dB"
    if facts.concealed is not None and facts.loss:
        slices["lost packets"] = "concealed" if facts.concealed else "silence"
    if facts.gender is not None and not labels.voices:
        slices["far voice"] = facts.gender
    return slices


def judge_recordings(
    manifest: Path, calls: Sequence[RecordedCall], parts: CallParts, stages: Stages, advance: Callable[[], None]
) -> Iterator[Outcome]:
    """:func:`judge_recording` for many; ``advance`` is told after each.

    Raises:
        MediaError: one cannot be read; names the line's id.
    """
    for call in calls:
        try:
            yield judge_recording(manifest, call, parts, stages)
        except MediaError as error:
            raise MediaError(f"{manifest}: {call.id}: {error}") from error
        advance()
