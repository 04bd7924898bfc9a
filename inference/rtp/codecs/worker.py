"""A decoder process: batches in over one socket, samples out over the same, until the other end closes it.

    python -m inference.rtp.codecs.worker FD

Whatever a hostile payload does to a decoder stays in here: if this process dies, the plane starts another.
"""

import signal
import socket
import sys

from inference.rtp.codecs.decoding import Decoding
from inference.rtp.codecs.messages import MAX_MESSAGE_BYTES, answer_bytes, parse_batch


def serve(sock: socket.socket) -> None:
    """Answer every batch, in order."""
    decoding = Decoding()
    while True:
        data = sock.recv(MAX_MESSAGE_BYTES)
        if not data:
            return
        sock.sendall(answer_bytes(decoding.take(*parse_batch(data))))


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
