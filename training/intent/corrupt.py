"""Recognition-like damage to text, and other ways in which the same call may reach the model.

Clean text teaches a model things that recognised speech does not have. Words are dropped, swapped for others that
sound alike (same Soundex code, from the vocabulary of the data) or split; in Mandarin characters are swapped for others
of the same syllable, whatever the tone; utterances are cut elsewhere; and some calls lose their leg marks, as a mono
recording does.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from inference.intent.text import MAX_UTTERANCE_WORDS, atoms, is_han, normalise, weight
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


_BLURRED = (("zh", "z"), ("ch", "c"), ("sh", "s"), ("n", "l"), ("ng", "n"))
"""Sounds that speakers of the south, narrow bands and recognisers do not keep apart (initials; the last: endings)."""


def syllable(character: str) -> str:
    """The Mandarin syllable of a character without its tone, blurred; empty without pypinyin (extra ``train``)."""
    try:
        from pypinyin import lazy_pinyin
    except ImportError:
        return ""
    sound = str(lazy_pinyin(character)[0])
    for heard, as_if in _BLURRED[:-1]:
        if sound.startswith(heard):
            sound = as_if + sound[len(heard) :]
            break
    return sound[:-1] if sound.endswith("ng") else sound


HESITATIONS = ("uh", "um", "well", "you know", "i mean", "like", "so", "oh", "yeah", "i guess", "and uh", "i think")


HAN_HESITATIONS = ("嗯", "那个", "就是", "呃", "然后", "啊", "这个", "对吧", "就是说", "我觉得")


class Corruptor:
    """Makes damaged copies of calls, the same ones for the same seed."""

    def __init__(self, calls: Iterable[Call]) -> None:
        counts: dict[str, int] = defaultdict(int)
        for call in calls:
            for piece in call.pieces:
                for word in atoms(normalise(piece.text)):
                    counts[word.strip()] += 1
        by_sound: dict[str, list[str]] = defaultdict(list)
        for word, count in sorted(counts.items()):
            if count >= 3 and (sound := _sound(word)):
                by_sound[sound].append(word)
        self._by_sound = by_sound
        frequent = sorted((w for w, c in counts.items() if c >= 20), key=lambda w: -counts[w])
        self._common = {
            False: [w for w in frequent if not is_han(w)][:200] or ["the"],
            True: [w for w in frequent if is_han(w)][:200] or ["的"],
        }

    def words(self, text: str, rate: float, rng: np.random.Generator) -> str:
        """``text`` with about ``rate`` of its words (Mandarin: characters) wrong."""
        out: list[str] = []
        for atom in atoms(normalise(text)):
            if rng.random() >= rate:
                out.append(atom)
                continue
            word, lead = atom.strip(), atom[: len(atom) - len(atom.lstrip())]
            kind = rng.random()
            alike = self._by_sound.get(_sound(word), [])
            common = self._common[is_han(word)]
            if kind < 0.3:
                continue
            if kind < 0.75 and len(alike) > 1:
                out.append(lead + alike[int(rng.integers(len(alike)))])
            elif kind < 0.85 and len(word) > 5:
                at = int(rng.integers(2, len(word) - 2))
                out.append(f"{lead}{word[:at]} {word[at:]}")
            elif kind < 0.95:
                out.append(lead + common[int(rng.integers(len(common)))])
            else:
                out += [atom, (lead or ("" if is_han(word) else " ")) + common[int(rng.integers(len(common)))]]
        return "".join(out).strip()

    def call(self, call: Call, rng: np.random.Generator, rate: float | None = None, mono: float = 0.2) -> Call:
        """A damaged copy of ``call``.

        Args:
            call: the clean one.
            rng: source of chance.
            rate: share of wrong words; drawn from 0–35 % where None.
            mono: how often all speech is put on the far leg, run on across turns, as one mixed recording.
        """
        rate = float(rng.uniform(0.0, 0.35)) if rate is None else rate
        pieces = run_on(call.pieces) if rng.random() < mono else recut(call.pieces, rng)
        if rng.random() < 0.4:  # in both labels: hesitation itself must tell nothing
            pieces = [dataclasses.replace(p, text=disfluent(p.text, rng)) for p in pieces]
        damaged = (dataclasses.replace(p, text=self.words(p.text, rate, rng)) for p in pieces)
        kept = tuple(p for p in damaged if p.text)
        return dataclasses.replace(call, pieces=kept or call.pieces)


def _sound(word: str) -> str:
    """What words that sound alike share; empty where that is not known."""
    return syllable(word) if is_han(word) else soundex(word)


def disfluent(text: str, rng: np.random.Generator, rate: float = 0.12) -> str:
    """``text`` as it is said on the spur of the moment: hesitations, stock phrases, words said twice."""
    out: list[str] = []
    for atom in atoms(text):
        # A character takes half as long as a word: as many hesitations in the same time.
        if rng.random() >= rate * weight(atom):
            out.append(atom)
            continue
        stock, lead = (HAN_HESITATIONS, "") if is_han(atom) else (HESITATIONS, " ")
        kind = int(rng.integers(len(stock) + 2))
        said = stock[kind] if kind < len(stock) else atom.strip()
        out.append(f"{lead}{said}{lead}{atom.strip()}")
    return "".join(out).strip()


def as_chat(call: Call, rng: np.random.Generator) -> Call:
    """A genuine call with the legs changed over and disfluent speech: the subscriber's own talk as the far party's.

    Written callers speak in tidy sentences and come to the point; only the scam captions of the data ramble. Without
    such copies real small talk (Switchboard, which may not be trained on) was taken for scams, 39 calls of 40.
    """
    # All of a far turn's marks stay with it; the other side's talk shows no act.
    turned = [
        dataclasses.replace(p, leg="near", text=disfluent(p.text, rng))
        if p.leg == "far"
        else dataclasses.replace(p, leg="far", text=disfluent(p.text, rng), stages=(), acts=())
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
        words = atoms(" ".join(p.text for p in turn))
        while words:
            length = float(rng.integers(5, MAX_UTTERANCE_WORDS + 3))
            size = _count(words, length)
            size = len(words) if len(words) - size < 3 else size
            out.append(dataclasses.replace(turn[0], text="".join(words[:size]).strip()))
            words = words[size:]
    return out


def _count(words: Sequence[str], length: float) -> int:
    """How many of ``words`` (atoms) are said in the time of ``length`` words; at least one."""
    total = 0.0
    for number, word in enumerate(words):
        total += weight(word)
        if total > length and number and weight(word):
            return number
    return len(words)


def run_on(pieces: Iterable[Piece], max_words: int = MAX_UTTERANCE_WORDS) -> list[Piece]:
    """All speech on the far leg, cut every ``max_words`` words whoever speaks: what a mono recording gives."""
    tagged = [(word, piece) for piece in pieces for word in atoms(piece.text)]
    out: list[Piece] = []
    while tagged:
        size = _count([word for word, _ in tagged[: 2 * max_words]], max_words)
        chunk, tagged = tagged[:size], tagged[size:]
        stages = _merged(piece.stages for _, piece in chunk)
        acts = _merged(piece.acts for _, piece in chunk)
        # Pieces stand apart, whatever their script.
        text = "".join(
            f" {word.strip()}" if i and piece is not chunk[i - 1][1] else word for i, (word, piece) in enumerate(chunk)
        )
        out.append(Piece("far", text.strip(), chunk[-1][1].turn, stages, acts))
    return out


def _merged(marks: Iterable[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    """All of the marks; None where there are none labelled."""
    marked = [mark for mark in marks if mark is not None]
    return tuple(sorted({name for names in marked for name in names})) if marked else None
