"""The kernels in NumPy: what runs where numba cannot, and what the compiled ones are compared with.

Packets of different legs do not touch each other, so the batch goes in rounds: the first packet of every leg, then the
second of every leg that has one, and so on. Within a round, audio in order is placed for all legs at once; whatever
is unusual goes one packet at a time through the plain Python form of the kernel.
"""

import numpy as np
import numpy.typing as npt

from inference.rtp.accept import accept, set_aside
from inference.rtp.jit import plain
from inference.rtp.layout import (
    ANCHOR,
    BAD_SEQ,
    BYTES,
    CODEC_PCMA,
    CODEC_PCMU,
    CODEC_SEALED,
    CODEC_UNKNOWN,
    DATAGRAMS,
    DELAY,
    EPOCH_RECEIVED,
    EXT_SEQ,
    FIRST_POS,
    FOREIGN,
    FOREIGN_EVER,
    GAP,
    HASH_WORDS,
    IS_SEALED,
    LAST_ARRIVAL,
    MALFORMED,
    NEXT_POS,
    NUM_SIDE,
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
    UNREGISTERED,
    Arrived,
    Int,
    Int64s,
    Tables,
    UInt64s,
)

_LOW_BITS = np.array([(1 << n) - 1 for n in range(65)], np.uint64)
"""uint64 ``[65]``: the lowest n bits set."""


def _store_one(
    ring: npt.NDArray[np.int16],
    bitmap: UInt64s,
    decode: npt.NDArray[np.int16],
    slot: int,
    codec: int,
    position: Int,
    rows: npt.NDArray[np.uint8],
    row: int,
    offset: Int,
    num: Int,
) -> None:
    """See :func:`inference.rtp.accept.store`; slices instead of a loop over samples."""
    size, position, num = ring.shape[1], int(position), int(num)  # Python's own: a mask has 64 bits
    start = position & (size - 1)
    samples = decode[codec - CODEC_PCMU].take(rows[row, offset : offset + num])
    until_wrap = min(num, size - start)
    ring[slot, start : start + until_wrap] = samples[:until_wrap]
    ring[slot, : num - until_wrap] = samples[until_wrap:]
    words = bitmap[slot]
    for word in range(start >> 6, (start + num + 63) >> 6):
        low, high = max(0, start - 64 * word), min(64, start + num - 64 * word)
        words[word & (len(words) - 1)] |= np.uint64((1 << high) - (1 << low))


_accept = plain(accept, store=_store_one)
_set_aside = plain(set_aside)


def receive(
    tables: Tables, arrived: Arrived, num: Int, port: Int, exclusive: Int, max_ahead: Int, is_opened: bool
) -> None:
    """See :func:`inference.rtp.kernel.receive`."""
    plane, rows, width = tables.plane, arrived.rows[:num], arrived.rows.shape[1]
    lengths = arrived.lengths[:num].astype(np.int64)
    every = np.arange(len(rows))
    plane[NUM_SIDE] = 0
    plane[DATAGRAMS] += 0 if is_opened else num
    fits = lengths <= width
    plane[OVERSIZED] += np.count_nonzero(~fits)
    is_version_2 = fits & (lengths >= 8) & (rows[:, 0] & 0xC0 == 0x80)
    is_rtcp = is_version_2 & (rows[:, 1] >= 192) & (rows[:, 1] <= 223)
    plane[RTCP] += np.count_nonzero(is_rtcp)

    offsets = 12 + 4 * (rows[:, 0] & 0x0F).astype(np.int64)
    has_extension, has_padding = rows[:, 0] & 0x10 != 0, rows[:, 0] & 0x20 != 0
    is_whole = ~has_extension | (offsets + 4 <= lengths)
    num_words = rows[every, offsets + 2].astype(np.int64) << 8 | rows[every, offsets + 3]
    offsets += np.where(has_extension, 4 + 4 * num_words, 0)
    owners = np.full(len(rows), exclusive)
    if exclusive < 0:
        owners[is_version_2] = _find(tables, _words(arrived.sources[:num][is_version_2]), port)
    is_sealed = (owners >= 0) & (tables.state[owners, IS_SEALED] == 1) & (not is_opened)
    has_padding &= ~is_sealed
    padding = np.where(has_padding, rows[every, np.clip(lengths - 1, 0, width - 1)].astype(np.int64), 0)
    is_whole &= (offsets <= lengths - padding) & ~(has_padding & (padding == 0))
    plane[MALFORMED] += np.count_nonzero(fits & ~is_version_2) + np.count_nonzero(is_version_2 & ~is_rtcp & ~is_whole)

    valid = np.flatnonzero(is_version_2 & ~is_rtcp & is_whole)
    payload_types = (rows[valid, 1] & 0x7F).astype(np.int64)
    slots = owners[valid]
    if exclusive < 0:
        is_ours = slots >= 0
        plane[UNREGISTERED] += np.count_nonzero(~is_ours)
    else:
        is_ours = _latch(tables, exclusive, _words(arrived.sources[valid]), payload_types, is_sealed[valid])
        tables.state[exclusive, FOREIGN] += np.count_nonzero(~is_ours)
        plane[FOREIGN_EVER] += np.count_nonzero(~is_ours)
    for row in valid[is_ours & is_sealed[valid]].tolist():
        arrival = arrived.arrivals[row]
        _set_aside(tables, owners[row], CODEC_SEALED, rows, row, 0, lengths[row], 0, 0, 0, False, arrival)
    is_ours &= ~is_sealed[valid]
    valid, slots, payload_types = valid[is_ours], slots[is_ours], payload_types[is_ours]
    fields = rows[valid, 2:12].astype(np.int64)
    packets = np.stack(
        [
            valid,
            slots,
            tables.payload_types[slots, payload_types],
            offsets[valid],
            (lengths - padding)[valid],
            lengths[valid],
            fields[:, 0] << 8 | fields[:, 1],
            fields[:, 2] << 24 | fields[:, 3] << 16 | fields[:, 4] << 8 | fields[:, 5],
            fields[:, 6] << 24 | fields[:, 7] << 16 | fields[:, 8] << 8 | fields[:, 9],
            arrived.arrivals[valid],
        ],
        axis=1,
    )
    rounds = _rounds(slots)
    for turn in range(int(rounds.max(initial=-1)) + 1):
        _accept_round(tables, arrived.rows, packets[rounds == turn], max_ahead)


def _rounds(slots: Int64s) -> Int64s:
    """How many packets of the same leg come before each, ``[K]``."""
    order = np.argsort(slots, kind="stable")
    is_first = np.diff(slots[order], prepend=-1) != 0
    ranks = np.arange(len(slots))
    rounds = np.empty_like(slots)
    rounds[order] = ranks - np.maximum.accumulate(np.where(is_first, ranks, 0))
    return rounds


def _words(sources: UInt64s) -> UInt64s:
    """Sources ``[K, 4]`` as they are compared, ``[K, 3]``."""
    is_ipv4 = sources[:, 0] & np.uint64(0xFFFF) == 2
    words = sources[:, :3].copy()
    words[is_ipv4, 1:] = 0
    words[~is_ipv4, 0] &= np.uint64(0xFFFFFFFF)
    return words


def _latch(
    tables: Tables, slot: Int, words: UInt64s, payload_types: Int64s, is_sealed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Which of the packets of a leg that has its port to itself are its own; its first source becomes its only one.

    A sealed packet does not latch, but may be the first: that is known once it was opened.
    """
    key, begin = tables.keys[slot], 0
    is_known = tables.payload_types[slot, payload_types] != CODEC_UNKNOWN
    if key[0] == 0:
        if is_sealed.any() or not is_known.any():
            return np.asarray(is_known)
        begin = int(is_known.argmax())
        key[:3] = words[begin]
    is_same: npt.NDArray[np.bool_] = (words == key[:3]).all(axis=1)
    return is_same & (np.arange(len(words)) >= begin)


def _find(tables: Tables, words: UInt64s, port: Int) -> Int64s:
    """Leg rows of sources ``[K, 3]``, -1 where there is none."""
    keys = np.concatenate([words, np.full((len(words), 1), port, np.uint64)], axis=1)
    factors = np.array(HASH_WORDS, np.uint64)
    mixed = keys[:, 0] ^ keys[:, 1] * factors[1] ^ keys[:, 2] * factors[2] ^ keys[:, 3] << np.uint64(48)
    last = len(tables.places) - 1
    places = (mixed * factors[0] >> np.uint64(40)).astype(np.int64) * (last + 1) >> 24
    slots = np.full(len(words), -1)
    open_ones = np.arange(len(words))
    while len(open_ones):
        found = tables.places[places[open_ones]].astype(np.int64)
        is_match = (found >= 0) & (tables.keys[found] == keys[open_ones]).all(axis=1)
        slots[open_ones[is_match]] = found[is_match]
        open_ones = open_ones[(found >= 0) & ~is_match]
        places[open_ones] = (places[open_ones] + 1) & last
    return slots


def _accept_round(tables: Tables, rows: npt.NDArray[np.uint8], packets: Int64s, max_ahead: Int) -> None:
    """Take one packet each of some legs; ``packets`` is int64 ``[K, 10]``."""
    _, slots, codecs, offsets, ends, _, sequence_numbers, timestamps, ssrcs, arrivals = packets.T
    state, nums = tables.state[slots], ends - offsets
    steps = ((sequence_numbers - state[:, EXT_SEQ] + 0x8000) & 0xFFFF) - 0x8000
    positions = state[:, REF_POS] + ((timestamps - state[:, REF_TS] + 0x80000000) & 0xFFFFFFFF) - 0x80000000
    is_usual = (
        (state[:, EXT_SEQ] >= 0)
        & (ssrcs == state[:, SSRC])
        & (steps > 0)
        & (steps < SEQ_WINDOW)
        & ((codecs == CODEC_PCMU) | (codecs == CODEC_PCMA))
        & (state[:, ANCHOR] == 1)
        & (nums > 0)
    )
    is_off = (positions < state[:, READ]) | (positions + nums > arrivals + max_ahead)
    positions = np.where(is_off, np.maximum(arrivals - nums, state[:, READ]), positions)
    is_usual &= positions + nums <= state[:, READ] + tables.ring.shape[1]
    _account(tables, packets[is_usual], steps[is_usual], positions[is_usual], is_off[is_usual])
    for num in np.unique(nums[is_usual]):
        same = is_usual & (nums == num)
        _store(tables, rows, packets[same], positions[same], int(num))
    for row, slot, codec, begin, end, size, sequence, timestamp, ssrc, arrival in packets[~is_usual].tolist():
        _accept(tables, slot, codec, rows, row, begin, end, size, sequence, timestamp, ssrc, arrival, max_ahead)


def _account(tables: Tables, packets: Int64s, steps: Int64s, positions: Int64s, is_off: npt.NDArray[np.bool_]) -> None:
    """Counters and time base of legs whose next audio packet came in order."""
    _, slots, _, offsets, ends, num_bytes, _, timestamps, _, arrivals = packets.T
    state = tables.state[slots]
    state[:, RECEIVED] += 1
    state[:, BYTES] += num_bytes
    state[:, LAST_ARRIVAL] = arrivals
    state[:, EXT_SEQ] += steps
    state[:, SEQ_MASK] = state[:, SEQ_MASK] << steps | 1
    state[:, EPOCH_RECEIVED] += 1
    state[:, BAD_SEQ] = -1
    state[:, REANCHORS] += is_off
    state[:, SILENCE] += np.where((steps == 1) & ~is_off, np.maximum(positions - state[:, NEXT_POS], 0), 0)
    state[:, REF_TS] = timestamps
    state[:, REF_POS] = positions
    state[:, NEXT_POS] = positions + ends - offsets
    is_first = (state[:, FIRST_POS] < 0) | (positions < state[:, FIRST_POS])
    state[is_first, FIRST_POS] = positions[is_first]
    tables.state[slots] = state


def _store(tables: Tables, rows: npt.NDArray[np.uint8], packets: Int64s, positions: Int64s, num: int) -> None:
    """Decode payloads of ``num`` bytes each into different legs' rings."""
    indices, slots, codecs, offsets = packets.T[:4]
    size = tables.ring.shape[1]
    starts = positions & (size - 1)
    fields = np.stack([indices, slots, codecs - CODEC_PCMU, offsets, starts], axis=1)
    for row, slot, law, begin, start in fields.tolist():  # slices beat index arrays
        samples = tables.decode[law].take(rows[row, begin : begin + num])
        until_wrap = min(num, size - start)
        tables.ring[slot, start : start + until_wrap] = samples[:until_wrap]
        if until_wrap < num:
            tables.ring[slot, : num - until_wrap] = samples[until_wrap:]
    for words, mask in _spans(tables, positions, np.full(len(slots), num)):
        tables.bitmap[slots, words] |= mask


def _spans(tables: Tables, positions: Int64s, nums: Int64s) -> list[tuple[Int64s, UInt64s]]:
    """Bitmap words and masks that cover ``nums`` samples from ``positions``; one pair per word of the longest."""
    num_words = tables.bitmap.shape[1]
    bits = positions & 63
    return [
        (
            ((positions >> 6) + k) & (num_words - 1),
            _LOW_BITS[np.clip(bits + nums - 64 * k, 0, 64)] & ~_LOW_BITS[np.clip(bits - 64 * k, 0, 64)],
        )
        for k in range((int(nums.max(initial=0)) + 126) // 64)
    ]


def read(
    tables: Tables,
    slots: Int64s,
    until: Int,
    starts: Int64s,
    nums: Int64s,
    samples: npt.NDArray[np.int16],
    present: npt.NDArray[np.bool_],
) -> None:
    """See :func:`inference.rtp.reader.read`."""
    starts[:], nums[:], samples[:], present[:] = 0, 0, 0, False
    used = np.flatnonzero(slots >= 0)
    begins, delays = tables.state[slots[used], READ], tables.state[slots[used], DELAY]
    # One group, or one of each delay, once all have been read to the same position.
    for begin, delay in np.unique(np.stack([begins, delays], axis=1), axis=0).tolist():
        group = used[(begins == begin) & (delays == delay)]
        num = min(max(until - delay - begin, 0), samples.shape[1])
        starts[group], nums[group] = begin, num
        _read_group(tables, slots[group], int(begin), int(num), samples, present, group)


def _read_group(
    tables: Tables,
    slots: Int64s,
    begin: int,
    num: int,
    samples: npt.NDArray[np.int16],
    present: npt.NDArray[np.bool_],
    group: npt.NDArray[np.intp],
) -> None:
    """Read ``num`` samples from position ``begin`` of legs whose readers stand there, into rows ``group``."""
    size, num_present, done = tables.ring.shape[1], np.zeros(len(slots), np.int64), 0
    while done < num:
        start = (begin + done) & (size - 1)
        end = min(start + num - done, size)
        first_word, last_word = start >> 6, (end + 63) >> 6
        words = tables.bitmap[slots, first_word:last_word]
        bits = np.unpackbits(words.astype("<u8", copy=False).view(np.uint8), axis=1, bitorder="little")
        bits = bits[:, start - 64 * first_word : end - 64 * first_word]
        columns = slice(done, done + end - start)
        present[group, columns] = bits
        samples[group, columns] = tables.ring[slots, start:end] * bits
        num_present += bits.sum(axis=1, dtype=np.int64)
        kept = np.zeros(last_word - first_word, np.uint64)
        kept[0] |= _LOW_BITS[start & 63]
        kept[-1] |= ~_LOW_BITS[end - 64 * (last_word - 1)]
        tables.bitmap[slots, first_word:last_word] = words & kept
        done += end - start
    first = tables.state[slots, FIRST_POS]
    gaps = num - np.clip(first - begin, 0, num) - num_present
    tables.state[slots, GAP] += np.where(first >= 0, gaps, 0)
    tables.state[slots, READ] = begin + num
