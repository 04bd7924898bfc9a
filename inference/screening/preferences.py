"""What a subscriber wants, and how much it was told today: fields of ``o:`` and ``s:``, and back."""

from collections.abc import Mapping

from inference.screening.backend import Add, Command, Drop, Fields, Put
from inference.screening.store import Preferences, Told
from inference.screening.windows import DAY_S

FOR_GOOD_S = 10 * 365 * DAY_S
SHOWN_S = 2 * DAY_S

_KINDS: Mapping[Told, str] = {"label": "", "reminder": "m", "shield": "h"}
_COUNTED = {"": "prompts_today", "m": "reminders_today", "h": "shields_today"}
"""Counted apart: whoever bombs a subscriber cannot use up the reminders of the scam call that follows."""


def preferences_of(fields: Mapping[str, str], told: Mapping[str, str], at_s: float) -> Preferences:
    """A subscriber's wishes out of the fields of ``o:``, and out of ``s:`` what it was told on the day of ``at_s``."""
    language, day = fields.get("language"), int(at_s // DAY_S)
    return Preferences(
        prompts=fields.get("prompts", "1") == "1",
        reminders=fields.get("reminders", "1") == "1",
        guardian=fields.get("guardian"),
        language=language if language in ("en", "zh") else None,  # type: ignore[arg-type]
        **{name: int(told.get(f"{kind}{day}", "0")) for kind, name in _COUNTED.items()},
    )


def preference_commands(subscriber: str, wants: Preferences) -> list[Command]:
    """Remember wishes; what is None is taken away."""
    values = {
        "prompts": str(int(wants.prompts)),
        "reminders": str(int(wants.reminders)),
        "guardian": wants.guardian,
        "language": wants.language,
    }
    return [Put(f"o:{subscriber}", name, value, FOR_GOOD_S) for name, value in values.items()]


def told_today_command(subscriber: str) -> Fields:
    """Asks what a subscriber was told of late."""
    return Fields(f"s:{subscriber}")


def told_commands(subscriber: str, told: Told, at_s: float) -> list[Command]:
    """One more of today; the days before go, and with them a key that is used every day stays small."""
    day, key, kind = int(at_s // DAY_S), f"s:{subscriber}", _KINDS[told]
    return [Add(key, f"{kind}{day}", 1, SHOWN_S), Drop(key, tuple(f"{kind}{day - n}" for n in range(1, 4)))]
