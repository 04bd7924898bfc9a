"""From one leg's samples to speech segments, the same whether they come in packets or all at once.

Policy (:class:`SegmenterConfig` says what it was measured to give): a segment opens when enough speech
was heard, reaches back by a lead-in, ends after a pause, and is cut at its quietest recent point when it grows too
long. All decisions are made per frame of 32 ms on a fixed grid, so chunking cannot change them; nor can the other legs
that are decided on with it (:mod:`inference.audio.bank`).
"""

import weakref
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from inference.audio import Leg
from inference.audio.bank import FRAME_S, SegmenterBank
from inference.audio.frames import Int64s, Presence
from inference.audio.policy import SegmenterConfig
from inference.audio.segment import PCM, SpeechSegment
from inference.audio.vad import Network, NeuralVad
from inference.audio.webrtc import WebrtcVad

__all__ = [
    "FRAME_S",
    "Presence",
    "Segmenter",
    "SegmenterBank",
    "SegmenterConfig",
    "open_bank",
    "push_all",
    "push_rows",
]


def open_bank(config: SegmenterConfig, network: Network) -> SegmenterBank:
    """Return a bank with the detector that ``config`` names; ``network`` is run only if that is the network."""
    if config.detector == "webrtc":
        return SegmenterBank(config, WebrtcVad(config.webrtc_mode))
    return SegmenterBank(config, NeuralVad(network))


class Segmenter:
    """One leg's samples in, its speech segments out.

    Times are call time: sample ``n`` of the leg is heard at ``n / 8000`` s. Frames lie on multiples of 256 samples.

    Args:
        leg: whose voice it hears.
        bank: decides, for this leg and all others pushed to with it. The leg's place in it is free again once nothing
            refers to the segmenter any more.
    """

    def __init__(self, leg: Leg, bank: SegmenterBank) -> None:
        self.bank = bank
        self.row = bank.open(leg)
        weakref.finalize(self, bank.close, self.row).atexit = False

    @property
    def position(self) -> int:
        """Number of the next sample expected."""
        return int(self.bank.positions(np.array([self.row]))[0])

    @property
    def is_open(self) -> bool:
        """Whether speech was heard that is not in a segment yet."""
        return self.bank.is_open(self.row)

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
        return self.bank.flush(self.row)


Push: TypeAlias = tuple[Segmenter, PCM, int, Presence | None]


def push_all(pushes: Sequence[Push]) -> list[list[SpeechSegment]]:
    """Push to many legs at once.

    Args:
        pushes: ``(segmenter, samples, start_sample, present)``, see :meth:`Segmenter.push`; each segmenter once.

    Returns:
        Per push, the segments that ended.
    """
    for _, heard, _, there in pushes:
        if heard.ndim != 1 or heard.dtype != np.int16:
            raise ValueError(f"samples must be int16 [num_samples], not {heard.dtype} {heard.shape}")
        if there is not None and there.shape != heard.shape:
            raise ValueError(f"presence has shape {there.shape}, samples {heard.shape}")
    nums = np.array([len(heard) for _, heard, _, _ in pushes], np.int64)
    samples = np.zeros((len(pushes), nums.max(initial=0)), np.int16)
    present = np.ones(samples.shape, np.bool_)
    for row, (_, heard, _, there) in enumerate(pushes):
        samples[row, : len(heard)] = heard
        if there is not None:
            present[row, : len(heard)] = there
    starts = np.array([start for _, _, start, _ in pushes], np.int64)
    out: list[list[SpeechSegment]] = [[] for _ in pushes]
    for row, segment in push_rows([segmenter for segmenter, *_ in pushes], samples, starts, nums, present):
        out[row].append(segment)
    return out


def push_rows(
    segmenters: Sequence[Segmenter], samples: PCM, starts: Int64s, nums: Int64s, present: Presence
) -> list[tuple[int, SpeechSegment]]:
    """Push to many legs at once, as arrays; see :meth:`inference.audio.bank.SegmenterBank.push`.

    Returns:
        Segments that ended, with their leg's place in ``segmenters``; those of a leg in order.
    """
    rows = np.array([segmenter.row for segmenter in segmenters], np.int64)
    banks = {id(segmenter.bank): segmenter.bank for segmenter in segmenters}
    if len(banks) == 1:  # as nearly always
        return segmenters[0].bank.push(rows, samples, starts, nums, present)
    out = []
    for bank in banks.values():
        its = np.array([place for place, segmenter in enumerate(segmenters) if segmenter.bank is bank])
        found = bank.push(rows[its], samples[its], starts[its], nums[its], present[its])
        out += [(int(its[place]), segment) for place, segment in found]
    return out
