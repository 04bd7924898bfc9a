"""PCM that did not come as packets (a websocket, a decoder) into the ring of a leg, by the rules that packets obey."""

import numpy as np
import numpy.typing as npt

from inference.rtp.jit import ALL_BITS, jit
from inference.rtp.layout import (
    ANCHOR,
    BYTES,
    FIRST_POS,
    GENERATION,
    LAST_ARRIVAL,
    LATE,
    NEXT_POS,
    OVERRUN,
    READ,
    REANCHORS,
    RECEIVED,
    REF_POS,
    REF_TS,
    UNDECODED,
    Int,
    Int64s,
    Tables,
)


@jit
def write(
    tables: Tables, slot: Int, samples: npt.NDArray[np.int16], timestamp: Int, arrival: Int, max_ahead: Int
) -> None:
    """Place one chunk by its timestamp and store it; see :func:`inference.rtp.accept.place` for the rules.

    No sequence number tells a sender that started over from a chunk that is late: one that lies further back than the
    ring is long was sent by the former.

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
    is_newest, fresh = True, max(arrival - num, state[READ])
    if state[ANCHOR] == 0:
        position = fresh
    else:
        position = state[REF_POS] + timestamp - state[REF_TS]
        is_newest = timestamp > state[REF_TS] or timestamp + size <= state[REF_TS]
        if is_newest:
            if position < state[READ] or position + num > arrival + max_ahead:
                position = fresh
                state[REANCHORS] += 1
        elif position < state[READ]:
            state[LATE] += 1
            return
    if is_newest:
        state[ANCHOR] = 1
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


@jit
def settle(tables: Tables, pieces: Int64s, samples: npt.NDArray[np.int16], failed: Int64s) -> None:
    """Store what decoders made of packets whose places were found before.

    Args:
        tables: where legs live; written.
        pieces: int64 ``[M, 4]``: slot, generation, position, number of samples.
        samples: int16, those of all pieces.
        failed: int64 ``[F, 2]``: slot and generation of each packet that could not be decoded.
    """
    at, size = 0, tables.ring.shape[1]
    for i in range(pieces.shape[0]):
        slot, position, num = pieces[i, 0], pieces[i, 2], pieces[i, 3]
        state = tables.state[slot]
        if state[GENERATION] == pieces[i, 1]:
            begin, end = max(position, state[READ]), min(position + num, state[READ] + size)
            if begin < end:
                put(tables, slot, samples[at + begin - position : at + end - position], begin)
            else:
                state[UNDECODED] += 1  # too late
        at += num
    for i in range(failed.shape[0]):
        state = tables.state[failed[i, 0]]
        if state[GENERATION] == failed[i, 1]:
            state[UNDECODED] += 1
