"""How the served intent model and verdict do on calls kept apart: recall, false alarms, earliness, by slice.

An alarm is any moment above a level over the whole call. Every slice says what its calls are (written by us, generated,
real words) so that no figure is read as more than it is.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.intent.scorer import IntentScorer
from inference.verdict.offline import CallScore, score_call
from inference.verdict.verdict import LEVELS, VerdictConfig
from training.intent.data import Call
from training.scripts import Turn

ERROR_PERCENT = (10, 25, 35)
"""Simulated recognition errors; real telephone recordings had 26 % with our recogniser."""

FALSE_ALARM_SHARE = 0.03
"""At which recall is also given, whatever the thresholds: ours against genuine calls written to sound alike."""

KIND = {
    "scripts": "calls written by us, as text",
    **{
        f"scripts{language}-damaged-{rate}": f"{name} written by us, as text, {rate} % of words wrong (simulated)"
        for language, name in (("", "calls"), ("-zh", "Mandarin calls"))
        for rate in ERROR_PERCENT
    },
    "scripts-recognised": "calls written by us, synthetic voice (espeak-ng), recognised by our speech model",
    "scripts-recognised-kokoro": "calls written by us, synthetic voice (Kokoro-82M), recognised by our speech model",
    "scripts-zh": "Mandarin calls written by us, as text",
    "chats": "genuine calls written or generated, four joined and made to hesitate as long small talk, as text",
    "demo": "the two demo calls, written by us, as text",
    "bothbosu": "generated dialogues (Llama-3-70B), as text",
    "youtube": "captions of real scam calls, mostly scambaiters, as text",
    "ftc": "transcripts of real robocalls, as text",
    "sgd": "written task dialogues, as text",
    "teleantifraud": "agent-generated Mandarin dialogues, as text",
    "switchboard": "transcripts of real chats, as text; evaluation only",
}
"""What the calls of a source are: printed beside every number."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A call and how it was judged."""

    call: Call
    score: CallScore


def judge(
    scorer: IntentScorer, config: VerdictConfig, calls: Sequence[Call], advance: Callable[[], None]
) -> list[Judged]:
    """Run calls through the same door as ``scamtap score``; ``advance`` is told after each."""
    thresholds = scorer.calibration.stage_thresholds
    out = []
    for call in calls:
        # Pieces are cut as they were or would be heard, so each is scored as a turn of its own; alerts are given the
        # turn of the script back.
        turns = [Turn(leg=piece.leg, text=piece.text) for piece in call.pieces]
        score = score_call(scorer, config, turns, call.language, stage_thresholds=thresholds)
        score = dataclasses.replace(
            score,
            first_alert_turn=_turn(call, score.first_alert_turn),
            first_danger_turn=_turn(call, score.first_danger_turn),
        )
        out.append(Judged(call, score))
        advance()
    return out


def _turn(call: Call, piece: int | None) -> int | None:
    return None if piece is None else call.pieces[piece].turn


def auc(positive: Sequence[float], negative: Sequence[float]) -> float | None:
    """Area under the ROC curve (Mann-Whitney U, ties half); None without both."""
    if not positive or not negative:
        return None
    low = np.sort(np.asarray(negative))
    left, right = np.searchsorted(low, positive, "left"), np.searchsorted(low, positive, "right")
    return float((left + right).mean() / 2 / len(low))


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    p = hits / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def share(hits: int, total: int) -> dict[str, Any]:
    """A share with its counts and interval; for no calls at all None."""
    low, high = wilson(hits, total)
    return {
        "share": round(hits / total, 4) if total else None,
        "n": total,
        "hits": hits,
        "ci95": [round(low, 4), round(high, 4)],
    }


def recall_at(positive: Sequence[float], negative: Sequence[float], false_alarms: float) -> float | None:
    """Share of ``positive`` above all but ``false_alarms`` of ``negative``; None without both."""
    if not positive or not negative:
        return None
    allowed = int(false_alarms * len(negative))
    threshold = sorted(negative, reverse=True)[allowed]
    return sum(value > threshold for value in positive) / len(positive)


def metrics(judged: Sequence[Judged]) -> dict[str, Any]:
    """All figures of one slice."""
    scam = [j for j in judged if j.call.is_scam]
    genuine = [j for j in judged if not j.call.is_scam]
    out: dict[str, Any] = {"num_scam": len(scam), "num_genuine": len(genuine)}
    for level in ("suspect", "danger"):
        at_least = LEVELS.index(level)

        def reached(calls: Sequence[Judged], at_least: int = at_least) -> int:
            return sum(LEVELS.index(j.score.level) >= at_least for j in calls)

        out[f"recall_{level}"] = share(reached(scam), len(scam)) if scam else None
        out[f"false_alarms_{level}"] = share(reached(genuine), len(genuine)) if genuine else None
    out["auc_call"] = auc([_peak(j) for j in scam], [_peak(j) for j in genuine])
    peaks = [_peak(j) for j in scam], [_peak(j) for j in genuine]
    out["recall_at_3_percent"] = recall_at(*peaks, FALSE_ALARM_SHARE)
    out["auc_utterance"] = auc([v for j in scam for v in _utterances(j)], [v for j in genuine for v in _utterances(j)])
    asked = [j for j in scam if j.call.ask_turn is not None]
    if asked:
        for name, turn in (("suspect", "first_alert_turn"), ("danger", "first_danger_turn")):
            first = [(getattr(j.score, turn), j.call.ask_turn) for j in asked]
            before = sum(alert is not None and ask is not None and alert < ask for alert, ask in first)
            by = sum(alert is not None and ask is not None and alert <= ask for alert, ask in first)
            out[f"{name}_before_ask"], out[f"{name}_by_ask"] = share(before, len(first)), share(by, len(first))
    named = [j for j in scam if j.score.family is not None]
    if named:
        out["family_right"] = share(sum(j.score.family == j.call.family for j in named), len(named))
    return out


def _peak(judged: Judged) -> float:
    return max(judged.score.risk, default=0.0)


def _utterances(judged: Judged) -> list[float]:
    return [value for turn in judged.score.llr for value in turn if value != 0.0]


def by_topic(judged: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """Figures per topic of our scripts."""
    topics: dict[str, list[Judged]] = defaultdict(list)
    for j in judged:
        topics[j.call.topic].append(j)
    return {topic: metrics(calls) for topic, calls in sorted(topics.items())}


def worst_calls(judged: Sequence[Judged], limit: int = 12) -> list[dict[str, Any]]:
    """Ids of what went wrong: genuine calls alarmed of, scam calls missed; worst first. No text."""
    alarmed = [j for j in judged if not j.call.is_scam and j.score.level != "none"]
    missed = [j for j in judged if j.call.is_scam and j.score.level == "none"]
    alarmed.sort(key=lambda j: -_peak(j))
    missed.sort(key=_peak)
    return [
        {
            "id": j.call.id,
            "label": "scam" if j.call.is_scam else "genuine",
            "level": j.score.level,
            "peak_risk": round(_peak(j), 3),
        }
        for j in [*alarmed[:limit], *missed[:limit]]
    ]


def line(name: str, kind: str, values: Mapping[str, Any]) -> str:
    """One printed line of a slice."""
    parts = [f"{name} ({kind}): {values['num_scam']} scam, {values['num_genuine']} genuine;"]
    for key, label in (
        ("recall_suspect", "recall suspect"),
        ("recall_danger", "danger"),
        ("suspect_before_ask", "suspect before ask"),
        ("danger_before_ask", "danger before ask"),
        ("false_alarms_suspect", "false alarms suspect"),
        ("false_alarms_danger", "danger"),
    ):
        if values.get(key):
            parts.append(f"{label} {values[key]['hits']}/{values[key]['n']}")
    aucs = [key for key in ("auc_call", "recall_at_3_percent", "auc_utterance") if values.get(key) is not None]
    parts += [f"{key} {values[key]:.3f}" for key in aucs]
    return " ".join(parts)
