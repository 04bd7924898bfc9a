"""Recognition-like damage to text, and other ways in which the same call may reach the model.

Clean text teaches a model things that recognised speech does not have. Words are dropped, swapped for others that
sound alike (same Soundex code, from the vocabulary of the data) or split; utterances are cut elsewhere; and some
calls lose their leg marks, as a mono recording does.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from inference.intent.text import MAX_UTTERANCE_WORDS, normalise
from training.intent.data import Call, Piece

_CODES = {
    letter: digit
    for digit, letters in {"1": "bfpv", "2": "cgjkqsxz", "3": "dt", "4": "l", "5": "mn", "6": "r"}.items()
    for letter in letters
}


def soundex(word: str) -> str:
    """Soundex of a word (Russell 1918), five characters; words that sound alike often share it."""
    letters = [letter for letter in word.lower() if letter.isalpha()]
    if not letters:
        return ""
    code, previous = letters[0], _CODES.get(letters[0], "")
    for letter in letters[1:]:
        digit = _CODES.get(letter, "")
        if digit and digit != previous:
            code += digit
        if letter not in "hw":
            previous = digit
    return (code + "0000")[:5]


HESITATIONS = ("uh", "um", "well", "you know", "i mean", "like", "so", "oh", "yeah", "i guess", "and uh", "i think")


class Corruptor:
    """Makes damaged copies of calls, the same ones for the same seed."""

    def __init__(self, calls: Iterable[Call]) -> None:
        counts: dict[str, int] = defaultdict(int)
        for call in calls:
            for piece in call.pieces:
                for word in normalise(piece.text).split():
                    counts[word] += 1
        by_sound: dict[str, list[str]] = defaultdict(list)
        for word, count in sorted(counts.items()):
            if count >= 3:
                by_sound[soundex(word)].append(word)
        self._by_sound = by_sound
        self._common = sorted((w for w, c in counts.items() if c >= 20), key=lambda w: -counts[w])[:200] or ["the"]

    def words(self, text: str, rate: float, rng: np.random.Generator) -> str:
        """``text`` with about ``rate`` of its words wrong."""
        out: list[str] = []
        for word in normalise(text).split():
            if rng.random() >= rate:
                out.append(word)
                continue
            kind = rng.random()
            alike = self._by_sound.get(soundex(word), [])
            if kind < 0.3:
                continue
            if kind < 0.75 and len(alike) > 1:
                out.append(alike[int(rng.integers(len(alike)))])
            elif kind < 0.85 and len(word) > 5:
                cut = int(rng.integers(2, len(word) - 2))
                out += [word[:cut], word[cut:]]
            elif kind < 0.95:
                out.append(self._common[int(rng.integers(len(self._common)))])
            else:
                out += [word, self._common[int(rng.integers(len(self._common)))]]
        return " ".join(out)

    def call(self, call: Call, rng: np.random.Generator, rate: float | None = None, mono: float = 0.2) -> Call:
        """A damaged copy of ``call``.

        Args:
            call: the clean one.
            rng: source of chance.
            rate: share of wrong words; drawn from 0–30 % where None.
            mono: how often all speech is put on the far leg, run on across turns, as one mixed recording.
        """
        rate = float(rng.uniform(0.0, 0.3)) if rate is None else rate
        pieces = run_on(call.pieces) if rng.random() < mono else recut(call.pieces, rng)
        if rng.random() < 0.4:  # in both labels: hesitation itself must tell nothing
            pieces = [dataclasses.replace(p, text=disfluent(p.text, rng)) for p in pieces]
        damaged = (dataclasses.replace(p, text=self.words(p.text, rate, rng)) for p in pieces)
        kept = tuple(p for p in damaged if p.text)
        return dataclasses.replace(call, pieces=kept or call.pieces)


def disfluent(text: str, rng: np.random.Generator, rate: float = 0.12) -> str:
    """``text`` as it is said on the spur of the moment: hesitations, stock phrases, words said twice."""
    out: list[str] = []
    for word in text.split():
        if rng.random() < rate:
            kind = int(rng.integers(len(HESITATIONS) + 2))
            out.append(HESITATIONS[kind] if kind < len(HESITATIONS) else word)
        out.append(word)
    return " ".join(out)


def as_chat(call: Call, rng: np.random.Generator) -> Call:
    """A genuine call with the legs changed over and disfluent speech: the subscriber's own talk as the far party's.

    Written callers speak in tidy sentences and come to the point; only the scam captions of the data ramble. Without
    such copies real small talk (Switchboard, which may not be trained on) was taken for scams, 39 calls of 40.
    """
    # All of a far turn's marks stay with it; the other side's talk shows no act.
    turned = [
        dataclasses.replace(p, leg="near", text=disfluent(p.text, rng))
        if p.leg == "far"
        else dataclasses.replace(p, leg="far", text=disfluent(p.text, rng), stages=p.stages or ())
        for p in call.pieces
    ]
    return dataclasses.replace(call, pieces=tuple(recut(turned, rng)))


def join_calls(calls: Sequence[Call]) -> Call:
    """Calls one after the other as one long call, with the labels of the first."""
    turns, pieces = 0, []
    for call in calls:
        pieces += [dataclasses.replace(p, turn=p.turn + turns) for p in call.pieces]
        turns += 1 + max(p.turn for p in call.pieces)
    return dataclasses.replace(calls[0], id=f"{calls[0].id}-joined", pieces=tuple(pieces))


def recut(pieces: Iterable[Piece], rng: np.random.Generator) -> list[Piece]:
    """Cut every turn elsewhere: each piece gets its own length of 5 to 22 words."""
    turns: dict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        turns[piece.turn].append(piece)
    out: list[Piece] = []
    for turn in turns.values():
        words = " ".join(p.text for p in turn).split()
        while words:
            size = int(rng.integers(5, MAX_UTTERANCE_WORDS + 3))
            size = len(words) if len(words) - size < 3 else size
            out.append(dataclasses.replace(turn[0], text=" ".join(words[:size])))
            words = words[size:]
    return out


def run_on(pieces: Iterable[Piece], max_words: int = MAX_UTTERANCE_WORDS) -> list[Piece]:
    """All speech on the far leg, cut every ``max_words`` words whoever speaks: what a mono recording gives."""
    tagged = [(word, piece) for piece in pieces for word in piece.text.split()]
    out: list[Piece] = []
    for start in range(0, len(tagged), max_words):
        chunk = tagged[start : start + max_words]
        marked = [piece.stages for _, piece in chunk if piece.stages is not None]
        stages = tuple(sorted({stage for stage_set in marked for stage in stage_set})) if marked else None
        out.append(Piece("far", " ".join(word for word, _ in chunk), chunk[-1][1].turn, stages))
    return out
