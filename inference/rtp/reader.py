"""The reading kernel: audio of many legs out of their rings in one call, without the GIL."""

import numpy as np
import numpy.typing as npt

from inference.rtp.jit import ALL_BITS, ZERO, jit
from inference.rtp.layout import DELAY, FIRST_POS, GAP, READ, Int, Int64s, Tables, UInt64s


@jit
def read(
    tables: Tables,
    slots: Int64s,
    until: int,
    starts: Int64s,
    nums: Int64s,
    samples: npt.NDArray[np.int16],
    present: npt.NDArray[np.bool_],
) -> None:
    """Copy each leg's audio from where its reader stands up to ``until``, and free the room.

    Args:
        tables: where legs live; presence bits read are cleared.
        slots: int64 ``[K]`` rows of legs; -1 reads nothing.
        until: position to stop before; legs that are decoded elsewhere stop their delay earlier.
        starts: int64 ``[K]``, filled with the position of the first sample.
        nums: int64 ``[K]``, filled with how many samples follow.
        samples: int16 ``[K, W]``, filled; 0 where nothing was received.
        present: bool ``[K, W]``, filled.
    """
    width, size = samples.shape[1], tables.ring.shape[1]
    states, ring, bitmap = tables.state, tables.ring, tables.bitmap
    for k in range(slots.shape[0]):
        slot, num, num_present = slots[k], 0, 0
        starts[k] = 0
        if slot >= 0:
            start = states[slot, READ]
            num = max(0, min(until - states[slot, DELAY] - start, width))
            done = 0
            while done < num:
                at = (start + done) & (size - 1)
                take = min(64 - (at & 63), num - done)
                num_present += copy_word(ring, bitmap, slot, at, take, samples, present, k, done)
                done += take
            starts[k] = start
            states[slot, READ] = start + num
            if states[slot, FIRST_POS] >= 0:
                before = max(0, min(start + num, states[slot, FIRST_POS]) - start)
                states[slot, GAP] += num - before - num_present
        nums[k] = num
        for i in range(num, width):
            samples[k, i] = 0
            present[k, i] = False


@jit
def copy_word(
    ring: npt.NDArray[np.int16],
    bitmap: UInt64s,
    slot: Int,
    at: Int,
    num: Int,
    samples: npt.NDArray[np.int16],
    present: npt.NDArray[np.bool_],
    row: Int,
    column: Int,
) -> int:
    """Copy ``num`` samples that share a presence word, clear their bits, and return how many were there."""
    # Unsigned indices spare the compiled loops Python's negative ones.
    leg, out, word, bit = np.uint64(slot), np.uint64(row), np.uint64(at >> 6), np.uint64(at & 63)
    source, target = np.uint64(at), np.uint64(column)
    mask = (ALL_BITS >> np.uint64(64 - num)) << bit
    bits = bitmap[leg, word] & mask
    bitmap[leg, word] &= ~mask
    if bits == mask:
        for i in range(num):
            samples[out, target + np.uint64(i)] = ring[leg, source + np.uint64(i)]
        for i in range(num):
            present[out, target + np.uint64(i)] = True
        return int(num)
    num_present = 0
    for i in range(num):
        is_there = (bits >> (bit + np.uint64(i))) & np.uint64(1) != ZERO
        samples[out, target + np.uint64(i)] = ring[leg, source + np.uint64(i)] if is_there else 0
        present[out, target + np.uint64(i)] = is_there
        num_present += is_there
    return num_present
