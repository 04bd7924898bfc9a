"""Word error rate, with numbers and punctuation made comparable: '$1,200' is 'twelve hundred dollars'."""

import functools
import re

import opencc

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SMALL = {word: value for value, word in enumerate(_UNITS)} | {word: 10 * (i + 2) for i, word in enumerate(_TENS)}
_LARGE = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_SPELLINGS = {"ok": "okay", "mister": "mr", "missus": "mrs", "doctor": "dr", "oh": "o", "alright": "all right"}
_UNITS_AFTER = {"$": "dollars", "£": "pounds", "€": "euros", "%": "percent"}
_HAN = re.compile(r"[\u3400-\u9fff]")
_HAN_DIGITS = dict(zip("零〇一幺二两三四五六七八九", "0011223456789", strict=True))


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; numbers, spelt or not, as one word per digit.

    A Chinese character, traditional or simplified, is a word: what is counted there is character errors.
    """
    text = _simplified().convert(text.lower().replace("’", "'"))
    text = re.sub(r"([$£€])\s?(\d[\d,]*(?:\.\d+)?)", lambda m: f"{m[2]} {_UNITS_AFTER[m[1]]}", text)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text).replace("%", " percent")
    text = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", text).replace("'", "")
    text = re.sub(r"[^\w]|_", " ", text)
    text = _HAN.sub(lambda m: f" {_HAN_DIGITS.get(m[0], m[0])} ", text)
    text = re.sub(r"(?<=\d)(?=[a-z])|(?<=[a-z])(?=\d)", " ", text)
    tokens = " ".join(_SPELLINGS.get(token, token) for token in text.split()).split()
    out: list[str] = []
    at = 0
    while at < len(tokens):
        value, taken = _number(tokens[at:])
        if taken:
            out.extend(str(value))
            at += taken
        elif tokens[at].isdecimal():
            out.extend(tokens[at])
            at += 1
        else:
            out.append(tokens[at])
            at += 1
    return out


@functools.cache
def _simplified() -> opencc.OpenCC:
    return opencc.OpenCC("t2s")


def _number(tokens: list[str]) -> tuple[int, int]:
    """Value of the number spelt at the head of ``tokens`` and how many of them it takes; (0, 0) for none."""
    total = current = taken = 0
    last = 0  # what the last small word may still be followed by: 10 = a unit (twenty -> twenty one)
    for index, token in enumerate(tokens):
        if token in _SMALL:
            value = _SMALL[token]
            if taken and not (last == 100 or (last == 10 and 0 < value < 10)):
                break
            current += value
            last = 10 if value >= 20 else 1
        elif token in _LARGE and taken and current:
            scale = _LARGE[token]
            current *= scale
            if scale > 100:
                total, current = total + current, 0
            last = 100
        elif token == "and" and last == 100 and index + 1 < len(tokens) and tokens[index + 1] in _SMALL:  # noqa: S105
            continue
        else:
            break
        taken = index + 1
    return total + current, taken


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Substitutions, insertions and deletions, and the number of reference words."""
    wanted, heard = words(reference), words(hypothesis)
    row = list(range(len(heard) + 1))
    for i, word in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1], len(wanted)
