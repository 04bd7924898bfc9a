"""Recordings as calls: WAV, FLAC and what else libsndfile reads, streamed in blocks.

Mono is the far leg. In stereo one channel is the far leg and the other the near leg.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.errors import ConfigError, MediaError
from inference.gateway.capture import is_capture, open_capture
from inference.gateway.recorded import BLOCK_NUM_SAMPLES, LegBlock, RecordedCall

MIN_RATE_HZ, MAX_RATE_HZ = 4000, 384_000
_EXACT_SUBTYPES = {"PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW"}  # 8 kHz of these needs no arithmetic


def open_recording(
    path: Path | str, *, far_channel: int = 0, far: str | None = None, near: str | None = None
) -> list[RecordedCall]:
    """Open a recording or a capture.

    Args:
        path: WAV, FLAC, ... or pcap, pcapng (told apart by content).
        far_channel: which channel of a stereo recording is the far leg.
        far: which stream of a capture is the far leg: its SSRC (decimal or 0x…) or ``ip:port`` of its sender.
        near: how the subscriber's number begins, for a capture that holds the calls' SIP too.

    Returns:
        At least one call; a recording is exactly one.

    Raises:
        MediaError: it cannot be read as call audio.
        CodecError: it can, but no codec in it is one we decode.
        ConfigError: an option does not fit the file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror}): check the path and its permissions") from error
    if not magic:
        raise MediaError(f"{path}: the file is empty: record it again")
    if is_capture(magic):
        return open_capture(path, far=far, near=near)
    if near is not None:
        raise ConfigError(f"{path}: --near is for captures with SIP; for a recording use --far-channel")
    if far is not None:
        raise ConfigError(f"{path}: --far names a stream of a capture; for a recording use --far-channel")
    return [_open_sound(path, far_channel)]


@contextmanager
def _sound(path: Path) -> Iterator[soundfile.SoundFile]:
    if path.suffix.lower() == ".raw":  # soundfile trusts this suffix over the content
        raise MediaError(f"{path}: raw samples do not say their rate: convert to WAV")
    try:
        with soundfile.SoundFile(os.fsencode(path)) as sound:
            yield sound
    except soundfile.SoundFileError as error:
        detail = str(error).rpartition(": ")[2].strip().rstrip(".")
        raise MediaError(f"{path}: not a readable recording ({detail}): convert to WAV or FLAC") from error


def _open_sound(path: Path, far_channel: int) -> RecordedCall:
    with _sound(path) as sound:
        channels, rate_hz, num_frames = sound.channels, sound.samplerate, sound.frames
        if channels > 2:
            raise MediaError(f"{path}: {channels} channels, at most 2 make a call: split the file")
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise MediaError(
                f"{path}: sample rate {rate_hz} Hz is not within {MIN_RATE_HZ}-{MAX_RATE_HZ}: fix the header"
            )
        if not 0 <= far_channel < channels:
            raise ConfigError(f"{path}: --far-channel {far_channel}, but channels are 0 to {channels - 1}")
        if num_frames > 0 and sound.seekable():  # a header may promise what the file does not hold
            if not len(sound.read(1, dtype="int16")):
                num_frames = 0
            elif num_frames > 1 << 40:  # unknown to the header (streamed FLAC): count
                num_frames = 1 + sum(len(block) for block in sound.blocks(rate_hz, dtype="int16"))
    if num_frames <= 0:
        raise MediaError(f"{path}: the file has a header but no samples: record it again")
    legs: tuple[Leg, ...] = ("far",) if channels == 1 else LEGS
    order = [far_channel, 1 - far_channel][:channels]
    return RecordedCall(
        id=path.stem,
        legs=legs,
        duration_s=num_frames / rate_hz,
        blocks=lambda: _blocks(path, legs, order),
    )


def _blocks(path: Path, legs: tuple[Leg, ...], order: list[int]) -> Iterator[LegBlock]:
    start = 0
    pending = np.zeros((0, len(legs)), np.int16)
    for samples in _resampled(path):
        pending = np.concatenate([pending, samples[:, order]])
        whole = len(pending) // BLOCK_NUM_SAMPLES * BLOCK_NUM_SAMPLES
        for at in range(0, whole, BLOCK_NUM_SAMPLES):
            for column, leg in enumerate(legs):
                yield LegBlock(leg, start + at, pending[at : at + BLOCK_NUM_SAMPLES, column].copy())
        start, pending = start + whole, pending[whole:]
    for column, leg in enumerate(legs if len(pending) else ()):
        yield LegBlock(leg, start, pending[:, column].copy())


def _resampled(path: Path) -> Iterator[npt.NDArray[np.int16]]:
    """Yield int16 ``[n, channels]`` at 8 kHz, about a second at a time."""
    with _sound(path) as sound:
        rate_hz = sound.samplerate
        if rate_hz == SAMPLE_RATE_HZ and sound.subtype in _EXACT_SUBTYPES:
            while len(exact := sound.read(rate_hz, dtype="int16", always_2d=True)):
                yield exact
            return
        convert = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, sound.channels, dtype="float32", quality="HQ")
        while True:
            block = np.nan_to_num(sound.read(rate_hz, dtype="float32", always_2d=True), posinf=0.0, neginf=0.0)
            is_last = not len(block)
            wave = block if rate_hz == SAMPLE_RATE_HZ else convert.resample_chunk(block, last=is_last)
            yield np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)
            if is_last:
                return
