"""The rolling transcript of one call, as much of it as the intent model reads at once."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from inference.audio import Leg
from inference.intent.encoder import Reading
from inference.intent.text import normalise

LEG_MARK: dict[Leg, str] = {"far": "caller", "near": "me"}
"""What stands before a turn. Plain words: the encoder's lower layers are frozen and know no special marks."""

CONTEXT_UTTERANCES = 6
"""Utterances remembered before the current one; more do not fit in the token window anyway."""


@dataclass(frozen=True, slots=True)
class Said:
    """One utterance of the transcript: whose, and the words."""

    leg: Leg
    text: str


@dataclass(frozen=True, slots=True)
class ContextWindow:
    """The utterance to score and what was said before it, oldest first. Personal data: in memory only."""

    current: Said
    before: tuple[Said, ...] = ()
    language: str = "en"


class Spoken(Protocol):
    """What the transcript needs of an utterance; :class:`~inference.speech.utterance.Utterance` has it."""

    @property
    def leg(self) -> Leg: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def language(self) -> str: ...  # noqa: D102


class RollingContext:
    """Transcript of ONE call, bounded: keeps the last :data:`CONTEXT_UTTERANCES` non-empty utterances."""

    def __init__(self, max_utterances: int = CONTEXT_UTTERANCES) -> None:
        self._before: deque[Said] = deque(maxlen=max_utterances)

    def copy(self) -> "RollingContext":
        """What is remembered now, by itself."""
        other = RollingContext()
        other._before = self._before.copy()
        return other

    def add(self, utterance: Spoken) -> ContextWindow:
        """Append ``utterance`` and return the window in which it is to be scored."""
        current = Said(utterance.leg, utterance.text)
        window = ContextWindow(current, tuple(self._before), utterance.language)
        if current.text.strip():
            self._before.append(current)
        return window


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Utterances, or windows read as one text, as the graph takes them, padded at the right.

    Attributes:
        input_ids: int64 ``[batch, tokens]``; 0 where there is none.
        part: int64 ``[batch, tokens]``; 0 padding. Of an utterance 1; of a window that is read as one text 1 what was
            before, 2 the current utterance.
    """

    input_ids: npt.NDArray[np.int64]
    part: npt.NDArray[np.int64]


class WindowTokenizer:
    """``[CLS] mark words [SEP]`` per utterance: the current one, then those before it, the latest first.

    Or a window as one text, ``[CLS] before [SEP] current [SEP]``, every utterance behind its mark; the newest words
    win.

    Args:
        tokenizer: the encoder's own (tokenizer.json).
        max_tokens: length of the longest window; utterances of longer ago that do not fit are left out whole.
        max_utterance_tokens: an utterance is cut after this many.
        reading: of the model that is fed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_tokens: int = 96,
        max_utterance_tokens: int = 48,
        reading: Reading = "utterances",
    ) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._max_utterance_tokens = max_utterance_tokens
        self.reading = reading
        cls_id, sep_id = (
            next((i for name in names if (i := tokenizer.token_to_id(name)) is not None), None)
            for names in (("[CLS]", "<s>"), ("[SEP]", "</s>"))
        )
        if cls_id is None or sep_id is None:
            raise ValueError("tokenizer has no [CLS] or [SEP]")
        self._cls_id, self._sep_id = int(cls_id), int(sep_id)

    def _ids(self, said: Said) -> list[int]:
        text = f"{LEG_MARK[said.leg]} {normalise(said.text)}"
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def utterance_ids(self, said: Said) -> list[int]:
        """Token ids of one utterance: the same wherever it stands."""
        return [self._cls_id, *self._ids(said)[: self._max_utterance_tokens - 2], self._sep_id]

    def how_many_fit(self, lengths: Iterable[int]) -> int:
        """How many utterances of a window are read; their lengths come current first, then back in time."""
        used, count = 0, 0
        for length in lengths:
            used += length
            if count and used > self._max_tokens:
                break
            count += 1
        return count

    def utterances(self, window: ContextWindow) -> list[list[int]]:
        """Token ids of the utterances of a window that are read: the current one, then back in time."""
        ids = [self.utterance_ids(said) for said in (window.current, *reversed(window.before))]
        return ids[: self.how_many_fit(map(len, ids))]

    def window_ids(self, window: ContextWindow) -> tuple[list[int], list[int]]:
        """Token ids and parts of a window that is read as one text."""
        current = self._ids(window.current)[: self._max_utterance_tokens]
        room = self._max_tokens - len(current) - 3
        before: list[int] = []
        for said in reversed(window.before):
            before = self._ids(said) + before
            if len(before) >= room:
                before = before[-room:]
                break
        ids = [self._cls_id, *before, self._sep_id, *current, self._sep_id]
        return ids, [1] * (len(before) + 2) + [2] * (len(current) + 1)


def pad_rows(rows: Sequence[tuple[list[int], list[int]]]) -> TokenBatch:
    """Pad rows of (ids, parts) to their longest."""
    num_tokens = max((len(ids) for ids, _ in rows), default=1)
    input_ids = np.zeros((len(rows), num_tokens), np.int64)
    part = np.zeros_like(input_ids)
    for row, (ids, parts) in enumerate(rows):
        input_ids[row, : len(ids)] = ids
        part[row, : len(parts)] = parts
    return TokenBatch(input_ids, part)
