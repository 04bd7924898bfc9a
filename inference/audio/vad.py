"""Is there speech in this frame? Silero's 8 kHz network over the frames of many legs at once.

``python benchmarks/vad.py --fetch`` on 2 shared cores, through the segmenter, telephone band and µ-law; 165 s of real
and studio speech, 166 s of noise, 185 s of tones (ringback, busy, DTMF), 180 s of music on hold, and the two calls of
datasets/tiny (synthetic voices, real line noise), 31 turns:

                                       webrtc 0 webrtc 2 webrtc 3   gated  neural  neural, .5
    speech missed, -5 dBFS, %             0        0        0        .07     .07      .14
    speech missed, -35 dBFS, %            .12      .49     2.2       .12     .12      .12
    speech missed, -42 dBFS, %            .54     1.6     17         .64     .44      .44
    speech missed, street 5 dB SNR, %     0        0        0        .29     .29     1.7
    false s per min, noise -18 dBFS     51       51       51         .30     .30     0
    false s per min, noise -35 dBFS     50       36       20        0         .17     0
    false s per min, tones -18 dBFS     35       35       28        0       0        0
    false s per min, music -18 dBFS     60       60       59         .85     .29     0
    false s per min, music -35 dBFS     59       58       45         .97     .31     0
    turns of the calls missed, %         1.0      1.7      1.9      2.2     2.6      3.0
    segments of no turn in them          0        0        0        0       1        0
    CPU µs per s and leg, talking       75       76       77      244     125      123
    CPU µs per s and leg, quiet line   108      109      106      112     184      182

WebRTC (:mod:`inference.audio.webrtc`, ``detector: webrtc``) costs .6 of the network, segmenter included, and takes
music and loud noise for speech in any mode. "Gated" is the network where WebRTC's mode 0 hears something, which calls
had while the network was four times dearer: now it costs more than it spares wherever people talk. (With WebRTC's
frames of 10 ms it opened so often, and the network began anew each time, that 9 segments of the calls were of no turn.)
Threshold .5 would spare the last false seconds; .3 was chosen for the word error, see segmenter.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference.audio.frames import FRAME_NUM_SAMPLES, Int64s
from inference.audio.segment import PCM

Probabilities = npt.NDArray[np.float32]
States = npt.NDArray[Any]
"""``[n, ...]``, one entry a leg; what is in it is the detector's own business."""

VAD_MODEL = "vad"
"""Its name in the model repository."""

CONTEXT_NUM_SAMPLES = 32
"""What the network sees of the frame before."""

STATE_SIZE = 128

_SETTLED_FRAMES = 24
"""Silence after which the network's state depends on nothing before: .77 s, longer than the pause within a segment."""

_STATE = np.dtype([("context", np.int16, CONTEXT_NUM_SAMPLES), ("lstm", np.float32, (2, STATE_SIZE))])

Network = Callable[[PCM, npt.NDArray[np.float32]], tuple[Probabilities, npt.NDArray[np.float32]]]
"""``(frames int16 [batch, 288], state float32 [2, batch, 128]) -> (speech [batch], next_state)``: models/vad, run by
whatever engine the service injects (audio and engine are siblings and do not import each other)."""


class Vad(Protocol):
    """Scores frames of many legs in one call. Holds no leg's state itself: the caller does, as rows of an array."""

    def open(self, num_legs: int) -> States:
        """Return the states ``[num_legs, ...]`` of legs that heard nothing yet."""
        ...

    def score(self, frames: PCM, states: States) -> Probabilities:
        """Score the next frame of each leg and advance the legs' states, in place.

        Args:
            frames: int16 ``[batch, FRAME_NUM_SAMPLES]``, one frame a leg.
            states: the legs' states, ``[batch, ...]``.

        Returns:
            Speech probability or pseudo-probability, float32 ``[batch]`` in 0..1.
        """
        ...

    def skip(self, states: States, num_frames: Int64s) -> None:
        """Tell the legs' states, in place, that ``num_frames`` ``[batch]`` frames of silence were not scored."""
        ...


class NeuralVad:
    """Silero's 8 kHz network (models/vad), batched over legs: 1.1 kB of state per leg.

    A leg's scores are the same, to the last bit, whatever other legs share its batches. The network judges a voice
    against what it heard before, and may miss a quiet one that begins out of nothing. So a leg begins, and goes on
    after a long pause, in the state that silence leaves behind.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._rest = np.zeros((2, STATE_SIZE), np.float32)
        silence = self.open(1)
        for _ in range(_SETTLED_FRAMES):
            self.score(np.zeros((1, FRAME_NUM_SAMPLES), np.int16), silence)
        self._rest = silence["lstm"][0]

    def open(self, num_legs: int) -> States:
        """See :class:`Vad`."""
        states = np.zeros(num_legs, _STATE)
        states["lstm"] = self._rest
        return states

    def score(self, frames: PCM, states: States) -> Probabilities:
        """See :class:`Vad`."""
        lstm = np.ascontiguousarray(states["lstm"].transpose(1, 0, 2))
        probabilities, lstm = self._network(np.concatenate([states["context"], frames], axis=1), lstm)
        states["context"] = frames[:, -CONTEXT_NUM_SAMPLES:]
        states["lstm"] = lstm.transpose(1, 0, 2)
        return probabilities

    def skip(self, states: States, num_frames: Int64s) -> None:
        """See :class:`Vad`. After a short silence the voice goes on; after a long one nothing is left of it."""
        states["context"] = 0
        states["lstm"][num_frames >= _SETTLED_FRAMES] = self._rest
