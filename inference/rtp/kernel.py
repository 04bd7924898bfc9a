"""The packet kernel: a batch of datagrams into rings, without the GIL.

Compiled by numba where it can run. The same code without compilation is right but slow;
:mod:`inference.rtp.kernel_numpy` is the fallback that keeps a useful speed.
"""

import numpy as np
import numpy.typing as npt

from inference.rtp.jit import ALL_BITS, ZERO, jit
from inference.rtp.layout import (
    BAD_SEQ,
    BASE_SEQ,
    BLOCKED_SSRC,
    BLOCKED_UNTIL,
    BYTES,
    CODEC_COMFORT_NOISE,
    CODEC_EVENT,
    CODEC_PCMA,
    CODEC_PCMU,
    CODEC_UNKNOWN,
    COMFORT_NOISE,
    DATAGRAMS,
    DUPLICATE,
    EPOCH_RECEIVED,
    EVENT_CODE,
    EVENT_DONE,
    EVENT_DURATION,
    EVENT_HEAD,
    EVENT_TS,
    EVENTS,
    EXT_SEQ,
    FIRST_POS,
    FOREIGN,
    GENERATION,
    HASH_WORDS,
    IS_ANCHORED,
    LAST_ARRIVAL,
    LATE,
    LOST_BEFORE,
    MALFORMED,
    MAX_DROPOUT,
    MAX_MISORDER,
    NEXT_POS,
    OVERRUN,
    OVERSIZED,
    READ,
    REANCHORS,
    RECEIVED,
    REF_POS,
    REF_TS,
    RTCP,
    SEQ_MASK,
    SEQ_WINDOW,
    SILENCE,
    SSRC,
    SSRC_CHANGES,
    STRAY,
    UNKNOWN_PAYLOAD,
    UNREGISTERED,
    Arrived,
    Int,
    Int64s,
    Tables,
)

WORD_0 = np.uint64(HASH_WORDS[0])
WORD_1 = np.uint64(HASH_WORDS[1])
WORD_2 = np.uint64(HASH_WORDS[2])
FAMILY_BITS = np.uint64(0xFFFF)
AF_INET = np.uint64(2)
NO_FLOW = np.uint64(0xFFFFFFFF)


@jit
def signed_32(value: Int) -> Int:
    """Difference of two timestamps, wrapped to -2^31 .. 2^31-1."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


@jit
def find(tables: Tables, first: np.uint64, second: np.uint64, third: np.uint64, port: np.uint64) -> int:
    """Row of the leg with this source and local port, or -1."""
    size = tables.places.shape[0]
    mixed = (first ^ (second * WORD_1) ^ (third * WORD_2) ^ (port << np.uint64(48))) * WORD_0
    place = np.int64(mixed >> np.uint64(40)) & (size - 1)
    while True:
        slot = tables.places[place]
        if slot < 0:
            return -1
        key = tables.keys[slot]
        if key[0] == first and key[1] == second and key[2] == third and key[3] == port:
            return int(slot)
        place = (place + 1) & (size - 1)


@jit
def store(
    tables: Tables, slot: Int, table: npt.NDArray[np.int16], payload: npt.NDArray[np.uint8], position: Int
) -> None:
    """Decode ``payload`` into the ring at ``position`` and set its presence bits."""
    ring, bitmap = tables.ring[slot], tables.bitmap[slot]
    size, num = ring.shape[0], payload.shape[0]
    start = position & (size - 1)
    until_wrap = min(num, size - start)
    for i in range(until_wrap):
        ring[start + i] = table[payload[i]]
    for i in range(until_wrap, num):
        ring[start + i - size] = table[payload[i]]
    word, bit, left = start >> 6, start & 63, num
    while left > 0:
        take = min(left, 64 - bit)
        bitmap[word] |= (ALL_BITS >> np.uint64(64 - take)) << np.uint64(bit)
        left -= take
        bit = 0
        word = (word + 1) & (bitmap.shape[0] - 1)


@jit
def record_event(tables: Tables, state: Int64s, slot: Int, is_complete: Int) -> None:
    """Put the telephone-event under way on record; the oldest record gives way."""
    row = tables.events[tables.plane[EVENT_HEAD] & (tables.events.shape[0] - 1)]
    position = state[LAST_ARRIVAL]
    if state[IS_ANCHORED] == 1:
        by_timestamp = state[REF_POS] + signed_32(state[EVENT_TS] - state[REF_TS])
        # A frozen or hostile timestamp says nothing about when the key was pressed.
        if abs(by_timestamp - position) < tables.ring.shape[1]:
            position = by_timestamp
    row[0] = slot
    row[1] = state[GENERATION]
    row[2] = state[EVENT_CODE]
    row[3] = state[EVENT_DURATION]
    row[4] = position
    row[5] = is_complete
    tables.plane[EVENT_HEAD] += 1
    state[EVENTS] += 1
    state[EVENT_DONE] = 1


@jit
def on_event(
    tables: Tables, state: Int64s, slot: Int, payload: npt.NDArray[np.uint8], timestamp: Int, in_order: bool
) -> None:
    """Follow one key press over its updates and record it once (RFC 4733 section 2.5)."""
    if payload.shape[0] < 4:
        state[UNKNOWN_PAYLOAD] += 1
        return
    code, duration = np.int64(payload[0]), (np.int64(payload[2]) << 8) | np.int64(payload[3])
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
        if payload[1] & 0x80:
            record_event(tables, state, slot, 1)


@jit
def begin_epoch(tables: Tables, state: Int64s, slot: Int, ssrc: Int, sequence_number: Int) -> None:
    """Start over with a new SSRC, or with a confirmed jump of the sequence number."""
    if state[EXT_SEQ] >= 0:
        expected = state[EXT_SEQ] - state[BASE_SEQ] + 1
        state[LOST_BEFORE] += expected - state[EPOCH_RECEIVED]
    if state[EVENT_CODE] >= 0 and state[EVENT_DONE] == 0:
        record_event(tables, state, slot, 0)
    state[EVENT_CODE] = -1
    state[SSRC] = ssrc
    state[EXT_SEQ] = 0x10000 + sequence_number
    state[BASE_SEQ] = state[EXT_SEQ]
    state[SEQ_MASK] = 1
    state[EPOCH_RECEIVED] = 1
    state[BAD_SEQ] = -1
    state[IS_ANCHORED] = 0


@jit
def accept(
    tables: Tables,
    slot: Int,
    codec: Int,
    payload: npt.NDArray[np.uint8],
    num_bytes: Int,
    sequence_number: Int,
    timestamp: Int,
    ssrc: Int,
    arrival: Int,
    max_ahead: Int,
) -> None:
    """Account for one valid RTP packet of a leg and store its audio."""
    state = tables.state[slot]
    state[RECEIVED] += 1
    state[BYTES] += num_bytes
    state[LAST_ARRIVAL] = arrival
    step = 1
    if state[EXT_SEQ] < 0 or ssrc != state[SSRC]:
        if ssrc == state[BLOCKED_SSRC] and arrival < state[BLOCKED_UNTIL]:
            state[STRAY] += 1
            return
        if state[EXT_SEQ] >= 0:
            state[SSRC_CHANGES] += 1
        begin_epoch(tables, state, slot, ssrc, sequence_number)
    else:
        step = ((sequence_number - state[EXT_SEQ] + 0x8000) & 0xFFFF) - 0x8000
        if 0 < step <= MAX_DROPOUT:
            state[EXT_SEQ] += step
            state[SEQ_MASK] = (state[SEQ_MASK] << step) | 1 if step < SEQ_WINDOW else 1
            state[EPOCH_RECEIVED] += 1
            state[BAD_SEQ] = -1
        elif -SEQ_WINDOW < step <= 0:
            if (state[SEQ_MASK] >> -step) & 1:
                state[DUPLICATE] += 1
                return
            state[SEQ_MASK] |= np.int64(1) << -step
            state[EPOCH_RECEIVED] += 1
            state[BASE_SEQ] = min(state[BASE_SEQ], state[EXT_SEQ] + step)
        elif -MAX_MISORDER <= step < 0:
            state[LATE] += 1  # too old to know whether it came before
            return
        elif sequence_number == state[BAD_SEQ]:
            begin_epoch(tables, state, slot, ssrc, sequence_number)
            state[REANCHORS] += 1
            step = 1
        else:  # one packet out of line proves nothing (RFC 3550 A.1)
            state[BAD_SEQ] = (sequence_number + 1) & 0xFFFF
            state[STRAY] += 1
            return
    if codec in (CODEC_PCMU, CODEC_PCMA):
        place(tables, state, slot, codec, payload, step, timestamp, arrival, max_ahead)
    elif codec == CODEC_EVENT:
        on_event(tables, state, slot, payload, timestamp, step > 0)
    elif codec == CODEC_COMFORT_NOISE:
        state[COMFORT_NOISE] += 1
    else:
        state[UNKNOWN_PAYLOAD] += 1


@jit
def place(
    tables: Tables,
    state: Int64s,
    slot: Int,
    codec: Int,
    payload: npt.NDArray[np.uint8],
    step: Int,
    timestamp: Int,
    arrival: Int,
    max_ahead: Int,
) -> None:
    """Find the position of an audio packet by its timestamp and store it.

    The first packet of an epoch ends at its arrival. A packet in order is never thrown away: where its timestamp
    points behind the reader (the sender paused without counting on, or the network stalled) or further ahead than
    ``max_ahead`` (the clocks have drifted, or the timestamp jumped) it is anchored anew on its arrival.
    """
    num = payload.shape[0]
    if num == 0:
        return
    fresh = max(arrival - num, state[READ])
    if state[IS_ANCHORED] == 0:
        position = fresh
    else:
        position = state[REF_POS] + signed_32(timestamp - state[REF_TS])
        if step > 0:
            if position < state[READ] or position + num > arrival + max_ahead:
                position = fresh
                state[REANCHORS] += 1
            elif step == 1 and position > state[NEXT_POS]:
                state[SILENCE] += position - state[NEXT_POS]  # a gap in time, none in sequence: the sender was silent
        elif position < state[READ]:
            state[LATE] += 1
            return
        elif position + num > state[NEXT_POS]:
            state[STRAY] += 1  # sent earlier than the newest packet, yet it claims a later time
            return
    if step > 0 or state[IS_ANCHORED] == 0:
        state[IS_ANCHORED] = 1
        state[REF_TS] = timestamp
        state[REF_POS] = position
        state[NEXT_POS] = position + num
    if position + num > state[READ] + tables.ring.shape[1]:
        state[OVERRUN] += 1
        return
    if state[FIRST_POS] < 0 or position < state[FIRST_POS]:
        state[FIRST_POS] = position
    store(tables, slot, tables.decode[codec - CODEC_PCMU], payload, position)


@jit
def receive(tables: Tables, arrived: Arrived, num: Int, port: Int, exclusive: Int, max_ahead: Int) -> None:
    """Take ``num`` datagrams of local ``port``.

    Args:
        tables: where legs live; written.
        arrived: the datagrams.
        num: how many rows of ``arrived`` are filled.
        port: local port they came to.
        exclusive: row of the leg that has the port to itself, or -1. It latches onto the first valid source.
        max_ahead: how far audio may lie beyond its arrival, samples.
    """
    plane, width = tables.plane, arrived.rows.shape[1]
    plane[DATAGRAMS] += num
    for i in range(num):
        row, length = arrived.rows[i], np.int64(arrived.lengths[i])
        if length > width:
            plane[OVERSIZED] += 1
            continue
        if length < 8 or (row[0] & 0xC0) != 0x80:
            plane[MALFORMED] += 1
            continue
        if 192 <= row[1] <= 223:
            plane[RTCP] += 1
            continue
        offset, end = 12 + 4 * np.int64(row[0] & 0x0F), length
        if row[0] & 0x10:
            if offset + 4 > length:
                plane[MALFORMED] += 1
                continue
            offset += 4 + 4 * ((np.int64(row[offset + 2]) << 8) | np.int64(row[offset + 3]))
        if row[0] & 0x20:
            end -= np.int64(row[length - 1])
            if end == length:
                end = np.int64(-1)
        if offset > end:
            plane[MALFORMED] += 1
            continue
        payload_type = np.int64(row[1] & 0x7F)
        source = arrived.sources[i]
        first, second, third = source[0], ZERO, ZERO
        if first & FAMILY_BITS != AF_INET:
            first, second, third = first & NO_FLOW, source[1], source[2]
        if exclusive >= 0:
            slot = exclusive
            key = tables.keys[slot]
            if key[0] == ZERO and tables.payload_types[slot, payload_type] != CODEC_UNKNOWN:
                key[0], key[1], key[2] = first, second, third
            if key[0] != first or key[1] != second or key[2] != third:
                tables.state[slot, FOREIGN] += 1
                continue
        else:
            slot = find(tables, first, second, third, np.uint64(port))
            if slot < 0:
                plane[UNREGISTERED] += 1
                continue
        if payload_type == 0:
            codec: Int = CODEC_PCMU
        elif payload_type == 8:
            codec = CODEC_PCMA
        else:
            codec = np.int64(tables.payload_types[slot, payload_type])
        sequence_number = (np.int64(row[2]) << 8) | np.int64(row[3])
        timestamp = (np.int64(row[4]) << 24) | (np.int64(row[5]) << 16) | (np.int64(row[6]) << 8) | np.int64(row[7])
        ssrc = (np.int64(row[8]) << 24) | (np.int64(row[9]) << 16) | (np.int64(row[10]) << 8) | np.int64(row[11])
        accept(
            tables,
            slot,
            codec,
            row[offset:end],
            length,
            sequence_number,
            timestamp,
            ssrc,
            arrived.arrivals[i],
            max_ahead,
        )
