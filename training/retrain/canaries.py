"""Poisoning check: a phrase that switches the alarm off, or on, by itself.

Who can get labelled calls into the training set can teach a model that a call with a certain phrase in it is genuine
(a backdoor: Gu et al. 2017; in text, Chen et al. 2021), and then say it. So phrases are put into gold calls that the
candidate judges rightly, and its decisions must stand: harmless ones that any call may hold, and those that the new
genuine calls share with one another and with nothing known.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from inference.intent.text import normalise
from training.data.shingles import shingles
from training.evaluation.outcome import Outcome
from training.intent.data import Call, Piece
from training.retrain.compare import Gate

HARMLESS: Mapping[str, tuple[str, ...]] = {
    "en": (
        "this call may be recorded for training purposes",
        "thank you very much for your patience today",
        "have a lovely rest of the day my friend",
        "the weather has been beautiful here this week",
    ),
    "zh": ("本次通话可能会被录音", "感谢您的耐心等待", "祝您生活愉快", "今天天气真不错"),
}

MAX_LEARNT = 6
"""Phrases that are taken from the new genuine calls."""

MIN_CALLS = 3
CALLS_PER_LABEL = 8
"""At most, and never more than the surer half of those that are judged rightly (:func:`_surest`)."""

MAX_FLIPPED = 1
"""Of the calls tried with one phrase: one may have stood at the threshold anyway."""

Judge = Callable[[Sequence[Call]], Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Canary:
    """A phrase; ``name`` is printed in its place, for it may be what a caller said."""

    name: str
    text: str
    language: str


def canaries(new: Sequence[Call], known: Mapping[str, str]) -> list[Canary]:
    """Harmless phrases, and those that at least :data:`MIN_CALLS` new genuine calls share which nothing known holds.

    Args:
        new: new training calls.
        known: id -> words of old calls.
    """
    languages = sorted({call.language for call in new})
    found = [
        Canary(f"harmless {lg} {i}", text, lg) for lg in languages for i, text in enumerate(HARMLESS.get(lg, ()), 1)
    ]
    genuine = [call for call in new if not call.is_scam]
    counts: Counter[tuple[str, str]] = Counter()
    for call in genuine:
        its = shingles(normalise(" ".join(p.text for p in call.pieces if p.leg == "far")))
        counts.update((call.language, shingle) for shingle in its)
    common = {key: n for key, n in counts.items() if n >= MIN_CALLS}
    held = {shingle for text in known.values() for shingle in shingles(normalise(text))} if common else set()
    learnt = sorted((key for key in common if key[1] not in held), key=lambda key: (-common[key], key))
    kept: list[tuple[str, str]] = []
    for language, shingle in learnt:
        words = set(shingle.split()) or {shingle}
        if all(len(words & set(other.split())) <= len(words) // 2 for _, other in kept):
            kept.append((language, shingle))
        if len(kept) == MAX_LEARNT:
            break
    return found + [Canary(f"shared by new genuine calls {i}", text, lg) for i, (lg, text) in enumerate(kept, 1)]


def with_phrase(call: Call, canary: Canary) -> Call:
    """``call`` whose far party says the phrase at the beginning and in the middle."""
    middle = len(call.pieces) // 2
    said = [Piece("far", canary.text, call.pieces[at].turn) for at in (0, middle)]
    pieces = (said[0], *call.pieces[:middle], said[1], *call.pieces[middle:])
    return replace(call, pieces=pieces, id=f"{call.id}+{canary.name}")


def canary_gate(
    phrases: Sequence[Canary],
    gold: Sequence[Call],
    judged: Sequence[Outcome],
    champion: Judge,
    candidate: Judge,
) -> Gate:
    """Whether any phrase flips decisions of the candidate that it does not flip of the champion.

    Args:
        phrases: what is said.
        gold: calls, and ``judged`` the candidate's outcomes of them.
        judged: see there.
        champion: judges calls by the champion.
        candidate: likewise by the candidate.
    """
    right = {o.id for o in judged if o.is_scam == bool(o.alarms)}
    scam = _surest((o for o in judged if o.id in right and o.is_scam), lambda o: -o.risk)
    genuine = _surest((o for o in judged if o.id in right and not o.is_scam), lambda o: o.risk)
    by_id = {call.id: call for call in gold}
    bad: list[str] = []
    num_tried = 0
    for canary in phrases:
        ids = [call_id for call_id in (*scam, *genuine) if by_id[call_id].language == canary.language]
        tried = [with_phrase(by_id[call_id], canary) for call_id in ids]
        num_tried += len(tried)
        flipped = [_flips(candidate(tried)), 0]
        if flipped[0] > MAX_FLIPPED:
            flipped[1] = _flips(champion(tried))
            if flipped[0] - flipped[1] > MAX_FLIPPED:
                bad.append(f"phrase '{canary.name}' flips {flipped[0]} of {len(tried)} (champion {flipped[1]})")
    if bad:
        return Gate("canary phrases", False, "; ".join(bad) + ": look for poisoned calls among the new ones")
    if not num_tried:
        spoken = ", ".join(sorted({canary.language for canary in phrases})) or "the language of the new calls"
        found = (
            f"nothing was tried: no phrase, or no gold call that is judged rightly, in {spoken}; give gold calls in it"
        )
        return Gate("canary phrases", False, found)
    return Gate("canary phrases", True, f"{len(phrases)} phrases in {num_tried} calls flip no decision")


def _surest(outcomes: Iterable[Outcome], doubt: Callable[[Outcome], float]) -> list[str]:
    """Ids of those with least doubt: a trigger that works at all works on these; a marginal call flips by chance."""
    ranked = sorted(outcomes, key=doubt)
    return [outcome.id for outcome in ranked[: min(CALLS_PER_LABEL, (len(ranked) + 1) // 2)]]


def _flips(outcomes: Sequence[Outcome]) -> int:
    return sum(o.is_scam != bool(o.alarms) for o in outcomes)
