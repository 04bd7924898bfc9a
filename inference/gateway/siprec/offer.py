"""What an SDP offers of each stream, which codec we take, and how that is answered (RFC 3264, 4568, 7866 section 7)."""

import base64
import hashlib
import hmac
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import get_args

from inference.gateway.sip.sdp import Crypto, Description, Media, RtpMap
from inference.gateway.spec import SRTP_KEY_BYTES, CodecName, LegSpec, SrtpKey

_CLOCKS_HZ = {
    "PCMU": 8000, "PCMA": 8000, "G722": 8000, "opus": 48_000, "AMR": 8000, "AMR-WB": 16_000, "G729": 8000, "GSM": 8000,
    "iLBC": 8000,
}  # fmt: skip
"""RTP clock of each codec of speech (G722's is 8000 by an old mistake, RFC 3551 section 4.5.2)."""

_NAMES: dict[str, CodecName] = {name.lower(): name for name in get_args(CodecName)}
_BESIDE = ("CN", "telephone-event", "red")
_STATIC: dict[int, CodecName] = {0: "PCMU", 8: "PCMA", 13: "CN"}
_MAX_FORMAT = 256


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is taken of a line.

    Attributes:
        codec: of speech.
        beside: of the same clock: telephone-event, comfort noise, redundancy of that codec alone (RFC 2198).
    """

    codec: RtpMap
    beside: tuple[RtpMap, ...]

    @property
    def name(self) -> CodecName:
        """The codec's."""
        return _NAMES[self.codec.name.lower()]

    @property
    def maps(self) -> tuple[RtpMap, ...]:
        """All payload types, that of speech first."""
        return (self.codec, *self.beside)


@dataclass(frozen=True, slots=True)
class Line:
    """One offered audio stream that we can take.

    Attributes:
        index: number of its m= line.
        media: as offered.
        label: as offered; opaque.
        source: numeric address and port its packets come from; None where it is not said.
        is_held: nothing flows for now.
        choices: codecs we know, the preferred one first.
        crypto: the key offered, of the first suite we accept; None where packets are plain.
    """

    index: int
    media: Media
    label: str | None
    source: tuple[str, int] | None
    is_held: bool
    choices: tuple[Chosen, ...]
    crypto: Crypto | None

    def choose(self, refused: Collection[str]) -> Chosen | None:
        """The preferred codec that is not among those refused."""
        return next((choice for choice in self.choices if choice.name not in refused), None)


def read_lines(offer: Description) -> list[Line]:
    """The audio streams of an offer that we could take."""
    lines = (_read_line(offer, index, media) for index, media in enumerate(offer.media))
    return [line for line in lines if line is not None]


def _read_line(offer: Description, index: int, media: Media) -> Line | None:
    if media.kind.lower() != "audio" or media.port == 0 or not media.is_rtp:
        return None
    choices = _choices(media)
    crypto = next((c for c in media.crypto() if _is_usable(c)), None) if media.is_secure else None
    if not choices or (media.is_secure and crypto is None):
        return None
    address = offer.address(media)
    is_nowhere = address is None or ipaddress.ip_address(address).is_unspecified  # 0.0.0.0: hold of RFC 2543
    is_held = is_nowhere or offer.direction(media) in ("inactive", "recvonly")
    source = None if is_nowhere or address is None else (address, media.port)
    return Line(index, media, media.label, source, is_held, choices, crypto)


def _choices(media: Media) -> tuple[Chosen, ...]:
    codecs = [codec for codec in media.codecs() if _is_known(media, codec)]
    speech = [codec for codec in codecs if _NAMES[codec.name.lower()] not in _BESIDE]
    # G.711 first: nothing is lost and its decoding is free. Then as the peer prefers.
    speech.sort(key=lambda codec: codec.name.upper() not in ("PCMU", "PCMA"))
    beside = [codec for codec in codecs if codec not in speech]
    return tuple(
        Chosen(codec, tuple(other for other in beside if _goes_with(media, other, codec))[:4]) for codec in speech
    )


def _goes_with(media: Media, other: RtpMap, codec: RtpMap) -> bool:
    """Whether ``other`` may stand beside the codec of speech."""
    if other.clock_hz != codec.clock_hz:
        return False
    if _NAMES[other.name.lower()] != "red":
        return True
    held = (media.format_parameters(other.payload_type) or "").split("/")  # payload types of its blocks
    return set(held) == {str(codec.payload_type)}


def _is_known(media: Media, codec: RtpMap) -> bool:
    name = _NAMES.get(codec.name.lower())
    if name is None or (codec.payload_type in _STATIC and _STATIC[codec.payload_type] != name):
        return False
    if name in _BESIDE:
        return len(media.format_parameters(codec.payload_type) or "") <= _MAX_FORMAT
    channels = 2 if name == "opus" else 1  # opus says 2 always (RFC 7587 section 7)
    is_short = len(media.format_parameters(codec.payload_type) or "") <= _MAX_FORMAT
    return is_short and codec.clock_hz == _CLOCKS_HZ[name] and codec.channels == channels


def _is_usable(crypto: Crypto) -> bool:
    wanted = SRTP_KEY_BYTES.get(crypto.suite)
    try:
        return crypto.is_plain and len(base64.b64decode(crypto.key, validate=True)) == wanted
    except ValueError:
        return False


def leg_spec(line: Line, chosen: Chosen, port: int, source: tuple[str, int] | None) -> LegSpec:
    """Where a party's audio arrives.

    Args:
        line: its stream.
        chosen: what is taken of it.
        port: ours.
        source: where packets come from; None where the port is its own.
    """
    formats = {codec.payload_type: line.media.format_parameters(codec.payload_type) for codec in chosen.maps}
    address = None
    if source is not None:
        address = f"[{source[0]}]:{source[1]}" if ":" in source[0] else f"{source[0]}:{source[1]}"
    crypto = line.crypto
    return LegSpec.model_validate(
        {
            "local_port": port,
            "source": address,
            "payload_types": {
                codec.payload_type: _NAMES[codec.name.lower()]
                for codec in chosen.maps
                if codec.payload_type not in _STATIC
            },
            "formats": {payload_type: text for payload_type, text in formats.items() if text},
            "srtp": None if crypto is None else SrtpKey(suite=crypto.suite, key=crypto.key),
        }
    )


@dataclass(slots=True)
class Answerer:
    """Writes the answers of one recording session.

    Attributes:
        address: ours, numeric.
        secret: what our own keys are made of; nothing is ever sent with them, but an answer must have them, and the
            same each time.
    """

    address: str
    secret: bytes
    _version: int = 0
    _last: bytes = field(default=b"")

    def answer(self, offer: Description, taken: dict[int, tuple[Line, Chosen, int]]) -> bytes:
        """The answer to an offer.

        Args:
            offer: what is answered.
            taken: (line, codec, our port) by the number of the m= line; the others are refused.
        """
        media = tuple(
            self._line(*taken[index]) if index in taken else Media(m.kind, 0, m.protocol, m.formats[:1])
            for index, m in enumerate(offer.media)
        )
        body = self._describe(media)
        if body != self._last:  # RFC 3264 section 8: a changed description has a higher version
            self._version += 1
            body = self._last = self._describe(media)
        return body

    @property
    def last(self) -> bytes:
        """What was said last: our offer where the peer makes none (a refresh without a body)."""
        return self._last

    def _describe(self, media: tuple[Media, ...]) -> bytes:
        kind = "IP6" if ":" in self.address else "IP4"
        number = int.from_bytes(hashlib.sha256(self.secret).digest()[:4], "big")
        origin = f"scamtap {number} {self._version} IN {kind} {self.address}"
        return bytes(Description(origin, media, f"IN {kind} {self.address}", name="scamtap"))

    def _line(self, line: Line, chosen: Chosen, port: int) -> Media:
        attributes: list[tuple[str, str | None]] = []
        for codec in chosen.maps:
            channels = f"/{codec.channels}" if codec.channels > 1 else ""
            attributes.append(("rtpmap", f"{codec.payload_type} {codec.name}/{codec.clock_hz}{channels}"))
            text = line.media.format_parameters(codec.payload_type)
            if text:
                attributes.append(("fmtp", f"{codec.payload_type} {text}"))
        ptime = next(iter(line.media.all("ptime")), "")
        if ptime.isascii() and ptime.isdigit() and len(ptime) <= 3:
            attributes.append(("ptime", ptime))
        if line.crypto is not None:
            attributes.append(("crypto", f"{line.crypto.tag} {line.crypto.suite} inline:{self._key(line.crypto)}"))
        attributes.append(("inactive" if line.is_held else "recvonly", None))
        if line.label is not None:
            attributes.append(("label", line.label))
        if line.media.is_rtcp_mux:
            attributes.append(("rtcp-mux", None))
        formats = tuple(str(codec.payload_type) for codec in chosen.maps)
        return Media(line.media.kind, port, line.media.protocol, formats, attributes=tuple(attributes))

    def _key(self, crypto: Crypto) -> str:
        size = SRTP_KEY_BYTES[crypto.suite]
        made = hmac.new(self.secret, f"{crypto.tag} {crypto.suite} {crypto.key}".encode(), hashlib.sha512).digest()
        return base64.b64encode(made[:size]).decode()
