"""Candidate beside champion, on the same calls: one table, and gates that refuse with a reason."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.evaluation.figures import figures
from training.evaluation.outcome import AlarmLevel, Outcome

MAX_RECALL_LOSS = 0.01
"""Of the old scams, at the shipped thresholds: what is learnt anew may not cost what was known. Of few gold calls one
may be lost: that is chance, however many points it is."""

MAX_ECE_GROWTH, ECE_NOISE = 0.02, 0.2
"""How much larger the calibration error may be: by the first, and by the second over the root of the number of calls,
since the error of few calls is mostly chance."""

Sets = Mapping[str, Sequence[Outcome]]

GOLD, NEW = "gold", "new"


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition.

    Attributes:
        name: of the gate.
        is_passed: whether it holds.
        found: what was measured, for people and for version.json.
    """

    name: str
    is_passed: bool
    found: str

    def line(self) -> str:
        """For the terminal."""
        return f"{'passed' if self.is_passed else 'FAILED'}  {self.name}: {self.found}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison."""

    what: str
    champion: str
    candidate: str


def rows(champion: Sets, candidate: Sets, prior: float) -> list[Row]:
    """The comparison table: gold calls and new ones, then recall of every old family."""
    found: list[Row] = []
    for name in candidate:
        pair = [figures(sets[name], prior) for sets in (champion, candidate)]
        label = f"{name} ({', '.join(pair[0]['what'])}; {pair[0]['num_scam']} scam, {pair[0]['num_genuine']} genuine)"
        found.append(Row(label, "", ""))
        for title, show in _COLUMNS.items():
            cells = [show(values) for values in pair]
            if cells != ["–", "–"]:
                found.append(Row(f"  {title}", *cells))
    for family, (before, after, num) in family_hits(champion[GOLD], candidate[GOLD]).items():
        found.append(Row(f"  {GOLD}, {family}: recall", f"{before}/{num}", f"{after}/{num}"))
    return found


def _share(value: Mapping[str, Any] | None) -> str:
    return "–" if not value else f"{value['hits']}/{value['n']} ({100 * value['share']:.1f} %)"


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


_COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "recall": lambda v: _share(v["recall_suspect"]),
    "recall, danger": lambda v: _share(v["recall_danger"]),
    "before the ask": lambda v: _share(v["earliness"] and v["earliness"]["suspect"]["before_ask"]),
    "median far speech, s": lambda v: _value(v["earliness"] and v["earliness"]["suspect"]["median_far_s"]),
    "false alarms": lambda v: _share(v["false_alarms_suspect"]),
    "false alarms, danger": lambda v: _share(v["false_alarms_danger"]),
    "AUC": lambda v: _value(v["auc"]),
    "ECE": lambda v: _value(v["calibration"] and v["calibration"]["ece"]),
}


def family_hits(champion: Sequence[Outcome], candidate: Sequence[Outcome]) -> dict[str, tuple[int, int, int]]:
    """Scam family -> calls warned of by champion and by candidate, and how many there are."""
    after = {o.id: o for o in candidate}
    found: dict[str, tuple[int, int, int]] = {}
    for outcome in champion:
        if outcome.is_scam and outcome.id in after:
            family = outcome.family or "other"
            a, b, n = found.get(family, (0, 0, 0))
            found[family] = (a + bool(outcome.alarms), b + bool(after[outcome.id].alarms), n + 1)
    return dict(sorted(found.items()))


def gates(champion: Sets, candidate: Sets, prior: float) -> list[Gate]:
    """What a candidate must show before it may be promoted."""
    return [
        _old_recall(champion[GOLD], candidate[GOLD]),
        _each_family(champion[GOLD], candidate[GOLD]),
        _false_alarms(champion, candidate),
        _calibration(champion[GOLD], candidate[GOLD], prior),
        _new_recall(champion[NEW], candidate[NEW]),
    ]


def forgets_nothing(champion: Sequence[Outcome], candidate: Sequence[Outcome]) -> tuple[Gate, ...]:
    """The gates that say whether known calls are judged as before, here on any such calls.

    ``danger`` is not asked for: one genuine call of four hundred that reaches it is chance, and would cost half of what
    was learnt.
    """
    before, after = ({GOLD: outcomes, NEW: ()} for outcomes in (champion, candidate))
    return _old_recall(champion, candidate), _false_alarms(before, after, ("suspect",))


def _recall(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    scam = [o for o in outcomes if o.is_scam]
    return sum(bool(o.alarms) for o in scam), len(scam)


def _old_recall(champion: Sequence[Outcome], candidate: Sequence[Outcome]) -> Gate:
    (before, num), (after, _) = _recall(champion), _recall(candidate)
    is_passed = before - after <= max(1.0, MAX_RECALL_LOSS * num)
    lost = 100 * (before - after) / max(1, num)
    return Gate("old scams", is_passed, f"{after}/{num} against {before}/{num} warned of, {lost:+.1f} points lost")


def _each_family(champion: Sequence[Outcome], candidate: Sequence[Outcome]) -> Gate:
    """With a handful of calls a family one call is chance, however many points it is; two are not."""
    hits = family_hits(champion, candidate)
    worse = {f: (a, b, n) for f, (a, b, n) in hits.items() if a - b >= 2 and (a - b) / n > MAX_RECALL_LOSS}
    if worse:
        found = ", ".join(
            f"{family} {after}/{num} against {before}/{num}" for family, (before, after, num) in worse.items()
        )
        return Gate("each old family", False, found)
    return Gate("each old family", True, f"none of {len(hits)} families lost two calls or more")


def _false_alarms(champion: Sets, candidate: Sets, levels: Sequence[AlarmLevel] = ("suspect", "danger")) -> Gate:
    counts = {}
    for level in levels:
        counts[level] = [
            sum(level in o.alarms for name in (GOLD, NEW) for o in sets[name] if not o.is_scam)
            for sets in (champion, candidate)
        ]
    num = sum(not o.is_scam for name in (GOLD, NEW) for o in candidate[name])
    is_passed = all(after <= before for before, after in counts.values())
    found = ", ".join(f"{after} {level} against {before}" for level, (before, after) in counts.items())
    return Gate("false alarms", is_passed, f"{found} on {num} genuine calls")


def _calibration(champion: Sequence[Outcome], candidate: Sequence[Outcome], prior: float) -> Gate:
    found = [figures(outcomes, prior)["calibration"] for outcomes in (champion, candidate)]
    if any(values is None for values in found):
        return Gate("calibration", False, "the gold calls hold one kind only")
    before, after = (values["ece"] for values in found)
    allowed = MAX_ECE_GROWTH + ECE_NOISE / math.sqrt(len(candidate))
    found_text = f"ECE {after:.3f} against {before:.3f}, at most {allowed:.3f} more allowed on {len(candidate)} calls"
    return Gate("calibration", after <= before + allowed, found_text)


def _new_recall(champion: Sequence[Outcome], candidate: Sequence[Outcome]) -> Gate:
    (before, num), (after, _) = _recall(champion), _recall(candidate)
    if not num:
        found = "there is no further scam call to measure on; give more scam calls, of other callers and in other words"
        return Gate("new scams", False, found)
    return Gate("new scams", after >= before, f"{after}/{num} against {before}/{num} further calls warned of")
