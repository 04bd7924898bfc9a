"""SIP messages: ``parse`` and ``bytes()`` (RFC 3261 section 7), and the refusal of a request.

Read leniently where real peers are (folded lines, compact names, bare LF, any case), strictly where two readers could
disagree about where a message ends. Written in one form, so what we write and read again is equal.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from inference.errors import SignallingError
from inference.gateway.sip.syntax import WORD_PATTERN, split_list

MAX_MESSAGE_BYTES = 65_535
"""As much as a datagram can hold; streams are held to the same."""

MAX_HEAD_BYTES = 32_768
MAX_HEADERS = 256
MAX_LIST = 64
"""Elements of one comma-separated header."""

VERSION = "SIP/2.0"

COMPACT = {
    "a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition",
    "e": "Content-Encoding", "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported",
    "l": "Content-Length", "m": "Contact", "n": "Identity-Info", "o": "Event", "r": "Refer-To", "s": "Subject",
    "t": "To", "u": "Allow-Events", "v": "Via", "x": "Session-Expires", "y": "Identity",
}  # fmt: skip
"""Section 20, RFC 3515, 4028 … ."""

_NAMES = {
    name.lower(): name
    for name in (
        *COMPACT.values(), "Accept", "Allow", "Authorization", "Content-Disposition", "CSeq", "Date", "Expires",
        "Max-Forwards", "MIME-Version", "Min-SE", "Reason", "Record-Route", "Require", "Retry-After", "Route", "Server",
        "Session-ID", "Unsupported", "User-Agent", "Warning", "WWW-Authenticate",
    )
}  # fmt: skip

REASONS = {
    100: "Trying", 180: "Ringing", 200: "OK", 302: "Moved Temporarily", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout",
    413: "Request Entity Too Large", 415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension",
    421: "Extension Required", 422: "Session Interval Too Small", 481: "Call/Transaction Does Not Exist",
    482: "Loop Detected", 487: "Request Terminated", 488: "Not Acceptable Here", 491: "Request Pending",
    500: "Server Internal Error", 501: "Not Implemented", 503: "Service Unavailable", 505: "Version Not Supported",
    603: "Decline", 607: "Unwanted", 608: "Rejected",
}  # fmt: skip

_REQUEST_LINE = re.compile(rf"({WORD_PATTERN}) ([^\s<>]+) SIP/([0-9]+\.[0-9]+)")
_LOOSE_REQUEST_LINE = re.compile(rf"({WORD_PATTERN})\s.*SIP/[0-9]+\.[0-9]+\s*", re.DOTALL | re.I)
_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9][0-9])(?: (.*))?", re.DOTALL | re.I)
_HEADER = re.compile(rf"({WORD_PATTERN})[ \t]*:[ \t]*(.*)", re.DOTALL)
_FOLD = re.compile(r"\r?\n[ \t]+")
_LINE_END = re.compile(r"\r?\n")
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(r"[0-9]{1,10}")


class Headers:
    """Header fields in order, found by name in any case. Immutable.

    Args:
        fields: (name, value) pairs; a compact name stands for its long one.
    """

    __slots__ = ("_by_name", "fields")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self.fields = tuple((long_name(name), value) for name, value in fields)
        self._by_name: dict[str, list[str]] = {}
        for name, value in self.fields:
            self._by_name.setdefault(name.lower(), []).append(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.fields == other.fields

    def __hash__(self) -> int:
        return hash(self.fields)

    def all(self, name: str) -> list[str]:
        """Every line of that name."""
        return self._by_name.get(name.lower(), [])

    def get(self, name: str) -> str | None:
        """The first line of that name."""
        lines = self.all(name)
        return lines[0] if lines else None

    def items(self, name: str) -> list[str]:
        """Elements of a header that is a comma-separated list, over all its lines.

        Raises:
            SignallingError: an element is empty or unclosed, or there are too many.
        """
        out: list[str] = []
        for line in self.all(name):
            if line.strip():
                out += split_list(line, ",", name)
            if len(out) > MAX_LIST:
                raise SignallingError(f"{name} has more than {MAX_LIST} elements")
        if not all(out):
            raise SignallingError(f"{name} has an empty element")
        return out


@lru_cache(512)
def long_name(name: str) -> str:
    """A header's name as we write it."""
    lower = name.lower()
    return COMPACT.get(lower) or _NAMES.get(lower, name)


@dataclass(frozen=True, slots=True)
class Request:
    """What a peer asks (section 7.1)."""

    method: str
    uri: str
    headers: Headers
    body: bytes = b""
    version: str = VERSION

    def __bytes__(self) -> bytes:
        return _serialise(f"{self.method} {self.uri} {self.version}", self.headers, self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """How it is answered (section 7.2)."""

    status: int
    headers: Headers
    body: bytes = b""
    reason: str | None = None

    def __bytes__(self) -> bytes:
        reason = REASONS.get(self.status, "") if self.reason is None else self.reason
        return _serialise(f"{VERSION} {self.status} {reason}", self.headers, self.body)


@dataclass
class RefusedError(SignallingError):
    """A request is answered with anything but 2xx.

    Attributes:
        status: 300-699.
        why: for people, without anything of the request's content; goes into a Warning header.
        fields: further headers of the response.
        request: where the request could be read so far that it can be answered.
    """

    status: int
    why: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    request: Request | None = None

    def __str__(self) -> str:
        return f"{self.status} {REASONS.get(self.status, '')}: {self.why}"


def head_end(data: bytes | bytearray, start: int = 0) -> int | None:
    """Where the body begins; None where the head is not complete."""
    found = _HEAD_END.search(data, start)
    return None if found is None else found.end()


def content_length(headers: Headers) -> int | None:
    """How long the body is said to be; None where it is not said.

    Raises:
        SignallingError: not a number, or several that differ.
    """
    lengths = {line.strip() for line in headers.all("Content-Length")}
    if not lengths:
        return None
    (length, *others) = lengths
    if others or not _LENGTH.fullmatch(length):
        raise SignallingError("Content-Length is malformed" if not others else "Content-Length differs from another")
    return int(length)


def parse_head(head: bytes) -> tuple[str, Headers]:
    """Start line and headers.

    Raises:
        SignallingError: no head of a SIP message, or beyond the bounds.
    """
    if len(head) > MAX_HEAD_BYTES:
        raise SignallingError(f"message head is longer than {MAX_HEAD_BYTES} bytes")
    text = _FOLD.sub(" ", head.decode("utf-8", "surrogateescape").rstrip("\r\n"))
    start_line, *lines = _LINE_END.split(text)
    if len(lines) > MAX_HEADERS:
        raise SignallingError(f"message has more than {MAX_HEADERS} header lines")
    fields = []
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None or "\r" in line:
            raise SignallingError("message has a header line without a name")
        fields.append((found[1], found[2].rstrip(" \t")))
    return start_line, Headers(fields)


def parse_message(data: bytes) -> Request | Response:
    """Read a whole message; octets beyond its Content-Length are no part of it (section 18.3).

    Raises:
        RefusedError: a request with a fault; holds the request where it can be answered.
        SignallingError: no SIP message, or a response with a fault.
    """
    data = data.lstrip(b"\r\n")
    if len(data) > MAX_MESSAGE_BYTES:
        raise SignallingError(f"message is longer than {MAX_MESSAGE_BYTES} bytes")
    end = head_end(data)
    if end is None:
        raise SignallingError("message has no empty line after its headers")
    start_line, headers = parse_head(data[:end])
    body = data[end:]
    status = _STATUS_LINE.fullmatch(start_line)
    if status is not None:
        return Response(int(status[1]), headers, _cut(body, headers), (status[2] or "").strip())
    found = _REQUEST_LINE.fullmatch(start_line)
    if found is None:
        loose = _LOOSE_REQUEST_LINE.fullmatch(start_line)
        if loose is None:
            raise SignallingError("start line is of no SIP message")
        raise RefusedError(400, "request line is malformed", request=Request(loose[1], "", headers))
    request = Request(found[1], found[2], headers, version=f"SIP/{found[3]}")
    if request.version != VERSION:
        raise RefusedError(505, "only SIP/2.0 is spoken here", request=request)
    try:
        return Request(request.method, request.uri, headers, _cut(body, headers))
    except SignallingError as error:
        raise RefusedError(400, str(error), request=request) from error


def _cut(body: bytes, headers: Headers) -> bytes:
    length = content_length(headers)
    if length is not None and length > len(body):
        raise SignallingError("Content-Length is larger than the body")
    return body if length is None else body[:length]


def _serialise(start_line: str, headers: Headers, body: bytes) -> bytes:
    lines = [start_line, *(f"{name}: {value}" for name, value in headers.fields if name != "Content-Length")]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body
