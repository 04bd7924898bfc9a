"""PCM in, speech segments out. All audio inside ScamTap is int16 mono at :data:`SAMPLE_RATE_HZ`."""

from typing import Literal, TypeAlias

SAMPLE_RATE_HZ = 8000
"""Telephone band. Whisper's mel needs nothing above: its 8 kHz form is computed inside the speech graph."""

Leg: TypeAlias = Literal["far", "near"]
"""``near``: the subscriber we protect. ``far``: the other party. Set by signalling, never guessed."""

LEGS: tuple[Leg, Leg] = ("far", "near")
