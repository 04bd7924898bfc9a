"""What a call told of itself, in a form that two runs of it can be held against each other."""

from typing import Any

from inference.intent.text import normalise

TIMED = ("at_s", "id", "call", "first_alert_s", "packets")
"""Depends on when the models were done."""


def told(events: list[dict[str, Any]]) -> list[Any]:
    """What was said and alerted: the words, without what depends on time.

    Marks between words are left out: on a CPU without VNNI two versions of ONNX Runtime round int8 otherwise, and
    Whisper sets a comma by the last bit.
    """
    return [_words({key: value for key, value in event.items() if key not in TIMED}) for event in events]


def _words(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: normalise(inner) if key == "text" else _words(inner) for key, inner in value.items()}
    return [_words(inner) for inner in value] if isinstance(value, list | tuple) else value
