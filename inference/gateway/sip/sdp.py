"""Session descriptions (RFC 8866) of audio: what an offer says of each media line, and the keys in it (RFC 4568).

Read leniently in order and in what is unknown, strictly in what is used. Names of fields follow the RFC.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from inference.errors import SignallingError

MAX_LINES = 1000
MAX_MEDIA = 16
MAX_FORMATS = 64
MAX_CRYPTO = 32

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
_DIRECTIONS: dict[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}

STATIC_CODECS = {
    0: ("PCMU", 8000), 3: ("GSM", 8000), 4: ("G723", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000), 13: ("CN", 8000),
    15: ("G728", 8000), 18: ("G729", 8000),
}  # fmt: skip
"""Payload types that need no rtpmap (RFC 3551 table 4); G722's clock says 8000 and is not its sample rate."""

_MEDIA = re.compile(
    r"([A-Za-z0-9._+\-]{1,32}) ([0-9]{1,5})(?:/([0-9]{1,3}))? ([A-Za-z0-9/]{1,64})((?: [^\s]{1,32})+) *"
)
_RTPMAP = re.compile(r"([0-9]{1,3}) +([A-Za-z0-9.\-_]{1,64})/([0-9]{1,6})(?:/([0-9]{1,2}))? *")
_CRYPTO = re.compile(
    r"([0-9]{1,9}) +([A-Z0-9_a-z]{1,64}) +inline:([A-Za-z0-9+/=]{1,128})((?:\|[^ ;|]{1,32}){0,2})(?: +(.*))?"
)


@dataclass(frozen=True, slots=True)
class RtpMap:
    """A codec as one payload type."""

    payload_type: int
    name: str
    clock_hz: int
    channels: int = 1


@dataclass(frozen=True, slots=True)
class Crypto:
    """An offered key (``a=crypto``).

    Attributes:
        tag: chooses it in the answer.
        suite: name of the crypto-suite.
        key: base64 of master key and salt. Secret.
        is_plain: no MKI and no session parameters that would change the packets.
    """

    tag: int
    suite: str
    key: str
    is_plain: bool

    def __repr__(self) -> str:
        return f"Crypto(tag={self.tag}, suite={self.suite})"


@dataclass(frozen=True, slots=True)
class Media:
    """One ``m=`` section.

    Attributes:
        kind: ``audio``, ``video`` …
        port: 0 where it is refused or removed.
        protocol: e.g. ``RTP/AVP``.
        formats: payload types, as text.
        connection: the value of its own ``c=`` line, or None.
        attributes: (name, value) of its ``a=`` lines in order; value None for a flag.
    """

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    connection: str | None = None
    attributes: tuple[tuple[str, str | None], ...] = ()

    def all(self, name: str) -> list[str]:
        """Values of an attribute."""
        return [value or "" for key, value in self.attributes if key == name]

    @property
    def label(self) -> str | None:
        """What signalling calls this stream (RFC 4574)."""
        labels = self.all("label")
        return labels[0].strip() if labels else None

    @property
    def own_direction(self) -> Direction | None:
        """Said in this section; of several, the last."""
        said = [_DIRECTIONS[name] for name, _ in self.attributes if name in _DIRECTIONS]
        return said[-1] if said else None

    @property
    def is_rtcp_mux(self) -> bool:
        """Whether RTCP may share the port (RFC 5761)."""
        return any(name == "rtcp-mux" for name, _ in self.attributes)

    @property
    def is_secure(self) -> bool:
        """Whether packets are encrypted with a key of ``a=crypto``."""
        return self.protocol in ("RTP/SAVP", "RTP/SAVPF")

    @property
    def is_rtp(self) -> bool:
        """Whether it is RTP, plain or with a key from the description."""
        return self.is_secure or self.protocol in ("RTP/AVP", "RTP/AVPF")

    def codecs(self) -> list[RtpMap]:
        """Codecs of its payload types, in the order of preference; what is not understood is left out."""
        maps: dict[str, RtpMap] = {}
        for value in self.all("rtpmap"):
            found = _RTPMAP.fullmatch(value)
            if found is not None:
                payload_type, name, clock_hz, channels = found.groups()
                maps.setdefault(payload_type, RtpMap(int(payload_type), name, int(clock_hz), int(channels or 1)))
        out = []
        for text in self.formats:
            if not text.isascii() or not text.isdigit() or int(text) > 127:
                continue
            static = STATIC_CODECS.get(int(text))
            if text in maps:
                out.append(maps[text])
            elif static is not None:
                out.append(RtpMap(int(text), *static))
        return out

    def format_parameters(self, payload_type: int) -> str | None:
        """``a=fmtp`` of a payload type."""
        for value in self.all("fmtp"):
            number, _, rest = value.partition(" ")
            if number == str(payload_type):
                return rest.strip()
        return None

    def crypto(self) -> list[Crypto]:
        """Offered keys in order; lines that are malformed are left out, as RFC 4568 section 5.1.2 wants."""
        out = []
        for value in self.all("crypto")[:MAX_CRYPTO]:
            found = _CRYPTO.fullmatch(value.strip())
            if found is not None:
                tag, suite, key, more, session = found.groups()
                has_mki = any(":" in part for part in more.split("|"))
                is_plain = not has_mki and all(word.startswith("WSH=") for word in (session or "").split())
                out.append(Crypto(int(tag), suite, key, is_plain))
        return out

    def lines(self) -> list[str]:
        """As text lines."""
        out = [f"m={self.kind} {self.port} {self.protocol} {' '.join(self.formats)}"]
        out += [] if self.connection is None else [f"c={self.connection}"]
        return out + _attribute_lines(self.attributes)


@dataclass(frozen=True, slots=True)
class Description:
    """A whole description.

    Attributes:
        origin: value of ``o=``.
        media: sections in order; an answer has the same number.
        connection: value of the session's ``c=``, or None.
        attributes: of the session.
        name: value of ``s=``.
    """

    origin: str
    media: tuple[Media, ...]
    connection: str | None = None
    attributes: tuple[tuple[str, str | None], ...] = ()
    name: str = "-"

    @classmethod
    def parse(cls, data: bytes) -> "Description":
        """Read a description.

        Raises:
            SignallingError: it is none, or beyond the bounds.
        """
        lines = data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").rstrip("\n\x00 ").split("\n")
        if len(lines) > MAX_LINES:
            raise SignallingError(f"SDP has more than {MAX_LINES} lines")
        if lines[0].strip() != "v=0":
            raise SignallingError("SDP does not begin with v=0")
        origin, name, session = "", "-", _Section()
        sections: list[tuple[Media, _Section]] = []
        for line in lines[1:]:
            kind, equals, value = line[:1], line[1:2], line[2:].strip()
            if equals != "=" or not kind.islower() or "\r" in value:
                raise SignallingError("SDP has a line that is not type=value")
            section = sections[-1][1] if sections else session
            if kind == "m":
                if len(sections) == MAX_MEDIA:
                    raise SignallingError(f"SDP has more than {MAX_MEDIA} media lines")
                sections.append((_parse_media(value), _Section()))
            elif kind == "o":
                origin = value
            elif kind == "s":
                name = value or "-"
            elif kind == "c":
                section.connection = section.connection or value
            elif kind == "a":
                key, colon, rest = value.partition(":")
                section.attributes.append((key.strip(), rest.strip() if colon else None))
        if not origin:
            raise SignallingError("SDP has no o= line")
        media = tuple(
            Media(m.kind, m.port, m.protocol, m.formats, own.connection, tuple(own.attributes)) for m, own in sections
        )
        return cls(origin, media, session.connection, tuple(session.attributes), name)

    def __bytes__(self) -> bytes:
        lines = ["v=0", f"o={self.origin}", f"s={self.name}"]
        lines += [] if self.connection is None else [f"c={self.connection}"]
        lines += ["t=0 0", *_attribute_lines(self.attributes)]
        for media in self.media:
            lines += media.lines()
        return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape")

    def address(self, media: Media) -> str | None:
        """The numeric address that a section's packets come from or go to; None for a name or none.

        Names are not resolved: a description must not make us ask a name server of its choice.
        """
        words = (media.connection or self.connection or "").split()
        if len(words) < 3 or words[0].upper() != "IN":
            return None
        try:
            return str(ipaddress.ip_address(words[2].partition("/")[0]))
        except ValueError:
            return None

    def direction(self, media: Media) -> Direction:
        """Whose audio flows; what a section leaves unsaid the session says, else both ways (section 6.7)."""
        said = [_DIRECTIONS[name] for name, _ in self.attributes if name in _DIRECTIONS]
        return media.own_direction or (said[-1] if said else "sendrecv")


class _Section:
    """What a section gathers while it is read."""

    def __init__(self) -> None:
        self.connection: str | None = None
        self.attributes: list[tuple[str, str | None]] = []


def _parse_media(value: str) -> Media:
    found = _MEDIA.fullmatch(value)
    if found is None:
        raise SignallingError("SDP has a malformed m= line")
    kind, port, _, protocol, formats = found.groups()
    words = tuple(formats.split())
    if int(port) > 65535 or len(words) > MAX_FORMATS:
        raise SignallingError("SDP has an m= line with a port or a number of formats out of range")
    return Media(kind, int(port), protocol, words)


def _attribute_lines(attributes: tuple[tuple[str, str | None], ...]) -> list[str]:
    return [f"a={name}" if value is None else f"a={name}:{value}" for name, value in attributes]
