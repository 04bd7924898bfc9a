"""The little SDP that a fork needs: read what rtpengine offers to send, write where we take it.

Source: RFC 8866 (SDP), RFC 4568 (SDES), RFC 4574 (labels), RFC 5761 (RTCP on the same port).
"""

import base64
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.errors import SignallingError
from inference.gateway.spec import SRTP_KEY_BYTES

MAX_SDP_CHARS = 65_536
MAX_MEDIA = 32
MAX_PAYLOAD_TYPES = 64
STATIC_NAMES = {0: "PCMU", 3: "GSM", 8: "PCMA", 9: "G722", 13: "CN", 18: "G729"}  # RFC 3551 table 4


@dataclass(frozen=True, slots=True)
class Crypto:
    """One ``a=crypto`` line.

    Attributes:
        tag: names it; the answer repeats that of the chosen one.
        suite: crypto-suite.
        key: base64 of master key and salt.
    """

    tag: str
    suite: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Media:
    """One ``m=audio`` line of an offer.

    Attributes:
        address, port: where the node sends from; port 0 for media that is not offered any more.
        protocol: e.g. ``RTP/AVP``.
        label: ``a=label``, which tells whose media it is; None without one.
        rtpmaps: ``a=rtpmap`` per payload type, in order of preference; empty where a static type has none.
        formats: ``a=fmtp`` per payload type.
        crypto: what is offered for SRTP, of suites we know.
    """

    address: str
    port: int
    protocol: str
    label: str | None
    rtpmaps: dict[int, str]
    formats: dict[int, str]
    crypto: tuple[Crypto, ...]

    @property
    def codecs(self) -> dict[int, str]:
        """Encoding name per payload type; empty where it has none."""
        return {pt: text.partition("/")[0] or STATIC_NAMES.get(pt, "") for pt, text in self.rtpmaps.items()}


@dataclass(slots=True)
class _Draft:
    port: int
    protocol: str
    payload_types: list[int]
    address: str | None = None
    label: str | None = None
    rtpmaps: dict[int, str] = field(default_factory=dict)
    formats: dict[int, str] = field(default_factory=dict)
    crypto: list[Crypto] = field(default_factory=list)


def parse_offer(text: str) -> list[Media]:
    """Read the audio of an SDP; other media and lines we do not need are passed over.

    Raises:
        SignallingError: a line we need is damaged, or there are too many.
    """
    if len(text) > MAX_SDP_CHARS:
        raise SignallingError("SDP is too long")
    session_address: str | None = None
    drafts: list[_Draft | None] = []  # None: media that is no audio
    for line in text.split("\n"):
        kind, _, value = line.rstrip("\r").partition("=")
        draft = drafts[-1] if drafts else None
        if kind == "m":
            if len(drafts) >= MAX_MEDIA:
                raise SignallingError("SDP has too many m-lines")
            drafts.append(_media_line(value))
        elif kind == "c" and (draft is not None or not drafts):
            address = _connection_line(value)
            if draft is None:
                session_address = address
            else:
                draft.address = address
        elif kind == "a" and draft is not None:
            _attribute_line(value, draft)
    return [_finished(draft, session_address) for draft in drafts if draft is not None]


def _media_line(value: str) -> _Draft | None:
    words = value.split()
    if words[:1] != ["audio"]:
        return None
    if len(words) < 4 or len(words) > 3 + MAX_PAYLOAD_TYPES:
        raise SignallingError("SDP m-line lacks port, protocol or payload types")
    return _Draft(_number(words[1], 65535), words[2], [_number(word, 127) for word in words[3:]])


def _connection_line(value: str) -> str:
    words = value.split()
    try:
        return str(ipaddress.ip_address(words[2].partition("/")[0]))
    except (IndexError, ValueError):
        raise SignallingError("SDP c-line has no numeric address") from None


def _attribute_line(value: str, draft: _Draft) -> None:
    name, _, rest = value.partition(":")
    words = rest.split()
    match name:
        case "label":
            draft.label = rest.strip()[:64]
        case "rtpmap" if len(words) >= 2:
            draft.rtpmaps[_number(words[0], 127)] = words[1][:64]
        case "fmtp" if len(words) >= 2:
            draft.formats[_number(words[0], 127)] = " ".join(words[1:])[:256]
        case "crypto" if len(words) >= 3 and len(draft.crypto) < 32:
            crypto = _crypto(words)
            if crypto is not None:
                draft.crypto.append(crypto)


def _crypto(words: Sequence[str]) -> Crypto | None:
    tag, suite, parameters = words[:3]
    method, _, key = parameters.partition(":")
    key, *more = key.split("|")
    key += "=" * (-len(key) % 4)  # rtpengine leaves the padding away
    if suite not in SRTP_KEY_BYTES or method.lower() != "inline" or not tag.isascii() or not tag.isdigit():
        return None
    if any(":" in part for part in more):
        return None  # with a master key identifier in every packet
    try:
        is_whole = len(base64.b64decode(key, validate=True)) == SRTP_KEY_BYTES[suite]
    except ValueError:
        is_whole = False
    return Crypto(tag[:9], suite, key) if is_whole else None


def _number(word: str, most: int) -> int:
    if not word.isascii() or not word.isdigit() or len(word) > 5 or int(word) > most:
        raise SignallingError("SDP has a port or payload type that is no number of its range")
    return int(word)


def _finished(draft: _Draft, session_address: str | None) -> Media:
    address = draft.address or session_address
    if address is None:
        raise SignallingError("SDP media has no c-line")
    rtpmaps = {pt: draft.rtpmaps.get(pt, "") for pt in draft.payload_types}
    formats = {pt: text for pt, text in draft.formats.items() if pt in rtpmaps}
    return Media(address, draft.port, draft.protocol, draft.label, rtpmaps, formats, tuple(draft.crypto))


def write_answer(offer: Sequence[Media], address: str, ports: Sequence[int], chosen: Sequence[Crypto | None]) -> str:
    """Accept every m-line of an offer as it is, to receive only.

    Args:
        offer: what was offered.
        address: our media address.
        ports: our port for each m-line; two may share one.
        chosen: the crypto to use for each, None for plain RTP. Its tag is repeated: rtpengine sends nothing to an
            answer with another one, and does not say so.
    """
    version = "IP6" if ":" in address else "IP4"
    number = secrets.randbelow(1 << 62)
    lines = ["v=0", f"o=- {number} 1 IN {version} {address}", "s=-", f"c=IN {version} {address}", "t=0 0"]
    for media, port, crypto in zip(offer, ports, chosen, strict=True):
        lines.append(f"m=audio {port} {media.protocol} {' '.join(map(str, media.rtpmaps))}")
        if media.label is not None:
            lines.append(f"a=label:{media.label}")
        lines += [f"a=rtpmap:{pt} {text}" for pt, text in media.rtpmaps.items() if text]
        lines += [f"a=fmtp:{pt} {text}" for pt, text in media.formats.items()]
        if crypto is not None:
            own_key = base64.b64encode(secrets.token_bytes(SRTP_KEY_BYTES[crypto.suite])).decode()
            lines.append(f"a=crypto:{crypto.tag} {crypto.suite} inline:{own_key}")
        lines += ["a=rtcp-mux", "a=recvonly"]  # else RTCP would come to the next port, which is another leg's
    return "\r\n".join([*lines, ""])
