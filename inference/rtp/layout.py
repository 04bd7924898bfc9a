"""What the packet kernels work on: flat arrays, one row per leg, and the meaning of their columns.

Positions are sample indices of the plane's clock: ``position = arrival_s * 8000``. All legs share that axis, so the
two legs of a call line up without looking at RTCP.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Int: TypeAlias = int | np.int64
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
IS_ANCHORED = 10  # REF_TS and REF_POS hold
BASE_SEQ = 11  # first extended sequence number of this SSRC
BAD_SEQ = 12  # the sequence number that would confirm a jump; -1 for none
LAST_ARRIVAL = 13  # position
FIRST_POS = 14  # position of the first sample of the leg; -1 before
GENERATION = 15  # how often the row was given out
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
NUM_STATE = 40  # a multiple of 8: rows begin on cache lines

# Positions in ``Tables.plane``.
DATAGRAMS = 0
OVERSIZED = 1
MALFORMED = 2
RTCP = 3
UNREGISTERED = 4
EVENT_HEAD = 5  # telephone events ever recorded
NUM_PLANE = 8

# Columns of ``Tables.events``.
EVENT_SLOT, EVENT_GENERATION, EVENT_DIGIT, EVENT_NUM_SAMPLES, EVENT_POS, EVENT_IS_COMPLETE = range(6)

# Values of ``Tables.payload_types``.
CODEC_UNKNOWN, CODEC_PCMU, CODEC_PCMA, CODEC_COMFORT_NOISE, CODEC_EVENT = range(5)

SEQ_WINDOW = 64  # packets, width of SEQ_MASK
MAX_DROPOUT = 3000  # packets (RFC 3550 A.1): a larger step must be confirmed by the packet after it
MAX_MISORDER = 100  # packets (RFC 3550 A.1)

HASH_WORDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd 64-bit constants of xxHash64


class Tables(NamedTuple):
    """All memory of a plane; shapes with L legs, R ring samples, H hash places, E events.

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
