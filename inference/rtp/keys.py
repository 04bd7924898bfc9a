"""Keys pressed during a call (RFC 4733): each is followed over its updates and put on record once."""

import numpy as np
import numpy.typing as npt

from inference.rtp.durations import signed_32
from inference.rtp.jit import jit
from inference.rtp.layout import (
    ANCHOR,
    EVENT_CODE,
    EVENT_DONE,
    EVENT_DURATION,
    EVENT_HEAD,
    EVENT_TS,
    EVENTS,
    GENERATION,
    LAST_ARRIVAL,
    REF_POS,
    REF_TS,
    UNKNOWN_PAYLOAD,
    Bool,
    Int,
    Int64s,
    Tables,
)


@jit
def record_event(tables: Tables, state: Int64s, slot: Int, is_complete: Int) -> None:
    """Put the telephone-event under way on record; the oldest record gives way."""
    row = tables.events[tables.plane[EVENT_HEAD] & (tables.events.shape[0] - 1)]
    position, clock = state[LAST_ARRIVAL], max(state[ANCHOR], 1)
    if state[ANCHOR] > 0:
        by_timestamp = state[REF_POS] + signed_32(state[EVENT_TS] - state[REF_TS]) // clock
        # A frozen or hostile timestamp says nothing about when the key was pressed.
        if abs(by_timestamp - position) < tables.ring.shape[1]:
            position = by_timestamp
    row[0] = slot
    row[1] = state[GENERATION]
    row[2] = state[EVENT_CODE]
    row[3] = state[EVENT_DURATION] // clock  # events count as the audio beside them does (RFC 4733 section 2.1)
    row[4] = position
    row[5] = is_complete
    tables.plane[EVENT_HEAD] += 1
    state[EVENTS] += 1
    state[EVENT_DONE] = 1


@jit
def on_event(
    tables: Tables,
    state: Int64s,
    slot: Int,
    rows: npt.NDArray[np.uint8],
    row: Int,
    offset: Int,
    num: Int,
    timestamp: Int,
    in_order: Bool,
) -> None:
    """Follow one key press over its updates and record it once (RFC 4733 section 2.5)."""
    if num < 4:
        state[UNKNOWN_PAYLOAD] += 1
        return
    code, duration = (
        np.int64(rows[row, offset]),
        (np.int64(rows[row, offset + 2]) << 8) | np.int64(rows[row, offset + 3]),
    )
    if state[EVENT_CODE] < 0 or timestamp != state[EVENT_TS]:
        if not in_order and state[EVENT_CODE] >= 0:
            return  # an update of an event that the next one has already closed
        if state[EVENT_CODE] >= 0 and state[EVENT_DONE] == 0:
            record_event(tables, state, slot, 0)
        state[EVENT_TS] = timestamp
        state[EVENT_CODE] = code
        state[EVENT_DURATION] = 0
        state[EVENT_DONE] = 0
    if state[EVENT_DONE] == 0:
        state[EVENT_DURATION] = max(state[EVENT_DURATION], duration)
        if rows[row, offset + 1] & 0x80:
            record_event(tables, state, slot, 1)
