"""Near copies: calls whose words are largely the same (Broder 1997, shingles and Jaccard similarity).

A clone with other names in it teaches nothing and, on both sides of a split, flatters every figure.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

WORDS_PER_SHINGLE = 4
CHARACTERS_PER_SHINGLE = 6
"""In languages written without spaces."""

MAX_COPIES = 50
"""A call that has so many near copies already is compared with those, and what comes after it is not compared with it:
a thousand copies of one call are tied to it, and to one another through it, without half a million comparisons."""

MAX_CALLS_PER_SHINGLE = 200
"""Calls that are looked up under one shingle: by what so many different calls say ("can i speak to"), none is found."""

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
    """Pairs of ``texts`` (id -> words) that share at least that much, the most alike first.

    Of calls with the same shingles each is paired with the first of them alone. The others are found by prefix
    filtering (Bayardo et al., "Scaling up all pairs similarity search", WWW 2007): two calls that are so much alike
    share one of their rarest shingles. Every other pair is found unless one of the bounds above is reached; the copies
    of a call hang together then, too.

    Args:
        texts: in order; ``first`` of a pair is the one that comes first.
        at_least: Jaccard index, above 0.
    """
    of_call = {call: shingles(text) for call, text in texts.items() if text.strip()}
    first_with: dict[frozenset[str], str] = {}
    found: list[NearCopy] = []
    for call, its in of_call.items():
        if (twin := first_with.setdefault(its, call)) != call:
            found.append(NearCopy(twin, call, 1.0))
    use = Counter(shingle for its in first_with for shingle in its)
    calls_with: dict[str, list[str]] = defaultdict(list)
    for its, call in first_with.items():
        least_shared = math.ceil(at_least * len(its) - 1e-9)  # 0.1 * 30 is more than 3 in floats
        rarest = sorted(its, key=lambda shingle: (use[shingle], shingle))[: len(its) - least_shared + 1]
        num_copies = 0
        for other in dict.fromkeys(other for shingle in rarest for other in calls_with[shingle]):
            common = len(its & of_call[other])
            similarity = common / (len(its) + len(of_call[other]) - common)
            if similarity >= at_least:
                found.append(NearCopy(other, call, round(similarity, 3)))
                num_copies += 1
        if num_copies < MAX_COPIES:
            for shingle in rarest:
                if len(calls_with[shingle]) < MAX_CALLS_PER_SHINGLE:
                    calls_with[shingle].append(call)
    return sorted(found, key=lambda pair: (-pair.similarity, pair.first, pair.second))
