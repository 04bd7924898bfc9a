"""What a machine can put right in a manifest: digests, lengths, order. Labels, roles and consent are never guessed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import soundfile

from inference.errors import ConfigError
from training.data.checks import sha256_of_file
from training.manifest import RecordedCall, Segment

MIN_SEGMENT_S = 0.02


def repair(path: Path, call: RecordedCall, changes: Counter[str]) -> RecordedCall:
    """The call with what can be measured measured anew.

    Args:
        path: of the manifest.
        call: one of its calls.
        changes: counts per kind of change; added to.

    Raises:
        ConfigError: its recording cannot be read.
    """
    audio = call.path(path)
    try:
        info = soundfile.info(str(audio))
        digest = sha256_of_file(audio)
    except (OSError, soundfile.LibsndfileError) as error:
        raise ConfigError(
            f"{path}: {call.id}: audio_filepath: is not there, or is no recording; take it out"
        ) from error
    duration = round(info.frames / info.samplerate, 3)
    segments = _in_order(call.segments, duration, changes)
    changes["sha256"] += digest != call.sha256
    changes["duration"] += call.duration is None or abs(call.duration - duration) > 0.001
    return call.model_copy(update={"sha256": digest, "duration": duration, "segments": segments})


def _in_order(segments: tuple[Segment, ...], duration: float, changes: Counter[str]) -> tuple[Segment, ...]:
    kept = []
    for segment in sorted(segments, key=lambda s: (s.start, s.leg)):
        text, end = " ".join(segment.text.split()), min(segment.end, duration)
        if end - segment.start < MIN_SEGMENT_S:
            changes["segments beyond the recording, dropped"] += 1
            continue
        changes["segments cut at the end of the recording"] += end < segment.end
        changes["white space in texts"] += text != segment.text
        kept.append(segment.model_copy(update={"text": text, "duration": round(end - segment.start, 3)}))
    changes["segments put in order"] += [s.start for s in segments] != sorted(s.start for s in segments)
    return tuple(kept)


def repair_all(
    path: Path, calls: list[RecordedCall], advance: Callable[[], None] = lambda: None
) -> tuple[list[RecordedCall], Counter[str]]:
    """Every call repaired, and what was changed how often; ``advance`` is told after each call.

    Raises:
        ConfigError: a recording cannot be read.
    """
    changes: Counter[str] = Counter()
    repaired = []
    for call in calls:
        repaired.append(repair(path, call, changes))
        advance()
    return repaired, +changes
