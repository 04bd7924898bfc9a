"""What an attempt adds to its caller's windows, what is said about a caller, and what is read out of both."""

from collections.abc import Mapping, Sequence

from inference.screening.backend import Add, Answer, Command, Distinct, Field, Fields, Include, Put
from inference.screening.store import BUCKET_S, CALLER_WINDOW_S, CallerWindow, Mark
from inference.screening.windows import DAY_S, HOUR_S, SHORT_TALK_S, fields_of

BLOCK_S = 6 * HOUR_S
MARK_HALF_LIFE_S = 7 * DAY_S
MARKS_S = 60 * DAY_S
FIRST_SEEN_S = 30 * DAY_S
MAX_MARKS = 512
MAX_CALLER_FIELDS = 200  # 26 hours of 6 counters and an hour of attempts are 163

COUNTERS = {"answered": "n", "ended": "e", "short": "s", "sequential": "q", "night": "t"}
ATTEMPTS, ATTEMPTS_10MIN = "a", "x"


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
    counted, first, marks = fields_of(counted), fields_of(first), fields_of(marks)
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


def stale_caller_fields(answers: Sequence[Answer], at_s: float) -> tuple[str, ...]:
    """Counters of a caller (the last four answers, as above) that no window reads any more, once there are many."""
    counted = fields_of(answers[-4])
    if len(counted) <= MAX_CALLER_FIELDS:
        return ()
    hour, ten = int((at_s - CALLER_WINDOW_S) // HOUR_S), int((at_s - HOUR_S) // BUCKET_S)
    return tuple(f for f in counted if int(f.partition(":")[2]) <= (ten if f[0] == ATTEMPTS_10MIN else hour))


def caller_outcome_commands(caller: str, at_s: float, *, answered: bool, talked_s: float) -> list[Command]:
    """What the end of an attempt adds to its caller."""
    hour, key, ttl_s = int(at_s // HOUR_S), f"c:{caller}", CALLER_WINDOW_S + HOUR_S
    commands: list[Command] = [Add(key, f"{COUNTERS['ended']}:{hour}", 1, ttl_s)]
    if answered:
        commands.append(Add(key, f"{COUNTERS['answered']}:{hour}", 1, ttl_s))
    if answered and talked_s <= SHORT_TALK_S:
        commands.append(Add(key, f"{COUNTERS['short']}:{hour}", 1, ttl_s))
    return commands


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
