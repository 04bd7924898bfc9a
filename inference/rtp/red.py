"""Redundant audio (RFC 2198): a packet holds a payload, and copies of earlier ones in case those were lost."""

import numpy as np
import numpy.typing as npt

from inference.rtp.jit import jit
from inference.rtp.layout import Int

BLOCK_HEADER_BYTES = 4  # of a copy: its payload type, how much older it is, its size; the newest payload has one byte
MAX_BLOCKS = 8  # copies in a packet that are looked at


@jit
def find_block(rows: npt.NDArray[np.uint8], row: Int, offset: Int, end: Int, back: Int) -> tuple[Int, Int, Int, Int]:
    """Find a payload in a redundant one, counted from the newest.

    Args:
        rows: datagrams.
        row: which of them.
        offset: where its payload begins,
        end: and ends.
        back: 0 for the newest payload, 1 for the copy before it, and so on.

    Returns:
        Its payload type, how many ticks it is older, where it begins and ends; payload type -1 if there is none, or
        the packet is malformed.
    """
    num, at, total = 0, offset, np.int64(0)
    while at + BLOCK_HEADER_BYTES <= end and rows[row, at] & 0x80:
        total += ((np.int64(rows[row, at + 2]) & 3) << 8) | np.int64(rows[row, at + 3])
        at += BLOCK_HEADER_BYTES
        num += 1
    begin = at + 1
    if at >= end or rows[row, at] & 0x80 or begin + total > end or num > MAX_BLOCKS or back > num:
        return np.int64(-1), np.int64(0), offset, offset
    if back == 0:
        return np.int64(rows[row, at]) & 0x7F, np.int64(0), begin + total, end
    header = offset
    for _ in range(num - back):
        begin += ((np.int64(rows[row, header + 2]) & 3) << 8) | np.int64(rows[row, header + 3])
        header += BLOCK_HEADER_BYTES
    size = ((np.int64(rows[row, header + 2]) & 3) << 8) | np.int64(rows[row, header + 3])
    older = (np.int64(rows[row, header + 1]) << 6) | (np.int64(rows[row, header + 2]) >> 2)
    return np.int64(rows[row, header]) & 0x7F, older, begin, begin + size
