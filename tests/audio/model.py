"""The policy of segments once more, as one would write it for one leg and one frame at a time.

Slow, without arrays of legs, and without a memory bound: what :class:`inference.audio.bank.SegmenterBank` must equal to
the last bit.
"""

from dataclasses import dataclass, field

import numpy as np

from inference.audio.frames import FRAME_NUM_SAMPLES

RATE = 8000
FRAME_S = FRAME_NUM_SAMPLES / RATE
BRIDGE_FRAMES = 3


def power_of(frame):
    return float(np.square(frame, dtype=np.float32).mean())


@dataclass
class Model:
    """One leg from its first sample to its last."""

    config: object
    vad: object
    frames: list = field(default_factory=list)
    voiced: list = field(default_factory=list)
    found: list = field(default_factory=list)  # (start, end, known, is_cut) in frames
    onset: int | None = None  # frame of the first speech
    kept_from: int = 0  # frame before which all is given out or forgotten
    has_lead_in: bool = True
    num_voiced: int = 0
    num_silent: int = 0
    num_missing: int = 0
    num_unscored: int = 0
    probability: float = 0.0

    def __post_init__(self):
        self.state = self.vad.open(1)

    def hear(self, audio, present):
        """All of the leg; returns ``(start_s, end_s, known_s, is_cut, samples)`` of each segment."""
        whole = -(-len(audio) // FRAME_NUM_SAMPLES) * FRAME_NUM_SAMPLES
        audio, present = np.pad(audio, (0, whole - len(audio))), np.pad(present, (0, whole - len(present)))
        for at in range(0, whole, FRAME_NUM_SAMPLES):
            self.take(audio[at : at + FRAME_NUM_SAMPLES], int(present[at : at + FRAME_NUM_SAMPLES].sum()))
        if self.onset is not None:
            self.close()
        return [
            (start * FRAME_S, end * FRAME_S, known * FRAME_S, is_cut, np.concatenate(self.frames[start:end]))
            for start, end, known, is_cut in self.found
        ]

    def frames_of(self, seconds):
        return round(seconds / FRAME_S)

    @property
    def lead(self):
        return self.frames_of(self.config.lead_in_s)

    def take(self, frame, num_present):
        is_missing = 2 * num_present < FRAME_NUM_SAMPLES
        self.num_missing = self.num_missing + 1 if is_missing else 0
        if not is_missing and power_of(frame) >= 32768.0**2 * 10 ** (self.config.silence_dbfs / 10):
            if self.num_unscored:
                self.vad.skip(self.state, np.array([self.num_unscored]))
            self.num_unscored = 0
            self.probability = float(self.vad.score(frame[None], self.state)[0])
        elif not 0 < self.num_missing <= BRIDGE_FRAMES:
            self.probability = 0.0
            self.num_unscored += 1
        is_open = self.onset is not None
        is_voiced = self.probability >= (self.config.exit_threshold if is_open else self.config.threshold)
        self.frames.append(frame)
        self.voiced.append(is_voiced)
        if not is_open:
            if not is_voiced:
                self.kept_from = max(self.kept_from, len(self.frames) - self.lead)
                return
            self.onset, self.num_voiced, self.num_silent = len(self.frames) - 1, 0, 0
        if is_voiced:
            self.num_voiced, self.num_silent = self.num_voiced + 1, 0
        else:
            self.num_silent += 1
        if self.num_silent >= max(1, self.frames_of(self.config.end_silence_s)):
            self.close()
        elif len(self.frames) - self.first() >= max(2, self.frames_of(self.config.max_segment_s)):
            self.cut()

    def first(self):
        return max(self.kept_from, self.onset - self.lead) if self.has_lead_in else self.onset

    def is_enough(self):
        return self.num_voiced >= max(1, self.frames_of(self.config.min_speech_s))

    def close(self):
        now = len(self.frames)
        if self.is_enough():
            end = min(now, now - self.num_silent + self.frames_of(self.config.tail_s))
            self.found.append((self.first(), end, now, False))
            self.kept_from = end
        self.kept_from = max(self.kept_from, now - self.lead)
        self.onset, self.has_lead_in = None, True

    def cut(self):
        if not self.is_enough():
            self.close()
            return
        now, width = len(self.frames), max(3, self.frames_of(self.config.cut_window_s))
        recent = [power_of(frame) for frame in self.frames[max(self.kept_from, now - width) :]]
        end = now - len(recent) + int(np.argmin(np.convolve(recent, np.ones(3) / 3, mode="valid"))) + 2
        self.found.append((self.first(), end, now, True))
        self.kept_from = end
        voiced = [at for at in range(end, now) if self.voiced[at]]
        if voiced:
            self.onset, self.has_lead_in = end, False
            self.num_voiced, self.num_silent = len(voiced), now - 1 - voiced[-1]
        else:
            self.onset, self.has_lead_in = None, True
