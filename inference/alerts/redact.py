"""Events without what was said, for whoever is not to read it."""

from typing import Any


def redact(event: Any, include_text: bool) -> Any:
    """The event, a JSON value, without any ``text`` in it, unless ``include_text``."""
    if include_text:
        return event
    if isinstance(event, dict):
        return {key: redact(value, False) for key, value in event.items() if key != "text"}
    if isinstance(event, list | tuple):
        return [redact(value, False) for value in event]
    return event
