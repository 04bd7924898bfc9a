"""Calls as the network takes them: tokenised, with the states of the layers that stay as published."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inference.errors import ConfigError
from inference.intent.context import CONTEXT_UTTERANCES, Said, WindowTokenizer
from inference.intent.text import is_filler
from training.intent.data import MAX_PIECES, Call, Piece, windows_of
from training.intent.layers import Ids, LowerLayers, State


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call, its utterances tokenised, and their cached states where lower layers stay as published.

    The near leg is read as context and its acts are learnt, but it adds no evidence: on calls kept apart its own
    evidence did not help, and leaving it out made the far leg's better.

    Attributes:
        utterances: token ids of every utterance; of every window, where windows are read as one text.
        states: per utterance or window, after the frozen layers.
        pieces: those that are scored: the far leg's, and the near leg's where acts are labelled.
        members: per scored piece, which utterances its window reads: itself, then back in time.
        parts: per window read as one text, which part each token is of; empty where utterances are read.
    """

    call: Call
    weight: float
    utterances: list[Ids]
    states: list[State] | None
    pieces: list[Piece]
    members: list[list[int]]
    parts: list[list[int]] = field(default_factory=list)


def is_scored(piece: Piece) -> bool:
    """Whether an utterance is asked for scores: the far leg's, and the near leg's where acts are labelled."""
    return piece.leg == "far" or (piece.acts is not None and not is_filler(piece.text))


def members_of(pieces: Sequence[Piece], utterances: Sequence[Ids], at: int, tokenizer: WindowTokenizer) -> list[int]:
    """Which utterances the window of utterance ``at`` reads, as live calls have it: silence is not remembered."""
    said = [i for i in range(at) if pieces[i].text.strip()][-CONTEXT_UTTERANCES:]
    indices = [at, *reversed(said)]
    return indices[: tokenizer.how_many_fit(len(utterances[i]) for i in indices)]


def prepare(
    calls: Sequence[Call],
    weights: Sequence[float],
    lower: LowerLayers | None,
    tokenizer: WindowTokenizer,
    advance: Callable[[int], None],
    chunk: int = 100,
) -> list[Prepared]:
    """Run the frozen layers over every utterance once, ``chunk`` calls at a time; ``advance`` is told how many.

    Where ``tokenizer`` reads windows as one text, over every window of a far utterance.
    """
    if tokenizer.reading == "window":
        return _prepare_windows(calls, weights, lower, tokenizer, advance, chunk)
    out: list[Prepared] = []
    for start in range(0, len(calls), chunk):
        part = calls[start : start + chunk]
        ids = [[tokenizer.utterance_ids(Said(p.leg, p.text)) for p in call.pieces[:MAX_PIECES]] for call in part]
        states = iter(lower.states([utterance for of_call in ids for utterance in of_call])) if lower else None
        for call, of_call, weight in zip(part, ids, weights[start : start + chunk], strict=True):
            cached = [next(states) for _ in of_call] if states else None
            scored = [i for i, piece in enumerate(call.pieces[:MAX_PIECES]) if is_scored(piece)]
            members = [members_of(call.pieces, of_call, i, tokenizer) for i in scored]
            if any(call.pieces[i].leg == "far" for i in scored):
                out.append(Prepared(call, weight, of_call, cached, [call.pieces[i] for i in scored], members))
        advance(len(part))
    return out


def _prepare_windows(
    calls: Sequence[Call],
    weights: Sequence[float],
    lower: LowerLayers | None,
    tokenizer: WindowTokenizer,
    advance: Callable[[int], None],
    chunk: int,
) -> list[Prepared]:
    if lower is None:
        raise ConfigError("an encoder from nothing reads utterances: leave `reading: window` out")
    out: list[Prepared] = []
    for start in range(0, len(calls), chunk):
        part = calls[start : start + chunk]
        windows = [[w for w in windows_of(call, MAX_PIECES) if w.current.leg == "far"] for call in part]
        rows = [[tokenizer.window_ids(window) for window in of_call] for of_call in windows]
        states = iter(lower.states([ids for of_call in rows for ids, _ in of_call]))
        for call, of_call, weight in zip(part, rows, weights[start : start + chunk], strict=True):
            pieces = [piece for piece in call.pieces[:MAX_PIECES] if piece.leg == "far"]
            if pieces:
                ids, parts = [row[0] for row in of_call], [row[1] for row in of_call]
                out.append(Prepared(call, weight, ids, [next(states) for _ in of_call], pieces, [], parts))
        advance(len(part))
    return out
