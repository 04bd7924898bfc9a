"""What became of one call, whichever way it was judged: all that any figure is computed from. No words in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from inference.verdict.verdict import LEVELS, Level

What = Literal[
    "written text",
    "generated text",
    "real text",
    "written words, synthetic voice",
    "real words, synthetic voice",
    "real recording",
]
"""What was listened to or read; stands beside every number."""

AlarmLevel = Literal["suspect", "danger"]
ALARM_LEVELS: tuple[AlarmLevel, ...] = ("suspect", "danger")


@dataclass(frozen=True, slots=True)
class Alarm:
    """When a level was first reached.

    Attributes:
        at_s: call time, seconds; of a text, at the pace of speech.
        far_s: speech of the far leg heard by then, seconds.
    """

    at_s: float
    far_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One labelled call and how it was judged.

    Attributes:
        id: of the call.
        is_scam, family, topic, lang, source: labels.
        what: what was listened to.
        risk: the highest risk reached.
        alarms: level -> when it, or a higher one, was first reached; absent where never.
        far_s, talk_s: far-leg speech, and length of the call, seconds.
        ask_s: call time of the ask; None where nobody marked one.
        act_far_s: far-leg speech before the first turn that was marked as more than an opening; None: not marked.
        family_named: what the alert said it looks like.
        slices: further names it is counted under: codec, loss, SNR, gender of the voice, rewriting.
        num_errors, num_words: word errors of the recogniser and words said; 0 of 0 for a text.
    """

    id: str
    is_scam: bool
    family: str | None
    topic: str
    lang: str
    source: str
    what: What
    risk: float
    alarms: Mapping[AlarmLevel, Alarm]
    far_s: float
    talk_s: float
    ask_s: float | None = None
    act_far_s: float | None = None
    family_named: str | None = None
    slices: Mapping[str, str] = field(default_factory=dict)
    num_errors: int = 0
    num_words: int = 0

    def lead_s(self, level: AlarmLevel) -> float | None:
        """Seconds from the alarm to the ask, negative where it came after; None without either."""
        alarm = self.alarms.get(level)
        return None if alarm is None or self.ask_s is None else self.ask_s - alarm.at_s

    @property
    def level(self) -> Level:
        """The highest level reached."""
        return max(self.alarms, key=LEVELS.index, default="none")


def alarm_levels(level: Level) -> tuple[AlarmLevel, ...]:
    """The alarm levels that ``level`` reaches."""
    return ALARM_LEVELS[: LEVELS.index(level)]
