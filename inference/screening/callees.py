"""What an attempt adds to its callee's windows, and what is read out of them: bursts, habit, shield, who may call."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inference.screening.backend import Add, Answer, Command, Distinct, Field, Fields, Include, Put
from inference.screening.preferences import preferences_of, told_today_command
from inference.screening.store import BUCKET_S, CALLEE_BASELINE_S, CalleeWindow, Preferences, Screened
from inference.screening.windows import DAY_S, HOUR_S, SHORT_RING_S, fields_of

FINE_S, COARSE_S = 2, 10
WEEK_S = 7 * DAY_S
MAX_CONTACTS = 4096
CALLBACK_S = 14 * DAY_S
SHIELD_S = 31 * DAY_S
"""Longer than a shield may be asked for."""

EMERGENCY_CALLBACK_S = 2 * HOUR_S
"""So long after a call for help whoever calls is let through: the centre, a hospital, a neighbour."""

SCREENED_S = 6 * HOUR_S
"""So long is kept that a caller was vouched for: until the call was heard to its end."""

LABEL_S = 180.0
"""A call that is answered later after its label was shown is another call."""

NUM_CALLED = 256
"""Places in the table of whom a subscriber called; one more call may push another out of its place."""

MAX_CALLEE_FIELDS = 400  # a minute in steps of 2 s and ten minutes of 5 counters in steps of 10 s are 335
ODD, SHORT, SERVED, BUSY = RING_KINDS = ("o", "r", "y", "z")


def called_commands(caller: str, callee: str, at_s: float, *, is_emergency: bool) -> list[Command]:
    """Notes whom a subscriber of ours calls: they may call back."""
    if is_emergency:
        return [Put(f"g:{caller}", "helped", f"{at_s + EMERGENCY_CALLBACK_S:.0f}", SHIELD_S)]
    return [Put(f"r:{caller}", _place(callee), f"{callee}:{at_s + CALLBACK_S:.0f}", CALLBACK_S)]


def _place(number: str) -> str:
    return str(zlib.crc32(number.encode()) % NUM_CALLED)


def callee_commands(
    caller: str | None, callee: str, at_s: float, *, is_odd: bool, is_attested: bool = False
) -> list[Command]:
    """What an attempt adds to its callee, and then asks; the first answer is the caller before this one."""
    fine, coarse, ten = int(at_s // FINE_S), int(at_s // COARSE_S), int(at_s // BUCKET_S)
    minute = tuple(f"w:{callee}:{b}" for b in range(coarse - 6, coarse + 1))
    return [
        Field(f"l:{callee}", "last"),
        Put(f"l:{callee}", "last", caller or "", 2 * BUCKET_S),
        *([odd_command(callee, at_s)] if is_odd else []),
        Add(f"v:{callee}", f"2:{fine}", 1, 2 * BUCKET_S),
        Add(f"v:{callee}", f"10:{coarse}", 1, 2 * BUCKET_S),
        Add(f"b:{callee}:{int(at_s // WEEK_S)}", f"{ten}", 1, CALLEE_BASELINE_S + WEEK_S),
        Include(minute[-1], caller or f"withheld {at_s:.3f}", 120),  # each withheld caller may be another one
        *_attested(caller, callee, at_s, is_attested=is_attested),
        Fields(f"v:{callee}"),
        Distinct(minute),
        Fields(f"g:{callee}"),
        Field(f"k:{callee}", caller or ""),
        Field(f"r:{callee}", _place(caller or "")),
        Fields(f"o:{callee}"),
        told_today_command(callee),
    ]


def _attested(caller: str | None, callee: str, at_s: float, *, is_attested: bool) -> list[Command]:
    """Notes that a caller was vouched for, or that this time it was not: a spoofer may follow its owner."""
    if caller is None:
        return []
    value = f"{at_s:.0f}|{caller}" if is_attested else None
    return [Put(f"p:{callee}", _place(caller), value, SCREENED_S)]


def label_command(caller: str, callee: str, text: str, language: str, at_s: float) -> Command:
    """Notes a label that is shown."""
    return Put(f"p:{callee}", f"l{_place(caller)}", f"{at_s:.0f}|{caller}|{language}|{text}", SCREENED_S)


def screened_commands(caller: str, callee: str) -> list[Command]:
    """Asks what was noted of a call."""
    return [Field(f"p:{callee}", _place(caller)), Field(f"p:{callee}", f"l{_place(caller)}")]


def screened_of(answers: Sequence[Answer], caller: str, at_s: float) -> Screened:
    """Out of the answers to :func:`screened_commands`: what is of that caller, and not too old."""
    vouched, labelled = (str(answer or "").split("|", 3) for answer in answers)
    is_attested = len(vouched) == 2 and vouched[1] == caller and 0 <= at_s - float(vouched[0]) <= SCREENED_S
    if len(labelled) < 4 or labelled[1] != caller or not -1 <= at_s - float(labelled[0]) <= LABEL_S:
        return Screened(is_attested)
    return Screened(is_attested, labelled[3], "zh" if labelled[2] == "zh" else "en")


NUM_CALLEE_ANSWERS = 7


def baseline_commands(callee: str, at_s: float) -> list[Command]:
    """Asks for a callee's habit: the weeks that the baseline lies in."""
    week = int(at_s // WEEK_S)
    return [Fields(f"b:{callee}:{w}") for w in range(week - CALLEE_BASELINE_S // WEEK_S, week + 1)]


@dataclass(frozen=True, slots=True)
class CalleeSeen:
    """What is remembered of a callee.

    Attributes:
        window: of its calls.
        is_contact: the caller is a contact, or was called by it.
        is_called_back: it called an emergency service a short while ago.
        wants: its wishes.
    """

    window: CalleeWindow
    is_contact: bool
    is_called_back: bool
    wants: Preferences


def callee_window(answers: Sequence[Answer], caller: str | None, at_s: float) -> CalleeSeen:
    """Out of the last :data:`NUM_CALLEE_ANSWERS` answers to :func:`callee_commands`."""
    counted, distinct, own, contact, called, wants, told = answers[-NUM_CALLEE_ANSWERS:]
    fine, coarse = int(at_s // FINE_S), int(at_s // COARSE_S)
    sums = dict.fromkeys(("10s", "60s", "600s", *RING_KINDS, *(f"{kind} 600s" for kind in RING_KINDS)), 0)
    for field, value in fields_of(counted).items():
        kind, _, bucket = field.partition(":")
        age = (fine if kind == "2" else coarse) - int(bucket)
        if age < 0:
            continue
        if kind == "2":
            sums["10s"] += int(value) * (age < 10 // FINE_S)
            sums["60s"] += int(value) * (age < 60 // FINE_S)
        elif kind == "10":
            sums["600s"] += int(value) * (age < 600 // COARSE_S)
        elif kind in RING_KINDS:
            sums[kind] += int(value) * (age <= 60 // COARSE_S)
            sums[f"{kind} 600s"] += int(value) * (age < 600 // COARSE_S)
    until_s = _time(fields_of(own).get("until"))
    number, _, expected_s = called.partition(":") if isinstance(called, str) else ("", "", "")
    is_expected = number == caller and _time(expected_s) > at_s
    window = CalleeWindow(
        attempts_10s=sums["10s"],
        attempts_60s=sums["60s"],
        attempts_600s=sums["600s"],
        callers_60s=distinct if isinstance(distinct, int) else 0,
        odd_callers_60s=sums[ODD],
        short_rings_60s=sums[SHORT],
        short_rings_600s=sums[f"{SHORT} 600s"],
        served_60s=sums[SERVED],
        served_600s=sums[f"{SERVED} 600s"],
        busy_60s=sums[BUSY],
        busy_600s=sums[f"{BUSY} 600s"],
        shielded_until_s=until_s if at_s < until_s <= at_s + SHIELD_S else None,  # beyond: a clock went back
    )
    return CalleeSeen(
        window,
        is_expected or (isinstance(contact, str) and float(contact) > at_s),
        at_s < _time(fields_of(own).get("helped")) <= at_s + EMERGENCY_CALLBACK_S,
        preferences_of(fields_of(wants), fields_of(told), at_s),
    )


def with_habit(window: CalleeWindow, weeks: Sequence[Answer], at_s: float) -> CalleeWindow:
    """The window with its habit, out of the answers to :func:`baseline_commands`."""
    merged = {ten: count for week in weeks for ten, count in fields_of(week).items()}
    per_hour, peak = _baseline(merged, at_s)
    return replace(window, baseline_per_hour=per_hour, baseline_peak_10min=peak)


def _time(text: str | None) -> float:
    return float(text) if text else 0.0


def stale_callee_fields(answers: Sequence[Answer], at_s: float) -> tuple[str, ...]:
    """Counters of a callee (answers as above) that no window reads any more, once there are many."""
    fields = fields_of(answers[-NUM_CALLEE_ANSWERS])
    if len(fields) <= MAX_CALLEE_FIELDS:
        return ()
    oldest = {"2": int(at_s // FINE_S) - 60 // FINE_S, "10": int(at_s // COARSE_S) - 600 // COARSE_S}
    oldest |= dict.fromkeys(RING_KINDS, oldest["10"])
    return tuple(f for f in fields if int(f.partition(":")[2]) < oldest.get(f.partition(":")[0], 0))


def _baseline(fields: Mapping[str, str], at_s: float) -> tuple[float, int]:
    """Attempts an hour and the most in ten minutes, the last hour left out: an attack is no habit."""
    until, since = int((at_s - HOUR_S) // BUCKET_S), int((at_s - CALLEE_BASELINE_S) // BUCKET_S)
    held = {int(bucket): int(count) for bucket, count in fields.items() if since < int(bucket) <= until}
    if not held:
        return 0.0, 0
    hours = max(1.0, (until - min(held) + 1) * BUCKET_S / HOUR_S)
    return round(sum(held.values()) / hours, 4), max(held.values())


def callee_outcome_command(callee: str, at_s: float, *, answered: bool, rang_s: float) -> Command:
    """What the end of an attempt adds to its callee."""
    kind = SERVED if answered or rang_s > SHORT_RING_S else SHORT if rang_s > 0 else BUSY
    return _ring(callee, kind, at_s)


def odd_command(callee: str, at_s: float) -> Command:
    """Counts that a callee was called by the next number up."""
    return _ring(callee, ODD, at_s)


def _ring(callee: str, kind: str, at_s: float) -> Command:
    return Add(f"v:{callee}", f"{kind}:{int(at_s // COARSE_S)}", 1, 2 * BUCKET_S)
