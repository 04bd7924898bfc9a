"""Every rule for a valid RTP packet of a leg; the kernels come here with all that is not audio in order."""

import numpy as np
import numpy.typing as npt

from inference.rtp.durations import clock_of, measure, signed_32
from inference.rtp.jit import ALL_BITS, jit
from inference.rtp.keys import on_event, record_event
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
    CODEC_RED,
    CODEC_UNKNOWN,
    COMFORT_NOISE,
    DUPLICATE,
    EPOCH_RECEIVED,
    EVENT_CODE,
    EVENT_DONE,
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
from inference.rtp.red import MAX_BLOCKS, find_block


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
    if codec == CODEC_RED:
        before, whole = state[NEXT_POS], offset
        payload_type, _, offset, newest_end = find_block(rows, row, whole, end, 0)
        codec = np.int64(tables.payload_types[slot, payload_type]) if payload_type >= 0 else CODEC_UNKNOWN
        if step > 1 and state[ANCHOR] == clock_of(codec):
            recover(tables, slot, codec, rows, row, whole, end, before, step, timestamp, arrival, max_ahead)
        end = newest_end
    take_payload(tables, slot, codec, rows, row, offset, end, step, timestamp, arrival, max_ahead)


@jit
def take_payload(
    tables: Tables,
    slot: Int,
    codec: Int,
    rows: npt.NDArray[np.uint8],
    row: Int,
    offset: Int,
    end: Int,
    step: Int,
    timestamp: Int,
    arrival: Int,
    max_ahead: Int,
) -> None:
    """Store audio, follow keys, set compressed speech aside."""
    state, num = tables.state[slot], end - offset
    if codec in (CODEC_PCMU, CODEC_PCMA):
        position = place(state, tables.ring.shape[1], num, 1, False, step, timestamp, arrival, max_ahead)
        if position >= 0:
            store(tables.ring, tables.bitmap, tables.decode, slot, codec, position, rows, row, offset, num)
    elif codec == CODEC_EVENT:
        on_event(tables, state, slot, rows, row, offset, num, timestamp, step > 0)
    elif codec == CODEC_COMFORT_NOISE:
        state[COMFORT_NOISE] += 1
    elif CODEC_G722 <= codec < CODEC_RED:
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
def recover(
    tables: Tables,
    slot: Int,
    codec: Int,
    rows: npt.NDArray[np.uint8],
    row: Int,
    offset: Int,
    end: Int,
    before: Int,
    step: Int,
    timestamp: Int,
    arrival: Int,
    max_ahead: Int,
) -> None:
    """Take copies of packets that were lost just before a redundant one, oldest first, as if those had come in time.

    A copy counts as the packet that many before; it is used if it fits between what was received and the newest.
    """
    state, clock = tables.state[slot], clock_of(codec)
    newest = state[REF_POS] + signed_32(timestamp - state[REF_TS]) // clock
    if newest > arrival + max_ahead:
        return
    until = before
    for back in range(min(step - 1, MAX_BLOCKS), 0, -1):
        payload_type, older, begin, block_end = find_block(rows, row, offset, end, back)
        if payload_type < 0 or np.int64(tables.payload_types[slot, payload_type]) != codec:
            continue
        num, position = block_end - begin, newest - older // clock
        if CODEC_G722 <= codec < CODEC_RED:
            num, _ = measure(codec, rows, row, begin, num)
        if (
            num == 0
            or position < max(until, state[READ])
            or position + num > min(newest, state[READ] + tables.ring.shape[1])
        ):
            continue
        until = position + num
        if codec in (CODEC_PCMU, CODEC_PCMA):
            store(tables.ring, tables.bitmap, tables.decode, slot, codec, position, rows, row, begin, num)
        elif CODEC_G722 <= codec < CODEC_RED:
            set_aside(tables, slot, codec, rows, row, begin, block_end, position, num, -back, False, arrival)


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
