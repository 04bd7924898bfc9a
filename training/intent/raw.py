"""Raw outputs of a served intent model for whole calls: calibration and evaluation read the graph that is served."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.engine.base import Engine
from inference.intent.acts import ACTS
from inference.intent.context import WindowTokenizer
from inference.intent.reader import WindowReader
from inference.intent.text import is_filler
from training.intent.data import Call, windows_of
from training.parallel import cores, in_order

Floats = npt.NDArray[np.floating[Any]]
BATCH = 32


@dataclass(frozen=True, slots=True)
class RawCall:
    """Outputs for one call.

    Attributes:
        call: which.
        llr: ``[utterances]`` before calibration.
        is_spoken: ``[utterances]`` bool; False for fillers, which are no evidence.
        is_far: ``[utterances]`` bool.
        stages: ``[utterances, stages]`` probabilities.
        acts: ``[utterances, acts]`` probabilities; none where the head knows no acts.
    """

    call: Call
    llr: Floats
    is_spoken: npt.NDArray[np.bool_]
    is_far: npt.NDArray[np.bool_]
    stages: Floats
    acts: Floats


def raw_calls(
    engine: Engine,
    model: str,
    tokenizer: WindowTokenizer,
    calls: Sequence[Call],
    advance: Callable[[], None],
) -> list[RawCall]:
    """Run every utterance of ``calls`` through ``model`` on all cores we may use; ``advance`` is told after each."""
    readers = [WindowReader(engine, model, tokenizer) for _ in range(cores())]
    return in_order(_read, readers, calls, advance)


def _read(reader: WindowReader, call: Call) -> RawCall:
    windows = windows_of(call)
    answers = [reader.read(windows[at : at + BATCH]) for at in range(0, len(windows), BATCH)]
    spoken = np.array([not is_filler(p.text) for p in call.pieces])
    llr = np.concatenate([np.asarray(a["llr"], np.float64) for a in answers])
    logits = {
        name: np.concatenate([np.asarray(a[name], np.float64).clip(-30, 30) for a in answers])
        for name in ("stages", "acts")
        if name in answers[0]
    }
    probabilities = {name: 1 / (1 + np.exp(-values)) for name, values in logits.items()}
    acts = probabilities.get("acts", np.zeros((len(llr), len(ACTS))))
    is_far = np.array([p.leg == "far" for p in call.pieces])
    return RawCall(call, llr, spoken, is_far, probabilities["stages"], acts)


def evidence(llr: Iterable[float], bare: Iterable[bool], budget: float | None, floor: float, ceiling: float) -> Floats:
    """Accumulated evidence after each utterance, as :class:`inference.verdict.verdict.Verdict` holds it.

    Args:
        llr: what each utterance is worth, nats.
        bare: whether it is of the far leg and shows no act of a scam.
        budget: nats that bare ones can raise the evidence by, all together; None: no bound.
        floor: nats below nothing that the evidence is held to.
        ceiling: nats above nothing that it is held to.
    """
    total, unbare, out = 0.0, 0.0, []
    for value, is_bare in zip(llr, bare, strict=True):
        if is_bare and value > 0:
            bound = np.inf if budget is None else max(total, unbare + budget)
            total = min(ceiling, total + value, bound)
        else:
            total, unbare = (min(ceiling, max(-floor, one + value)) for one in (total, unbare))
        out.append(total)
    return np.array(out)
