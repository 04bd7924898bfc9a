"""What a manifest holds, counted."""

from collections.abc import Callable, Iterable, Sequence

from training.data.splits import SPLITS
from training.manifest import RecordedCall

COLUMNS = ("calls", "scam", "genuine", "hours", "transcribed", "with ask", "voices", "campaigns")


def row(calls: Sequence[RecordedCall]) -> dict[str, float]:
    """Figures of some calls, by :data:`COLUMNS`; hours of recording, both legs at once."""
    return {
        "calls": len(calls),
        "scam": sum(call.label == "scam" for call in calls),
        "genuine": sum(call.label == "genuine" for call in calls),
        "hours": round(sum(call.duration or 0.0 for call in calls) / 3600, 2),
        "transcribed": sum(bool(call.segments) for call in calls),
        "with ask": sum(call.ask_s is not None for call in calls),
        "voices": len({voice for call in calls for voice in call.voices}),
        "campaigns": len({call.campaign for call in calls if call.campaign is not None}),
    }


def stats(calls: Sequence[RecordedCall]) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of all calls and by language, label and family, topic, split, source: ``{by: {value: figures}}``."""
    return {
        "all": {"all": row(calls)},
        "language": _by(calls, lambda call: call.lang),
        "family": _by((c for c in calls if c.family is not None), lambda call: str(call.family)),
        "genuine topic": _by((c for c in calls if c.family is None), lambda call: call.topic),
        "split": _by(calls, lambda call: call.split or "none", [*SPLITS, "none"]),
        "source": _by(calls, lambda call: call.source),
    }


def _by(
    calls: Iterable[RecordedCall], value: Callable[[RecordedCall], str], order: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    grouped: dict[str, list[RecordedCall]] = {}
    for call in calls:
        grouped.setdefault(value(call), []).append(call)
    names = sorted(grouped, key=lambda name: (order.index(name) if name in order else len(order), name))
    return {name: row(grouped[name]) for name in names}
