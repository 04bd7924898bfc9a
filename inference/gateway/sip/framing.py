"""Where messages end in a stream."""

from inference.errors import SignallingError
from inference.gateway.sip.message import MAX_HEAD_BYTES, MAX_MESSAGE_BYTES, content_length, head_end, parse_head


class Framer:
    """Cuts a stream into messages by their Content-Length (RFC 3261 section 18.3)."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0
        self._needed: int | None = None

    @property
    def is_partial(self) -> bool:
        """Whether a message has begun and is not whole."""
        return bool(self._data)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; give the messages that are whole now. An empty one is a ping (CRLF CRLF, RFC 5626).

        Raises:
            SignallingError: where messages end cannot be told any more: the connection must be closed.
        """
        self._data += data
        out: list[bytes] = []
        while self._data:
            if self._needed is None and not self._read_head(out):
                break
            if self._needed is None or len(self._data) < self._needed:
                break
            out.append(bytes(self._data[: self._needed]))
            del self._data[: self._needed]
            self._needed, self._searched = None, 0
        return out

    def _read_head(self, out: list[bytes]) -> bool:
        """Learn how long the next message is; False until its head is there."""
        num_blank = len(self._data) - len(self._data.lstrip(b"\r\n"))
        if num_blank and self._searched == 0:
            if num_blank == len(self._data) and num_blank < 4:
                return False  # half a ping
            out += [b""] * (num_blank >= 4)
            del self._data[:num_blank]
            if not self._data:
                return False
        end = head_end(self._data, self._searched)
        if end is None:
            if len(self._data) > MAX_HEAD_BYTES:
                raise SignallingError(f"message head is longer than {MAX_HEAD_BYTES} bytes")
            self._searched = max(0, len(self._data) - 3)
            return True
        _, headers = parse_head(bytes(self._data[:end]))
        length = content_length(headers)
        if length is None:
            raise SignallingError("message in a stream has no Content-Length")
        if end + length > MAX_MESSAGE_BYTES:
            raise SignallingError(f"message is longer than {MAX_MESSAGE_BYTES} bytes")
        self._needed = end + length
        return True
