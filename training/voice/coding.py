"""Speech through the codecs of a call: encoded, packets lost on the way, decoded, and encoded again by the next hop.

The decoders are those of live calls (:mod:`inference.rtp.codecs.decoders`), so what a lost AMR frame or Opus packet
sounds like here is what it sounds like there. Encoders come with PyAV (FFmpeg with opencore-amr and libopus). Times
stay true: each hop's delay is taken out again.
"""

from collections.abc import Iterator
from typing import Literal, cast, get_args

import av
import numpy as np
import numpy.typing as npt
import soxr
from av.audio.codeccontext import AudioCodecContext

from inference.audio import SAMPLE_RATE_HZ
from inference.errors import ScamTapError
from inference.rtp import layout
from inference.rtp.codecs import narrow
from inference.rtp.codecs.decoders import Amr, Decoder, make_decoder
from inference.rtp.codecs.opus import OpusDecoder
from inference.rtp.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from training.voice.channel import PACKET_NUM_SAMPLES, conceal

PCM = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
"""One entry a 20 ms packet."""

Codec = Literal["pcmu", "pcma", "g722", "amr", "opus"]
CODECS: tuple[Codec, ...] = get_args(Codec)

_G722_DELAY = 11 + narrow.DELAY  # samples at 8 kHz: its filter bank, and ours behind it
_AMR_DELAY = 40  # 5 ms of look-ahead
_OPUS_DELAY = 52  # 6.5 ms of look-ahead
_AMR_NO_REQUEST = b"\xf0"  # codec mode request of an octet-aligned payload: none (RFC 4867 section 4.3.1)


def hops(chain: str) -> tuple[Codec, ...]:
    """``amr>pcma`` -> the codecs on the way, first to last.

    Raises:
        ValueError: one is none of :data:`CODECS`.
    """
    names = chain.split(">")
    if unknown := set(names) - set(CODECS):
        raise ValueError(f"codec {min(unknown)!r} is none of {', '.join(CODECS)}")
    return cast("tuple[Codec, ...]", tuple(names))


def code(
    samples: PCM,
    codec: Codec,
    *,
    bit_rate: int = 0,
    lost: Mask | None = None,
    concealed: bool = True,
    pauses: Mask | None = None,
) -> PCM:
    """One hop.

    Args:
        samples: int16 ``[num_samples]`` at 8 kHz, whole packets.
        codec: G.722 carries them at 16 kHz.
        bit_rate: bit/s, of AMR and Opus.
        lost: packets that do not arrive; none if None.
        concealed: AMR and Opus fill in by their own rules (Opus from the copy in the next packet), the others by the
            packet before, fading. If not, nothing is heard.
        pauses: packets of discontinuous transmission; None for a sender that never stops. AMR decides by itself and
            makes comfort noise; from the others nothing comes and nothing is heard, as on a live leg.

    Returns:
        int16 ``[num_samples]``.

    Raises:
        ScamTapError: this PyAV lacks the encoder.
        ValueError: ``samples`` are no whole packets.
    """
    num_packets = samples.size // PACKET_NUM_SAMPLES
    if samples.size != num_packets * PACKET_NUM_SAMPLES:
        raise ValueError(f"{samples.size} samples are no whole packets of {PACKET_NUM_SAMPLES}")
    lost = np.zeros(num_packets, np.bool_) if lost is None else lost
    if codec == "amr":
        return _amr(samples, bit_rate, lost, concealed=concealed, dtx=pauses is not None)
    absent = lost if pauses is None else lost | pauses
    if codec == "opus":
        return _opus(samples, bit_rate, absent, lost, concealed=concealed)
    if codec == "g722":
        delay, out = _G722_DELAY, _g722(samples, absent)
    elif codec == "pcmu":
        delay, out = 0, decode_ulaw(encode_ulaw(samples))
    else:
        delay, out = 0, decode_alaw(encode_alaw(samples))
    out = conceal(out, _longer(absent, out), "zeros")
    if concealed:
        out = conceal(out, _longer(lost, out), "repeat")
    return out[delay:][: samples.size]


def _longer(mask: Mask, samples: PCM) -> Mask:
    """``mask`` for the packets behind the end that flush a codec too: they arrive."""
    return np.append(mask, np.zeros(samples.size // PACKET_NUM_SAMPLES - mask.size, np.bool_))


def _packets(samples: PCM, name: str, rate_hz: int, bit_rate: int, **options: str) -> Iterator[bytes]:
    """20 ms packets, one more than there are: every codec's delay is shorter than that."""
    try:
        encoder = cast(AudioCodecContext, av.CodecContext.create(name, "w"))
    except av.error.FFmpegError:
        raise ScamTapError(f"this PyAV has no encoder {name}: install PyAV from its wheel") from None
    encoder.sample_rate, encoder.layout, encoder.format = rate_hz, "mono", "s16"
    if bit_rate:
        encoder.bit_rate = bit_rate
    encoder.options = options
    size = rate_hz // 50
    padded = np.append(samples, np.zeros(size, np.int16))
    for at in range(0, padded.size, size):
        frame = av.AudioFrame.from_ndarray(padded[None, at : at + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, at
        for packet in encoder.encode(frame):
            yield bytes(packet)


def _joined(decoder: Decoder, payload: bytes) -> PCM:
    return np.concatenate([pcm for pcm, _ in decoder.decode(payload)])


def _amr(samples: PCM, bit_rate: int, lost: Mask, *, concealed: bool, dtx: bool) -> PCM:
    decoder = Amr(is_wide=False, is_aligned=True)
    packets = _packets(samples, "libopencore_amrnb", SAMPLE_RATE_HZ, bit_rate, dtx=str(int(dtx)))
    pieces = []
    for i, frame in enumerate(packets):  # a frame in AMR's storage format is its table of contents and its bits
        if i < lost.size and lost[i]:
            piece = np.concatenate([pcm for pcm, _ in decoder.conceal(PACKET_NUM_SAMPLES, b"")])
            pieces.append(piece if concealed else np.zeros_like(piece))  # the decoder keeps in step all the same
        else:
            pieces.append(_joined(decoder, _AMR_NO_REQUEST + frame))
    return np.concatenate(pieces)[_AMR_DELAY:][: samples.size]


def _g722(samples: PCM, absent: Mask) -> PCM:
    """``[num_samples + 160]``, delayed, anything in place of absent packets."""
    wide = soxr.resample(samples.astype(np.float64), SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ, quality="HQ")
    wide_pcm = np.clip(np.round(wide), -32768, 32767).astype(np.int16)
    decoder, narrower = make_decoder(layout.CODEC_G722), narrow.Narrower()
    pieces = []
    for i, payload in enumerate(_packets(wide_pcm, "g722", 2 * SAMPLE_RATE_HZ, 0)):
        is_absent = i < absent.size and absent[i]
        heard = np.zeros(2 * PACKET_NUM_SAMPLES, np.int16) if is_absent else _joined(decoder, payload)
        pieces.append(narrower(heard))
    return np.concatenate(pieces)


def _opus(samples: PCM, bit_rate: int, absent: Mask, lost: Mask, *, concealed: bool) -> PCM:
    """Voice mode, with a copy of each packet in the next one, as telephones over the internet ask for."""
    decoder = OpusDecoder()
    options = {"application": "voip", "fec": "1", "packet_loss": "10"}
    packets = list(_packets(samples, "libopus", SAMPLE_RATE_HZ, bit_rate, **options))
    silence = np.zeros(PACKET_NUM_SAMPLES, np.int16)
    pieces: list[PCM] = []
    for i, payload in enumerate(packets):
        if i >= absent.size or not absent[i]:
            pcm = decoder.decode(payload)
        elif not concealed or not lost[i]:
            pcm = silence
        elif i + 1 < absent.size and absent[i + 1]:
            pcm = decoder.conceal(PACKET_NUM_SAMPLES)
        else:
            pcm = decoder.decode_before(packets[i + 1], PACKET_NUM_SAMPLES)
        pieces.append(silence if pcm is None else pcm)
    return np.concatenate(pieces)[_OPUS_DELAY:][: samples.size]
