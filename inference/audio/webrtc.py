"""Is there speech in this frame? WebRTC's detector, where the network is too dear or none is wanted before the words.

It knows the energy of six bands, and how that is distributed in speech and in noise: no more. So it takes music for a
voice, and loud noise too; :mod:`inference.audio.vad` has the table.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import webrtcvad

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.frames import FRAME_NUM_SAMPLES, Int64s
from inference.audio.segment import PCM
from inference.audio.vad import Probabilities, States

WEBRTC_FRAME_MS = 30
"""The longest of the frames that it takes (10, 20, 30 ms): .7 of the CPU of the shortest, segmenter included."""

SMOOTHING_MS = 100
"""Time constant of the share of voiced frames. One voiced frame alone stays below the segmenter's threshold, two pass
it; after a voice it takes 210 ms to fall below the threshold of a pause, so segments end that much later."""

SETTLING_DECISIONS = 5
"""A new detector takes what it hears first for speech, be it the noise of a line (for up to five decisions at -62 to
-40 dBFS, in any mode), so these do not count. A voice that begins in these 150 ms is in the segment's lead-in."""

_BYTES = 2  # of a sample
_FRAME_BYTES = FRAME_NUM_SAMPLES * _BYTES
_WEBRTC_BYTES = SAMPLE_RATE_HZ * WEBRTC_FRAME_MS // 1000 * _BYTES
_WEIGHT = 1 - math.exp(-WEBRTC_FRAME_MS / SMOOTHING_MS)
_FRAME_DECAY = math.exp(-1000 * FRAME_NUM_SAMPLES / SAMPLE_RATE_HZ / SMOOTHING_MS)


@dataclass(slots=True)
class _State:
    detector: Any
    rest: bytes = b""  # what made no whole frame of WebRTC's yet
    share: float = 0.0
    num_settling: int = SETTLING_DECISIONS


class WebrtcVad:
    """WebRTC's Gaussian-mixture detector: its decisions on frames of 30 ms, as a share smoothed over 100 ms.

    A frame of the segmenter's, 32 ms, brings one decision or two; what makes none yet waits for the next frame. Each
    leg has a detector of its own (a C object), so its scores are the same whatever other legs share its batches.

    Args:
        mode: 0 (takes most for speech) to 3 (least); WebRTC calls it aggressiveness.
    """

    def __init__(self, mode: int) -> None:
        self._mode = mode

    def open(self, num_legs: int) -> States:
        """See :class:`inference.audio.vad.Vad`."""
        states = np.empty(num_legs, object)
        states[:] = [_State(webrtcvad.Vad(self._mode)) for _ in range(num_legs)]
        return states

    def score(self, frames: PCM, states: States) -> Probabilities:
        """See :class:`inference.audio.vad.Vad`."""
        pcm, shares = frames.tobytes(), []
        for state, at in zip(states, range(0, len(pcm), _FRAME_BYTES), strict=True):
            heard = state.rest + pcm[at : at + _FRAME_BYTES]
            end = len(heard) - len(heard) % _WEBRTC_BYTES
            for begin in range(0, end, _WEBRTC_BYTES):
                is_speech = state.detector.is_speech(heard[begin : begin + _WEBRTC_BYTES], SAMPLE_RATE_HZ)
                if state.num_settling:
                    state.num_settling -= 1
                else:
                    state.share += _WEIGHT * (is_speech - state.share)
            state.rest = heard[end:]
            shares.append(state.share)
        return np.array(shares, np.float32)

    def skip(self, states: States, num_frames: Int64s) -> None:
        """See :class:`inference.audio.vad.Vad`."""
        for state, num in zip(states, num_frames.tolist(), strict=True):
            state.share *= _FRAME_DECAY**num
            state.rest = b""
