"""Detectors that live calls do not use, for benchmarks/vad.py: WebRTC's, and the network behind it as behind a gate.

The gate is what live calls had until the network became cheaper than the gate itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import webrtcvad

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.frames import FRAME_NUM_SAMPLES, Int64s
from inference.audio.segment import PCM
from inference.audio.vad import Probabilities, States, Vad

WEBRTC_NUM_SAMPLES = SAMPLE_RATE_HZ * 10 // 1000  # the smallest of the frames it takes: 10, 20, 30 ms


def _objects(made: list[Any]) -> States:
    states = np.empty(len(made), object)
    states[:] = made
    return states


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

    def open(self, num_legs: int) -> States:
        return _objects([_WebrtcState(webrtcvad.Vad(self._mode)) for _ in range(num_legs)])

    def score(self, frames: PCM, states: States) -> Probabilities:
        num_bytes = 2 * WEBRTC_NUM_SAMPLES
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

    def skip(self, states: States, num_frames: Int64s) -> None:
        for state, num in zip(states, num_frames.tolist(), strict=True):
            state.score *= (1 - self._smoothing) ** (num * FRAME_NUM_SAMPLES // WEBRTC_NUM_SAMPLES)
            state.rest = b""


@dataclass(slots=True)
class _GatedState:
    cheap: States  # of one leg
    dear: States
    num_closed: int = 1 << 30  # frames since the cheap detector last heard something


class GatedVad:
    """Runs ``dear`` only while ``cheap`` hears something, and for ``hold_frames`` after; a closed gate scores 0."""

    def __init__(self, cheap: Vad, dear: Vad, *, open_at: float = 0.1, hold_frames: int = 10) -> None:
        self._cheap = cheap
        self._dear = dear
        self._open_at = open_at
        self._hold_frames = hold_frames

    def open(self, num_legs: int) -> States:
        return _objects([_GatedState(self._cheap.open(1), self._dear.open(1)) for _ in range(num_legs)])

    def score(self, frames: PCM, states: States) -> Probabilities:
        hints = self._cheap.score(frames, np.concatenate([state.cheap for state in states]))
        out = np.zeros(len(states), np.float32)
        rows = []
        for row, (state, hint) in enumerate(zip(states, hints.tolist(), strict=True)):
            if hint >= self._open_at:
                if state.num_closed > self._hold_frames:
                    self._dear.skip(state.dear, np.array([state.num_closed - self._hold_frames]))
                state.num_closed = 0
            else:
                state.num_closed += 1
            if state.num_closed <= self._hold_frames:
                rows.append(row)
        if rows:
            dear = np.concatenate([states[row].dear for row in rows])
            out[rows] = self._dear.score(frames[rows], dear)
            for place, row in enumerate(rows):
                states[row].dear = dear[place : place + 1]
        return out

    def skip(self, states: States, num_frames: Int64s) -> None:
        for state, num in zip(states, num_frames.tolist(), strict=True):
            self._cheap.skip(state.cheap, np.array([num]))
            self._dear.skip(state.dear, np.array([num]))
            state.num_closed += num
