"""What the packet kernels work on: flat arrays, one row per leg, and the meaning of their columns.

Positions are sample indices of the plane's clock: ``position = arrival_s * 8000``. All legs share that axis, so the
two legs of a call line up without looking at RTCP.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Int: TypeAlias = int | np.int64
Bool: TypeAlias = bool | np.bool_
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

SAMPLE_RATE_HZ = 8000

# Columns of ``Tables.state``. The first 16 are what an ordinary packet touches: two cache lines.
READ = 0  # position from which the reader has not read yet; nothing is written before it
SSRC = 1
EXT_SEQ = 2  # extended sequence number of the newest packet (RFC 3550 A.1); -1 before the first
SEQ_MASK = 3  # bit k: packet EXT_SEQ - k was received
EPOCH_RECEIVED = 4  # packets of this SSRC, without duplicates
REF_TS = 5  # timestamp of the newest audio packet ...
REF_POS = 6  # ... and the position of its first sample
NEXT_POS = 7  # position just after it
RECEIVED = 8
BYTES = 9
ANCHOR = 10  # ticks of REF_TS per sample of REF_POS: 1 for a clock of 8 kHz; 0 while neither holds
IS_SEALED = 11  # packets are encrypted: they are opened before they are looked at
BAD_SEQ = 12  # the sequence number that would confirm a jump; -1 for none
LAST_ARRIVAL = 13  # position
FIRST_POS = 14  # position of the first sample of the leg; -1 before
DELAY = 15  # samples that a reader waits longer than for other legs: what decoding takes
EVENT_TS = 16  # the telephone-event under way: timestamp,
EVENT_CODE = 17  # code (-1 for none),
EVENT_DURATION = 18  # longest duration told so far, samples,
EVENT_DONE = 19  # and whether it was put on record
BLOCKED_SSRC = 20  # SSRC of the call that had this source before us; -1 for none
BLOCKED_UNTIL = 21  # position until which it is ignored
LOST_BEFORE = 22  # lost packets of earlier SSRCs
LATE = 23
DUPLICATE = 24
STRAY = 25
FOREIGN = 26
UNKNOWN_PAYLOAD = 27
COMFORT_NOISE = 28
EVENTS = 29
SSRC_CHANGES = 30
REANCHORS = 31
OVERRUN = 32
SILENCE = 33  # samples
GAP = 34  # samples
BASE_SEQ = 35  # first extended sequence number of this SSRC
GENERATION = 36  # how often the row was given out
UNVERIFIED = 37
UNDECODED = 38
NUM_STATE = 40  # a multiple of 8: rows begin on cache lines

# Positions in ``Tables.plane``.
DATAGRAMS = 0
OVERSIZED = 1
MALFORMED = 2
RTCP = 3
UNREGISTERED = 4
EVENT_HEAD = 5  # telephone events ever recorded
NUM_SIDE = 6  # rows of ``Tables.side`` that the last batch filled
FOREIGN_EVER = 7  # of all legs there ever were, as are ...
UNVERIFIED_EVER = 8
NUM_PLANE = 16

# Columns of ``Tables.events``.
EVENT_SLOT, EVENT_GENERATION, EVENT_DIGIT, EVENT_NUM_SAMPLES, EVENT_POS, EVENT_IS_COMPLETE = range(6)

# Columns of ``Tables.side``: a packet that the kernel placed or found, and others have to open or decode.
SIDE_ROW = 0  # of the datagrams
SIDE_SLOT = 1
SIDE_GENERATION = 2
SIDE_CODEC = 3  # CODEC_SEALED: to be opened and received again; else to be decoded
SIDE_OFFSET = 4  # of the payload in the row
SIDE_END = 5
SIDE_PAYLOAD_TYPE = 6
SIDE_POS = 7  # of its first sample
SIDE_NUM_SAMPLES = 8
SIDE_SEQ = 9  # extended sequence number
SIDE_IS_FRESH = 10  # what came before says nothing about it: decoders begin anew
SIDE_ARRIVAL = 11
NUM_SIDE_COLUMNS = 12

# Values of ``Tables.payload_types``. The kernel decodes G.711 alone; codecs from CODEC_G722 on it only places.
CODEC_UNKNOWN, CODEC_PCMU, CODEC_PCMA, CODEC_COMFORT_NOISE, CODEC_EVENT = range(5)
CODEC_G722, CODEC_GSM, CODEC_ILBC, CODEC_G729, CODEC_OPUS = range(5, 10)
CODEC_AMR, CODEC_AMR_ALIGNED, CODEC_AMR_WB, CODEC_AMR_WB_ALIGNED = range(10, 14)
CODEC_RED = 32  # other payloads in one, with copies of earlier ones (RFC 2198)
CODEC_SEALED = 255

SEQ_WINDOW = 64  # packets, width of SEQ_MASK
MAX_DROPOUT = 3000  # packets (RFC 3550 A.1): a larger step must be confirmed by the packet after it
MAX_MISORDER = 100  # packets (RFC 3550 A.1)

HASH_WORDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd 64-bit constants of xxHash64


class Tables(NamedTuple):
    """All memory of a plane; shapes with L legs, R ring samples, H hash places, E events, S side rows.

    Attributes:
        places: int32 ``[H]``, leg row or -1; open addressing, linear probing.
        keys: uint64 ``[L, 4]``, source as three words and local port.
        state: int64 ``[L, NUM_STATE]``.
        payload_types: uint8 ``[L, 128]``, codec per payload type.
        ring: int16 ``[L, R]``, audio at ``position % R``.
        bitmap: uint64 ``[L, R // 64]``, bit set where the ring holds audio not read yet.
        decode: int16 ``[2, 256]``, µ-law and A-law.
        events: int64 ``[E, 6]``, the last E telephone events.
        plane: int64 ``[NUM_PLANE]``.
        side: int64 ``[S, NUM_SIDE_COLUMNS]``, packets of the last batch that others have to open or decode.
    """

    places: npt.NDArray[np.int32]
    keys: UInt64s
    state: Int64s
    payload_types: npt.NDArray[np.uint8]
    ring: npt.NDArray[np.int16]
    bitmap: UInt64s
    decode: npt.NDArray[np.int16]
    events: Int64s
    plane: Int64s
    side: Int64s


class Arrived(NamedTuple):
    """Datagrams of one local port, in order of arrival; B rows of W bytes.

    Attributes:
        rows: uint8 ``[B, W]``.
        lengths: uint32 ``[B]``, true length, above W where the row holds only the beginning.
        sources: uint64 ``[B, 4]``, socket address as the operating system lays it out.
        arrivals: int64 ``[B]``, positions.
    """

    rows: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.uint32]
    sources: UInt64s
    arrivals: Int64s
