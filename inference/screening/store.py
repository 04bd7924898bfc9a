"""What screening remembers between calls: sliding windows per caller and per callee, behind one small interface.

Two stores implement it, with the same arithmetic: in process (with SQLite under it, one node) and Redis or Valkey (many
workers, many hosts). One attempt is one round trip.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

BUCKET_S = 600
"""Windows slide in steps of this width."""

CALLER_WINDOW_S = 24 * 3600
CALLEE_BASELINE_S = 14 * 24 * 3600

BASELINE_FROM = 5
"""Attempts in a minute from which the callee's own habits are looked up."""

Mark = Literal["complaint", "not_a_scam", "heard_suspect", "heard_danger"]
"""What is said about a caller: by callees, and by listening."""

Told = Literal["label", "reminder", "shield"]
"""What subscribers are told, each so often a day."""


@dataclass(frozen=True, slots=True)
class CallerWindow:
    """What a number did in the last :data:`CALLER_WINDOW_S`, the attempt at hand included.

    Attributes:
        attempts, attempts_1h: calls tried, over the window and over its last hour.
        distinct_callees: how many numbers were called, in blocks of six hours and so up to 30 hours back; beyond a few
            dozen an estimate on Redis (HyperLogLog, Flajolet et al. 2007).
        answered: attempts that were answered, of ``ended``.
        ended: attempts whose outcome is known.
        short: answered and over within 10 s.
        sequential: attempts whose callee follows the previous callee by 1 to 3.
        night: attempts between 22:00 and 07:00 of the operator's time zone.
        complaints, not_a_scam: by distinct callees, decayed.
        heard_suspect, heard_danger: verdicts of listening, by distinct callees, decayed.
        heard_attested: of those, how many came with full attestation: a spoofed number has none.
        first_seen_s: when the number was first seen, seconds since the epoch; None for now.
    """

    attempts: int = 0
    attempts_1h: int = 0
    distinct_callees: int = 0
    answered: int = 0
    ended: int = 0
    short: int = 0
    sequential: int = 0
    night: int = 0
    complaints: float = 0.0
    not_a_scam: float = 0.0
    heard_suspect: float = 0.0
    heard_danger: float = 0.0
    heard_attested: float = 0.0
    first_seen_s: float | None = None


@dataclass(frozen=True, slots=True)
class CalleeWindow:
    """How a subscriber is being called, for call-bombing protection.

    Attributes:
        attempts_10s, attempts_60s, attempts_600s: attempts in the last so many seconds, the one at hand included.
        callers_60s: distinct callers among those of the last minute.
        odd_callers_60s: attempts of the last minute whose caller was withheld, not of the numbering plan, or the next
            number up from the caller before.
        short_rings_60s, short_rings_600s: attempts of that time given up by their caller within 5 s of ringing; a busy
            line rings nobody and does not count.
        served_60s, served_600s: attempts of that time that were answered, or rang for longer, and are over.
        busy_60s, busy_600s: attempts of that time that did not ring.
        baseline_per_hour: attempts an hour over :data:`CALLEE_BASELINE_S`, the last hour left out.
        baseline_peak_10min: the most in ten minutes over the same time. Both are looked up only where a burst is
            possible at all (:data:`BASELINE_FROM` attempts in a minute), and 0 otherwise.
        shielded_until_s: emergency mode lasts until then, seconds since the epoch; None when off.
    """

    attempts_10s: int = 0
    attempts_60s: int = 0
    attempts_600s: int = 0
    callers_60s: int = 0
    odd_callers_60s: int = 0
    short_rings_60s: int = 0
    short_rings_600s: int = 0
    served_60s: int = 0
    served_600s: int = 0
    busy_60s: int = 0
    busy_600s: int = 0
    baseline_per_hour: float = 0.0
    baseline_peak_10min: int = 0
    shielded_until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a subscriber wants.

    Attributes:
        prompts: to be shown labels before answering.
        reminders: to get a message after a call that was heard to be a scam.
        guardian: number of somebody who is told too; only ever set by the subscriber. Personal data.
        language: of labels and messages; None for the operator's.
        prompts_today, reminders_today, shields_today: how many labels were shown, and messages sent after calls and
            of shields, today (UTC).
    """

    prompts: bool = True
    reminders: bool = True
    guardian: str | None = None
    language: Literal["en", "zh"] | None = None
    prompts_today: int = 0
    reminders_today: int = 0
    shields_today: int = 0


DEFAULT_PREFERENCES = Preferences()


@dataclass(frozen=True, slots=True)
class Screened:
    """What is remembered of a decision, for when its call is answered and heard.

    Attributes:
        is_attested: the caller's number was vouched for in full.
        label: text that the callee was shown just before; None for none.
        language: of it.
    """

    is_attested: bool = False
    label: str | None = None
    language: Literal["en", "zh"] = "en"


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of both parties of one attempt.

    Attributes:
        caller, callee: their windows.
        is_contact: the callee has the caller among its contacts, or called it within the last two weeks.
        wants: the callee's preferences.
        is_called_back: the callee called an emergency service a short while ago: it may be calling back.
    """

    caller: CallerWindow
    callee: CalleeWindow
    is_contact: bool = False
    wants: Preferences = DEFAULT_PREFERENCES
    is_called_back: bool = False


class ScreeningStore(Protocol):
    """Remembers. Numbers are E.164 without ``+``, or a placeholder for withheld ones; keys expire by themselves.

    Every method raises StoreError when the store is away: the caller of it decides openly, and counts.

    Attributes:
        waits: whether an answer may be long in coming, and so must be waited for with a deadline.
    """

    waits: bool

    async def attempt(
        self,
        caller: str | None,
        callee: str,
        at_s: float,
        *,
        is_night: bool,
        is_odd: bool = False,
        is_outgoing: bool = False,
        is_emergency: bool = False,
        is_attested: bool = False,
    ) -> Seen:
        """Count an attempt and return both windows, in one round trip.

        An outgoing one is a subscriber's own: the called number may call back, and so may whoever helps after an
        emergency call. Whether the caller was vouched for in full is kept until the call was heard.
        """
        ...

    async def outcome(
        self, caller: str | None, callee: str, at_s: float, *, answered: bool, rang_s: float, talked_s: float
    ) -> None:
        """Count what became of an attempt."""
        ...

    async def mark(self, caller: str, callee: str, mark: Mark, at_s: float, *, is_attested: bool = False) -> None:
        """Note what is said about a caller; the same callee counts once per kind."""
        ...

    async def shield(self, callee: str, until_s: float | None) -> None:
        """Switch emergency mode of a callee on until then, or off."""
        ...

    async def add_contact(self, callee: str, caller: str, until_s: float | None = None, *, now_s: float = 0.0) -> None:
        """Remember a contact (None: for good) or a call-back that is expected until then; CapacityError when full."""
        ...

    async def forget_contact(self, callee: str, caller: str) -> None:
        """Forget a contact."""
        ...

    async def shielded_until_s(self, callee: str) -> float | None:
        """Until when emergency mode was set, seconds since the epoch; None for off."""
        ...

    async def preferences(self, subscriber: str, at_s: float) -> Preferences:
        """What a subscriber wants, and how much it was told on that day."""
        ...

    async def prefer(self, subscriber: str, wants: Preferences) -> None:
        """Remember what a subscriber wants."""
        ...

    async def labelled(self, caller: str | None, callee: str, text: str, language: str, at_s: float) -> None:
        """Count a label that is shown, and keep it until the call is answered."""
        ...

    async def screened(self, caller: str, callee: str, at_s: float) -> Screened:
        """What was decided of late about a call between these two."""
        ...

    async def told(self, subscriber: str, what: Told, at_s: float) -> None:
        """Count a label that was shown, or a message that was sent."""
        ...

    async def aclose(self) -> None:
        """Release connections; nothing is lost."""
        ...
