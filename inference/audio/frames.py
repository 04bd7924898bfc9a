"""Samples of many legs, in whatever pieces they come, into whole frames on each leg's own grid."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from inference.audio.segment import PCM

FRAME_NUM_SAMPLES = 256
"""32 ms at 8 kHz: the hop the voice activity network was trained with; every detector here takes it."""

Int64s = npt.NDArray[np.int64]
Presence = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Step:
    """The next frame of some of the legs that were pushed to.

    Attributes:
        live: int64 ``[n]``, which of them, by their place in the push.
        frames: int16 ``[n, FRAME_NUM_SAMPLES]``, the caller's own.
        num_present: int64 ``[n]``, samples of the frame that were received.
    """

    live: Int64s
    frames: PCM
    num_present: Int64s


class FrameRests:
    """What legs have beyond their last whole frame, a row each: 776 bytes."""

    def __init__(self) -> None:
        # The newest sample stands last, so that what comes next follows it whatever the rest's length.
        self._samples = np.zeros((0, FRAME_NUM_SAMPLES), np.int16)
        self._present = np.zeros((0, FRAME_NUM_SAMPLES), np.bool_)
        self.num_samples: Int64s = np.zeros(0, np.int64)

    def grow(self, num_rows: int) -> None:
        """Make room for rows up to ``num_rows``; new ones have no rest."""
        more = num_rows - len(self.num_samples)
        self._samples = np.pad(self._samples, ((0, more), (0, 0)))
        self._present = np.pad(self._present, ((0, more), (0, 0)))
        self.num_samples = np.pad(self.num_samples, (0, more))

    def join(self, rows: Int64s, samples: PCM, present: Presence, nums: Int64s) -> Iterator[Step]:
        """Put new samples behind the rests; what makes no whole frame is the new rest.

        Args:
            rows: int64 ``[K]``, each at most once.
            samples: int16 ``[K, W]``.
            present: bool ``[K, W]``.
            nums: int64 ``[K]``, how many of the W are there.

        Returns:
            The first frame of every leg that has one, then the second, and so on.
        """
        joined = sliding_window_view(np.concatenate([self._samples[rows], samples], axis=1), FRAME_NUM_SAMPLES, axis=1)
        there = sliding_window_view(np.concatenate([self._present[rows], present], axis=1), FRAME_NUM_SAMPLES, axis=1)
        every, rest = np.arange(len(rows)), self.num_samples[rows]
        self._samples[rows], self._present[rows] = joined[every, nums], there[every, nums]
        self.num_samples[rows] = (rest + nums) % FRAME_NUM_SAMPLES
        num_frames = (rest + nums) // FRAME_NUM_SAMPLES
        return self._steps(joined, there, FRAME_NUM_SAMPLES - rest, num_frames)

    @staticmethod
    def _steps(joined: PCM, there: Presence, first: Int64s, num_frames: Int64s) -> Iterator[Step]:
        for step in range(int(num_frames.max(initial=0))):
            live = np.flatnonzero(num_frames > step)
            at = first[live] + step * FRAME_NUM_SAMPLES
            yield Step(live, joined[live, at], _count(there[live, at]))


def _count(present: Presence) -> Int64s:
    """How many samples of each frame are there, ``[n, FRAME_NUM_SAMPLES]`` -> ``[n]``; eight of them at a time."""
    by_byte = present.view(np.uint64).sum(axis=1).view(np.uint8)  # none exceeds 32
    num_present: Int64s = by_byte.reshape(-1, 8).sum(axis=1, dtype=np.int64)
    return num_present
