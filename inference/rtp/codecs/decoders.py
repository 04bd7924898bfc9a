"""One decoder per codec, all with the same two questions: what is in this payload, and what may have been lost?

Imported only where something is decoded: PyAV takes its time.
"""

import io
from typing import Protocol, TypeAlias, cast

import av
import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext

from inference.errors import CodecError, PacketError
from inference.rtp import layout
from inference.rtp.codecs.amr import SPEECH_LOST, AmrPayload
from inference.rtp.codecs.opus import STEP, OpusDecoder, has_fec

PCM = npt.NDArray[np.int16]
Piece: TypeAlias = tuple[PCM, bool]
"""Samples, and whether the network brought them: speech, not comfort noise and not a guess."""

_ILBC_RUN_IN = 3
"""FFmpeg's decoder begins with a click at full scale: it hears the first frame so often before that counts."""

FRAME = layout.SAMPLE_RATE_HZ // 50  # samples of 20 ms


class Decoder(Protocol):
    """A stream of one codec."""

    is_wide: bool
    """Whether its samples are at 16 kHz; else at 8 kHz."""

    def decode(self, payload: bytes) -> list[Piece]:
        """Decode a payload.

        Raises:
            PacketError: it is none of this codec.
        """
        ...

    def conceal(self, num: int, following: bytes) -> list[Piece]:
        """Bridge ``num`` samples at 8 kHz that were lost before ``following``, so that the decoder keeps in step."""
        ...


class Stream:
    """A decoder of FFmpeg's."""

    def __init__(self, name: str, context: AudioCodecContext | None = None) -> None:
        if context is None:
            try:
                context = cast(AudioCodecContext, av.CodecContext.create(name, "r"))
            except av.error.FFmpegError:
                raise CodecError(f"this PyAV has no decoder {name}: install PyAV from its wheel") from None
            context.sample_rate, context.layout = layout.SAMPLE_RATE_HZ, "mono"
        self._context = context

    def __call__(self, data: bytes) -> PCM:
        """One packet's samples."""
        try:
            frames = self._context.decode(av.Packet(data))
        except av.error.FFmpegError:
            raise PacketError("payload cannot be decoded") from None
        # The plane is longer than the frame: it is filled up to a round size.
        pieces = [np.frombuffer(frame.planes[0], np.int16, frame.samples) for frame in frames]  # type: ignore[call-overload]
        return pieces[0].copy() if len(pieces) == 1 else np.concatenate([*pieces, np.zeros(0, np.int16)])


class Frames:
    """Frames of one size each, one after the other: GSM, G.729.

    Args:
        name: of the decoder.
        size: bytes of a frame.
        num: samples of a frame at 8 kHz.
        erased: what stands for a frame that was lost; empty where the decoder knows none.
    """

    is_wide = False

    def __init__(self, name: str, size: int, num: int, erased: bytes = b"") -> None:
        self._stream, self._size, self._num, self._erased = Stream(name), size, num, erased

    def decode(self, payload: bytes) -> list[Piece]:
        """See :class:`Decoder`. What is left over is comfort noise (G.729 Annex B), which FFmpeg does not make."""
        whole = len(payload) - len(payload) % self._size
        pieces = [(self._stream(payload[at : at + self._size]), True) for at in range(0, whole, self._size)]
        return pieces if whole == len(payload) else [*pieces, (np.zeros(self._num, np.int16), False)]

    def conceal(self, num: int, following: bytes) -> list[Piece]:  # noqa: ARG002
        """See :class:`Decoder`."""
        if not self._erased:
            return [(np.zeros(num, np.int16), False)]
        return [(self._stream(self._erased), False) for _ in range(num // self._num)]


class G722:
    """64 kbit/s; it adapts to what comes, and goes on as if nothing had been lost."""

    is_wide = True

    def __init__(self) -> None:
        self._stream = Stream("g722")

    def decode(self, payload: bytes) -> list[Piece]:
        """See :class:`Decoder`."""
        return [(self._stream(payload), True)]

    def conceal(self, num: int, following: bytes) -> list[Piece]:  # noqa: ARG002
        """See :class:`Decoder`."""
        return [(np.zeros(2 * num, np.int16), False)]


class Ilbc:
    """Frames of 20 ms (38 bytes) or 30 ms (50 bytes): the payload tells which; a frame's last bit says 'empty'."""

    is_wide = False

    def __init__(self) -> None:
        self._size, self._num = 0, 1
        self._stream: Stream | None = None

    def decode(self, payload: bytes) -> list[Piece]:
        """See :class:`Decoder`."""
        size, num, mode = (38, FRAME, 20) if len(payload) % 38 == 0 else (50, FRAME * 3 // 2, 30)
        if size != self._size or self._stream is None:
            # The frame size is set by the container alone.
            file = av.open(io.BytesIO(b"#!iLBC%d\n" % mode + payload), format="ilbc")
            self._stream, self._file = Stream("ilbc", file.streams.audio[0].codec_context), file
            self._size, self._num = size, num
            for _ in range(_ILBC_RUN_IN):
                self._stream(payload[:size])
        frames = (payload[at : at + size] for at in range(0, len(payload), size))
        return [(self._stream(frame), not frame[-1] & 1) for frame in frames]

    def conceal(self, num: int, following: bytes) -> list[Piece]:  # noqa: ARG002
        """See :class:`Decoder`."""
        if self._stream is None:
            return []
        empty = bytes(self._size - 1) + b"\1"
        return [(self._stream(empty), False) for _ in range(num // self._num)]


class Amr:
    """AMR and AMR-WB in either packing."""

    def __init__(self, *, is_wide: bool, is_aligned: bool) -> None:
        self.is_wide, self._is_aligned = is_wide, is_aligned
        self._stream = Stream("libopencore_amrwb" if is_wide else "libopencore_amrnb")
        self._num_speech = 9 if is_wide else 8  # frame types from 0 on that are speech
        self._lost = bytes([15 << 3 | 4])  # NO_DATA: the decoder conceals within speech, goes on with noise after it

    def decode(self, payload: bytes) -> list[Piece]:
        """See :class:`Decoder`."""
        frames = AmrPayload.parse(payload, is_wide=self.is_wide, is_aligned=self._is_aligned).frames
        pieces = []
        for frame in frames:
            is_usable = frame.is_good and frame.frame_type < SPEECH_LOST and frame.frame_type <= self._num_speech
            pcm = self._stream(bytes(frame) if is_usable else self._lost)
            pieces.append((pcm, is_usable and frame.frame_type < self._num_speech))
        return pieces

    def conceal(self, num: int, following: bytes) -> list[Piece]:  # noqa: ARG002
        """See :class:`Decoder`."""
        return [(self._stream(self._lost), False) for _ in range(num // FRAME)]


class Opus:
    """Opus at 8 kHz; the packet after a loss may hold a copy of what was lost."""

    is_wide = False

    def __init__(self) -> None:
        self._stream = OpusDecoder()

    def decode(self, payload: bytes) -> list[Piece]:
        """See :class:`Decoder`."""
        pcm = self._stream.decode(payload)
        if pcm is None:
            raise PacketError("Opus packet cannot be decoded")
        return [(pcm, len(payload) > 2)]

    def conceal(self, num: int, following: bytes) -> list[Piece]:
        """See :class:`Decoder`."""
        num -= num % STEP
        copied = min(num, 3 * FRAME if following[0] >> 3 & 3 == 3 and following[0] >> 3 < 12 else FRAME)
        pieces = [(self._stream.conceal(num - copied), False)] if num > copied else []
        if copied:
            pieces.append((self._stream.decode_before(following, copied), has_fec(following)))
        return [(pcm, is_present) for pcm, is_present in pieces if pcm is not None]


def make_decoder(codec: int) -> Decoder:
    """A decoder for one of the kernel's codecs, from :data:`inference.rtp.layout.CODEC_G722` on.

    Raises:
        CodecError: the library does not have it.
    """
    if codec == layout.CODEC_G722:
        return G722()
    if codec == layout.CODEC_GSM:
        return Frames("gsm", 33, FRAME)
    if codec == layout.CODEC_G729:
        return Frames("g729", 10, FRAME // 2, erased=bytes(10))
    if codec == layout.CODEC_ILBC:
        return Ilbc()
    if codec == layout.CODEC_OPUS:
        return Opus()
    is_wide = codec in (layout.CODEC_AMR_WB, layout.CODEC_AMR_WB_ALIGNED)
    return Amr(is_wide=is_wide, is_aligned=codec in (layout.CODEC_AMR_ALIGNED, layout.CODEC_AMR_WB_ALIGNED))
