"""The reading kernel: audio of many legs out of their rings in one call, without the GIL."""

import numpy as np
import numpy.typing as npt

from inference.rtp.jit import ALL_BITS, ZERO, jit
from inference.rtp.layout import FIRST_POS, GAP, READ, Int64s, Tables, UInt64s


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
        until: position to stop before.
        starts: int64 ``[K]``, filled with the position of the first sample.
        nums: int64 ``[K]``, filled with how many samples follow.
        samples: int16 ``[K, W]``, filled; 0 where nothing was received.
        present: bool ``[K, W]``, filled.
    """
    width = samples.shape[1]
    for k in range(slots.shape[0]):
        out, flags, num = samples[k], present[k], 0
        starts[k] = 0
        if slots[k] >= 0:
            state, ring, bitmap = tables.state[slots[k]], tables.ring[slots[k]], tables.bitmap[slots[k]]
            start = state[READ]
            num = max(0, min(until - start, width))
            num_present = _read_one(ring, bitmap, start, num, out, flags)
            starts[k] = start
            state[READ] = start + num
            if state[FIRST_POS] >= 0:
                before = max(0, min(start + num, state[FIRST_POS]) - start)
                state[GAP] += num - before - num_present
        nums[k] = num
        out[num:] = 0
        flags[num:] = False


@jit
def _read_one(
    ring: npt.NDArray[np.int16],
    bitmap: UInt64s,
    start: int,
    num: int,
    out: npt.NDArray[np.int16],
    flags: npt.NDArray[np.bool_],
) -> int:
    """Copy ``num`` samples from position ``start``, clear their bits, and return how many were there."""
    done, num_present = 0, 0
    while done < num:
        at = (start + done) & (ring.shape[0] - 1)
        word, bit = at >> 6, at & 63
        take = min(64 - bit, num - done)
        mask = (ALL_BITS >> np.uint64(64 - take)) << np.uint64(bit)
        bits = bitmap[word] & mask
        if bits == mask:
            for i in range(take):
                out[done + i] = ring[at + i]
                flags[done + i] = True
            num_present += take
        elif bits == ZERO:
            for i in range(take):
                out[done + i] = 0
                flags[done + i] = False
        else:
            for i in range(take):
                is_there = (bits >> np.uint64(bit + i)) & np.uint64(1) != ZERO
                out[done + i] = ring[at + i] if is_there else 0
                flags[done + i] = is_there
                num_present += is_there
        bitmap[word] &= ~mask
        done += take
    return num_present
