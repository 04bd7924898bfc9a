"""G.711: one byte per sample at 8 kHz, µ-law (PCMU) and A-law (PCMA).

Decoding is a table of 256 values; encoding looks the nearest value up in that table, so the two cannot disagree.
"""

import numpy as np
import numpy.typing as npt

PCM = npt.NDArray[np.int16]
Bytes = npt.NDArray[np.uint8]


def _ulaw_values() -> PCM:
    """µ-law byte -> 16-bit linear, ``[256]`` (ITU-T G.711 table 2; 14-bit values scaled by 4)."""
    code = ~np.arange(256) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_values() -> PCM:
    """A-law byte -> 16-bit linear, ``[256]`` (ITU-T G.711 table 1; 13-bit values scaled by 8)."""
    code = np.arange(256) ^ 0x55
    step, chord = code & 0x0F, code >> 4 & 7
    magnitude = np.where(chord == 0, (step << 4) + 8, ((step << 4) + 0x108) << np.maximum(chord - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _nearest_codes(values: PCM) -> Bytes:
    """For each int16, the code whose value is nearest, ``[65536]`` indexed by the sample as uint16."""
    order = np.argsort(values, kind="stable")
    ranked = values[order].astype(np.int64)
    middles = (ranked[1:] + ranked[:-1] + 1) >> 1
    samples = np.arange(65536).astype(np.uint16).view(np.int16).astype(np.int64)
    return order[np.searchsorted(middles, samples, side="right")].astype(np.uint8)


ULAW_TO_PCM = _ulaw_values()
ALAW_TO_PCM = _alaw_values()
_PCM_TO_ULAW = _nearest_codes(ULAW_TO_PCM)
_PCM_TO_ALAW = _nearest_codes(ALAW_TO_PCM)
for _table in (ULAW_TO_PCM, ALAW_TO_PCM, _PCM_TO_ULAW, _PCM_TO_ALAW):
    _table.setflags(write=False)

ULAW_SILENCE = 0xFF
ALAW_SILENCE = 0xD5


def decode_ulaw(data: bytes) -> PCM:
    """µ-law bytes -> int16 ``[len(data)]``."""
    return ULAW_TO_PCM[np.frombuffer(data, np.uint8)]


def decode_alaw(data: bytes) -> PCM:
    """A-law bytes -> int16 ``[len(data)]``."""
    return ALAW_TO_PCM[np.frombuffer(data, np.uint8)]


def encode_ulaw(samples: PCM) -> bytes:
    """int16 ``[num_samples]`` at 8 kHz -> as many µ-law bytes."""
    return _PCM_TO_ULAW[np.ascontiguousarray(samples, np.int16).view(np.uint16)].tobytes()


def encode_alaw(samples: PCM) -> bytes:
    """int16 ``[num_samples]`` at 8 kHz -> as many A-law bytes."""
    return _PCM_TO_ALAW[np.ascontiguousarray(samples, np.int16).view(np.uint16)].tobytes()
