"""The unit the speech model hears: one stretch of speech between two pauses on one leg."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.audio import Leg

PCM = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class SpeechSegment:
    """Speech between two pauses on one leg.

    Attributes:
        leg: whose voice it is.
        start_s: call time of the first sample (lead-in included), seconds.
        end_s: call time just after the last sample of speech, seconds.
        known_s: call time of the newest sample heard when the segment was closed; ``known_s - end_s`` is
            the part of the warning delay that comes from waiting for the pause.
        samples: int16 ``[num_samples]`` at 8 kHz.
        is_cut: true where the length cap closed it and speech goes on.
    """

    leg: Leg
    start_s: float
    end_s: float
    known_s: float
    samples: PCM
    is_cut: bool = False
