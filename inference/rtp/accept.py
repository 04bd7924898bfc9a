"""Every rule for a valid RTP packet of a leg; the kernels come here with all that is not audio in order."""

import numpy as np
import numpy.typing as npt

from inference.rtp.durations import clock_of, measure
from inference.rtp.jit import ALL_BITS, jit
from inference.rtp.layout import (
    ANCHOR,
    BAD_SEQ,
    BASE_SEQ,
    BLOCKED_SSRC,
    BLOCKED_UNTIL,
    BYTES,
    CODEC_COMFORT_NOISE,
    CODEC_EVENT,
    CODEC_G722,
    CODEC_PCMA,
    CODEC_PCMU,
    COMFORT_NOISE,
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
    GENERATION,
    LAST_ARRIVAL,
    LATE,
    LOST_BEFORE,
    MAX_DROPOUT,
    MAX_MISORDER,
    NEXT_POS,
    NUM_SIDE,
    OVERRUN,
    READ,
    REANCHORS,
    RECEIVED,
    REF_POS,
    REF_TS,
    SEQ_MASK,
    SEQ_WINDOW,
    SIDE_ARRIVAL,
    SIDE_CODEC,
    SIDE_END,
    SIDE_GENERATION,
    SIDE_IS_FRESH,
    SIDE_NUM_SAMPLES,
    SIDE_OFFSET,
    SIDE_PAYLOAD_TYPE,
    SIDE_POS,
    SIDE_ROW,
    SIDE_SEQ,
    SIDE_SLOT,
    SILENCE,
    SSRC,
    SSRC_CHANGES,
    STRAY,
    UNDECODED,
    UNKNOWN_PAYLOAD,
    Bool,
    Int,
    Int64s,
    Tables,
    UInt64s,
)


@jit
def signed_32(value: Int) -> Int:
    """Difference of two timestamps, wrapped to -2^31 .. 2^31-1."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


@jit
def store(
    ring: npt.NDArray[np.int16],
    bitmap: UInt64s,
    decode: npt.NDArray[np.int16],
    slot: Int,
    codec: Int,
    position: Int,
    rows: npt.NDArray[np.uint8],
    row: Int,
    offset: Int,
    num: Int,
) -> None:
    """Decode ``num`` bytes of a row into a leg's ring at ``position`` and set its presence bits."""
    # Unsigned indices spare the compiled loop Python's negative ones.
    size, num_words, law = ring.shape[1], bitmap.shape[1], np.uint64(codec - CODEC_PCMU)
    leg, packet = np.uint64(slot), np.uint64(row)
    start = position & (size - 1)
    until_wrap = min(num, size - start)
    for i in range(until_wrap):
        ring[leg, np.uint64(start + i)] = decode[law, rows[packet, np.uint64(offset + i)]]
    for i in range(until_wrap, num):
        ring[leg, np.uint64(start + i - size)] = decode[law, rows[packet, np.uint64(offset + i)]]
    word, bit, left = start >> 6, start & 63, num
    while left > 0:
        take = min(left, 64 - bit)
        bitmap[leg, np.uint64(word)] |= (ALL_BITS >> np.uint64(64 - take)) << np.uint64(bit)
        left -= take
        bit = 0
        word = (word + 1) & (num_words - 1)


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
    in_order: bool,
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
    state[ANCHOR] = 0


@jit
def accept(
    tables: Tables,
    slot: Int,
    codec: Int,
    rows: npt.NDArray[np.uint8],
    row: Int,
    offset: Int,
    end: Int,
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
    num, is_in_order = end - offset, step > 0
    if codec in (CODEC_PCMU, CODEC_PCMA):
        position = place(state, tables.ring.shape[1], num, 1, False, step, timestamp, arrival, max_ahead)
        if position >= 0:
            store(tables.ring, tables.bitmap, tables.decode, slot, codec, position, rows, row, offset, num)
    elif codec == CODEC_EVENT:
        on_event(tables, state, slot, rows, row, offset, num, timestamp, is_in_order)
    elif codec == CODEC_COMFORT_NOISE:
        state[COMFORT_NOISE] += 1
    elif codec >= CODEC_G722:
        num_samples, is_noise = measure(codec, rows, row, offset, num)
        if num_samples == 0:
            state[UNKNOWN_PAYLOAD] += 1
            return
        state[COMFORT_NOISE] += is_noise
        clock = clock_of(codec)
        is_fresh = state[ANCHOR] != clock
        position = place(state, tables.ring.shape[1], num_samples, clock, is_noise, step, timestamp, arrival, max_ahead)
        if position >= 0:
            set_aside(tables, slot, codec, rows, row, offset, end, position, num_samples, step, is_fresh, arrival)
    else:
        state[UNKNOWN_PAYLOAD] += 1


@jit
def place(
    state: Int64s,
    size: Int,
    num: Int,
    clock: Int,
    is_noise: Bool,
    step: Int,
    timestamp: Int,
    arrival: Int,
    max_ahead: Int,
) -> Int:
    """Find the position of ``num`` samples of audio by their timestamp; -1 if they are not to be used.

    The first packet of an epoch ends at its arrival. A packet in order is never thrown away: where its timestamp
    points behind the reader (the sender paused without counting on, or the network stalled) or further ahead than
    ``max_ahead`` (the clocks have drifted, or the timestamp jumped) it is anchored anew on its arrival; so it is where
    timestamps begin to count by another clock.
    """
    if num == 0:
        return -1
    fresh: Int = max(arrival - num, state[READ])
    position: Int = fresh
    if state[ANCHOR] not in (0, clock):
        if step <= 0:
            state[STRAY] += 1
            return -1
        state[REANCHORS] += 1
    elif state[ANCHOR] != 0:
        position = state[REF_POS] + signed_32(timestamp - state[REF_TS]) // clock
        if step > 0:
            if position < state[READ] or position + num > arrival + max_ahead:
                position = fresh
                state[REANCHORS] += 1
            elif step == 1 and position > state[NEXT_POS]:
                state[SILENCE] += position - state[NEXT_POS]  # a gap in time, none in sequence: the sender was silent
        elif position < state[READ]:
            state[LATE] += 1
            return -1
        elif position + num > state[NEXT_POS]:
            state[STRAY] += 1  # sent earlier than the newest packet, yet it claims a later time
            return -1
    if step > 0 or state[ANCHOR] == 0:
        state[ANCHOR] = clock
        state[REF_TS] = timestamp
        state[REF_POS] = position
        state[NEXT_POS] = position + num
    if position + num > state[READ] + size:
        state[OVERRUN] += 1
        return -1
    if not is_noise and (state[FIRST_POS] < 0 or position < state[FIRST_POS]):
        state[FIRST_POS] = position
    return position


@jit
def set_aside(
    tables: Tables,
    slot: Int,
    codec: Int,
    rows: npt.NDArray[np.uint8],
    row: Int,
    offset: Int,
    end: Int,
    position: Int,
    num: Int,
    step: Int,
    is_fresh: Bool,
    arrival: Int,
) -> None:
    """Note a packet down for those who open or decode it."""
    state = tables.state[slot]
    if tables.plane[NUM_SIDE] >= tables.side.shape[0]:
        state[UNDECODED] += 1
        return
    side = tables.side[tables.plane[NUM_SIDE]]
    side[SIDE_ROW] = row
    side[SIDE_SLOT] = slot
    side[SIDE_GENERATION] = state[GENERATION]
    side[SIDE_CODEC] = codec
    side[SIDE_OFFSET] = offset
    side[SIDE_END] = end
    side[SIDE_PAYLOAD_TYPE] = rows[row, 1] & 0x7F
    side[SIDE_POS] = position
    side[SIDE_NUM_SAMPLES] = num
    side[SIDE_SEQ] = state[EXT_SEQ] + min(step, 0)  # a packet in order has moved EXT_SEQ already
    side[SIDE_IS_FRESH] = is_fresh
    side[SIDE_ARRIVAL] = arrival
    tables.plane[NUM_SIDE] += 1
