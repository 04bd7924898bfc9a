"""A call that was recorded: what replay hands to the stages, whichever file it came from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from inference.audio import SAMPLE_RATE_HZ, Leg
from inference.rtp.counters import LegCounters

PCM = npt.NDArray[np.int16]
Presence = npt.NDArray[np.bool_]

BLOCK_NUM_SAMPLES = SAMPLE_RATE_HZ * 40 // 1000
"""40 ms: short enough that segments close as they would live, long enough that Python's share stays small."""


@dataclass(frozen=True, slots=True)
class LegBlock:
    """A stretch of one leg.

    Attributes:
        leg: whose voice.
        start_sample: number of its first sample on the call's time line, at 8 kHz.
        samples: int16 ``[num_samples]``, zeros where nothing was received.
        present: bool ``[num_samples]``, False where nothing was received; None: all was.
    """

    leg: Leg
    start_sample: int
    samples: PCM
    present: Presence | None = None


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call of a recording or capture.

    Attributes:
        id: file name, with a number where the file holds several calls.
        legs: which legs it has; never empty, always with ``far``.
        duration_s: from the first sample of either leg to the last.
        blocks: starts an iterator over the call's blocks in call time; may be called again. While iterating, a file
            that turns out damaged raises MediaError.
        packets: what became of each leg's packets: filled in once the blocks were read to their end, empty before;
            None for plain recordings.
        notices: lines for the user: what was assumed, what was skipped.
    """

    id: str
    legs: tuple[Leg, ...]
    duration_s: float
    blocks: Callable[[], Iterator[LegBlock]]
    packets: dict[Leg, LegCounters] | None = None
    notices: tuple[str, ...] = field(default=())
