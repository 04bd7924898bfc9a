"""Header values of SIP (RFC 3261 section 25.1) that we read structured. Errors name the field, never its value."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

from inference.errors import SignallingError

MAX_PARAMETERS = 64
MAX_CSEQ = 2**31 - 1
MAGIC_COOKIE = "z9hG4bK"
"""Begins a branch that is unique (section 8.1.1.7); others come from RFC 2543 peers."""

WORD_PATTERN = r"[A-Za-z0-9\-.!%*_+`'~]+"
_WORD = re.compile(WORD_PATTERN)
_HOST = r"\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]+"
_VIA = re.compile(
    rf"\s*SIP\s*/\s*2\.0\s*/\s*({WORD_PATTERN})\s+({_HOST})\s*(?::\s*([0-9]{{1,5}})\s*)?(;.*)?", re.DOTALL | re.I
)
_CSEQ = re.compile(rf"\s*([0-9]{{1,20}})\s+({WORD_PATTERN})\s*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[^\s<>\"\x00-\x20\x7f]+")
_HOST_PORT = re.compile(rf"({_HOST})(?::([0-9]{{1,5}}))?")

Parameters = dict[str, str | None]

MAX_CACHED = 256
"""Characters of a header that is remembered as it was read: a call's INVITE, ACK and our answer share theirs."""


def split_list(text: str, separator: str, what: str) -> list[str]:
    """Split where the separator stands in no quoted string and in no ``<>``; the parts are stripped.

    Raises:
        SignallingError: a quoted string or a ``<`` is not closed.
    """
    if '"' not in text and "<" not in text:
        return [part.strip() for part in text.split(separator)]
    parts, start = [], 0
    for found in _marks(separator).finditer(text):
        mark = found[0]
        if mark == separator:
            parts.append(text[start : found.start()].strip())
            start = found.end()
        elif len(mark) == 1:
            kind = "angle bracket" if mark == "<" else "quoted string"
            raise SignallingError(f"{what} has an unclosed {kind}")
    parts.append(text[start:].strip())
    return parts


@lru_cache(8)
def _marks(separator: str) -> re.Pattern[str]:
    """Quoted strings and ``<>`` whole, one that is never closed by its first character, and separators between."""
    return re.compile(rf'"(?:[^"\\]|\\.)*+"|<[^>]*+>|["<{separator}]', re.DOTALL)


def parse_parameters(text: str, what: str) -> Parameters:
    """``;name=value;flag`` by lower-case name; of two by one name, the first.

    Raises:
        SignallingError: an empty or malformed parameter, or too many.
    """
    if not text.strip():
        return {}
    first, *parts = split_list(text, ";", what)
    if first:
        raise SignallingError(f"{what} has text where a parameter should begin")
    return _parameters(parts, what)


def _parameters(parts: list[str], what: str) -> Parameters:
    if len(parts) > MAX_PARAMETERS:
        raise SignallingError(f"{what} has more than {MAX_PARAMETERS} parameters")
    out: Parameters = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not _WORD.fullmatch(name):
            raise SignallingError(f"{what} has a malformed parameter")
        out.setdefault(name, value.strip() if equals else None)
    return out


def format_parameters(parameters: Parameters) -> str:
    """The reverse of :func:`parse_parameters`."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in parameters.items())


def unquote_string(text: str) -> str:
    """The text of a quoted string; other text as it is."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text


@dataclass(frozen=True, slots=True)
class Via:
    """One hop a request took (section 20.42).

    Attributes:
        transport: ``UDP``, ``TCP``, ``TLS`` …
        host: as sent, an IPv6 address in brackets.
        port: None where not sent.
        parameters: ``branch``, ``received``, ``rport`` …; never changed, since readers share it.
    """

    transport: str
    host: str
    port: int | None
    parameters: Parameters = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Via":
        """Read one hop.

        Raises:
            SignallingError: it is malformed.
        """
        return _via(text) if len(text) <= MAX_CACHED else cls._parse(text)

    @classmethod
    def _parse(cls, text: str) -> "Via":
        found = _VIA.fullmatch(text)
        if found is None:
            raise SignallingError("Via is malformed")
        transport, host, port, parameters = found.groups()
        if port is not None and not 1 <= int(port) <= 65535:
            raise SignallingError("Via has a port out of range")
        return cls(
            transport.upper(), host, None if port is None else int(port), parse_parameters(parameters or "", "Via")
        )

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {self.host}{port}{format_parameters(self.parameters)}"

    @property
    def branch(self) -> str | None:
        """The transaction's identity, where it is one (RFC 3261's, not RFC 2543's)."""
        branch = self.parameters.get("branch") or ""
        return branch if branch.startswith(MAGIC_COOKIE) and len(branch) > len(MAGIC_COOKIE) else None


@dataclass(frozen=True, slots=True)
class Address:
    """From, To, Contact, Route …: an URI with a name and parameters (section 20.10).

    Attributes:
        uri: without the angle brackets.
        parameters: of the header, e.g. ``tag``; never changed, since readers share it.
        name: display name, unquoted.
    """

    uri: str
    parameters: Parameters = field(default_factory=dict)
    name: str = ""

    @classmethod
    def parse(cls, text: str, what: str) -> "Address":
        """Read one address; ``what`` names the header for errors.

        Raises:
            SignallingError: it is malformed.
        """
        return _address(text, what) if len(text) <= MAX_CACHED else cls._parse(text, what)

    @classmethod
    def _parse(cls, text: str, what: str) -> "Address":
        head, *tail = split_list(text, ";", what)
        parameters = _parameters(tail, what)
        name = ""
        if head.endswith(">"):
            # A quoted name may hold '<'; the URI may not.
            name, _, uri = head[:-1].rpartition("<")
            name = unquote_string(name.strip())
        else:
            uri = head
            if set("?,") & set(uri):
                raise SignallingError(f"{what} has an URI that must stand in angle brackets")
        if not _URI.fullmatch(uri):
            raise SignallingError(f"{what} has a malformed URI")
        return cls(uri, parameters, name)

    @property
    def tag(self) -> str | None:
        """The dialog's identity of this side."""
        return self.parameters.get("tag")


@lru_cache(1024)
def _via(text: str) -> Via:
    return Via._parse(text)


@lru_cache(1024)
def _address(text: str, what: str) -> Address:
    return Address._parse(text, what)


@dataclass(frozen=True, slots=True)
class CSeq:
    """Number and method of a request within its dialog (section 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> "CSeq":
        """Read it.

        Raises:
            SignallingError: it is malformed or 2**31 and more.
        """
        found = _CSEQ.fullmatch(text)
        if found is None:
            raise SignallingError("CSeq is malformed")
        number = int(found[1])
        if number > MAX_CSEQ:
            raise SignallingError("CSeq number is not below 2**31")
        return cls(number, found[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@dataclass(frozen=True, slots=True)
class SipUri:
    """A ``sip:``, ``sips:`` or ``tel:`` URI, as far as it tells who somebody is (section 19.1, RFC 3966).

    Attributes:
        scheme: lower case.
        user: percent-decoded and without its parameters; the number of a ``tel:`` URI; empty where there is none.
        host: lower case; empty for ``tel:``.
        port: None where not given.
    """

    scheme: str
    user: str
    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> "SipUri":
        """Read it.

        Raises:
            SignallingError: another scheme, or malformed.
        """
        scheme, colon, rest = text.strip().partition(":")
        scheme = scheme.lower()
        if not colon or scheme not in ("sip", "sips", "tel"):
            raise SignallingError("URI is not of sip, sips or tel")
        if scheme == "tel":
            return cls(scheme, unquote(rest.partition(";")[0]), "")
        user, _, host = rest.rpartition("@")  # an @ before the last would have to be escaped
        found = _HOST_PORT.match(host)
        if found is None or host[found.end() :][:1] not in ("", ";", "?"):
            raise SignallingError("URI has a malformed host")
        user = unquote(user.partition(";")[0].partition(":")[0])
        return cls(scheme, user, found[1].lower(), None if found[2] is None else int(found[2]))
