"""Is it the words? What the label can be told from without them: the voice's name, and its first half second.

Both labels are spoken by every voice, so neither should tell. A gate that does no better than these has learnt its
synthesiser.
"""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import PCM, SpeechSegment
from inference.engine.base import Engine
from inference.gateway.recording import open_recording
from training.gate.fit import GateFitConfig, fit, raw_llr
from training.gate.states import GateCall, encode
from training.metrics import auc

NUM_FOLDS = 4
HALF_SECOND = SAMPLE_RATE_HZ // 2


def fold_of(call: GateCall) -> int:
    """One of :data:`NUM_FOLDS`, by the script's id: all voicings of a script are in one."""
    return int.from_bytes(hashlib.sha256(f"fold {call.id}".encode()).digest()[:4], "big") % NUM_FOLDS


def voice_auc(calls: Sequence[GateCall]) -> float | None:
    """How well the share of scam calls that a voice spoke in other scripts tells its calls apart; .5 is not at all."""
    told: dict[bool, list[float]] = {True: [], False: []}
    for fold in range(NUM_FOLDS):
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for call in calls:
            if fold_of(call) != fold:
                counts[call.voice][call.is_scam] += 1
        for call in calls:
            if fold_of(call) == fold:
                genuine, scam = counts[call.voice]
                told[call.is_scam].append((scam + 0.5) / (genuine + scam + 1))
    return _rounded(auc(told[True], told[False]))


def opening(call: GateCall, lead_in_s: float) -> SpeechSegment | None:
    """The far leg's first half second of speech, with the silence before it; None where nobody speaks."""
    if not call.start_s:
        return None
    first = round(call.start_s[0] * SAMPLE_RATE_HZ)
    last = first + round(lead_in_s * SAMPLE_RATE_HZ) + HALF_SECOND
    (recorded,) = open_recording(call.path)
    heard: list[PCM] = []
    for block in recorded.blocks():
        if block.start_sample >= last:
            break
        if block.leg == "far":
            heard.append(block.samples[max(0, first - block.start_sample) : max(0, last - block.start_sample)])
    samples = np.concatenate(heard)
    times_s = call.start_s[0], call.start_s[0] + len(samples) / SAMPLE_RATE_HZ
    return SpeechSegment("far", *times_s, times_s[1], samples) if len(samples) else None


def opening_auc(
    train: Sequence[GateCall],
    held_out: Sequence[GateCall],
    engine: Engine,
    window_samples: Callable[[int], int],
    lead_in_s: float,
    config: GateFitConfig,
    advance: Callable[[], None],
) -> float | None:
    """How well the same network does that hears nothing but the openings; ``advance`` is told after each call."""

    def openings(calls: Sequence[GateCall]) -> list[GateCall]:
        out = []
        for call in calls:
            segment = opening(call, lead_in_s)
            if segment is not None:
                states = tuple(encode(engine, window_samples, [segment]))
                out.append(
                    dataclasses.replace(
                        call, states=states, marks=call.marks[:1], start_s=call.start_s[:1], end_s=call.end_s[:1]
                    )
                )
            advance()
        return out

    network = fit(openings(train), config)
    scores: dict[bool, list[float]] = {True: [], False: []}
    for call in openings(held_out):
        scores[call.is_scam] += raw_llr(network, call)
    return _rounded(auc(scores[True], scores[False]))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
