"""What was said in one speech segment."""

from dataclasses import dataclass

from inference.audio import Leg


@dataclass(frozen=True, slots=True)
class Utterance:
    """The words of one :class:`~inference.audio.segment.SpeechSegment`.

    Personal data: lives in memory with the call, never in a log, label or exception text.

    Attributes:
        leg: who said it.
        start_s, end_s: where in the call, seconds.
        known_s: call time from which these words were known to us (pause and compute included), seconds.
        text: recognised words; empty where the model heard none.
        language: ISO 639-1 code, e.g. ``en``.
        is_held: the gate held it back: nobody looked for words in it.
    """

    leg: Leg
    start_s: float
    end_s: float
    known_s: float
    text: str
    language: str
    is_held: bool = False
