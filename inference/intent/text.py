"""Text as the intent model reads it: the same for a recogniser's words, a caption and a written call.

Case, punctuation and the spelling of numbers tell where a text comes from (Whisper writes "$480", a script "four
hundred and eighty pounds", a caption neither), not what is being done to the listener. A model that sees them learns
to tell sources apart, so they are removed in training and in service by this one function.
"""

import re

MAX_UTTERANCE_WORDS = 20
"""Words in the longest speech segment: 8 s at about 2.5 words a second on the telephone."""

_NUMBER_WORD = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|double|oh"
)
_NUMBER_WORDS = re.compile(rf"\b(?:{_NUMBER_WORD})(?: (?:and )?(?:{_NUMBER_WORD}))+\b")
_DIGITS = re.compile(r"\d[\d,.:/-]*\d")
_CURRENCY = {"$": " dollars ", "£": " pounds ", "€": " euros ", "%": " percent "}
_NOT_WORD = re.compile(r"[^\w' ]+", re.UNICODE)
_APOSTROPHE = re.compile(r"[’‘`]")
_STRAY_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_SENTENCE_END = re.compile(r"(?<=[.!?…;])[\"')\]]*\s+")
_FILLERS = frozenset(
    re.findall(
        r"\S+",
        """a ah alright and bye er erm fine good great hello hey hi hm hmm huh i i'm is it's just like lovely mhm mm
        my nah no nope oh ok okay right see so sorry sure thank thanks that's the uh uhhuh um
        very well yeah yep yes you""",
    )
)


def normalise(text: str) -> str:
    """Lower case, words only, numbers of two digits or more as the word ``number``."""
    text = _APOSTROPHE.sub("'", text).lower()
    for sign, word in _CURRENCY.items():
        text = text.replace(sign, word)
    text = _DIGITS.sub(" number ", text)
    text = _NOT_WORD.sub(" ", text)
    text = _STRAY_APOSTROPHE.sub(" ", text)
    text = " ".join(text.split())
    text = _NUMBER_WORDS.sub("number", text)
    return re.sub(r"\bnumber(?: (?:and )?number)+\b", "number", text)


def is_filler(text: str) -> bool:
    """True where fewer than two words of it say anything ("yes", "mm-hm, okay"): no evidence either way."""
    return sum(word not in _FILLERS for word in normalise(text).split()) < 2


def split_utterances(text: str, max_words: int = MAX_UTTERANCE_WORDS) -> list[str]:
    """Cut a turn of text into the pieces in which it would be heard.

    Sentences are packed together while they fit in ``max_words``; a sentence longer than that is cut at the cap, as
    the segmenter cuts speech that goes on.

    Returns:
        pieces of at most ``max_words`` words, in order, losing no word; empty for an empty text.
    """
    pieces: list[str] = []
    current: list[str] = []
    for sentence in _SENTENCE_END.split(text.strip()):
        words = sentence.split()
        if current and len(current) + len(words) > max_words:
            pieces.append(" ".join(current))
            current = []
        current += words
        while len(current) > max_words:
            pieces.append(" ".join(current[:max_words]))
            current = current[max_words:]
    if current:
        pieces.append(" ".join(current))
    return pieces
