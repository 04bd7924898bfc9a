"""PCM that did not come as packets (a websocket, a decoder) into the ring of a leg, by the rules that packets obey."""

import numpy as np
import numpy.typing as npt

from inference.rtp.jit import ALL_BITS, jit
from inference.rtp.layout import (
    BYTES,
    FIRST_POS,
    IS_ANCHORED,
    LAST_ARRIVAL,
    LATE,
    NEXT_POS,
    OVERRUN,
    READ,
    REANCHORS,
    RECEIVED,
    REF_POS,
    REF_TS,
    Int,
    Tables,
)


@jit
def write(
    tables: Tables, slot: Int, samples: npt.NDArray[np.int16], timestamp: Int, arrival: Int, max_ahead: Int
) -> None:
    """Place one chunk by its timestamp and store it; see :func:`inference.rtp.accept.place` for the rules.

    Args:
        tables: where legs live; written.
        slot: row of the leg.
        samples: int16 ``[num_samples]`` at 8 kHz.
        timestamp: number of the first sample in the sender's own time; never wraps.
        arrival: position at which the chunk came.
        max_ahead: how far audio may lie beyond its arrival, samples.
    """
    state, num, size = tables.state[slot], samples.shape[0], tables.ring.shape[1]
    state[RECEIVED] += 1
    state[BYTES] += 2 * num
    state[LAST_ARRIVAL] = arrival
    if num == 0:
        return
    fresh = max(arrival - num, state[READ])
    if state[IS_ANCHORED] == 0:
        position = fresh
    else:
        position = state[REF_POS] + timestamp - state[REF_TS]
        if timestamp > state[REF_TS]:
            if position < state[READ] or position + num > arrival + max_ahead:
                position = fresh
                state[REANCHORS] += 1
        elif position < state[READ]:
            state[LATE] += 1
            return
    if state[IS_ANCHORED] == 0 or timestamp > state[REF_TS]:
        state[IS_ANCHORED] = 1
        state[REF_TS] = timestamp
        state[REF_POS] = position
        state[NEXT_POS] = position + num
    if position + num > state[READ] + size:
        state[OVERRUN] += 1
        return
    if state[FIRST_POS] < 0 or position < state[FIRST_POS]:
        state[FIRST_POS] = position
    put(tables, slot, samples, position)


@jit
def put(tables: Tables, slot: Int, samples: npt.NDArray[np.int16], position: Int) -> None:
    """Store ``samples`` at ``position`` of a leg's ring, which has room for them, and set their presence bits."""
    num, size, num_words = samples.shape[0], tables.ring.shape[1], tables.bitmap.shape[1]
    start = position & (size - 1)
    until_wrap = min(num, size - start)
    tables.ring[slot, start : start + until_wrap] = samples[:until_wrap]
    tables.ring[slot, : num - until_wrap] = samples[until_wrap:]
    word, bit, left = start >> 6, start & 63, num
    while left > 0:
        take = min(left, 64 - bit)
        tables.bitmap[slot, word] |= (ALL_BITS >> np.uint64(64 - take)) << np.uint64(bit)
        left -= take
        bit = 0
        word = (word + 1) & (num_words - 1)
