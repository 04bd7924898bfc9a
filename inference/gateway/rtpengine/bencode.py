"""Bencode, as the ng protocol uses it: strict, bounded, and able to say that a stream has not brought all of it yet.

Ours because ng needs both: rtpengine writes dictionaries in any order of keys, which strict libraries refuse, and over
TCP a message ends where its value ends, which the lenient ones do not tell.

Format: BEP 3; docs/ng_control_protocol.md of rtpengine.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from inference.errors import SignallingError

MAX_DEPTH = 24
"""The deepest reply of rtpengine, of ``query``, has 9 levels."""
MAX_ITEMS = 200_000
"""Values in one message; ``query`` of a call has about 300, ``list`` one per call."""
MAX_DIGITS = 20
"""Of a number or a length; rtpengine's own are of 64 bits."""

Value: TypeAlias = Mapping[str, Any] | Sequence[Any] | str | bytes | int


class IncompleteError(SignallingError):
    """The value goes on beyond what is there."""


def encode(value: Value) -> bytes:
    """Write a value; keys in the order given.

    Raises:
        TypeError: a type that bencode does not have.
    """
    out: list[bytes] = []
    _encode(value, out)
    return b"".join(out)


def _encode(value: Value, out: list[bytes]) -> None:
    match value:
        case bool() | int():
            out.append(b"i%de" % int(value))
        case str():
            _encode(value.encode("utf-8", "surrogateescape"), out)
        case bytes():
            out += (b"%d:" % len(value), value)
        case Mapping():
            out.append(b"d")
            for key, of in value.items():
                _encode(key, out)
                _encode(of, out)
            out.append(b"e")
        case Sequence():
            out.append(b"l")
            for item in value:
                _encode(item, out)
            out.append(b"e")
        case _:
            raise TypeError(f"bencode has no {type(value).__name__}")


def decode(data: bytes) -> Any:
    """Read one value that is all of ``data``; see :func:`decode_prefix`.

    Raises:
        SignallingError: it is not bencode, ends early, or goes on.
    """
    value, end = decode_prefix(data)
    if end != len(data):
        raise SignallingError("bencode value is followed by other bytes")
    return value


def decode_prefix(data: bytes, start: int = 0) -> tuple[Any, int]:
    """Read the value that begins at ``start``.

    Returns:
        The value, and where it ends. Strings are text; bytes that are no UTF-8 come as lone surrogates, so that they
        go back as they came.

    Raises:
        IncompleteError: ``data`` ends before the value does.
        SignallingError: it is not bencode, or breaks a bound.
    """
    return _Reader(data, start).value(0)


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._at = position
        self._num_items = 0

    def value(self, depth: int) -> tuple[Any, int]:
        self._num_items += 1
        if depth > MAX_DEPTH or self._num_items > MAX_ITEMS:
            raise SignallingError("bencode value is nested too deep or too large")
        kind = self._peek()
        if kind == b"i":
            self._at += 1
            number = self._number(b"e", signed=True)
            return number, self._at
        if kind == b"l":
            return self._items(depth), self._at
        if kind == b"d":
            return self._pairs(depth), self._at
        if kind.isdigit():
            return self._string(), self._at
        raise SignallingError("bencode value begins with an unknown byte")

    def _items(self, depth: int) -> list[Any]:
        self._at += 1
        items = []
        while self._peek() != b"e":
            items.append(self.value(depth + 1)[0])
        self._at += 1
        return items

    def _pairs(self, depth: int) -> dict[str, Any]:
        self._at += 1
        pairs: dict[str, Any] = {}
        while self._peek() != b"e":
            if not self._peek().isdigit():
                raise SignallingError("bencode dictionary has a key that is no string")
            key = self._string()
            if key in pairs:
                raise SignallingError("bencode dictionary has a key twice")
            pairs[key] = self.value(depth + 1)[0]
        self._at += 1
        return pairs

    def _string(self) -> str:
        length = self._number(b":", signed=False)
        end = self._at + length
        if end > len(self._data):
            raise IncompleteError("bencode string ends early")
        text = self._data[self._at : end].decode("utf-8", "surrogateescape")
        self._at = end
        return text

    def _number(self, end: bytes, *, signed: bool) -> int:
        stop = self._data.find(end, self._at, self._at + MAX_DIGITS + 2)
        if stop < 0:
            if len(self._data) - self._at <= MAX_DIGITS:
                raise IncompleteError("bencode number ends early")
            raise SignallingError("bencode number is too long")
        digits = self._data[self._at : stop]
        unsigned = digits[1:] if signed and digits[:1] == b"-" else digits
        if not unsigned.isdigit() or (unsigned[:1] == b"0" and digits != b"0"):
            raise SignallingError("bencode number is not written as one")
        self._at = stop + 1
        return int(digits)

    def _peek(self) -> bytes:
        if self._at >= len(self._data):
            raise IncompleteError("bencode value ends early")
        return self._data[self._at : self._at + 1]
