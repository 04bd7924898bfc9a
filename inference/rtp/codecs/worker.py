"""A decoder process: batches in over one socket, samples out over the same, until the other end closes it.

    python -m inference.rtp.codecs.worker FD

Whatever a hostile payload does to a decoder stays in here: if this process dies, the plane starts another.
"""

import signal
import socket
import struct
import sys

import numpy as np
import numpy.typing as npt

from inference.rtp.codecs.decoding import NUM_DECODED_COLUMNS, Decoded, Decoding
from inference.rtp.layout import NUM_SIDE_COLUMNS, Int64s

MAX_MESSAGE_BYTES = 1 << 20
_BATCH = struct.Struct("=qq")  # number of packets; position now
_ANSWER = struct.Struct("=qq")  # number of pieces, of packets that failed


def batch_bytes(side: Int64s, payloads: npt.NDArray[np.uint8], now: int) -> bytes:
    """A batch as it is sent; see :meth:`Decoding.take`."""
    return _BATCH.pack(len(side), now) + side.tobytes() + payloads.tobytes()


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


def serve(sock: socket.socket) -> None:
    """Answer every batch, in order."""
    decoding = Decoding()
    while True:
        data = sock.recv(MAX_MESSAGE_BYTES)
        if not data:
            return
        num, now = _BATCH.unpack_from(data)
        side = np.frombuffer(data, np.int64, NUM_SIDE_COLUMNS * num, _BATCH.size).reshape(-1, NUM_SIDE_COLUMNS)
        payloads = np.frombuffer(data, np.uint8, offset=_BATCH.size + side.nbytes)
        sock.sendall(answer_bytes(decoding.take(side, payloads, now)))


def main() -> None:
    """Run until the plane goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the plane, which then closes the socket
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        try:
            serve(sock)
        except (BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main()
