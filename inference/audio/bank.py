"""The segmenters of many legs at once: a row of arrays for a leg, array operations for a frame of however many.

Only what happens once in a sentence (a segment ends, or is cut) is done leg by leg.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from inference.audio import SAMPLE_RATE_HZ, Leg
from inference.audio.frames import FRAME_NUM_SAMPLES, FrameRests, Int64s, Presence, Step
from inference.audio.policy import SegmenterConfig
from inference.audio.segment import PCM, SpeechSegment
from inference.audio.vad import Vad

FRAME_S = FRAME_NUM_SAMPLES / SAMPLE_RATE_HZ
BRIDGE_FRAMES = int(0.1 / FRAME_S)
"""Frames missing for up to 100 ms are taken for what was heard before them: lost packets do not end speech."""

CACHED_LEGS = 256
"""Decided on together: what the arrays of so many hold stays in a core's cache (2,000 legs at once cost 1.25 times)."""

_ROW = np.dtype(
    [
        ("next_frame", np.int64),  # its number on the grid
        ("num_kept", np.int64),  # frames of its history, the newest is the one before next_frame
        ("onset", np.int64),  # place in the history of the first frame of speech, while a segment is open; else -1
        ("has_lead_in", np.int64),  # 0 for a segment that continues a cut one
        ("num_voiced", np.int64),
        ("num_silent", np.int64),  # frames since the last voiced one
        ("num_missing", np.int64),
        ("num_unscored", np.int64),  # silent frames since the VAD last saw one
        ("probability", np.float64),  # of the last frame
    ]
)  # of words of 8 bytes, which are gathered faster than records
_WORDS = _ROW.itemsize // 8


def _powers(frames: PCM) -> npt.NDArray[np.float64]:
    powers: npt.NDArray[np.float64] = np.square(frames, dtype=np.float32).mean(axis=1).astype(np.float64)
    return powers


def _frames(seconds: float) -> int:
    return max(0, round(seconds / FRAME_S))


class SegmenterBank:
    """What the segmenters of all legs of one policy and one detector know.

    Memory is 2 kB a leg, and the audio of its open segment (at most ``max_segment_s`` and a pause) or its lead-in.
    Its rows are as many as legs were ever open at once, to the next power of two.
    """

    def __init__(self, config: SegmenterConfig, vad: Vad) -> None:
        self._config = config
        self._vad = vad
        self._end_frames = max(1, _frames(config.end_silence_s))
        self._tail_frames = _frames(config.tail_s)
        self._lead_frames = _frames(config.lead_in_s)
        self._min_frames = max(1, _frames(config.min_speech_s))
        self._max_frames = max(2, _frames(config.max_segment_s))
        self._cut_frames = max(3, _frames(config.cut_window_s))
        self._silence_power = 32768.0**2 * 10 ** (config.silence_dbfs / 10)
        self._fill = (BRIDGE_FRAMES + self._end_frames + 2) * FRAME_NUM_SAMPLES  # ends whatever is open
        self._legs, self._words = np.zeros(0, _ROW), np.zeros((0, _WORDS), np.int64)  # the same memory
        self._rests = FrameRests()
        self._states = vad.open(0)
        self._is_voiced = np.zeros((0, self._cut_frames), np.bool_)  # of the newest frames, by number modulo width
        self._history: list[list[bytes]] = []  # a row's newest frames
        self._names: list[Leg] = []
        self._free: list[int] = []

    def open(self, leg: Leg) -> int:
        """Give out the row of a new leg."""
        if not self._free:
            self._grow(max(2, 2 * len(self._legs)))
        row = self._free.pop()
        self._legs[row] = np.zeros((), _ROW)
        self._legs["onset"][row], self._legs["has_lead_in"][row] = -1, True
        self._rests.num_samples[row] = 0
        self._states[row : row + 1] = self._vad.open(1)
        self._names[row] = leg
        return row

    def close(self, row: int) -> None:
        """Take a row back."""
        self._history[row].clear()
        self._free.append(row)

    def _grow(self, num_rows: int) -> None:
        more = num_rows - len(self._legs)
        self._free += range(num_rows - 1, len(self._legs) - 1, -1)
        self._legs = np.concatenate([self._legs, np.zeros(more, _ROW)])
        self._words = self._legs.view(np.int64).reshape(-1, _WORDS)
        self._rests.grow(num_rows)
        self._states = np.concatenate([self._states, self._vad.open(more)])
        self._is_voiced = np.pad(self._is_voiced, ((0, more), (0, 0)))
        self._history += ([] for _ in range(more))
        self._names += ["far"] * more

    def positions(self, rows: Int64s) -> Int64s:
        """Numbers of the next samples expected, ``[K]`` -> ``[K]``."""
        return self._legs["next_frame"][rows] * FRAME_NUM_SAMPLES + self._rests.num_samples[rows]

    def is_open(self, row: int) -> bool:
        """Whether speech was heard that is not in a segment yet."""
        return int(self._legs["onset"][row]) >= 0

    def push(
        self, rows: Int64s, samples: PCM, starts: Int64s, nums: Int64s, present: Presence
    ) -> list[tuple[int, SpeechSegment]]:
        """Take the next samples of many legs; see :meth:`Segmenter.push`.

        Args:
            rows: int64 ``[K]``, the legs' rows, each at most once.
            samples: int16 ``[K, W]``.
            starts: int64 ``[K]``, number of each leg's first sample on its time line.
            nums: int64 ``[K]``, how many of the W are there.
            present: bool ``[K, W]``, False where nothing was received.

        Returns:
            Segments that ended, with their leg's place in ``rows``; those of a leg in order.
        """
        skipped = starts - self.positions(rows)
        odd = np.flatnonzero((skipped != 0) & (nums > 0))
        if not len(odd):
            return self._push(rows, samples, nums, present)
        even = np.flatnonzero(skipped == 0)
        found = self._push(rows[even], samples[even], nums[even], present[even])
        out = [(int(even[place]), segment) for place, segment in found]
        for place in odd.tolist():
            heard, there = samples[place, : nums[place]], present[place, : nums[place]]
            out += [(place, segment) for segment in self._push_across(rows[[place]], heard, int(starts[place]), there)]
        return out

    def _push_across(self, row: Int64s, samples: PCM, start_sample: int, present: Presence) -> list[SpeechSegment]:
        """Push what does not begin where the leg stands: what is missing counts as not received."""
        out: list[SpeechSegment] = []
        if start_sample - self.positions(row)[0] > 2 * self._fill:  # too long to be worth filling; what is open ends
            out = self._push_one(row, np.zeros(self._fill, np.int16), np.zeros(self._fill, np.bool_))
            self._jump(row[0], start_sample // FRAME_NUM_SAMPLES)
        skipped = start_sample - int(self.positions(row)[0])
        if skipped < 0:
            samples, present = samples[-skipped:], present[-skipped:]
        else:
            samples, present = np.pad(samples, (skipped, 0)), np.pad(present, (skipped, 0))
        return out + self._push_one(row, samples, present)

    def _jump(self, row: int, frame: int) -> None:
        self._rests.num_samples[row] = 0
        self._history[row].clear()
        leg = self._legs[row]  # a view
        leg["num_kept"] = 0
        leg["num_unscored"] += frame - leg["next_frame"]
        leg["next_frame"] = frame

    def _push_one(self, row: Int64s, samples: PCM, present: Presence) -> list[SpeechSegment]:
        return [s for _, s in self._push(row, samples[None], np.array([len(samples)]), present[None])]

    def _push(self, rows: Int64s, samples: PCM, nums: Int64s, present: Presence) -> list[tuple[int, SpeechSegment]]:
        out = []
        for first in range(0, len(rows), CACHED_LEGS):
            some = slice(first, first + CACHED_LEGS)
            for step in self._rests.join(rows[some], samples[some], present[some], nums[some]):
                out += [(first + place, segment) for place, segment in self._advance(rows[some], step)]
        return out

    def _advance(self, rows: Int64s, step: Step) -> list[tuple[int, SpeechSegment]]:
        """Take a frame of each live leg."""
        rows, config = rows[step.live], self._config
        legs = self._words[rows].view(_ROW)[:, 0]  # a copy, written back below
        is_there = 2 * step.num_present >= FRAME_NUM_SAMPLES
        legs["num_missing"] = np.where(is_there, 0, legs["num_missing"] + 1)
        is_asked = is_there & (_powers(step.frames) >= self._silence_power)
        is_bridged = ~is_asked & (legs["num_missing"] > 0) & (legs["num_missing"] <= BRIDGE_FRAMES)
        probability = np.where(is_bridged, legs["probability"], 0.0)
        if is_asked.any():
            probability[is_asked] = self._score(rows[is_asked], legs["num_unscored"][is_asked], step.frames[is_asked])
        legs["num_unscored"] = np.where(is_asked, 0, legs["num_unscored"] + ~is_bridged)  # what was lost is no silence
        legs["probability"] = probability

        was_open = legs["onset"] >= 0
        is_voiced = probability >= np.where(was_open, config.exit_threshold, config.threshold)
        self._is_voiced[rows, legs["next_frame"] % self._cut_frames] = is_voiced
        legs["next_frame"] += 1
        legs["num_kept"] += 1
        begins, is_idle = ~was_open & is_voiced, ~was_open & ~is_voiced
        legs["onset"][begins] = legs["num_kept"][begins] - 1
        legs["num_voiced"] = np.where(begins, 0, legs["num_voiced"]) + is_voiced
        legs["num_silent"] = np.where(is_voiced, 0, legs["num_silent"] + 1)
        legs["num_kept"][is_idle] = np.minimum(legs["num_kept"][is_idle], self._lead_frames)
        self._words[rows] = legs.view(np.int64).reshape(-1, _WORDS)
        pcm, size = step.frames.tobytes(), step.frames[0].nbytes
        for row, num_kept, at in zip(rows.tolist(), legs["num_kept"].tolist(), range(0, len(pcm), size), strict=True):
            kept = self._history[row]
            kept.append(pcm[at : at + size])
            if len(kept) > num_kept:
                del kept[: len(kept) - num_kept]

        ends = was_open & ~is_voiced & (legs["num_silent"] >= self._end_frames)
        first = np.where(legs["has_lead_in"] > 0, np.maximum(0, legs["onset"] - self._lead_frames), legs["onset"])
        is_long = ~is_idle & ~ends & (legs["num_kept"] - first >= self._max_frames)
        out = []
        for place in np.flatnonzero(ends | is_long).tolist():
            found = self._close(int(rows[place])) if ends[place] else self._cut(int(rows[place]))
            out += [(int(step.live[place]), segment) for segment in found]
        return out

    def _score(self, rows: Int64s, num_unscored: Int64s, frames: PCM) -> npt.NDArray[np.float32]:
        """Ask the VAD, having told it what it slept through."""
        states = self._states[rows]
        slept = np.flatnonzero(num_unscored)
        if len(slept):
            woken = states[slept]
            self._vad.skip(woken, num_unscored[slept])
            states[slept] = woken
        scores = self._vad.score(frames, states)
        self._states[rows] = states
        return scores

    def flush(self, row: int) -> list[SpeechSegment]:
        """See :meth:`Segmenter.flush`."""
        out: list[SpeechSegment] = []
        if missing := -int(self._rests.num_samples[row]) % FRAME_NUM_SAMPLES:
            out = self._push_one(np.array([row]), np.zeros(missing, np.int16), np.zeros(missing, np.bool_))
        out += self._close(row)
        self._history[row].clear()
        self._legs["num_kept"][row] = 0
        return out

    def _first(self, leg: Any) -> int:
        """Place in the history of the open segment's first frame, lead-in included."""
        onset = int(leg["onset"])
        return max(0, onset - self._lead_frames) if leg["has_lead_in"] else onset

    def _segment(self, row: int, first: int, end: int, *, is_cut: bool) -> SpeechSegment:
        leg = self._legs[row]
        origin = int(leg["next_frame"] - leg["num_kept"])
        return SpeechSegment(
            leg=self._names[row],
            start_s=(origin + first) * FRAME_S,
            end_s=(origin + end) * FRAME_S,
            known_s=int(leg["next_frame"]) * FRAME_S,
            samples=np.frombuffer(bytearray().join(self._history[row][first:end]), np.int16),
            is_cut=is_cut,
        )

    def _forget(self, row: int, num_frames: int) -> None:
        """Drop the oldest frames of the history."""
        del self._history[row][:num_frames]
        self._legs["num_kept"][row] = len(self._history[row])

    def _close(self, row: int) -> list[SpeechSegment]:
        """End the open segment at the pause; too little speech makes none."""
        leg = self._legs[row]  # a view
        if leg["onset"] < 0:
            return []
        num_kept = int(leg["num_kept"])
        end = min(num_kept, num_kept - int(leg["num_silent"]) + self._tail_frames)
        enough = leg["num_voiced"] >= self._min_frames
        out = [self._segment(row, self._first(leg), end, is_cut=False)] if enough else []
        self._forget(row, max(end if enough else 0, num_kept - self._lead_frames))
        leg["onset"], leg["has_lead_in"] = -1, True
        return out

    def _cut(self, row: int) -> list[SpeechSegment]:
        """Emit the open segment up to its quietest recent frame; the rest goes on as a new one."""
        leg = self._legs[row]  # a view
        if leg["num_voiced"] < self._min_frames:  # clicks all along: keep only what may begin a word
            return self._close(row)
        num_kept, next_frame = int(leg["num_kept"]), int(leg["next_frame"])
        newest = np.frombuffer(b"".join(self._history[row][-self._cut_frames :]), np.int16)
        recent = _powers(newest.reshape(-1, FRAME_NUM_SAMPLES))
        smooth = np.convolve(recent, np.ones(3) / 3, mode="valid")
        end = num_kept - len(recent) + int(np.argmin(smooth)) + 2  # just after its middle frame
        out = [self._segment(row, self._first(leg), end, is_cut=True)]
        self._forget(row, end)
        left = np.arange(next_frame - (num_kept - end), next_frame)
        voiced = np.flatnonzero(self._is_voiced[row, left % self._cut_frames])
        if len(voiced):
            leg["onset"], leg["has_lead_in"] = 0, False
            leg["num_voiced"], leg["num_silent"] = len(voiced), len(left) - 1 - int(voiced[-1])
        else:
            leg["onset"], leg["has_lead_in"] = -1, True
        return out
