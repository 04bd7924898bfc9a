"""Is there speech in this frame? Three answers behind one door: neural, WebRTC's, and one gating the other.

``python benchmarks/vad.py --fetch`` on 2 shared cores, through the segmenter, telephone band and µ-law; 165 s of real
and studio speech, 166 s of noise, 185 s of tones (ringback, busy, DTMF), 180 s of music on hold:

                                     webrtc 0 webrtc 3   default    neural  neural, .5
    speech missed, -5 dBFS, %           0       .02       .07        .07      .13
    speech missed, -35 dBFS, %          .12     .71       .12        .12      .12
    speech missed, -42 dBFS, %          .54   41.3        .58        .42      .45
    speech missed, street 5 dB SNR, %   0       .1        .36        .36      .78
    false s per min, noise -18 dBFS   49      48          .30        .30     0
    false s per min, tones -18 dBFS   35      23         0          0        0
    false s per min, music -18 dBFS   60      59          .29        .29     0
    false s per min, music -35 dBFS   59      34          .57        .31     0
    CPU µs per s and leg, talking    571     585       1777       1921     1509
    CPU µs per s and leg, quiet line 547     589        655       1803     1583

CPU holds the segmenter's own 370 µs (32 legs, 20 ms pushes). WebRTC alone takes music for speech, so it only wakes the
network (default): almost the same answers, a third of the cost on a quiet line. Its mode 3 would lose quiet
voices. Threshold .5 would spare the last false seconds; .3 was chosen for the word error, see segmenter.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import webrtcvad

from inference.audio import SAMPLE_RATE_HZ

PCM = npt.NDArray[np.int16]
Probabilities = npt.NDArray[np.float32]

VAD_MODEL = "vad"
"""Its name in the model repository."""

FRAME_NUM_SAMPLES = 256
"""32 ms at 8 kHz: the hop the network was trained with; every detector here takes it."""

CONTEXT_NUM_SAMPLES = 32
"""What the network sees of the frame before."""

STATE_SIZE = 128

_SETTLED_FRAMES = 24
"""Silence after which the network's state depends on nothing before: .77 s, longer than the pause within a segment."""

Network = Callable[[PCM, npt.NDArray[np.float32]], tuple[Probabilities, npt.NDArray[np.float32]]]
"""``(frames int16 [batch, 288], state float32 [2, batch, 128]) -> (speech [batch], next_state)``: models/vad, run by
whatever engine the service injects (audio and engine are siblings and do not import each other)."""


class Vad(Protocol):
    """Scores frames of many legs in one call. Holds no leg's state itself, so legs cost nothing to forget."""

    def open(self) -> Any:
        """Return the state of a new leg, opaque to the caller."""
        ...

    def score(self, frames: PCM, states: Sequence[Any]) -> Probabilities:
        """Score the next frame of each leg and advance the legs' states.

        Args:
            frames: int16 ``[batch, FRAME_NUM_SAMPLES]``, one frame a leg.
            states: the legs' states, each at most once.

        Returns:
            Speech probability or pseudo-probability, float32 ``[batch]`` in 0..1.
        """
        ...

    def skip(self, state: Any, num_frames: int) -> None:
        """Tell a leg's state that ``num_frames`` frames of silence were not scored."""
        ...


@dataclass(slots=True)
class _NeuralState:
    context: PCM  # [CONTEXT_NUM_SAMPLES]
    lstm: npt.NDArray[np.float32]  # [2, STATE_SIZE]


class NeuralVad:
    """Silero's 8 kHz network (models/vad), batched over legs: 1.1 kB of state per leg.

    The network judges a voice against what it heard before, and may miss a quiet one that begins out of nothing. So
    a leg begins, and goes on after a long pause, in the state that silence leaves behind.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._rest = np.zeros((2, STATE_SIZE), np.float32)
        silence = self.open()
        for _ in range(_SETTLED_FRAMES):
            self.score(np.zeros((1, FRAME_NUM_SAMPLES), np.int16), [silence])
        self._rest = silence.lstm

    def open(self) -> _NeuralState:
        """See :class:`Vad`."""
        return _NeuralState(np.zeros(CONTEXT_NUM_SAMPLES, np.int16), self._rest.copy())

    def score(self, frames: PCM, states: Sequence[_NeuralState]) -> Probabilities:
        """See :class:`Vad`."""
        context = np.stack([state.context for state in states])
        lstm = np.stack([state.lstm for state in states], axis=1)
        probabilities, lstm = self._network(np.concatenate([context, frames], axis=1), lstm)
        for row, state in enumerate(states):
            state.context = frames[row, -CONTEXT_NUM_SAMPLES:].copy()
            state.lstm = lstm[:, row].copy()
        return probabilities

    def skip(self, state: _NeuralState, num_frames: int) -> None:
        """See :class:`Vad`. After a short silence the voice goes on; after a long one nothing is left of it."""
        state.context = np.zeros(CONTEXT_NUM_SAMPLES, np.int16)
        if num_frames >= _SETTLED_FRAMES:
            state.lstm = self._rest.copy()


_WEBRTC_NUM_SAMPLES = SAMPLE_RATE_HZ * 10 // 1000  # the smallest of the frames it takes: 10, 20, 30 ms


@dataclass(slots=True)
class _WebrtcState:
    detector: Any
    rest: bytes = b""
    score: float = 0.0


class WebrtcVad:
    """WebRTC's Gaussian-mixture detector on 10 ms frames, smoothed exponentially.

    Args:
        mode: 0 (takes most for speech) to 3 (least).
        smoothing: weight of the newest 10 ms decision; .1 is a time constant of 95 ms.
    """

    def __init__(self, mode: int = 3, smoothing: float = 0.1) -> None:
        self._mode = mode
        self._smoothing = smoothing

    def open(self) -> _WebrtcState:
        """See :class:`Vad`."""
        return _WebrtcState(webrtcvad.Vad(self._mode))

    def score(self, frames: PCM, states: Sequence[_WebrtcState]) -> Probabilities:
        """See :class:`Vad`."""
        num_bytes = 2 * _WEBRTC_NUM_SAMPLES
        out = np.empty(len(states), np.float32)
        for row, state in enumerate(states):
            pcm = state.rest + frames[row].tobytes()
            end = len(pcm) - len(pcm) % num_bytes
            score = state.score
            for start in range(0, end, num_bytes):
                is_speech = state.detector.is_speech(pcm[start : start + num_bytes], SAMPLE_RATE_HZ)
                score += self._smoothing * (is_speech - score)
            state.rest = pcm[end:]
            state.score = out[row] = score
        return out

    def skip(self, state: _WebrtcState, num_frames: int) -> None:
        """See :class:`Vad`."""
        decisions = num_frames * FRAME_NUM_SAMPLES // _WEBRTC_NUM_SAMPLES
        state.score *= (1 - self._smoothing) ** decisions
        state.rest = b""


@dataclass(slots=True)
class _GatedState:
    cheap: Any
    dear: Any
    num_closed: int = 1 << 30  # frames since the cheap detector last heard something


class GatedVad:
    """Runs ``dear`` only while ``cheap`` hears something, and for ``hold_frames`` after.

    A closed gate scores 0. The dear detector is told how long it slept.
    """

    def __init__(self, cheap: Vad, dear: Vad, *, open_at: float = 0.1, hold_frames: int = 10) -> None:
        self._cheap = cheap
        self._dear = dear
        self._open_at = open_at
        self._hold_frames = hold_frames

    def open(self) -> _GatedState:
        """See :class:`Vad`."""
        return _GatedState(self._cheap.open(), self._dear.open())

    def score(self, frames: PCM, states: Sequence[_GatedState]) -> Probabilities:
        """See :class:`Vad`."""
        hints = self._cheap.score(frames, [state.cheap for state in states])
        out = np.zeros(len(states), np.float32)
        rows = []
        for row, (state, hint) in enumerate(zip(states, hints.tolist(), strict=True)):
            if hint >= self._open_at:
                if state.num_closed > self._hold_frames:
                    self._dear.skip(state.dear, state.num_closed - self._hold_frames)
                state.num_closed = 0
            else:
                state.num_closed += 1
            if state.num_closed <= self._hold_frames:
                rows.append(row)
        if rows:
            out[rows] = self._dear.score(frames[rows], [states[row].dear for row in rows])
        return out

    def skip(self, state: _GatedState, num_frames: int) -> None:
        """See :class:`Vad`."""
        self._cheap.skip(state.cheap, num_frames)
        self._dear.skip(state.dear, num_frames)
        state.num_closed += num_frames


def default_vad(network: Network) -> Vad:
    """The detector that live calls use: the neural one, asleep while WebRTC's most eager mode hears nothing."""
    return GatedVad(WebrtcVad(mode=0), NeuralVad(network))
