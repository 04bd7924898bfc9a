"""Which side each call of a delivery is on: read again as an earlier one, it is dealt the same.

What must not stand on two sides is one group: near copies of one another, a pair, one caller, and a campaign that is
one of several. A delivery usually is one new campaign: what is to be measured then is how its further calls are
recognised, so a campaign that would not fit on the side of test is dealt by its calls. A group that is
paired with a script that is known goes to the side of that one, wherever others would go.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from training.data.shingles import NearCopy, near_copies
from training.evaluation.labelled import LabelledText
from training.intent.data import HELD_OUT_PREFIX, Call
from training.intent.sources import Sources
from training.scripts import Split, load_scripts

ALIKE = 0.6
"""Share of the words from which a call is a near copy: it teaches nothing, and measures nothing on the other side."""

FIFTHS: dict[Split, int] = {"train": 4, "test": 1}
"""How many of five calls of a label a side gets; where both are equally short, the first gets it. None is for
development: nothing is chosen by new calls."""

LABELS = ("scam", "genuine")

ANY_SIDE: Mapping[str, Split] = MappingProxyType({})
"""Where no script is known that a call could be paired with."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """A delivery with its sides.

    Attributes:
        sides: id -> side.
        groups: id -> name of its group.
        left_out: id -> why, of near copies of an earlier call of the delivery, and of groups that are paired with known
            scripts of two sides; they have no side.
    """

    sides: dict[str, Split]
    groups: dict[str, str]
    left_out: dict[str, str]

    def call(self, labelled: LabelledText) -> Call:
        """A call of the delivery on its side."""
        return replace(labelled.to_call(self.sides[labelled.id]), group=self.groups[labelled.id])


def known_sides(sources: Sources) -> dict[str, Split]:
    """Id or pair -> side, of every script that is known, in any language; what is held out stands with the test."""
    scripts = [*load_scripts(sources.scripts), *load_scripts(sources.rewritten)]
    sides: dict[str, Split] = {s.id: "test" if s.id.startswith(HELD_OUT_PREFIX) else s.split for s in scripts}
    return {s.pair: s.split for s in scripts if s.pair is not None} | sides


def deal(labelled: Sequence[LabelledText], known: Mapping[str, Split] = ANY_SIDE) -> Dealt:
    """Leave out near copies, and give four fifths of each label to train and one to test, as groups allow.

    Groups go to the side that is shortest of its share, large ones first, then in order of a stable hash: the hash
    alone (:func:`training.intent.data.split_of`) would leave some deliveries of twenty without a test call.

    Args:
        labelled: the delivery.
        known: :func:`known_sides`; a group of which a call is named so, or paired so, has no choice.
    """
    copies = near_copies({call.id: call.words for call in labelled}, ALIKE)
    left_out: dict[str, str] = {}
    for pair in copies:
        left_out.setdefault(pair.second, f"{pair.similarity:.0%} the words of {pair.first}")
    kept = [call for call in labelled if call.id not in left_out]
    groups = _groups(kept, copies)
    members: dict[str, list[LabelledText]] = defaultdict(list)
    bound: dict[str, set[Split]] = defaultdict(set)
    for call in kept:
        members[groups[call.id]].append(call)
    for call in labelled:  # a copy that is left out says where its words stand, too
        bound[groups[call.id]] |= {known[name] for name in known.keys() & {call.id, call.pair}}
    for name in [name for name, sides in bound.items() if len(sides) > 1]:
        left_out |= {call.id: "stands with known scripts of two sides" for call in members.pop(name)}
    side_of: dict[str, Split] = {name: min(bound[name]) for name in members if bound[name]}
    for label in LABELS:
        sizes = {name: sum(call.label == label for call in its) for name, its in members.items()}
        have = Counter({side: sum(sizes[name] for name, its in side_of.items() if its == side) for side in FIFTHS})
        for name in sorted(sizes.keys() - side_of.keys(), key=lambda name: (-sizes[name], _stable(name))):
            if sizes[name]:
                total = have.total() + sizes[name]
                side_of[name] = max(FIFTHS, key=lambda side: FIFTHS[side] * total - sum(FIFTHS.values()) * have[side])
                have[side_of[name]] += sizes[name]
    return Dealt({call.id: side_of[name] for name, its in members.items() for call in its}, groups, left_out)


def _groups(kept: Sequence[LabelledText], copies: Sequence[NearCopy]) -> dict[str, str]:
    """Id of a call, one of ``kept`` or a copy -> smallest id of its group that is kept."""
    above: dict[str, str] = {}

    def root(key: str) -> str:
        while (its := above.setdefault(key, key)) != key:
            above[key] = key = above[its]
        return key

    small = _small_campaigns(kept)
    ties = [(f"call {pair.first}", f"call {pair.second}") for pair in copies]
    for call in kept:
        own = f"call {call.id}"
        ties += [(own, f"call {call.pair}")] if call.pair is not None else []
        ties += [(own, f"caller {call.caller_hash}")] if call.caller_hash is not None else []
        ties += [(own, f"campaign {call.campaign}")] if call.campaign in small else []
    for one, other in ties:
        above[root(one)] = root(other)
    named: dict[str, str] = {}
    for call_id in sorted(call.id for call in kept):
        named.setdefault(root(f"call {call_id}"), call_id)
    ids = [*(call.id for call in kept), *(pair.second for pair in copies)]
    return {call_id: named[root(f"call {call_id}")] for call_id in ids}


def _small_campaigns(kept: Sequence[LabelledText]) -> set[str]:
    """Those that fit on the side of test, in either label."""
    calls = Counter(call.label for call in kept)
    its = Counter((call.campaign, call.label) for call in kept if call.campaign is not None)
    large = {campaign for (campaign, label), number in its.items() if number * sum(FIFTHS.values()) > calls[label]}
    return {campaign for campaign, _ in its if campaign is not None} - large


def _stable(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
