"""Sliding windows over counters in buckets: the keys they lie under, and what caller's and callee's windows share.

Keys: ``c:<caller>`` counters per hour and attempts per ten minutes; ``d:<caller>:<block>`` the callees of six hours;
``f:<caller>`` first seen, last callee; ``m:<caller>`` what was said of it; ``l:<callee>`` its last caller;
``v:<callee>`` attempts per two and ten seconds; ``w:<callee>:<b>`` its callers; ``b:<callee>:<week>`` attempts per ten
minutes; ``k:<callee>`` contacts; ``r:<subscriber>`` whom it called; ``g:<callee>`` its shield, and until when an
emergency service may call back; ``p:<callee>`` callers that were vouched for, and labels that were shown;
``o:<subscriber>`` preferences; ``s:<subscriber>`` labels and messages a day.

Each key is bounded: counters older than any window are dropped once a key holds too many (a busy number's key never
expires), marks and contacts have a most, and calls made are kept in a table of fixed size.
"""

from inference.screening.backend import Answer

HOUR_S, DAY_S = 3600, 86_400
SEQUENTIAL_STEP = 3
SHORT_TALK_S, SHORT_RING_S = 10.0, 5.0


def is_sequential(last: str | None, callee: str) -> bool:
    """Whether a caller dials numbers one after the other."""
    if last is None or not (last.isdecimal() and callee.isdecimal()) or len(last) != len(callee):
        return False
    return 1 <= int(callee) - int(last) <= SEQUENTIAL_STEP


def fields_of(answer: Answer) -> dict[str, str]:
    """An answer that holds fields; an empty one where there were none."""
    return answer if isinstance(answer, dict) else {}
