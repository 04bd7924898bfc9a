"""Manifests of other toolkits: NVIDIA NeMo (JSON Lines, a segment or a call a line) and Lhotse (supervisions).

Both hold less than ours does: what they lack (which channel is the far party, label, consent) has to be said once for
the whole file. What we hold beyond them goes out under ``custom`` (Lhotse) or as further keys (NeMo ignores them).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from inference.audio import LEGS, Leg
from training.manifest import ManifestError, RecordedCall, Segment, read_lines


def export_nemo(calls: Sequence[RecordedCall]) -> Iterator[dict[str, Any]]:
    """A row per segment: ``audio_filepath``, ``offset``, ``duration``, ``text``, ``lang``, and ours as further keys."""
    for call in calls:
        for segment in call.segments:
            yield {
                "audio_filepath": call.audio_filepath,
                "offset": segment.start,
                "duration": segment.duration,
                "text": segment.text,
                "lang": call.lang,
                "channel": call.channels.get(segment.leg),
                "call": call.id,
                "leg": segment.leg,
                "label": call.label,
                "family": call.family,
            }


def export_lhotse(calls: Sequence[RecordedCall]) -> Iterator[dict[str, Any]]:
    """One Lhotse ``SupervisionSegment`` per segment; recordings are referred to by the call's id."""
    for call in calls:
        for number, segment in enumerate(call.segments):
            yield {
                "id": f"{call.id}-{number}",
                "recording_id": call.id,
                "start": segment.start,
                "duration": segment.duration,
                "channel": call.channels.get(segment.leg, 0),
                "text": segment.text,
                "language": call.lang,
                "speaker": f"{call.id}-{segment.leg}",
                "custom": {"leg": segment.leg, "label": call.label, "family": call.family},
            }


def ids_of(paths: Sequence[str]) -> list[str]:
    """A name for each file: its stem, and where several have that one, as many folders before it as tell them apart."""
    parts = [(*PurePosixPath(path).parent.parts, PurePosixPath(path).stem) for path in paths]
    ends = Counter("/".join(its[-depth:]) for its in parts for depth in range(1, len(its) + 1))
    return [
        next(
            (name for depth in range(1, len(its) + 1) if ends[name := "/".join(its[-depth:])] == 1),
            "/".join(its),
        )
        for its in parts
    ]


def import_nemo(path: Path, common: Mapping[str, Any]) -> list[RecordedCall]:
    """Rows of a NeMo manifest, those of one ``audio_filepath`` as one call.

    Args:
        path: the manifest.
        common: fields of :class:`RecordedCall` that hold for all of it, e.g. label, channels, consent.

    Returns:
        calls with audio relative to ``path``, as there.

    Raises:
        ManifestError: a row is not what NeMo writes, or ``common`` lacks a field; names line and field.
    """
    rows = [(number, _row(line, f"{path}:{number}", "audio_filepath")) for number, line in read_lines(path)]
    grouped: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for number, row in rows:
        grouped[str(row["audio_filepath"])].append((number, row))
    _refuse_channels(common)
    calls = []
    for (audio, members), stem in zip(grouped.items(), ids_of(list(grouped)), strict=True):
        first = members[0][1]
        known = {key: first[key] for key in ("lang", "label", "family") if first.get(key) is not None}
        segments = [_segment(row, row.get("offset", 0.0), f"{path}:{number}", common) for number, row in members]
        call_id = str(first.get("call") or stem)
        calls.append(_call(call_id, audio, segments, {**common, **known}, f"{path}:{members[0][0]}"))
    return calls


def import_lhotse(path: Path, audio: Mapping[str, str], common: Mapping[str, Any]) -> list[RecordedCall]:
    """Supervisions of a Lhotse manifest (JSON Lines), those of one recording as one call.

    Args:
        path: the supervisions.
        audio: recording id -> audio file.
        common: as for :func:`import_nemo`.

    Raises:
        ManifestError: a row is not what Lhotse writes, a recording is unknown, or ``common`` lacks a field.
    """
    grouped: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for number, line in read_lines(path):
        row = _row(line, f"{path}:{number}", "recording_id")
        grouped[str(row["recording_id"])].append((number, row))
    _refuse_channels(common)
    calls = []
    for recording, members in grouped.items():
        number, first = members[0]
        if recording not in audio:
            raise ManifestError(f"{path}:{number}: recording_id: is not among the recordings given")
        custom = first.get("custom") or {}
        known = {key: custom[key] for key in ("label", "family") if custom.get(key) is not None}
        if first.get("language"):
            known["lang"] = first["language"]
        segments = [
            _segment({**row, **(row.get("custom") or {})}, row.get("start", 0.0), f"{path}:{at}", common)
            for at, row in members
        ]
        calls.append(_call(recording, audio[recording], segments, {**common, **known}, f"{path}:{number}"))
    return calls


def lhotse_audio(path: Path) -> dict[str, str]:
    """Recording id -> audio file, of a Lhotse recordings manifest (JSON Lines).

    Raises:
        ManifestError: a row is no recording with one file.
    """
    found = {}
    for number, line in read_lines(path):
        row = _row(line, f"{path}:{number}", "sources")
        sources = row["sources"]
        first = sources[0] if isinstance(sources, list) and sources else None
        if "id" not in row or not isinstance(first, dict) or "source" not in first:
            raise ManifestError(f"{path}:{number}: sources: want an id and one audio file")
        found[str(row["id"])] = str(first["source"])
    return found


def _row(line: bytes, where: str, wanted: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or wanted not in row or not isinstance(row.get("custom") or {}, dict):
        raise ManifestError(f"{where}: {wanted}: is missing; want one JSON object a line")
    return row


def _segment(row: Mapping[str, Any], start: float, where: str, common: Mapping[str, Any]) -> Segment:
    leg = row.get("leg") or _leg_of(row.get("channel"), common)
    try:
        return Segment(start=start, duration=row.get("duration"), leg=leg, text=row.get("text") or "")
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise ManifestError(f"{where}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


def _refuse_channels(common: Mapping[str, Any]) -> None:
    if not isinstance(common.get("channels", {}), dict):
        raise ManifestError("--set channels: say which channel is which party: --set channels='{far: 0, near: 1}'")


def _leg_of(channel: object, common: Mapping[str, Any]) -> Leg:
    channels = common.get("channels", {})
    return next((leg for leg in LEGS if channels.get(leg) == channel), LEGS[0])


def _call(call_id: str, audio: str, segments: Sequence[Segment], fields: Mapping[str, Any], where: str) -> RecordedCall:
    ordered = tuple(sorted(segments, key=lambda s: (s.start, s.leg)))
    try:
        return RecordedCall.model_validate({**fields, "id": call_id, "audio_filepath": audio, "segments": ordered})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, fault["loc"]))
        raise ManifestError(
            f"{where}: {field + ': ' if field else ''}{fault['msg']}; give it for all calls with --set FIELD=VALUE"
        ) from None
