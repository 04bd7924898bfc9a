"""How labelled recordings fare: the very calls a live worker would follow, replayed and held against their labels.

A recording is ``<name>.wav`` (stereo, far party left) beside ``<name>.json`` (:mod:`training.voice`): who said what
when, and ``ask_s``, the second at which the far party first asks for money, a code or secrecy.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.audio import LEGS
from inference.errors import MediaError
from inference.gateway.recording import open_recording
from inference.service.call import CallParts
from inference.service.events import AlertEvent, UtteranceEvent, VerdictEvent
from inference.service.replay import replay
from inference.service.stages import Stages
from training.wer import word_errors


@dataclass(frozen=True, slots=True)
class Fared:
    """What became of one recording.

    Attributes:
        name, label, family, source: from its labels; ``source`` says whether the voices are synthetic.
        ask_s: when the far party first asks; None in genuine calls.
        alerts: (level, call time in seconds) of each alert.
        risk: at the end.
        num_errors, num_words: word errors over both legs, and words in the labels.
        cpu_s, speech_s: process CPU time spent, and speech in the labels, seconds.
    """

    name: str
    label: str
    family: str | None
    source: str
    ask_s: float | None
    alerts: tuple[tuple[str, float], ...]
    risk: float
    num_errors: int
    num_words: int
    cpu_s: float
    speech_s: float

    @property
    def first_alert_s(self) -> float | None:
        """Call time of the first alert, seconds."""
        return self.alerts[0][1] if self.alerts else None

    @property
    def lead_s(self) -> float | None:
        """Seconds from the first alert to the ask; negative where it came too late, None without either."""
        if self.first_alert_s is None or self.ask_s is None:
            return None
        return self.ask_s - self.first_alert_s


def labelled(folders: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Recordings with their labels, in path order.

    Raises:
        MediaError: a folder without any, or labels that cannot be read.
    """
    for folder in folders:
        paths = [path for path in sorted(folder.glob("*.wav")) if path.with_suffix(".json").is_file()]
        if not paths:
            raise MediaError(f"{folder}: no <name>.wav with <name>.json; make some: scamtap-train voice --help")
        for path in paths:
            try:
                yield path, json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            except (OSError, json.JSONDecodeError) as error:
                raise MediaError(f"{path.with_suffix('.json')}: cannot be read: voice the call again") from error


def fare(path: Path, labels: dict[str, Any], parts: CallParts, stages: Stages) -> Fared:
    """Replay one recording as fast as the machine goes and compare it with its labels."""
    (recorded,) = open_recording(path)
    heard: dict[str, list[tuple[float, str]]] = {leg: [] for leg in LEGS}
    alerts: list[tuple[str, float]] = []
    risk = 0.0
    begun_s = time.process_time()
    for event in replay(recorded, parts, stages, language=labels.get("lang", "en")):
        match event:
            case UtteranceEvent(utterance=utterance):
                heard[utterance.leg].append((utterance.start_s, utterance.text))
            case AlertEvent(alert=alert):
                alerts.append((alert.level, alert.at_s))
            case VerdictEvent():
                risk = event.risk
    cpu_s = time.process_time() - begun_s
    num_errors = num_words = 0
    for leg in LEGS:
        said = " ".join(turn["text"] for turn in labels["turns"] if turn["leg"] == leg)
        errors, words = word_errors(said, " ".join(text for _, text in sorted(heard[leg])))
        num_errors, num_words = num_errors + errors, num_words + words
    speech_s = sum(turn["end_s"] - turn["start_s"] for turn in labels["turns"])
    return Fared(
        path.stem, labels["label"], labels.get("family"), labels.get("source", "unknown"), labels.get("ask_s"),
        tuple(alerts), risk, num_errors, num_words, cpu_s, speech_s,
    )  # fmt: skip


def fare_all(
    folders: Sequence[Path], parts: CallParts, stages: Stages, on_call: Callable[[Fared], None] = lambda _fared: None
) -> list[Fared]:
    """:func:`fare` for every recording of ``folders``."""
    fared = []
    for path, labels in labelled(folders):
        fared.append(fare(path, labels, parts, stages))
        on_call(fared[-1])
    return fared


def summary(fared: Sequence[Fared]) -> dict[str, Any]:
    """The numbers a reader wants, over all recordings."""
    scams = [call for call in fared if call.label == "scam"]
    genuine = [call for call in fared if call.label != "scam"]
    leads_s = sorted(call.lead_s for call in scams if call.lead_s is not None and call.lead_s > 0)
    return {
        "source": sorted({call.source for call in fared}),
        "scam_calls": len(scams),
        "warned": sum(bool(call.alerts) for call in scams),
        "warned_before_ask": len(leads_s),
        "danger_before_ask": sum(
            any(level == "danger" and call.ask_s is not None and at_s < call.ask_s for level, at_s in call.alerts)
            for call in scams
        ),
        "median_lead_s": round(leads_s[len(leads_s) // 2], 1) if leads_s else None,
        "genuine_calls": len(genuine),
        "false_suspect": sum(bool(call.alerts) for call in genuine),
        "false_danger": sum(any(level == "danger" for level, _ in call.alerts) for call in genuine),
        "word_error_rate": round(sum(c.num_errors for c in fared) / max(1, sum(c.num_words for c in fared)), 4),
        "speech_s": round(sum(call.speech_s for call in fared), 1),
        "cpu_s_per_speech_s": round(sum(c.cpu_s for c in fared) / max(1e-9, sum(c.speech_s for c in fared)), 4),
    }


def fared_line(call: Fared) -> str:
    """One recording in one line."""
    rate = call.num_errors / max(1, call.num_words)
    warned = ", ".join(f"{level} at {at_s:.1f} s" for level, at_s in call.alerts) or "no alert"
    ask = "" if call.ask_s is None else f", ask at {call.ask_s:.1f} s"
    return f"{call.name}: {call.label}, {warned}{ask}, risk {call.risk:.0%}, word error {rate:.3f}"


def summary_lines(figures: dict[str, Any]) -> Iterator[str]:
    """:func:`summary` for people; the first line says what was listened to."""
    yield f"{figures['scam_calls'] + figures['genuine_calls']} recordings; {'; '.join(figures['source'])}"
    lead = "" if figures["median_lead_s"] is None else f", median lead {figures['median_lead_s']} s"
    yield (
        f"scam calls: {figures['warned']} of {figures['scam_calls']} warned, "
        f"{figures['warned_before_ask']} before the ask{lead}; danger before the ask: {figures['danger_before_ask']}"
    )
    yield (
        f"genuine calls: {figures['false_suspect']} of {figures['genuine_calls']} raised suspect, "
        f"{figures['false_danger']} danger"
    )
    yield (
        f"word error rate {figures['word_error_rate']}, {figures['cpu_s_per_speech_s']} CPU-seconds per second of "
        f"speech ({figures['speech_s']:.0f} s of speech)"
    )
