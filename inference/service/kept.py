"""Transcripts kept for labelling, where the operator's settings say so and nowhere else.

One JSON line per ended call, in a file a day, readable by its owner alone; files older than ``keep_days`` are deleted.
What is kept is what was said: personal data, so the default is to keep nothing. ``scamtap-train mine`` ranks it.
"""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, Field

from inference.alerts.feedback import Feedback
from inference.service.events import AlertEvent, Event, UtteranceEvent, VerdictEvent

log = structlog.get_logger(__name__)

MAX_CALLS = 10_000
MAX_UTTERANCES = 2000
"""Of one call: two hours of talk. What comes later is not kept."""

NAME_FORMAT = "%Y-%m-%d.jsonl"


class TranscriptsConfig(BaseModel):
    """Where transcripts are kept, and for how long.

    Attributes:
        folder: of the files; None keeps nothing.
        keep_days: after so many days a file is deleted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: Path | None = None
    keep_days: int = Field(default=30, ge=1, le=365)


class KeptTranscripts:
    """Collects what happens in calls and writes each down as it ends. Never raises, never waits for more than a disk.

    Args:
        config: where to.
        clock: seconds since the epoch.
    """

    def __init__(self, config: TranscriptsConfig, clock: Callable[[], float] = time.time) -> None:
        self._folder = config.folder
        self._keep_days = config.keep_days
        self._clock = clock
        self._calls: dict[str, dict[str, Any]] = {}
        self._swept_on = ""

    def take(self, event: Event) -> None:
        """Note an event; a verdict ends its call and is written."""
        if self._folder is None:
            return
        if isinstance(event, VerdictEvent):
            self._write(self._calls.pop(event.call, None), event)
            return
        if event.call not in self._calls and len(self._calls) >= MAX_CALLS:
            return
        call = self._calls.setdefault(event.call, {"peak_risk": 0.0, "utterances": [], "alerts": [], "feedback": []})
        if isinstance(event, UtteranceEvent):
            call["peak_risk"] = max(call["peak_risk"], event.risk)
            call["language"] = event.utterance.language
            if len(call["utterances"]) < MAX_UTTERANCES:
                said = event.to_json()
                call["utterances"].append({key: said[key] for key in ("leg", "start_s", "end_s", "text", "risk")})
        elif isinstance(event, AlertEvent):
            call["model"] = event.alert.model
            call["alerts"].append([event.alert.level, round(event.alert.at_s, 2), len(call["feedback"])])

    def said(self, feedback: Feedback) -> None:
        """The subscriber called a warning wrong."""
        if feedback.call in self._calls:
            self._calls[feedback.call]["feedback"].append(feedback.says)

    def _write(self, call: dict[str, Any] | None, verdict: VerdictEvent) -> None:
        if call is None or not call["utterances"] or self._folder is None:
            return
        now = datetime.fromtimestamp(self._clock(), UTC)
        line = {
            "id": verdict.call,
            "ended_at": now.isoformat(timespec="seconds"),
            "level": verdict.level,
            "family": verdict.family,
            **call,
        }
        path = self._folder / now.strftime(NAME_FORMAT)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sweep(now)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as error:
            log.error("transcript not kept", call=verdict.call, why=error.strerror)

    def _sweep(self, now: datetime) -> None:
        """Once a day: delete what is too old."""
        today = now.strftime(NAME_FORMAT)
        if self._folder is None or self._swept_on == today:
            return
        self._swept_on = today
        oldest = (now - timedelta(days=self._keep_days)).strftime(NAME_FORMAT)
        for path in self._folder.glob("????-??-??.jsonl"):
            if path.name < oldest:
                path.unlink(missing_ok=True)
