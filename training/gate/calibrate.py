"""Fits the gate's calibration.json on development calls: scale, bias, operating point.

Everything is measured on the served graph. A scam call passes if it is read when the far party first asks: read later,
nobody can be warned. The share that must is stated (:data:`PASS_SHARE`); how much so few calls can prove of it is kept
beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import beta

from inference.engine.base import Engine
from inference.gate.calibration import FLOOR_LLR, OperatingPoint
from inference.gate.graph import BLOCK_FRAMES, LLR, NUM_FRAMES, STATES
from inference.gate.install import GATE_MODEL
from training.gate.states import GateCall

PASS_SHARE = 0.995
"""Of scam calls."""

MARGIN_LLR = 0.1
"""Taken off what the worst call that must pass reached: in service the windows of a batch round otherwise."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A call and what the gate says of its segments, nats."""

    call: GateCall
    llr: Floats

    def at_ask(self) -> float:
        """Evidence with the segment in which the far party first asks; where nobody does, at the end."""
        until_s = math.inf if self.call.ask_s is None else self.call.ask_s
        sums = evidence(self.llr)
        heard = [total for total, at in zip(sums, self.call.start_s, strict=True) if at <= until_s]
        return heard[-1] if heard else 0.0


def evidence(llr: Floats, floor_llr: float = FLOOR_LLR) -> list[float]:
    """Accumulated after each segment, as :class:`inference.gate.evidence.GateEvidence` holds it."""
    total, out = 0.0, []
    for value in llr.tolist():
        total = max(-floor_llr, total + value)
        out.append(total)
    return out


def served_llr(engine: Engine, call: GateCall) -> Floats:
    """Raw output of the served graph for every segment of ``call``."""
    if not call.states:
        return np.zeros(0)
    longest = max(len(one) for one in call.states)
    frames = np.zeros((len(call.states), longest * BLOCK_FRAMES, call.states[0].shape[1]), np.float32)
    for row, one in enumerate(call.states):
        # The mean of a block's mean, repeated, is that mean: what was kept is as good as the frames.
        frames[row, : len(one) * BLOCK_FRAMES] = np.repeat(one, BLOCK_FRAMES, axis=0)
    lengths = np.array([len(one) * BLOCK_FRAMES for one in call.states], np.int64)
    return np.asarray(engine.infer(GATE_MODEL, {STATES: frames, NUM_FRAMES: lengths})[LLR], np.float64)


def fit_scale(calls: Sequence[Weighed]) -> tuple[float, float]:
    """Scale and bias with the least log loss of the evidence over all prefixes, both labels alike."""
    counts = {label: sum(w.call.is_scam == label for w in calls) for label in (True, False)}

    def loss(values: Floats) -> float:
        total = 0.0
        for weighed in calls:
            if len(weighed.llr):
                sums = np.array(evidence(weighed.llr * values[0] + values[1]))
                sign = -1.0 if weighed.call.is_scam else 1.0
                total += float(np.logaddexp(0, sign * sums).mean()) / counts[weighed.call.is_scam]
        return total

    found = minimize(loss, np.array([0.5, 0.0]), method="Nelder-Mead", bounds=[(0.01, 3.0), (-1.0, 1.0)])
    return round(float(found.x[0]), 4), round(float(found.x[1]), 4)


def passing_point(calls: Sequence[Weighed], share: float = PASS_SHARE) -> OperatingPoint:
    """The highest evidence to ask for at which ``share`` of the scam calls are read at their ask."""
    sums = np.sort([weighed.at_ask() for weighed in calls if weighed.call.is_scam])
    allowed = int((1 - share) * len(sums) + 1e-9)  # scam calls that may be missed
    pass_llr = round(float(sums[allowed]) - MARGIN_LLR, 3) if len(sums) else -FLOOR_LLR
    hits = int((sums >= pass_llr).sum())
    return OperatingPoint(
        pass_llr=pass_llr,
        pass_share=round(hits / max(1, len(sums)), 4),
        pass_share_low=round(exact_low(hits, len(sums)), 4),
        num_scam=len(sums),
        num_genuine=sum(not w.call.is_scam for w in calls),
    )


def exact_low(hits: int, total: int, confidence: float = 0.95) -> float:
    """Lower end of the one-sided exact interval of a share (Clopper and Pearson, Biometrika 26, 1934)."""
    return 0.0 if hits == 0 else float(beta.ppf(1 - confidence, hits, total - hits + 1))


def savings(calls: Sequence[Weighed], pass_llr: float) -> dict[str, Any]:
    """How much of these calls' far speech is not decoded where calls are read from ``pass_llr`` on."""
    held_s = total_s = 0.0
    never = 0
    for weighed in calls:
        was_read = False
        for total, start, end in zip(evidence(weighed.llr), weighed.call.start_s, weighed.call.end_s, strict=True):
            was_read = was_read or total >= pass_llr
            total_s += end - start
            held_s += 0.0 if total >= pass_llr else end - start
        never += not was_read
    return {
        "calls": len(calls),
        "never_read": never,
        "never_read_share": round(never / max(1, len(calls)), 4),
        "speech_saved_share": round(held_s / max(1e-9, total_s), 4),
    }
