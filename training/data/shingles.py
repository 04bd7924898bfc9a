"""Near copies: calls whose words are largely the same (Broder 1997, shingles and Jaccard similarity).

A clone with other names in it teaches nothing and, on both sides of a split, flatters every figure.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

WORDS_PER_SHINGLE = 4
CHARACTERS_PER_SHINGLE = 6
"""In languages written without spaces."""

MAX_CALLS_PER_SHINGLE = 200
"""A commoner shingle ("can i speak to") tells nothing and would make the search quadratic."""

_UNSPACED = re.compile(r"[\u3400-\u9fff]")
_WORD = re.compile(r"[\w']+")


@dataclass(frozen=True, slots=True)
class NearCopy:
    """Two calls that are largely the same; ``similarity`` is the Jaccard index of their shingles, 0 to 1."""

    first: str
    second: str
    similarity: float


def shingles(text: str) -> frozenset[str]:
    """What is compared: runs of words, or of characters in Chinese; case and punctuation do not count."""
    words = _WORD.findall(text.lower())
    if _UNSPACED.search(text):
        joined = "".join(words)
        size = CHARACTERS_PER_SHINGLE
        return frozenset(joined[i : i + size] for i in range(max(1, len(joined) - size + 1)))
    size = WORDS_PER_SHINGLE
    return frozenset(" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1)))


def near_copies(texts: Mapping[str, str], at_least: float = 0.4) -> list[NearCopy]:
    """Pairs of ``texts`` (id -> words) that share at least that much, the most alike first."""
    of_call = {call: shingles(text) for call, text in texts.items() if text.strip()}
    calls_with: dict[str, list[str]] = defaultdict(list)
    for call, its in of_call.items():
        for shingle in its:
            calls_with[shingle].append(call)
    shared: Counter[tuple[str, str]] = Counter()
    for calls in calls_with.values():
        if len(calls) <= MAX_CALLS_PER_SHINGLE:
            shared.update((a, b) for i, a in enumerate(calls) for b in calls[i + 1 :])
    found = []
    for (first, second), common in shared.items():
        similarity = common / (len(of_call[first]) + len(of_call[second]) - common)
        if similarity >= at_least:
            found.append(NearCopy(first, second, round(similarity, 3)))
    return sorted(found, key=lambda pair: (-pair.similarity, pair.first, pair.second))
