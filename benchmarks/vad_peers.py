"""A detector that live calls do not use, for benchmarks/vad.py: the network behind WebRTC's as behind a gate.

It is what live calls had until the network became cheaper than the gate itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inference.audio.frames import Int64s
from inference.audio.segment import PCM
from inference.audio.vad import Probabilities, States, Vad


def _objects(made: list[Any]) -> States:
    states = np.empty(len(made), object)
    states[:] = made
    return states


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
