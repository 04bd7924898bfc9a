"""Phrases said twice in a row: what Whisper falls into where nothing stops it."""

from collections.abc import Iterable, Sequence

ECHO_MIN_WORDS = 5
_PUNCTUATION = ".,;:!?\"'-–—…，。！？、；：“”‘’"


def without_echo(text: str) -> str:
    """``text`` without a last phrase that only repeats the one before it, case and punctuation aside.

    Without 30 s of padding Whisper sometimes says its last phrase again, spelt a little differently, so that the guard
    on tokens misses it. Nobody says five or more words twice in a row within one breath.
    """
    spoken = text.split()
    plain = [word.strip(_PUNCTUATION).lower() for word in spoken]
    for length in range(len(spoken) // 2, ECHO_MIN_WORDS - 1, -1):
        if plain[-length:] == plain[-2 * length : -length]:
            return " ".join(spoken[:-length])
    return text


def repeated_tail(tokens: Sequence[int], lengths: Iterable[int]) -> int:
    """Length of the phrase that ends ``tokens`` and also stands right before itself; 0 where there is none."""
    for length in lengths:
        if len(tokens) >= 2 * length and tokens[-length:] == tokens[-2 * length : -length]:
            return length
    return 0
