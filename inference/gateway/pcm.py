"""Bytes of a connection as samples: G.711 or linear, any number of channels, cut anywhere."""

from typing import Literal

import numpy as np

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import PCM
from inference.errors import CodecError
from inference.gateway.narrow import Narrower
from inference.rtp.g711 import ALAW_TO_PCM, ULAW_TO_PCM, encode_alaw, encode_ulaw

Encoding = Literal["PCMU", "PCMA", "L16"]
"""L16 is little-endian here, as every gateway that sends it over a connection has it; RTP's is big-endian."""

MAX_CHANNELS = 2
_TABLES = {"PCMU": ULAW_TO_PCM, "PCMA": ALAW_TO_PCM}


class Sound:
    """One connection's audio, decoded as it comes.

    Args:
        encoding: how samples are written.
        rate_hz: samples per second and channel.
        num_channels: interleaved, sample by sample.

    Raises:
        CodecError: a rate or a number of channels that is not taken here.
    """

    def __init__(self, encoding: Encoding, rate_hz: int = SAMPLE_RATE_HZ, num_channels: int = 1) -> None:
        if not 1 <= num_channels <= MAX_CHANNELS:
            raise CodecError(f"audio of 1 to {MAX_CHANNELS} channels is taken here: send one party a channel")
        self._table = _TABLES.get(encoding)
        self._num_channels = num_channels
        self._frame_bytes = num_channels * (2 if self._table is None else 1)
        self._left = b""
        self._narrowers = [Narrower(rate_hz) for _ in range(num_channels)]

    def take(self, data: bytes) -> list[PCM]:
        """What is complete with ``data``: for each channel int16 ``[num_samples]`` at 8 kHz."""
        if self._left:
            data = self._left + data
        cut = len(data) % self._frame_bytes
        self._left = data[len(data) - cut :] if cut else b""
        body = data[: len(data) - cut] if cut else data
        # A copy: kernels are compiled for arrays that can be written, and would be anew for others.
        samples = (
            np.frombuffer(body, "<i2").astype(np.int16)
            if self._table is None
            else self._table[np.frombuffer(body, np.uint8)]
        )
        if self._num_channels == 1:
            return [self._narrowers[0].take(samples)]
        frames = samples.reshape(-1, self._num_channels)
        return [n.take(np.ascontiguousarray(frames[:, k])) for k, n in enumerate(self._narrowers)]


def encode(samples: PCM, encoding: Encoding, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """int16 ``[num_samples]`` at 8 kHz, as a gateway is to hear it.

    Args:
        samples: what is said.
        encoding: how samples are written.
        rate_hz: 8000 or a multiple of it.

    Raises:
        CodecError: another rate.
    """
    if rate_hz % SAMPLE_RATE_HZ:
        raise CodecError("nothing can be played at this sampling rate: use 8000 or 16000 Hz")
    times = rate_hz // SAMPLE_RATE_HZ
    if times > 1:  # a tone and telephone speech: lines between samples do
        at = np.arange(len(samples) * times) / times
        samples = np.interp(at, np.arange(len(samples)), samples).astype(np.int16)
    if encoding == "L16":
        return samples.astype("<i2").tobytes()
    return encode_ulaw(samples) if encoding == "PCMU" else encode_alaw(samples)
