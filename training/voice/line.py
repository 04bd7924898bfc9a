"""A telephone line of today in numbers: noise, other talkers, echo, pauses not sent, a chain of codecs, lost packets.

:mod:`training.voice.channel` is the older, modest line, kept as it is: recordings made through it come out the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from training.voice.channel import (
    PACKET_NUM_SAMPLES,
    PCM,
    NoiseKind,
    Signal,
    band_limit,
    lost_packets,
    make_noise,
    speech_level_db,
)
from training.voice.coding import Mask, code, hops
from training.voice.voices import gender_of

LineNoise = Literal["line", "room", "hum", "babble"]

_PAUSE_BELOW_DB = 30.0  # a packet so far below the level of speech holds none
_HANGOVER_PACKETS = 10  # sent on after the last one with speech
_ECHO_LOW_HZ, _ECHO_HIGH_HZ = 300.0, 2500.0  # what a small loudspeaker and a hybrid hand back
_OTHER: dict[Leg, Leg] = {"far": "near", "near": "far"}


@dataclass(frozen=True, slots=True)
class Line:
    """What one leg goes through, in this order.

    Attributes:
        low_hz, high_hz: band limits.
        level_dbfs: speech level (RMS over the frames that hold speech), dB below full scale; peaks beyond are clipped.
        noise: as :class:`training.voice.channel.Channel` has it, or ``babble``: other people talking in the room.
        snr_db: speech level above the noise's mean level, before any codec.
        babblers: voices of the babble; empty with any other noise.
        echo_db: by how much the other party's voice comes back weaker on this leg; None for no echo.
        echo_ms: how late. Some milliseconds are sidetone, or a hybrid's leak; more is heard as an echo.
        codec: codecs of the hops, ``amr>pcma``: the first is the access (a radio, the internet), which loses packets.
        bit_rate: bit/s, of AMR and Opus; 0 where neither is on the way.
        dtx: pauses are not sent.
        loss: share of 20 ms packets lost.
        burst: mean number of packets lost in a row, at least 1.
        concealed: what is lost is filled in (see :func:`training.voice.coding.code`); else nothing is heard.
    """

    low_hz: float = 300.0
    high_hz: float = 3400.0
    level_dbfs: float = -20.0
    noise: LineNoise = "line"
    snr_db: float = 35.0
    babblers: tuple[str, ...] = ()
    echo_db: float | None = None
    echo_ms: float = 0.0
    codec: str = "pcmu"
    bit_rate: int = 0
    dtx: bool = False
    loss: float = 0.0
    burst: float = 1.5
    concealed: bool = True


@dataclass(frozen=True, slots=True)
class Carried:
    """One leg at the far end of its line.

    Attributes:
        samples: int16 ``[num_samples]`` at 8 kHz.
        lost: packets that did not arrive.
    """

    samples: PCM
    lost: Mask

    @property
    def loss(self) -> float:
        """Share of packets lost; :attr:`Line.loss` is what was aimed at."""
        return float(self.lost.mean()) if self.lost.size else 0.0


Babble = Callable[[tuple[str, ...], int, np.random.Generator], Signal]
"""``(voices, num_samples, rng)`` -> RMS 1."""


def leg_facts(
    voices: Mapping[Leg, str], lines: Mapping[Leg, Mapping[str, Any]], losses: Mapping[Leg, float] | None = None
) -> dict[Leg, dict[str, Any]]:
    """What figures are sliced by, per leg: codec, SNR, share of packets lost, whether that was concealed, gender.

    Args:
        voices: per leg.
        lines: per leg, a :class:`training.voice.channel.Channel` or :class:`Line` as labels hold it.
        losses: as they turned out; those aimed at if None.

    Raises:
        ConfigError: a voice is reserved or unknown.
        KeyError: a line lacks a field.
    """
    return {
        leg: {
            "codec": line["codec"] if "codec" in line else {"ulaw": "pcmu", "alaw": "pcma"}[line["law"]],
            "snr_db": line["snr_db"],
            "loss": round(line["loss"] if losses is None else losses[leg], 4),
            "concealed": line["concealed"] if "concealed" in line else line["conceal"] == "repeat",
            "gender": gender_of(voices[leg]),
        }
        for leg, line in lines.items()
    }


def level(speech: Signal, sounds: Signal, line: Line) -> Signal:
    """Speech and sounds in the line's band, speech at its level; a leg without speech keeps what it has.

    Args:
        speech: full scale 1.0, 8 kHz, ``[num_samples]``.
        sounds: level 1.0 is the level of speech, ``[num_samples]``.
        line: whose band and level.
    """
    signal = band_limit(speech, line.low_hz, line.high_hz)
    level_db = speech_level_db(signal)
    if np.isfinite(level_db):
        signal = signal * 10 ** ((line.level_dbfs - level_db) / 20)
    if sounds.any():
        signal = signal + band_limit(sounds, line.low_hz, line.high_hz) * 10 ** (line.level_dbfs / 20)
    return signal


def background(line: Line, num_samples: int, rng: np.random.Generator, babble: Babble) -> Signal:
    """The line's noise alone, ``[num_samples]``, ``snr_db`` below the level of speech."""
    if line.noise == "babble":
        noise = babble(line.babblers, num_samples, rng)
    else:
        kind: NoiseKind = line.noise
        noise = make_noise(kind, num_samples, rng)
    if line.noise != "line":  # heard by the telephone, so it goes through the band too
        noise = band_limit(noise, line.low_hz, line.high_hz)
        noise = noise / max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    return noise * 10 ** ((line.level_dbfs - line.snr_db) / 20)


def echo(other: Signal, line: Line) -> Signal:
    """The other leg's voice as it comes back on this one; zeros without an echo."""
    if line.echo_db is None:
        return np.zeros(other.size)
    delay = min(round(line.echo_ms * SAMPLE_RATE_HZ / 1000), other.size)
    back = band_limit(other, _ECHO_LOW_HZ, _ECHO_HIGH_HZ) * 10 ** (-line.echo_db / 20)
    return np.concatenate([np.zeros(delay), back[: other.size - delay]])


def pauses(signal: Signal, level_dbfs: float) -> npt.NDArray[np.bool_]:
    """Packets of ``signal`` (before any noise: this detector never errs) that a sender with DTX keeps to itself."""
    power = np.mean(signal.reshape(-1, PACKET_NUM_SAMPLES) ** 2, axis=1)
    is_talk = power > 10 ** ((level_dbfs - _PAUSE_BELOW_DB) / 10)
    recent = np.convolve(is_talk, np.ones(1 + _HANGOVER_PACKETS))[: is_talk.size]
    return np.asarray(recent < 0.5)


def carry(
    speech: Mapping[Leg, Signal],
    sounds: Mapping[Leg, Signal],
    lines: Mapping[Leg, Line],
    rngs: Mapping[Leg, np.random.Generator],
    babble: Babble,
) -> dict[Leg, Carried]:
    """Both legs of a call over their lines; they meet in the echoes.

    Args:
        speech: per leg, full scale 1.0, 8 kHz, ``[num_samples]``, whole packets, equally long.
        sounds: per leg, level 1.0 is the level of speech, as long.
        lines: per leg.
        rngs: per leg, of noise and loss.
        babble: makes the voices of ``Line.babblers`` talk.

    Raises:
        ScamTapError: this PyAV lacks an encoder, or as ``babble`` raises.
    """
    sent = {leg: level(speech[leg], sounds[leg], lines[leg]) for leg in LEGS}
    out: dict[Leg, Carried] = {}
    for leg in LEGS:
        line, rng = lines[leg], rngs[leg]
        signal = sent[leg] + echo(sent[_OTHER[leg]], line)
        noisy = signal + background(line, signal.size, rng, babble)
        samples = np.clip(np.round(noisy * 32768), -32768, 32767).astype(np.int16)
        lost = lost_packets(signal.size // PACKET_NUM_SAMPLES, line.loss, line.burst, rng)
        silent = pauses(signal, line.level_dbfs) if line.dtx else None
        for i, codec in enumerate(hops(line.codec)):
            is_access = i == 0
            samples = code(
                samples,
                codec,
                bit_rate=line.bit_rate,
                lost=lost if is_access else None,
                concealed=line.concealed,
                pauses=silent if is_access else None,
            )
        out[leg] = Carried(samples, lost)
    return out
