"""How much time the payload of a compressed packet covers: read from the payload, never from what was promised."""

import numpy as np
import numpy.typing as npt

from inference.rtp.jit import jit
from inference.rtp.layout import (
    CODEC_AMR_ALIGNED,
    CODEC_AMR_WB,
    CODEC_AMR_WB_ALIGNED,
    CODEC_G722,
    CODEC_G729,
    CODEC_GSM,
    CODEC_ILBC,
    CODEC_OPUS,
    SAMPLE_RATE_HZ,
    Bool,
    Int,
)

FRAME = SAMPLE_RATE_HZ * 20 // 1000  # samples of 20 ms
FRAME_10_MS = FRAME // 2
FRAME_30_MS = FRAME + FRAME_10_MS
FRAME_2_5_MS = FRAME // 8
MAX_OPUS_SAMPLES = 6 * FRAME  # 120 ms (RFC 6716 section 3.2.5)
GSM_BYTES = 33  # RFC 3551 section 4.5.8
ILBC_20_BYTES, ILBC_30_BYTES = 38, 50  # RFC 3952 section 3
G729_BYTES, G729_SID_BYTES = 10, 2  # RFC 3551 section 4.5.6
AMR_SID, AMR_WB_SID, AMR_NO_DATA = 8, 9, 15  # frame types (3GPP TS 26.101, 26.201)


@jit
def signed_32(value: Int) -> Int:
    """Difference of two timestamps, wrapped to -2^31 .. 2^31-1."""
    return ((value + 0x80000000) & 0xFFFFFFFF) - 0x80000000


@jit
def clock_of(codec: Int) -> Int:
    """Timestamp ticks per sample at 8 kHz. G.722 counts 8000 a second although it samples 16,000 (RFC 3551)."""
    if codec == CODEC_OPUS:
        return 6  # always 48 kHz (RFC 7587)
    if codec in (CODEC_AMR_WB, CODEC_AMR_WB_ALIGNED):
        return 2
    return 1


@jit
def measure(codec: Int, rows: npt.NDArray[np.uint8], row: Int, offset: Int, num: Int) -> tuple[Int, Bool]:
    """What ``num`` bytes of a row cover: samples at 8 kHz, 0 if no payload; and whether all is comfort noise."""
    if num == 0:
        return 0, False
    if codec == CODEC_G722:
        return num, False
    if codec == CODEC_GSM:
        return (FRAME * (num // GSM_BYTES) if num % GSM_BYTES == 0 else 0), False
    if codec == CODEC_ILBC:
        if num % ILBC_20_BYTES == 0:
            return FRAME * (num // ILBC_20_BYTES), False
        return (FRAME_30_MS * (num // ILBC_30_BYTES) if num % ILBC_30_BYTES == 0 else 0), False
    if codec == CODEC_G729:
        frames, rest = num // G729_BYTES, num % G729_BYTES
        if rest not in (0, G729_SID_BYTES):
            return 0, False
        return FRAME_10_MS * (frames + (rest > 0)), frames == 0
    if codec == CODEC_OPUS:
        return measure_opus(np.int64(rows[row, offset]), np.int64(rows[row, offset + 1]) if num > 1 else 0, num)
    if codec in (CODEC_AMR_ALIGNED, CODEC_AMR_WB_ALIGNED):
        return measure_amr_aligned(rows, row, offset, num, codec == CODEC_AMR_WB_ALIGNED)
    return measure_amr(rows, row, offset, num, codec == CODEC_AMR_WB)


@jit
def measure_opus(toc: Int, count: Int, num: Int) -> tuple[Int, Bool]:
    """An Opus packet by its first two bytes (RFC 6716 section 3.1); one of two bytes or fewer is DTX."""
    config, code = toc >> 3, toc & 3
    if config >= 16:
        frame = FRAME_2_5_MS << (config & 3)  # CELT: 2.5, 5, 10, 20 ms
    elif config >= 12:
        frame = FRAME_10_MS << (config & 1)  # hybrid: 10, 20 ms
    elif config & 3 == 3:
        frame = 3 * FRAME  # SILK: 10, 20, 40, 60 ms
    else:
        frame = FRAME_10_MS << (config & 3)
    frames: Int = 1 if code == 0 else 2
    if code == 3:
        frames = count & 0x3F if num > 1 else 0
    total = frames * frame
    return (total if total <= MAX_OPUS_SAMPLES else 0), num <= 2


@jit
def measure_amr_aligned(
    rows: npt.NDArray[np.uint8], row: Int, offset: Int, num: Int, is_wide: bool
) -> tuple[Int, Bool]:
    """Octet-aligned AMR (RFC 4867 section 4.4): a byte of mode request, then a byte per frame in the table."""
    frames, at = 0, 1
    is_noise: Bool = True
    goes_on: Bool = True
    while goes_on:
        if at >= num:
            return 0, False
        entry = np.int64(rows[row, offset + at])
        frame_type, goes_on = (entry >> 3) & 15, entry & 0x80 != 0
        is_noise = is_noise and frame_type >= (AMR_WB_SID if is_wide else AMR_SID)
        frames += 1
        at += 1
    return FRAME * frames, is_noise


@jit
def measure_amr(rows: npt.NDArray[np.uint8], row: Int, offset: Int, num: Int, is_wide: bool) -> tuple[Int, Bool]:
    """Bandwidth-efficient AMR (RFC 4867 section 4.3): 4 bits of mode request, then 6 per frame in the table."""
    frames, bit = 0, 4
    is_noise: Bool = True
    goes_on: Bool = True
    while goes_on:
        if bit + 6 > 8 * num:
            return 0, False
        at = offset + (bit >> 3)
        pair = np.int64(rows[row, at]) << 8
        if (bit >> 3) + 1 < num:
            pair |= np.int64(rows[row, at + 1])
        entry = (pair >> (10 - (bit & 7))) & 0x3F
        frame_type, goes_on = (entry >> 1) & 15, entry & 0x20 != 0
        is_noise = is_noise and frame_type >= (AMR_WB_SID if is_wide else AMR_SID)
        frames += 1
        bit += 6
    return FRAME * frames, is_noise
