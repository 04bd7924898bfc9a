"""When everything in a call is heard: turns with pauses and interruptions, music and ringing between them."""

from collections.abc import Sequence

import numpy as np

from inference.audio import Leg
from training.scripts import Turn
from training.voice.recipe import Recipe
from training.voice.sounds import HeardSound, Sound

_LEAD_IN_S = (0.4, 0.9)  # from answering to the first word
_SAME_LEG_MIN_GAP_S = 0.2  # one mouth: turns of a leg never overlap
_SOUND_GAP_S = 0.4  # before and after music or ringing


def place_turns(
    turns: Sequence[Turn], durations_s: Sequence[float], recipe: Recipe, rng: np.random.Generator
) -> list[float]:
    """When each turn starts, seconds: short gaps mostly, now and then a turn that comes before the other is done."""
    starts: list[float] = []
    leg_end_s: dict[Leg, float] = {}
    end_s = 0.0
    for i, (turn, duration_s) in enumerate(zip(turns, durations_s, strict=True)):
        # Always the same three draws, so that one turn's fate moves no later one's.
        gap_s = rng.triangular(recipe.min_gap_s, recipe.min_gap_s + 0.15, recipe.max_gap_s)
        barges_in = rng.random() < recipe.barge_in
        overlap_s = rng.uniform(0.05, recipe.max_overlap_s)
        if i == 0:
            start_s = float(rng.uniform(*_LEAD_IN_S))
        elif barges_in and turns[i - 1].leg != turn.leg:
            start_s = end_s - min(overlap_s, durations_s[i - 1] / 3, duration_s / 3)
        else:
            start_s = end_s + gap_s
        start_s = max(start_s, leg_end_s.get(turn.leg, -1.0) + _SAME_LEG_MIN_GAP_S)
        starts.append(round(start_s, 3))  # whole milliseconds: labels are exact, not rounded
        leg_end_s[turn.leg] = starts[-1] + duration_s
        end_s = max(end_s, leg_end_s[turn.leg])
    return starts


def place_sounds(
    starts_s: Sequence[float], durations_s: Sequence[float], sounds: Sequence[Sound]
) -> tuple[list[float], list[HeardSound]]:
    """Make room for ``sounds``: turns from ``before_turn`` on come later, everything said before is over by then.

    Returns:
        when each turn starts now, and when each sound is heard, seconds.
    """
    starts, heard = list(starts_s), []
    for sound in sorted(sounds, key=lambda each: each.before_turn):
        turn = sound.before_turn
        said_s = max((starts[i] + durations_s[i] for i in range(turn)), default=0.0)
        start_s = round(said_s + _SOUND_GAP_S, 3)
        heard.append(HeardSound(sound, start_s, round(start_s + sound.duration_s, 3)))
        later_s = max(heard[-1].end_s + _SOUND_GAP_S - starts[turn], 0.0)
        starts[turn:] = [round(start + later_s, 3) for start in starts[turn:]]
    return starts, heard
