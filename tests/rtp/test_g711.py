"""G.711 against a second, differently built form of the standard: the reference code of ITU-T G.191."""

import numpy as np
import pytest

from inference.rtp import g711


def ulaw_of(sample: int) -> int:
    """Encode one 16-bit sample the way G.191's ``ulaw_compress`` does."""
    magnitude = min((~sample >> 2 if sample < 0 else sample >> 2) + 33, 0x1FFF)
    segment = 1
    rest = magnitude >> 6
    while rest:
        segment += 1
        rest >>= 1
    low = 0x0F - (magnitude >> segment & 0x0F)
    return (8 - segment) << 4 | low | (0x80 if sample >= 0 else 0)


def ulaw_value(code: int) -> int:
    """Decode one code the way G.191's ``ulaw_expand`` does."""
    sign = -1 if code < 0x80 else 1
    mantissa = ~code & 0xFF
    exponent, mantissa = mantissa >> 4 & 7, mantissa & 0x0F
    step = 4 << (exponent + 1)
    return sign * ((0x80 << exponent) + step * mantissa + step // 2 - 4 * 33)


def alaw_value(code: int) -> int:
    """Decode one code the way G.191's ``alaw_expand`` does."""
    value = code ^ 0x55
    exponent, mantissa = value >> 4 & 7, value & 0x0F
    if exponent > 0:
        mantissa += 16
    mantissa = (mantissa << 4) + 8
    if exponent > 1:
        mantissa <<= exponent - 1
    return mantissa if value > 127 else -mantissa


CODES = bytes(range(256))
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)
LAWS = [
    pytest.param(g711.encode_ulaw, g711.decode_ulaw, ulaw_value, id="ulaw"),
    pytest.param(g711.encode_alaw, g711.decode_alaw, alaw_value, id="alaw"),
]


@pytest.mark.parametrize(("encode", "decode", "value"), LAWS)
def test_decoding_equals_the_reference(encode, decode, value) -> None:
    assert decode(CODES).tolist() == [value(code) for code in CODES]
    assert decode(CODES).dtype == np.int16


@pytest.mark.parametrize(("encode", "decode", "value"), LAWS)
def test_every_code_survives_and_every_sample_gets_its_nearest(encode, decode, value) -> None:
    again = decode(encode(decode(CODES)))
    assert np.array_equal(again, decode(CODES))
    error = np.abs(decode(encode(EVERY_SAMPLE)).astype(int) - EVERY_SAMPLE)
    levels = np.sort(decode(CODES).astype(int))
    nearest = np.abs(levels[np.clip(np.searchsorted(levels, EVERY_SAMPLE), 0, 255)] - EVERY_SAMPLE)
    below = np.abs(levels[np.clip(np.searchsorted(levels, EVERY_SAMPLE) - 1, 0, 255)] - EVERY_SAMPLE)
    assert np.array_equal(error, np.minimum(nearest, below))


def test_ulaw_encoding_agrees_with_the_reference_within_its_step() -> None:
    samples = EVERY_SAMPLE[::7]
    ours = g711.decode_ulaw(g711.encode_ulaw(samples)).astype(int)
    theirs = np.array([ulaw_value(ulaw_of(int(sample))) for sample in samples])
    # The reference truncates to 14 bits before it searches; that moves a sample on a border by one step at most.
    assert np.mean(ours != theirs) < 0.02
    assert np.all(np.abs(ours - samples) <= np.abs(theirs - samples))


def test_silence_and_shapes() -> None:
    silence = np.zeros(3, np.int16)
    assert g711.encode_ulaw(silence) == bytes([g711.ULAW_SILENCE] * 3)
    assert g711.encode_alaw(silence) == bytes([g711.ALAW_SILENCE] * 3)
    assert g711.encode_ulaw(EVERY_SAMPLE[::2]) == g711.encode_ulaw(EVERY_SAMPLE[::2].copy())
    assert len(g711.decode_alaw(b"")) == 0
