"""Batches of packets to a decoder process and its answers: arrays and the bytes they travel as.

Imports no decoder: the plane's own process needs none.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.rtp import layout
from inference.rtp.layout import NUM_SIDE_COLUMNS, Int64s

NUM_DECODED_COLUMNS = 4
MAX_MESSAGE_BYTES = 1 << 20
_BATCH = struct.Struct("=qq")  # number of packets; position now
_ANSWER = struct.Struct("=qq")  # number of pieces, of packets that failed


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch.

    Attributes:
        pieces: int64 ``[M, 4]``: slot, generation, position and number of samples of each piece of audio.
        samples: int16, the pieces' samples at 8 kHz, one after the other.
        failed: int64 ``[F, 2]``: slot and generation of each packet that could not be decoded.
    """

    pieces: Int64s
    samples: npt.NDArray[np.int16]
    failed: Int64s


def batch_bytes(side: Int64s, payloads: npt.NDArray[np.uint8], now: int) -> bytes:
    """A batch as it is sent; see :meth:`Decoding.take`."""
    return _BATCH.pack(len(side), now) + side.tobytes() + payloads.tobytes()


def parse_batch(data: bytes) -> tuple[Int64s, npt.NDArray[np.uint8], int]:
    """The inverse of :func:`batch_bytes`."""
    num, now = _BATCH.unpack_from(data)
    side = np.frombuffer(data, np.int64, NUM_SIDE_COLUMNS * num, _BATCH.size).reshape(-1, NUM_SIDE_COLUMNS)
    return side, np.frombuffer(data, np.uint8, offset=_BATCH.size + side.nbytes), now


def answer_bytes(decoded: Decoded) -> bytes:
    """An answer as it is sent."""
    sizes = _ANSWER.pack(len(decoded.pieces), len(decoded.failed))
    return sizes + decoded.pieces.tobytes() + decoded.failed.tobytes() + decoded.samples.tobytes()


def parse_answer(data: bytes | bytearray) -> Decoded:
    """The inverse of :func:`answer_bytes`; arrays out of a bytearray can be written to, as the kernels want them."""
    num_pieces, num_failed = _ANSWER.unpack_from(data)
    at = _ANSWER.size
    pieces = np.frombuffer(data, np.int64, NUM_DECODED_COLUMNS * num_pieces, at).reshape(-1, NUM_DECODED_COLUMNS)
    at += pieces.nbytes
    failed = np.frombuffer(data, np.int64, 2 * num_failed, at).reshape(-1, 2)
    return Decoded(pieces, np.frombuffer(data, np.int16, offset=at + failed.nbytes), failed)


def pack(side: Int64s, rows: npt.NDArray[np.uint8]) -> tuple[Int64s, npt.NDArray[np.uint8]]:
    """Take the payloads that ``side`` points at out of datagram rows ``[B, W]``, one after the other.

    Returns:
        ``side`` with offsets into the payloads, and those, uint8.
    """
    packed = side.copy()
    sizes = side[:, layout.SIDE_END] - side[:, layout.SIDE_OFFSET]
    ends = np.cumsum(sizes)
    packed[:, layout.SIDE_OFFSET], packed[:, layout.SIDE_END] = ends - sizes, ends
    spans = side[:, [layout.SIDE_ROW, layout.SIDE_OFFSET, layout.SIDE_END]].tolist()
    return packed, np.concatenate([*(rows[row, begin:end] for row, begin, end in spans), np.zeros(0, np.uint8)])


def split(side: Int64s, num_parts: int) -> Iterator[tuple[int, Int64s]]:
    """Rows of each part that has some; a leg is always in the same one."""
    parts = side[:, layout.SIDE_SLOT] % num_parts
    for part in np.unique(parts).tolist():
        yield part, side[parts == part]
