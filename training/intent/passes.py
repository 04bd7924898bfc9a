"""The training calls of every pass: the same calls, damaged anew each time (:func:`training.intent.recipe.damage`).

A call that is wrong in the same places in every pass is learnt by heart; one whose words are lost and swapped anew is
not. What the frozen layers make of it is computed once a pass, which costs a sixth of the pass.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from inference.intent.context import WindowTokenizer
from training.intent.corrupt import Corruptor
from training.intent.data import Call
from training.intent.layers import LowerLayers
from training.intent.prepare import Prepared, prepare
from training.intent.recipe import Share, damage, weights


class Passes:
    """Calls of each pass, ready for the network.

    Args:
        calls: as they were drawn, undamaged.
        shares: how often those of a source are damaged, and what they weigh.
        corruptor: does the damage.
        seed: of every pass's damage.
        lower: the layers that stay as published; None: all are trained.
        tokenizer: of the encoder.
        advance: told how many calls of the pass have gone through the frozen layers, and how many there are.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        shares: Mapping[tuple[str, bool], Share],
        corruptor: Corruptor,
        seed: int,
        lower: LowerLayers | None,
        tokenizer: WindowTokenizer,
        advance: Callable[[int, int], None],
    ) -> None:
        self._calls, self._shares, self._corruptor, self._seed = calls, shares, corruptor, seed
        self._lower, self._tokenizer, self._advance = lower, tokenizer, advance

    def calls_of(self, number: int) -> list[Call]:
        """The calls of pass ``number``, damaged; the same ones each time it is asked."""
        return damage(self._calls, self._shares, self._corruptor, (self._seed, number))

    def __call__(self, number: int) -> list[Prepared]:
        """:meth:`calls_of`, weighed, tokenised, and through the frozen layers."""
        calls = self.calls_of(number)
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            self._advance(done, len(calls))

        return prepare(calls, weights(calls, self._shares), self._lower, self._tokenizer, advance)


def batches(sizes: Sequence[int], pieces: int, rng: np.random.Generator) -> list[list[int]]:
    """Shuffled indices of calls of ``sizes`` utterances, packed to about ``pieces`` utterances a batch."""
    out: list[list[int]] = [[]]
    size = 0
    for index in rng.permutation(len(sizes)):
        if out[-1] and size + sizes[index] > pieces:
            out.append([])
            size = 0
        out[-1].append(int(index))
        size += sizes[index]
    return out
