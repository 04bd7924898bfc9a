"""Recordings made by ``scamtap-train voice`` as a manifest."""

import json
import os
from pathlib import Path
from typing import Any

from inference.errors import ConfigError
from training.data.exchange import ids_of
from training.manifest import RecordedCall, Segment
from training.voice.line import leg_facts

CONSENT = "nobody was recorded: a synthetic voice reads a written script"
LEGAL_BASIS = "no personal data"
LICENCE = "Apache-2.0"


def voiced_calls(folder: Path, manifest: Path) -> list[RecordedCall]:
    """Every ``<name>.json`` with its ``<name>.wav`` under ``folder``, as calls of a manifest at ``manifest``.

    Raises:
        ConfigError: no recording there, or labels that the voicing command did not write; names the file.
    """
    found = [path for path in sorted(folder.rglob("*.json")) if path.with_suffix(".wav").is_file()]
    if not found:
        raise ConfigError(f"{folder}: no recordings there; make some with: scamtap-train voice --out {folder}")
    ids = ids_of([path.relative_to(folder).as_posix() for path in found])
    return [_call(call_id, path, manifest) for call_id, path in zip(ids, found, strict=True)]


def _call(call_id: str, labels: Path, manifest: Path) -> RecordedCall:
    try:
        said = json.loads(labels.read_text(encoding="utf-8"))
        audio = Path(os.path.relpath(labels.with_suffix(".wav").resolve(), manifest.parent.resolve()))
        return RecordedCall(
            id=call_id,
            audio_filepath=audio.as_posix(),
            duration=said["duration_s"],
            lang=said["lang"],
            channels={"far": 0, "near": 1},
            label=said["label"],
            family=said["family"],
            topic=said["topic"],
            script=said["id"],
            voices=tuple(sorted(said["voices"].values())),
            legs=said.get("legs") or leg_facts(said["voices"], said["recipe"]["channels"]),
            segments=tuple(_segment(turn) for turn in sorted(said["turns"], key=lambda t: t["start_s"])),
            ask_s=said["ask_s"],
            consent=CONSENT,
            legal_basis=LEGAL_BASIS,
            source=said["source"],
            licence=LICENCE,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{labels}: are not labels written by scamtap-train voice; take the file away") from error


def _segment(turn: dict[str, Any]) -> Segment:
    return Segment(
        start=turn["start_s"],
        duration=round(turn["end_s"] - turn["start_s"], 3),
        leg=turn["leg"],
        text=turn["text"],
        stages=tuple(turn["stages"]),
    )
