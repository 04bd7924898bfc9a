"""libopus itself: FFmpeg's wrapper offers neither its concealment nor the copy of the last packet in the next one.

It decodes to 8 kHz mono directly: the layers that a narrow band does not need are never computed.
"""

import ctypes
import ctypes.util
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.errors import CodecError
from inference.rtp.layout import SAMPLE_RATE_HZ

PCM = npt.NDArray[np.int16]

MAX_SAMPLES = 120 * SAMPLE_RATE_HZ // 1000  # the longest packet (RFC 6716 section 3.2.5)
STEP = 5 * SAMPLE_RATE_HZ // 2000  # concealment comes in multiples of 2.5 ms


@cache
def library() -> ctypes.CDLL:
    """The system's libopus, else the one that PyAV brings along.

    Raises:
        CodecError: there is neither.
    """
    names = [ctypes.util.find_library("opus")]
    spec = find_spec("av")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        names += sorted(str(path) for folder in (package.parent / "av.libs", package) for path in folder.glob("*opus*"))
    for name in names:
        if name is None:
            continue
        try:
            opus = ctypes.CDLL(name)
            opus.opus_decoder_create.restype = ctypes.c_void_p
            opus.opus_decoder_create.argtypes = (ctypes.c_int32, ctypes.c_int, ctypes.POINTER(ctypes.c_int))
            opus.opus_decoder_destroy.argtypes = (ctypes.c_void_p,)
            opus.opus_decode.argtypes = (
                *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32),
                *(ctypes.c_void_p, ctypes.c_int, ctypes.c_int),
            )
        except (OSError, AttributeError):
            continue
        return opus
    raise CodecError("Opus needs libopus, which was not found: install it (libopus0), or PyAV from its wheel")


class OpusDecoder:
    """One stream."""

    def __init__(self) -> None:
        self._opus = library()
        error = ctypes.c_int()
        self._state = self._opus.opus_decoder_create(SAMPLE_RATE_HZ, 1, ctypes.byref(error))
        if not self._state:
            raise CodecError(f"libopus makes no decoder: error {error.value}")
        self._buffer = np.zeros(MAX_SAMPLES, np.int16)

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._opus.opus_decoder_destroy(self._state)

    def decode(self, payload: bytes) -> PCM | None:
        """A packet's samples at 8 kHz; None if it is none."""
        return self._decode(payload, MAX_SAMPLES, is_before=False)

    def decode_before(self, payload: bytes, num: int) -> PCM | None:
        """What the packet tells of the ``num`` samples before it (in-band FEC), else what they may have been."""
        return self._decode(payload, num, is_before=True)

    def conceal(self, num: int) -> PCM | None:
        """What ``num`` samples that never came may have been."""
        return self._decode(None, num, is_before=False)

    def _decode(self, payload: bytes | None, num: int, *, is_before: bool) -> PCM | None:
        size = 0 if payload is None else len(payload)
        got = self._opus.opus_decode(self._state, payload, size, self._buffer.ctypes.data, num, is_before)
        return self._buffer[:got].copy() if got > 0 else None


def has_fec(payload: bytes) -> bool:
    """Whether a packet holds a copy of the one before it: SILK's LBRR flag (RFC 6716 section 4.2.3).

    A packet of code 3, which libopus itself does not write for one or two frames, is taken as having none.
    """
    if len(payload) < 2 or payload[0] >> 3 >= 16 or payload[0] & 3 == 3:  # CELT has none
        return False
    config, at = payload[0] >> 3, 1
    if payload[0] & 3 == 2:  # two frames of different sizes: the first one's size comes first
        at += 1 if payload[1] < 252 else 2
    if at >= len(payload):
        return False
    # Coded one bit each, most significant first: a VAD flag per SILK frame, then the LBRR flag.
    silk_frames = (1, 1, 2, 3)[config & 3] if config < 12 else 1
    return bool(payload[at] >> (7 - silk_frames) & 1)
