"""From one leg's samples to speech segments, the same whether they come in packets or all at once.

Policy (:class:`SegmenterConfig` says what it was measured to give): a segment opens when enough speech
was heard, reaches back by a lead-in, ends after a pause, and is cut at its quietest recent point when it grows too
long. All decisions are made per frame of 32 ms on a fixed grid, so chunking cannot change them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from inference.audio import SAMPLE_RATE_HZ, Leg
from inference.audio.segment import PCM, SpeechSegment
from inference.audio.vad import FRAME_NUM_SAMPLES, Vad

Presence = npt.NDArray[np.bool_]

FRAME_S = FRAME_NUM_SAMPLES / SAMPLE_RATE_HZ
BRIDGE_FRAMES = int(0.1 / FRAME_S)
"""Frames missing for up to 100 ms are taken for what was heard before them: lost packets do not end speech."""


class SegmenterConfig(BaseModel):
    """When a segment starts and ends.

    This policy gave word error .115 over a 92 s telephone stream when it was chosen (oracle cuts .079, usual settings
    .176, fixed 6 s windows .137). ``min_speech_s`` of .25 and .35 miss the same speech in benchmarks/vad.py.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(0.3, gt=0, lt=1, description="speech probability from which a frame is speech")
    exit_threshold: float = Field(0.15, gt=0, lt=1, description="within a segment, below it a frame is pause")
    min_speech_s: float = Field(0.25, ge=0.032, le=2, description="less speech than this is a click: no segment")
    end_silence_s: float = Field(0.7, ge=0.2, le=3, description="a pause this long ends the segment")
    lead_in_s: float = Field(0.4, ge=0, le=1, description="kept from before the first frame of speech")
    tail_s: float = Field(0.2, ge=0, le=1, description="kept from after the last frame of speech")
    max_segment_s: float = Field(8.0, ge=2, le=28, description="longer segments are cut; lead-in included")
    cut_window_s: float = Field(2.0, ge=0.1, le=8, description="the cut is at the quietest point of the last so many")
    silence_dbfs: float = Field(
        -62.0, ge=-90, le=-40, description="frames below it are silence, without asking the VAD"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.exit_threshold > self.threshold:
            raise ValueError("exit_threshold must not exceed threshold")
        if self.tail_s > self.end_silence_s:
            raise ValueError("tail_s must not exceed end_silence_s: the pause is all there is to keep")
        if self.cut_window_s > self.max_segment_s / 2:
            raise ValueError("cut_window_s must not exceed half of max_segment_s")
        return self


@dataclass(frozen=True, slots=True)
class _Frame:
    samples: PCM
    power: float
    is_voiced: bool


def _frames(seconds: float) -> int:
    return max(0, round(seconds / FRAME_S))


class Segmenter:
    """One leg's samples in, its speech segments out.

    Times are call time: sample ``n`` of the leg is heard at ``n / 8000`` s. Frames lie on multiples of 256 samples.
    Memory is bounded by ``max_segment_s + end_silence_s`` of audio and, when nobody speaks, by the lead-in.
    """

    def __init__(self, leg: Leg, config: SegmenterConfig, vad: Vad) -> None:
        self._leg = leg
        self._config = config
        self._vad = vad
        self._state = vad.open()
        self._end_frames = max(1, _frames(config.end_silence_s))
        self._tail_frames = _frames(config.tail_s)
        self._lead_frames = _frames(config.lead_in_s)
        self._min_frames = max(1, _frames(config.min_speech_s))
        self._max_frames = max(2, _frames(config.max_segment_s))
        self._cut_frames = max(3, _frames(config.cut_window_s))
        self._silence_power = 32768.0**2 * 10 ** (config.silence_dbfs / 10)
        self._rest = np.zeros(0, np.int16)  # samples of the frame that is not full yet
        self._rest_present = np.zeros(0, np.bool_)
        self._next_frame = 0  # its number on the grid
        self._history: list[_Frame] = []  # frames up to _next_frame
        self._onset: int | None = None  # index into history of the first frame of speech, while a segment is open
        self._has_lead_in = True  # a segment that continues a cut one has none
        self._num_voiced = 0
        self._num_silent = 0  # frames since the last voiced one
        self._num_missing = 0
        self._last_probability = 0.0
        self._num_unscored = 0  # silent frames since the VAD last saw one

    @property
    def position(self) -> int:
        """Number of the next sample expected."""
        return self._next_frame * FRAME_NUM_SAMPLES + len(self._rest)

    @property
    def is_open(self) -> bool:
        """Whether speech was heard that is not in a segment yet."""
        return self._onset is not None

    def push(self, samples: PCM, start_sample: int, present: Presence | None = None) -> list[SpeechSegment]:
        """Take the next samples of the leg.

        Args:
            samples: int16 ``[num_samples]``, zeros where nothing was received.
            start_sample: number of the first on the leg's time line. Skipped samples count as not received;
                samples from before :attr:`position` are ignored (already heard).
            present: bool ``[num_samples]``, False where nothing was received; all were if None.

        Returns:
            Segments that ended, in order.
        """
        return push_all([(self, samples, start_sample, present)])[0]

    def flush(self) -> list[SpeechSegment]:
        """Close what is open: the leg has ended. The segmenter may be pushed to again, from the next frame on."""
        out: list[SpeechSegment] = []
        if len(self._rest):
            missing = FRAME_NUM_SAMPLES - len(self._rest)
            out = self.push(np.zeros(missing, np.int16), self.position, np.zeros(missing, np.bool_))
        out += self._close()
        self._history.clear()
        return out

    def _take(self, samples: PCM, start_sample: int, present: Presence | None) -> tuple[PCM, Presence]:
        """Join the new samples to the rest and return whole frames ``[n, 256]`` and their presence."""
        if samples.ndim != 1 or samples.dtype != np.int16:
            raise ValueError(f"samples must be int16 [num_samples], not {samples.dtype} {samples.shape}")
        if present is None:
            present = np.ones(len(samples), np.bool_)
        elif present.shape != samples.shape:
            raise ValueError(f"presence has shape {present.shape}, samples {samples.shape}")
        skipped = start_sample - self.position
        if skipped < 0:
            samples, present = samples[-skipped:], present[-skipped:]
            skipped = 0
        if skipped:
            samples = np.concatenate([np.zeros(skipped, np.int16), samples])
            present = np.concatenate([np.zeros(skipped, np.bool_), present])
        pcm = np.concatenate([self._rest, samples])  # copies: the caller may reuse its buffer
        there = np.concatenate([self._rest_present, present])
        whole = len(pcm) // FRAME_NUM_SAMPLES * FRAME_NUM_SAMPLES
        self._rest, self._rest_present = pcm[whole:].copy(), there[whole:].copy()  # not views: they would keep it all
        shape = (-1, FRAME_NUM_SAMPLES)
        return pcm[:whole].reshape(shape), there[:whole].reshape(shape)

    def _jump(self, start_sample: int) -> list[SpeechSegment]:
        """Skip a hole too long to be worth filling with zeros; what was open ends in it."""
        hole = start_sample - self.position
        fill = (BRIDGE_FRAMES + self._end_frames + 2) * FRAME_NUM_SAMPLES
        if hole <= 2 * fill:
            return []
        out = push_all([(self, np.zeros(fill, np.int16), self.position, np.zeros(fill, np.bool_))])[0]
        self._rest, self._rest_present = self._rest[:0], self._rest_present[:0]
        self._history.clear()
        target = start_sample // FRAME_NUM_SAMPLES
        self._num_unscored += target - self._next_frame
        self._next_frame = target
        return out

    def _needs_vad(self, power: float, num_present: int) -> bool:
        return power >= self._silence_power and 2 * num_present >= FRAME_NUM_SAMPLES

    def _wake(self) -> None:
        """Tell the VAD what it slept through, just before it sees a frame again."""
        if self._num_unscored:
            self._vad.skip(self._state, self._num_unscored)
            self._num_unscored = 0

    def _advance(self, samples: PCM, power: float, num_present: int, probability: float | None) -> list[SpeechSegment]:
        """Take one frame and its speech probability (None: the VAD was not asked)."""
        if 2 * num_present < FRAME_NUM_SAMPLES:
            self._num_missing += 1
        else:
            self._num_missing = 0
        if probability is None:
            is_bridged = 0 < self._num_missing <= BRIDGE_FRAMES
            probability = self._last_probability if is_bridged else 0.0
            self._num_unscored += not is_bridged  # what was lost is no silence
        self._last_probability = probability
        is_open = self._onset is not None
        is_voiced = probability >= (self._config.exit_threshold if is_open else self._config.threshold)
        self._history.append(_Frame(samples, power, is_voiced))
        self._next_frame += 1
        if not is_open:
            if not is_voiced:
                del self._history[: max(0, len(self._history) - self._lead_frames)]
                return []
            self._onset, self._num_voiced, self._num_silent = len(self._history) - 1, 0, 0
        if is_voiced:
            self._num_voiced += 1
            self._num_silent = 0
        else:
            self._num_silent += 1
            if self._num_silent >= self._end_frames:
                return self._close()
        if len(self._history) - self._first() >= self._max_frames:
            return self._cut()
        return []

    def _first(self) -> int:
        """Index into history of the open segment's first frame, lead-in included."""
        onset = self._onset or 0
        return max(0, onset - self._lead_frames) if self._has_lead_in else onset

    def _segment(self, first: int, end: int, *, is_cut: bool) -> SpeechSegment:
        origin = self._next_frame - len(self._history)
        return SpeechSegment(
            leg=self._leg,
            start_s=(origin + first) * FRAME_S,
            end_s=(origin + end) * FRAME_S,
            known_s=self._next_frame * FRAME_S,
            samples=np.concatenate([frame.samples for frame in self._history[first:end]]),
            is_cut=is_cut,
        )

    def _close(self) -> list[SpeechSegment]:
        """End the open segment at the pause; too little speech makes none."""
        if self._onset is None:
            return []
        end = min(len(self._history), len(self._history) - self._num_silent + self._tail_frames)
        enough = self._num_voiced >= self._min_frames
        out = [self._segment(self._first(), end, is_cut=False)] if enough else []
        keep_from = end if enough else 0
        del self._history[: max(keep_from, len(self._history) - self._lead_frames)]
        self._onset, self._has_lead_in = None, True
        return out

    def _cut(self) -> list[SpeechSegment]:
        """Emit the open segment up to its quietest recent frame; the rest goes on as a new one."""
        if self._num_voiced < self._min_frames:  # clicks all along: keep only what may begin a word
            return self._close()
        first = self._first()
        recent = np.array([frame.power for frame in self._history[-self._cut_frames :]])
        smooth = np.convolve(recent, np.ones(3) / 3, mode="valid")
        end = len(self._history) - len(recent) + int(np.argmin(smooth)) + 2  # just after its middle frame
        out = [self._segment(first, end, is_cut=True)]
        del self._history[:end]
        voiced = [i for i, frame in enumerate(self._history) if frame.is_voiced]
        if voiced:
            self._onset, self._has_lead_in = 0, False
            self._num_voiced, self._num_silent = len(voiced), len(self._history) - 1 - voiced[-1]
        else:
            self._onset, self._has_lead_in = None, True
        return out


Push = tuple[Segmenter, PCM, int, Presence | None]


def push_all(pushes: Sequence[Push]) -> list[list[SpeechSegment]]:
    """Push to many legs at once, scoring their frames in common batches.

    Args:
        pushes: ``(segmenter, samples, start_sample, present)``, see :meth:`Segmenter.push`; each segmenter once, all
            with the same VAD.

    Returns:
        Per push, the segments that ended.
    """
    out = [segmenter._jump(start) for segmenter, _, start, _ in pushes]
    taken = [segmenter._take(samples, start, present) for segmenter, samples, start, present in pushes]
    steps = max((len(pcm) for pcm, _ in taken), default=0)
    for step in range(steps):
        live = [i for i, (pcm, _) in enumerate(taken) if step < len(pcm)]
        frames = np.stack([taken[i][0][step] for i in live])
        powers = np.square(frames, dtype=np.float32).mean(axis=1).tolist()
        presents = np.stack([taken[i][1][step] for i in live]).sum(axis=1).tolist()
        legs = [pushes[i][0] for i in live]
        asked = [row for row, leg in enumerate(legs) if leg._needs_vad(powers[row], presents[row])]
        scores: list[float | None] = [None] * len(live)
        if asked:
            for row in asked:
                legs[row]._wake()
            scored = legs[0]._vad.score(frames[asked], [legs[row]._state for row in asked])
            for row, score in zip(asked, scored.tolist(), strict=True):
                scores[row] = score
        for row, i in enumerate(live):
            out[i] += legs[row]._advance(frames[row].copy(), powers[row], presents[row], scores[row])
    return out
