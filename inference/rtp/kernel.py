"""The packet kernel: a batch of datagrams into rings, without the GIL.

Compiled by numba where it can run; :mod:`inference.rtp.kernel_numpy` is the fallback. Written for the compiler: arrays
are taken out of their tuple once and indexed by numbers, since every view of an array costs a reference count.
"""

import numpy as np
import numpy.typing as npt

from inference.rtp.accept import accept, set_aside, store
from inference.rtp.durations import signed_32
from inference.rtp.jit import ZERO, jit
from inference.rtp.layout import (
    ANCHOR,
    BAD_SEQ,
    BYTES,
    CODEC_PCMA,
    CODEC_PCMU,
    CODEC_SEALED,
    CODEC_UNKNOWN,
    DATAGRAMS,
    EPOCH_RECEIVED,
    EXT_SEQ,
    FIRST_POS,
    FOREIGN,
    FOREIGN_EVER,
    HASH_WORDS,
    IS_SEALED,
    LAST_ARRIVAL,
    MALFORMED,
    NEXT_POS,
    NUM_SIDE,
    OVERSIZED,
    READ,
    RECEIVED,
    REF_POS,
    REF_TS,
    RTCP,
    SEQ_MASK,
    SEQ_WINDOW,
    SILENCE,
    SSRC,
    UNREGISTERED,
    Arrived,
    Int,
    Tables,
    UInt64s,
)

WORD_0 = np.uint64(HASH_WORDS[0])
WORD_1 = np.uint64(HASH_WORDS[1])
WORD_2 = np.uint64(HASH_WORDS[2])
FAMILY_BITS = np.uint64(0xFFFF)
AF_INET = np.uint64(2)
NO_FLOW = np.uint64(0xFFFFFFFF)


@jit
def find(
    places: npt.NDArray[np.int32], keys: UInt64s, first: np.uint64, second: np.uint64, third: np.uint64, port: np.uint64
) -> Int:
    """Row of the leg with this source and local port, or -1."""
    last = places.shape[0] - 1
    mixed = (first ^ (second * WORD_1) ^ (third * WORD_2) ^ (port << np.uint64(48))) * WORD_0
    place = (np.int64(mixed >> np.uint64(40)) * (last + 1)) >> 24  # the topmost bits: only they depend on all others
    slot = np.int64(places[place])
    while slot >= 0 and not (
        keys[slot, 0] == first and keys[slot, 1] == second and keys[slot, 2] == third and keys[slot, 3] == port
    ):
        place = (place + 1) & last
        slot = np.int64(places[place])
    return slot


@jit
def receive(
    tables: Tables, arrived: Arrived, num: Int, port: Int, exclusive: Int, max_ahead: Int, is_opened: bool
) -> None:
    """Take ``num`` datagrams of local ``port``.

    Args:
        tables: where legs live; written.
        arrived: the datagrams.
        num: how many rows of ``arrived`` are filled.
        port: local port they came to.
        exclusive: row of the leg that has the port to itself, or -1. It latches onto the first valid source.
        max_ahead: how far audio may lie beyond its arrival, samples.
        is_opened: they came encrypted, were verified and are as they were before that.
    """
    rows, lengths, sources, arrivals = arrived.rows, arrived.lengths, arrived.sources, arrived.arrivals
    places, keys, states, payload_types = tables.places, tables.keys, tables.state, tables.payload_types
    ring, bitmap, decode, plane = tables.ring, tables.bitmap, tables.decode, tables.plane
    width, size = rows.shape[1], ring.shape[1]
    plane[NUM_SIDE] = 0
    if not is_opened:
        plane[DATAGRAMS] += num
    for i in range(num):
        length, bits, second_byte = np.int64(lengths[i]), np.int64(rows[i, 0]), np.int64(rows[i, 1])
        if length > width:
            plane[OVERSIZED] += 1
            continue
        if length < 8 or bits >> 6 != 2:
            plane[MALFORMED] += 1
            continue
        if 192 <= second_byte <= 223:
            plane[RTCP] += 1
            continue
        offset, end = 12 + 4 * (bits & 0x0F), length
        if bits & 0x10:
            if offset + 4 > length:
                plane[MALFORMED] += 1
                continue
            offset += 4 + 4 * ((np.int64(rows[i, offset + 2]) << 8) | np.int64(rows[i, offset + 3]))
        payload_type = second_byte & 0x7F
        first, second, third = sources[i, 0], ZERO, ZERO
        if first & FAMILY_BITS != AF_INET:
            first, second, third = first & NO_FLOW, sources[i, 1], sources[i, 2]
        slot = np.int64(exclusive)
        if exclusive < 0:
            slot = np.int64(find(places, keys, first, second, third, np.uint64(port)))
        is_sealed = slot >= 0 and states[slot, IS_SEALED] == 1 and not is_opened
        if bits & 0x20 and not is_sealed:  # where a seal follows, the last byte is no length of padding
            end -= np.int64(rows[i, length - 1])
            if end == length:
                end = np.int64(-1)
        if offset > end:
            plane[MALFORMED] += 1
            continue
        if slot < 0:
            plane[UNREGISTERED] += 1
            continue
        if exclusive >= 0:
            is_free = keys[slot, 0] == ZERO and payload_types[slot, payload_type] != CODEC_UNKNOWN
            if is_free and not is_sealed:
                keys[slot, 0], keys[slot, 1], keys[slot, 2] = first, second, third
            elif not is_free and not (keys[slot, 0] == first and keys[slot, 1] == second and keys[slot, 2] == third):
                states[slot, FOREIGN] += 1
                plane[FOREIGN_EVER] += 1
                continue
        if is_sealed:
            set_aside(tables, slot, CODEC_SEALED, rows, i, 0, length, 0, 0, 0, False, arrivals[i])
            continue
        if payload_type == 0:
            codec = np.int64(CODEC_PCMU)
        elif payload_type == 8:
            codec = np.int64(CODEC_PCMA)
        else:
            codec = np.int64(payload_types[slot, payload_type])
        sequence = (np.int64(rows[i, 2]) << 8) | np.int64(rows[i, 3])
        timestamp = (
            (np.int64(rows[i, 4]) << 24)
            | (np.int64(rows[i, 5]) << 16)
            | (np.int64(rows[i, 6]) << 8)
            | np.int64(rows[i, 7])
        )
        ssrc = (
            (np.int64(rows[i, 8]) << 24)
            | (np.int64(rows[i, 9]) << 16)
            | (np.int64(rows[i, 10]) << 8)
            | np.int64(rows[i, 11])
        )
        arrival, samples = arrivals[i], end - offset
        step = ((sequence - states[slot, EXT_SEQ] + 0x8000) & 0xFFFF) - 0x8000
        position = states[slot, REF_POS] + signed_32(timestamp - states[slot, REF_TS])
        beyond = position + samples
        if (
            codec in (CODEC_PCMU, CODEC_PCMA)
            and ssrc == states[slot, SSRC]
            and states[slot, ANCHOR] == 1
            and 0 < step < SEQ_WINDOW
            and samples > 0
            and position >= states[slot, READ]
            and beyond <= arrival + max_ahead
            and beyond <= states[slot, READ] + size
        ):  # audio in order, where it is expected: the same as accept() would do, in fewer steps
            if step == 1 and position > states[slot, NEXT_POS]:
                states[slot, SILENCE] += position - states[slot, NEXT_POS]
            states[slot, EXT_SEQ] += step
            states[slot, SEQ_MASK] = (states[slot, SEQ_MASK] << step) | 1
            states[slot, EPOCH_RECEIVED] += 1
            states[slot, REF_TS] = timestamp
            states[slot, REF_POS] = position
            states[slot, NEXT_POS] = beyond
            states[slot, RECEIVED] += 1
            states[slot, BYTES] += length
            states[slot, BAD_SEQ] = -1
            states[slot, LAST_ARRIVAL] = arrival
            if states[slot, FIRST_POS] < 0 or position < states[slot, FIRST_POS]:
                states[slot, FIRST_POS] = position
            store(ring, bitmap, decode, slot, codec, position, rows, i, offset, samples)
        else:
            accept(tables, slot, codec, rows, i, offset, end, length, sequence, timestamp, ssrc, arrival, max_ahead)
