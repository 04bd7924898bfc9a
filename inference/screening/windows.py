"""Sliding windows over counters in buckets: what is written for an attempt, and what is read out of it.

Keys: ``c:<caller>`` counters per hour and attempts per ten minutes; ``d:<caller>:<block>`` the callees of six hours;
``f:<caller>`` first seen, last callee; ``m:<caller>`` what was said of it; ``l:<callee>`` its last caller;
``v:<callee>`` attempts per two and ten seconds; ``w:<callee>:<b>`` its callers; ``b:<callee>:<week>`` attempts per ten
minutes; ``k:<callee>`` contacts; ``r:<subscriber>`` whom it called; ``g:<callee>`` its shield, and until when an
emergency service may call back; ``o:<subscriber>`` preferences; ``s:<subscriber>`` labels shown a day.

Each key is bounded: counters older than any window are dropped once a key holds too many (a busy number's key never
expires), marks and contacts have a most, and calls made are kept in a table of fixed size.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inference.screening.backend import Add, Answer, Command, Distinct, Drop, Field, Fields, Include, Put
from inference.screening.store import (
    BUCKET_S,
    CALLEE_BASELINE_S,
    CALLER_WINDOW_S,
    CalleeWindow,
    CallerWindow,
    Mark,
    Preferences,
)

HOUR_S, DAY_S = 3600, 86_400
BLOCK_S = 6 * HOUR_S
FINE_S, COARSE_S = 2, 10
MARK_HALF_LIFE_S = 7 * 86_400
MARKS_S = 60 * 86_400
FIRST_SEEN_S = 30 * 86_400
MAX_MARKS = 512
MAX_CONTACTS = 4096
FOR_GOOD_S = 10 * 365 * 86_400
CALLBACK_S = 14 * 86_400
SHIELD_S = 31 * 86_400
"""Longer than a shield may be asked for."""

EMERGENCY_CALLBACK_S = 2 * HOUR_S
"""So long after a call for help whoever calls is let through: the centre, a hospital, a neighbour."""

NUM_CALLED = 256
"""Places in the table of whom a subscriber called; one more call may push another out of its place."""

MAX_CALLER_FIELDS = 200  # 26 hours of 6 counters and an hour of attempts are 163
MAX_CALLEE_FIELDS = 400  # a minute in steps of 2 s and ten minutes of 5 counters in steps of 10 s are 335
WEEK_S = 7 * DAY_S
SHOWN_S = 2 * DAY_S
SEQUENTIAL_STEP = 3
SHORT_TALK_S, SHORT_RING_S = 10.0, 5.0

COUNTERS = {"answered": "n", "ended": "e", "short": "s", "sequential": "q", "night": "t"}
ATTEMPTS, ATTEMPTS_10MIN = "a", "x"
ODD, SHORT, SERVED, BUSY = RING_KINDS = ("o", "r", "y", "z")


def caller_commands(caller: str, callee: str, at_s: float, *, is_night: bool) -> list[Command]:
    """What an attempt adds to its caller, and then asks; the first answer is the callee before this one."""
    hour, ten, block = int(at_s // HOUR_S), int(at_s // BUCKET_S), int(at_s // BLOCK_S)
    key, ttl_s = f"c:{caller}", CALLER_WINDOW_S + HOUR_S
    blocks = tuple(f"d:{caller}:{b}" for b in range(block - CALLER_WINDOW_S // BLOCK_S, block + 1))
    commands: list[Command] = [
        Field(f"f:{caller}", "last"),
        Add(key, f"{ATTEMPTS}:{hour}", 1, ttl_s),
        Add(key, f"{ATTEMPTS_10MIN}:{ten}", 1, ttl_s),
        Include(blocks[-1], callee, CALLER_WINDOW_S + BLOCK_S),
        Put(f"f:{caller}", "first", f"{at_s:.0f}", FIRST_SEEN_S, is_first=True),
        Put(f"f:{caller}", "last", callee, FIRST_SEEN_S),
    ]
    if is_night:
        commands.append(Add(key, f"{COUNTERS['night']}:{hour}", 1, ttl_s))
    return [*commands, Fields(key), Distinct(blocks), Fields(f"f:{caller}"), Fields(f"m:{caller}")]


def sequential_command(caller: str, at_s: float) -> Command:
    """Counts that a caller dialled the next number up."""
    return Add(f"c:{caller}", f"{COUNTERS['sequential']}:{int(at_s // HOUR_S)}", 1, CALLER_WINDOW_S + HOUR_S)


def caller_window(answers: Sequence[Answer], at_s: float) -> CallerWindow:
    """The window out of the last four answers to :func:`caller_commands`."""
    counted, distinct, first, marks = answers[-4:]
    counted, first, marks = _fields(counted), _fields(first), _fields(marks)
    hours = range(int((at_s - CALLER_WINDOW_S) // HOUR_S) + 1, int(at_s // HOUR_S) + 1)
    tens = range(int((at_s - HOUR_S) // BUCKET_S) + 1, int(at_s // BUCKET_S) + 1)
    totals = dict.fromkeys(COUNTERS.values(), 0) | {ATTEMPTS: 0, ATTEMPTS_10MIN: 0}
    for field, value in counted.items():
        name, _, bucket = field.partition(":")
        if name in totals and int(bucket) in (tens if name == ATTEMPTS_10MIN else hours):  # a clock may have gone back
            totals[name] += int(value)
    said = marks_of(marks, at_s)
    return CallerWindow(
        attempts=totals[ATTEMPTS],
        attempts_1h=totals[ATTEMPTS_10MIN],
        distinct_callees=distinct if isinstance(distinct, int) else 0,
        **{name: totals[short] for name, short in COUNTERS.items()},
        complaints=said["complaint"],
        not_a_scam=said["not_a_scam"],
        heard_suspect=said["heard_suspect"],
        heard_danger=said["heard_danger"],
        heard_attested=said["attested"],
        first_seen_s=float(first["first"]) if "first" in first else None,
    )


def mark_command(caller: str, callee: str, mark: Mark, at_s: float, *, is_attested: bool) -> Command:
    """Notes what is said; the same callee counts once per kind, the latest time."""
    value = f"{at_s:.0f}:{int(is_attested)}"
    return Put(f"m:{caller}", f"{mark}:{callee}", value, MARKS_S, max_fields=MAX_MARKS)


def marks_of(fields: Mapping[str, str], at_s: float) -> dict[str, float]:
    """Marks summed per kind, each halved every :data:`MARK_HALF_LIFE_S`; ``attested`` of those heard."""
    sums = dict.fromkeys(("complaint", "not_a_scam", "heard_suspect", "heard_danger", "attested"), 0.0)
    for field, value in fields.items():
        mark = field.partition(":")[0]
        noted_s, _, attested = value.partition(":")
        weight = 0.5 ** (max(0.0, at_s - float(noted_s)) / MARK_HALF_LIFE_S)
        if mark in sums:
            sums[mark] += weight
        if mark.startswith("heard") and attested == "1":
            sums["attested"] += weight
    return {name: round(value, 6) for name, value in sums.items()}


def stale_caller_fields(answers: Sequence[Answer], at_s: float) -> tuple[str, ...]:
    """Counters of a caller (the last four answers, as above) that no window reads any more, once there are many."""
    counted = _fields(answers[-4])
    if len(counted) <= MAX_CALLER_FIELDS:
        return ()
    hour, ten = int((at_s - CALLER_WINDOW_S) // HOUR_S), int((at_s - HOUR_S) // BUCKET_S)
    return tuple(f for f in counted if int(f.partition(":")[2]) <= (ten if f[0] == ATTEMPTS_10MIN else hour))


def surplus_marks(fields: Mapping[str, str]) -> tuple[str, ...]:
    """The oldest eighth of the commonest kind of marks, where there is no room for one more.

    So those who swear by a number cannot fill the table before its victims complain, nor the other way round.
    """
    if len(fields) < MAX_MARKS:
        return ()
    kinds: dict[str, list[str]] = {}
    for field in fields:
        kinds.setdefault(field.partition(":")[0], []).append(field)
    commonest = max(kinds.values(), key=len)
    return tuple(sorted(commonest, key=lambda field: float(fields[field].partition(":")[0]))[: MAX_MARKS // 8])


def called_commands(caller: str, callee: str, at_s: float, *, is_emergency: bool) -> list[Command]:
    """Notes whom a subscriber of ours calls: they may call back."""
    if is_emergency:
        return [Put(f"g:{caller}", "helped", f"{at_s + EMERGENCY_CALLBACK_S:.0f}", SHIELD_S)]
    return [Put(f"r:{caller}", _place(callee), f"{callee}:{at_s + CALLBACK_S:.0f}", CALLBACK_S)]


def _place(number: str) -> str:
    return str(zlib.crc32(number.encode()) % NUM_CALLED)


def callee_commands(caller: str | None, callee: str, at_s: float, *, is_odd: bool) -> list[Command]:
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
        Fields(f"v:{callee}"),
        Distinct(minute),
        Fields(f"g:{callee}"),
        Field(f"k:{callee}", caller or ""),
        Field(f"r:{callee}", _place(caller or "")),
        Fields(f"o:{callee}"),
        Field(f"s:{callee}", f"{int(at_s // DAY_S)}"),
    ]


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


def callee_window(
    answers: Sequence[Answer], caller: str | None, at_s: float, baseline: Mapping[str, str] | None = None
) -> CalleeSeen:
    """Out of the last :data:`NUM_CALLEE_ANSWERS` answers to :func:`callee_commands`."""
    counted, distinct, own, contact, called, wants, shown = answers[-NUM_CALLEE_ANSWERS:]
    fine, coarse = int(at_s // FINE_S), int(at_s // COARSE_S)
    sums = dict.fromkeys(("10s", "60s", "600s", *RING_KINDS, *(f"{kind} 600s" for kind in RING_KINDS)), 0)
    for field, value in _fields(counted).items():
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
    per_hour, peak = _baseline(baseline or {}, at_s)
    until_s = _time(_fields(own).get("until"))
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
        baseline_per_hour=per_hour,
        baseline_peak_10min=peak,
        shielded_until_s=until_s if at_s < until_s <= at_s + SHIELD_S else None,  # beyond: a clock went back
    )
    return CalleeSeen(
        window,
        is_expected or (isinstance(contact, str) and float(contact) > at_s),
        at_s < _time(_fields(own).get("helped")) <= at_s + EMERGENCY_CALLBACK_S,
        preferences_of(_fields(wants), int(shown) if isinstance(shown, str) else 0),
    )


def _time(text: str | None) -> float:
    return float(text) if text else 0.0


def preferences_of(fields: Mapping[str, str], shown: int = 0) -> Preferences:
    """A subscriber's wishes out of the fields of ``o:``, and how many labels were shown today."""
    language = fields.get("language")
    return Preferences(
        prompts=fields.get("prompts", "1") == "1",
        reminders=fields.get("reminders", "1") == "1",
        guardian=fields.get("guardian"),
        language=language if language in ("en", "zh") else None,  # type: ignore[arg-type]
        prompts_today=shown,
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


def shown_commands(callee: str, at_s: float) -> list[Command]:
    """Count a label of today; the days before go, and with them a key that is used every day stays small."""
    day, key = int(at_s // DAY_S), f"s:{callee}"
    return [Add(key, f"{day}", 1, SHOWN_S), Drop(key, tuple(f"{day - n}" for n in range(1, 4)))]


def stale_callee_fields(answers: Sequence[Answer], at_s: float) -> tuple[str, ...]:
    """Counters of a callee (answers as above) that no window reads any more, once there are many."""
    fields = _fields(answers[-NUM_CALLEE_ANSWERS])
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


def outcome_commands(
    caller: str | None, callee: str, at_s: float, *, answered: bool, rang_s: float, talked_s: float
) -> list[Command]:
    """What the end of an attempt adds."""
    commands: list[Command] = []
    if caller is not None:
        hour, key, ttl_s = int(at_s // HOUR_S), f"c:{caller}", CALLER_WINDOW_S + HOUR_S
        commands.append(Add(key, f"{COUNTERS['ended']}:{hour}", 1, ttl_s))
        if answered:
            commands.append(Add(key, f"{COUNTERS['answered']}:{hour}", 1, ttl_s))
        if answered and talked_s <= SHORT_TALK_S:
            commands.append(Add(key, f"{COUNTERS['short']}:{hour}", 1, ttl_s))
    kind = SERVED if answered or rang_s > SHORT_RING_S else SHORT if rang_s > 0 else BUSY
    return [*commands, _ring(callee, kind, at_s)]


def odd_command(callee: str, at_s: float) -> Command:
    """Counts that a callee was called by the next number up."""
    return _ring(callee, ODD, at_s)


def _ring(callee: str, kind: str, at_s: float) -> Command:
    return Add(f"v:{callee}", f"{kind}:{int(at_s // COARSE_S)}", 1, 2 * BUCKET_S)


def is_sequential(last: str | None, callee: str) -> bool:
    """Whether a caller dials numbers one after the other."""
    if last is None or not (last.isdecimal() and callee.isdecimal()) or len(last) != len(callee):
        return False
    return 1 <= int(callee) - int(last) <= SEQUENTIAL_STEP


def _fields(answer: Answer) -> dict[str, str]:
    return answer if isinstance(answer, dict) else {}
