"""Asks an intent model about windows of the transcript: each utterance is encoded once, then remembered.

A window is the current utterance and those before it. The model gives the mean of an utterance along with its scores
(:mod:`inference.intent.graph`); when the next one of the call is scored, that mean is what is given of it, not its
words again. In a call that is followed live nearly everything is remembered, so a request holds one utterance per
window. What is not (a call taken over from another worker) is encoded first, all together; a whole call text is judged
utterance by utterance, as if it were followed.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.engine.base import Engine
from inference.intent.context import CONTEXT_UTTERANCES, ContextWindow, WindowTokenizer, pad_rows

Means = npt.NDArray[np.float16]
Raw = dict[str, npt.NDArray[Any]]

MAX_REMEMBERED = 16_384
"""Means kept: of the last dozen utterances of more than a thousand calls, 25 MB at a width of 768."""

MAX_ROWS = 32
"""Utterances of one request that were not remembered."""

DIGEST_BYTES = 16


class _Means:
    """Means of the utterances that were read last, by a digest of their tokens: bounded, and no words in it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._kept: OrderedDict[bytes, Means] = OrderedDict()

    def get(self, key: bytes) -> Means | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, keys: Sequence[bytes], means: Means) -> None:
        with self._lock:
            for key, mean in zip(keys, means, strict=True):
                self._kept[key] = mean
                self._kept.move_to_end(key)
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)


class WindowReader:
    """Asks one model; thread-safe.

    Args:
        engine: serves it.
        model: its name.
        tokenizer: of its encoder, reading as the model does.
        max_remembered: utterances whose means are kept.

    Raises:
        EngineError: the model is not there.
    """

    def __init__(
        self, engine: Engine, model: str, tokenizer: WindowTokenizer, max_remembered: int = MAX_REMEMBERED
    ) -> None:
        self._engine = engine
        self.model = model
        self._tokenizer = tokenizer
        self._means = _Means(max_remembered)
        shapes = {tensor.name: tensor.shape for tensor in engine.spec(model).inputs}
        self._width = int(shapes["before"][-1] or 0) if "before" in shapes else 0

    def read(self, windows: Sequence[ContextWindow]) -> Raw:
        """Outputs for the current utterance of every window, in order: name -> array, windows first.

        Raises:
            EngineError: the engine failed.
        """
        if self._tokenizer.reading == "window":
            tokens = pad_rows([self._tokenizer.window_ids(window) for window in windows])
            return dict(self._engine.infer(self.model, {"input_ids": tokens.input_ids, "part": tokens.part}))
        utterances = [self._tokenizer.utterances(window) for window in windows]
        keys = [[_digest(ids) for ids in window] for window in utterances]
        known, unread = self._recalled(utterances, keys)
        for start in range(0, len(unread), MAX_ROWS):
            chosen = dict(list(unread.items())[start : start + MAX_ROWS])
            none = [np.zeros((0, self._width), np.float16)] * len(chosen)
            known |= zip(chosen, self._ask(list(chosen.values()), none, list(chosen))[1], strict=True)
        answers: list[Raw] = []
        order: list[int] = []
        for wave in _waves(keys, known):
            before = [np.array([known[key] for key in keys[place][1:]], np.float16) for place in wave]
            current = [keys[place][0] for place in wave]
            answer, fresh = self._ask([utterances[place][0] for place in wave], before, current)
            known |= zip(current, fresh, strict=True)
            answers.append(answer)
            order += wave
        if len(answers) == 1:  # as good as always where calls are followed live
            return answers[0]
        back = np.argsort(order)
        return {name: np.concatenate([answer[name] for answer in answers])[back] for name in answers[0]}

    def _recalled(
        self, utterances: Sequence[Sequence[list[int]]], keys: Sequence[Sequence[bytes]]
    ) -> tuple[dict[bytes, Means], dict[bytes, list[int]]]:
        """Means that are remembered, and utterances that are not and that no window before has as its current one."""
        known: dict[bytes, Means] = {}
        unread: dict[bytes, list[int]] = {}
        said: set[bytes] = set()
        for window, of_window in zip(utterances, keys, strict=True):
            for ids, key in zip(window[1:], of_window[1:], strict=True):
                if key in known or key in unread:
                    continue
                mean = self._means.get(key)
                if mean is not None:
                    known[key] = mean
                elif key not in said:
                    unread[key] = ids
            said.add(of_window[0])
        return known, unread

    def _ask(
        self, utterances: Sequence[list[int]], before: Sequence[Means], keys: Sequence[bytes]
    ) -> tuple[Raw, Means]:
        """One request; gives its outputs and the means of ``utterances``, as they are remembered.

        Args:
            utterances: the current ones.
            before: means of those before each of them, ``[utterances, width]``.
            keys: digests of the current ones.
        """
        tokens = pad_rows([(ids, [1] * len(ids)) for ids in utterances])
        means = np.zeros((len(utterances), CONTEXT_UTTERANCES, self._width), np.float32)
        for row, of_window in enumerate(before):
            if len(of_window):
                means[row, : len(of_window)] = of_window
        given: Raw = {
            "input_ids": tokens.input_ids,
            "part": tokens.part,
            "before": means,
            "num_before": np.array([len(of_window) for of_window in before], np.int64),
        }
        out = dict(self._engine.infer(self.model, given))
        # Rounded before it is used, so that a score does not depend on whether an utterance was remembered.
        fresh = np.asarray(out["mean"], np.float16)
        self._means.put(keys, fresh)
        return out, fresh


def _waves(keys: Sequence[Sequence[bytes]], known: Mapping[bytes, Means]) -> list[list[int]]:
    """Places of windows, in turns: none needs the mean of an utterance that is encoded in its own turn or later.

    Windows of many calls make one turn; those of one call follow one another. Encoding a call first and then judging it
    at once took 2.4 times the work: every utterance was encoded twice, and padded to the longest.

    Args:
        keys: of every window its utterances, the current one first.
        known: those whose means are known already.
    """
    turn_of: dict[bytes, int] = {}
    waves: list[list[int]] = []
    for place, (current, *before) in enumerate(keys):
        turn = max((1 + turn_of[key] for key in before if key not in known), default=0)
        turn_of[current] = min(turn, turn_of.get(current, turn))
        while len(waves) <= turn:
            waves.append([])
        waves[turn].append(place)
    return waves


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(np.asarray(ids, np.int32).tobytes(), digest_size=DIGEST_BYTES).digest()
