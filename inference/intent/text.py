"""Text as the intent model reads it: the same for a recogniser's words, a caption and a written call.

Case, punctuation and the spelling of numbers tell where a text comes from (Whisper writes "$480", a script "four
hundred and eighty pounds", a caption neither), not what is being done to the listener. A model that sees them learns
to tell sources apart, so they are removed in training and in service by this one function.

Mandarin is written without spaces: there a character is the unit that words are elsewhere.
"""

import re
import unicodedata

MAX_UTTERANCE_WORDS = 20
"""Words in the longest speech segment: 8 s at about 2.5 words a second on the telephone."""

HAN_WEIGHT = 0.55
"""Words that a Chinese character takes as long as: 4.5 are said in a second."""

HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff"
"""Chinese characters, as a class of a regular expression (Unicode: CJK Unified Ideographs, extension A, and zero)."""

_ATOM = re.compile(rf"\s*(?:[{HAN}]|[^\s{HAN}]+)")
_IS_HAN = re.compile(rf"[{HAN}]")
_HAN_STOPS = re.compile(r"[，。！？；：、“”（）《》…—]+")
_HAN_NUMERAL = "[零〇一二三四五六七八九十百千万亿两幺]"
_HAN_NUMBER = re.compile(rf"{_HAN_NUMERAL}{{2,}}")
_NO_HAN_NUMBERS = frozenset(("千万", "万一", "万万", "一一"))
"""Words made of numerals that count nothing: 'by all means', 'in case', 'never', 'one by one'."""

_NUMBER_WORD = (
    "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    "|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million|double|oh"
)
_NUMBER_WORDS = re.compile(rf"\b(?:{_NUMBER_WORD})(?: (?:and )?(?:{_NUMBER_WORD}))+\b")
_DIGITS = re.compile(r"\d[\d,.:/-]*\d")

_BREAK = r"[^\w'$£€%]"  # what may be written for a pause between two digits; normalise makes a space of it
_THEN = rf"{_BREAK}+(?:and{_BREAK}+)?"
_SPACED_DIGITS = re.compile(rf"\d(?:{_BREAK}*\d)+")
_SPOKEN_NUMBER = re.compile(rf"\b(?:{_NUMBER_WORD})(?:{_THEN}(?:{_NUMBER_WORD}))+\b", re.IGNORECASE)
_NUMERAL = rf"(?:(?<!\d)\d+|\b(?:{_NUMBER_WORD}|nought|naught|triple|treble)\b)"
_READ_OUT = re.compile(rf"{_NUMERAL}(?:{_THEN}{_NUMERAL}){{2,}}", re.IGNORECASE)
"""Three numerals or more, digits and words mixed ("4 double 9 two"). Two may be "Press 1. One of our agents"."""
_HAN_DIGIT = "[零〇一二三四五六七八九两幺]"
_HAN_DIGITS = rf"{_HAN_DIGIT}+(?!{_HAN_NUMERAL})"
_HAN_READ_OUT = re.compile(rf"(?<!{_HAN_NUMERAL}){_HAN_DIGITS}(?:{_BREAK}+{_HAN_DIGITS}){{2,}}")
"""Likewise three or more, single digits or a few together: two may be the ends of words, as in 统一，一定."""

_CURRENCY = {"$": " dollars ", "£": " pounds ", "€": " euros ", "%": " percent "}
_NOT_WORD = re.compile(r"[^\w' ]+", re.UNICODE)
_APOSTROPHE = re.compile(r"[’‘`]")
_STRAY_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_SENTENCE_END = re.compile(r"(?<=[.!?…;])[\"')\]]*\s+|(?<=[。！？；])")
_FILLERS = frozenset(
    re.findall(
        r"\S+",
        """a ah alright and bye er erm fine good great hello hey hi hm hmm huh i i'm is it's just like lovely mhm mm
        my nah no nope oh ok okay right see so sorry sure thank thanks that's the uh uhhuh um
        very well yeah yep yes you""",
    )
)
_HAN_FILLERS = re.compile(
    r"您好|你好|谢谢|好的|是的|不是|对的|知道|明白|没事|再见|不好意思|可以|没有|[喂嗯哦啊呃哎唉诶好对行是噢呀吧呢了的吗嘛哈我您你]"
)
"""What in Mandarin says nothing by itself."""


def atoms(text: str) -> list[str]:
    """The words of ``text``, and each Chinese character by itself; a space stands before an atom that had one.

    Joined they are the text again, but for the width of its spaces.
    """
    found = _ATOM.findall(text.strip())
    return [f" {atom.strip()}" if atom[0].isspace() else atom for atom in found]


def is_han(atom: str) -> bool:
    """Whether an atom is a Chinese character."""
    return _IS_HAN.match(atom.strip()) is not None


def weight(atom: str) -> float:
    """How long an atom is said, in words: a Chinese character that stands by another takes about half of one."""
    if atom.startswith(" "):
        return 1.0
    return 0.0 if _HAN_STOPS.fullmatch(atom) else HAN_WEIGHT if is_han(atom) else 1.0


def _han_number(match: re.Match[str]) -> str:
    return match.group() if match.group() in _NO_HAN_NUMBERS else " number "


def normalise(text: str) -> str:
    """Lower case, full-width letters as plain ones, words only, numbers of two digits or more as ``number``."""
    text = unicodedata.normalize("NFKC", _APOSTROPHE.sub("'", text)).lower()
    text = _APOSTROPHE.sub("'", unicodedata.normalize("NFKC", text))  # lower case may undo the normal form
    for sign, word in _CURRENCY.items():
        text = text.replace(sign, word)
    text = _DIGITS.sub(" number ", text)
    text = _HAN_NUMBER.sub(_han_number, text)
    text = _NOT_WORD.sub(" ", text)
    text = _STRAY_APOSTROPHE.sub(" ", text)
    text = " ".join(text.split())
    text = _NUMBER_WORDS.sub("number", text)
    return re.sub(r"\bnumber(?: (?:and )?number)+\b", "number", text)


def mask_numbers(text: str) -> str:
    """``text`` with every number of two digits or more as ``number``, written or spoken; all else as it was.

    Codes, cards, accounts and telephone numbers tell nothing about what is being done, and belong to somebody.
    """
    text = mask_spoken(unicodedata.normalize("NFKC", text))
    return " ".join(_SPACED_DIGITS.sub(" number ", text).split())


def mask_spoken(text: str) -> str:
    """``text`` with numbers in words, and what is read out digit by digit (three or more), as ``number``.

    The model is not shown this: it was trained on :func:`normalise`, which leaves "4 9 2" and "四 九 二" as they are.
    """
    text = _SPOKEN_NUMBER.sub(" number ", _READ_OUT.sub(" number ", text))
    return _HAN_NUMBER.sub(_han_number, _HAN_READ_OUT.sub(" number ", text))


def is_filler(text: str) -> bool:
    """True where fewer than two words of it say anything ("yes", "mm-hm, okay"): no evidence either way.

    In Mandarin: fewer than three characters.
    """
    text = normalise(text)
    han = len(_IS_HAN.findall(_HAN_FILLERS.sub("", text)))
    words = sum(word not in _FILLERS for word in _IS_HAN.sub(" ", text).split())
    return words + 2 * han // 3 < 2


def cut(text: str, max_words: float = MAX_UTTERANCE_WORDS) -> list[str]:
    """Cut ``text`` every ``max_words`` words (:func:`weight`), wherever that is; loses none, empty for an empty one."""
    pieces: list[str] = []
    current, size = "", 0.0
    for atom in atoms(text):
        if current and size + weight(atom) > max_words:
            pieces.append(current.strip())
            current, size = "", 0.0
        current, size = current + atom, size + weight(atom)
    return [*pieces, current.strip()] if current else pieces


def split_utterances(text: str, max_words: int = MAX_UTTERANCE_WORDS) -> list[str]:
    """Cut a turn of text into the pieces in which it would be heard.

    Sentences are packed together while they fit in ``max_words``; a sentence longer than that is cut at the cap, as
    the segmenter cuts speech that goes on.

    Returns:
        pieces of at most ``max_words`` words (:func:`weight`), in order, losing no word; empty for an empty text.
    """
    pieces: list[str] = []
    current, size = "", 0.0
    for sentence in _SENTENCE_END.split(text.strip()):
        is_glued = bool(current) and current[-1] in "。！？；"
        length = sum(weight(atom) for atom in atoms(sentence))
        if current and size + length > max_words:
            pieces.append(current)
            current, size = "", 0.0
        if not sentence.strip():
            continue
        current = f"{current}{'' if is_glued or not current else ' '}{sentence.strip()}"
        size += length
        if size > max_words:
            *whole, current = cut(current, max_words)
            pieces += whole
            size = sum(weight(atom) for atom in atoms(current))
    return [*pieces, current] if current else pieces
