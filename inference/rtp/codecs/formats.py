"""Which codecs the plane takes, by their names and format parameters in SDP."""

import importlib.util
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from inference.errors import CodecError
from inference.rtp import layout
from inference.rtp.packet import PT_COMFORT_NOISE, PT_PCMA, PT_PCMU

CODECS = {
    "PCMU": layout.CODEC_PCMU,
    "PCMA": layout.CODEC_PCMA,
    "CN": layout.CODEC_COMFORT_NOISE,
    "TELEPHONE-EVENT": layout.CODEC_EVENT,
    "G722": layout.CODEC_G722,
    "GSM": layout.CODEC_GSM,
    "ILBC": layout.CODEC_ILBC,
    "G729": layout.CODEC_G729,
    "OPUS": layout.CODEC_OPUS,
    "AMR": layout.CODEC_AMR,
    "AMR-WB": layout.CODEC_AMR_WB,
    "RED": layout.CODEC_RED,
}
_ALIGNED = {layout.CODEC_AMR: layout.CODEC_AMR_ALIGNED, layout.CODEC_AMR_WB: layout.CODEC_AMR_WB_ALIGNED}
_AMR_EXTRAS = ("crc", "robust-sorting", "interleaving")


def codec_of(name: str, parameters: str = "") -> int:
    """The kernel's number of a codec.

    Args:
        name: as in ``a=rtpmap``, any case.
        parameters: as in ``a=fmtp``: ``octet-align=1; mode-set=0,2``. Those that say how to encode are of no concern.

    Raises:
        CodecError: it is not decoded here, or not in this form, or its decoder is not installed.
    """
    codec = CODECS.get(name.upper())
    if codec is None:
        raise CodecError(f"codec {_printable(name)} is not decoded here: offer one of {', '.join(CODECS)}")
    if is_decoded(codec) and importlib.util.find_spec("av") is None:
        raise CodecError(f"codec {name} needs PyAV, which is not installed: pip install av")
    if codec in _ALIGNED:
        values = _parameters(parameters)
        for extra in _AMR_EXTRAS:  # RFC 4867 section 8.1; nobody was seen to offer them
            if values.get(extra, "0") != "0":
                raise CodecError(f"{name} with {extra} is not decoded here: leave {extra} out of its fmtp")
        if values.get("channels", "1") != "1":
            raise CodecError(f"{name} with more than one channel is not decoded here")
        if values.get("octet-align", "0") == "1":
            return _ALIGNED[codec]
    return codec


def is_decoded(codec: int) -> bool:
    """Whether a codec needs a decoder: the kernel itself has none."""
    return layout.CODEC_G722 <= codec < layout.CODEC_RED


def codec_row(payload_types: Mapping[int, str], formats: Mapping[int, str]) -> npt.NDArray[np.uint8]:
    """Codec per payload type, ``[128]``; 0, 8 and 13 are always what they are.

    Raises:
        CodecError: as :func:`codec_of`, or a payload type that is none.
    """
    row = np.zeros(128, np.uint8)
    for payload_type, name in payload_types.items():
        if not 0 <= payload_type < 128:
            raise CodecError(f"payload type {payload_type} is not within 0-127")
        try:
            row[payload_type] = codec_of(name, formats.get(payload_type, ""))
        except CodecError as error:
            raise CodecError(f"payload type {payload_type}: {error}") from None
    row[PT_PCMU], row[PT_PCMA] = layout.CODEC_PCMU, layout.CODEC_PCMA
    row[PT_COMFORT_NOISE] = layout.CODEC_COMFORT_NOISE
    return row


def _parameters(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _printable(name: str) -> str:
    """A name that came from signalling: a token, or nothing of it."""
    return name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() and len(name) < 16 else "(?)"
