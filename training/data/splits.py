"""Train, dev, test: no caller, campaign, script or voice stands on two sides.

Calls that share any of these are one group, and groups are dealt out whole, by a stable hash of the group's smallest
key: the same calls always land on the same side. What shares too much (a handful of voices read everything) would make
one group of all calls; such a key can be *cut* instead: its values are dealt out first, and a call whose values do not
all fall on the side of its group is left out of all three, and counted.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from inference.errors import ConfigError
from training.manifest import RecordedCall, Split

KEYS = ("caller", "campaign", "script", "voice")
SHARES: dict[Split, float] = {"train": 0.70, "dev": 0.15, "test": 0.15}
SPLITS: tuple[Split, ...] = get_args(Split)

MAX_GROUP_SHARE = 0.5
"""A group larger than this share of all calls leaves nothing to measure on."""


def keys_of(call: RecordedCall) -> dict[str, tuple[str, ...]]:
    """What ties a call to others, by key."""
    return {
        "caller": (call.caller_hash,) if call.caller_hash is not None else (),
        "campaign": (call.campaign,) if call.campaign is not None else (),
        "script": (call.script,) if call.script is not None else (),
        "voice": call.voices,
    }


def side_of(name: str) -> Split:
    """The side of a name by a stable hash, in the proportion of :data:`SHARES`."""
    at = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    for split in SPLITS:
        at -= SHARES[split]
        if at < 0:
            return split
    return SPLITS[-1]


@dataclass(frozen=True, slots=True)
class Dealt:
    """Calls with their sides, in the order given, and ids of those left out."""

    calls: list[RecordedCall]
    left_out: list[str]


def deal(calls: Sequence[RecordedCall], cut: Iterable[str] = ()) -> Dealt:
    """Give every call its side.

    A group's side is that on which most of its calls can stay, by the values that were cut; without any, its own hash.

    Args:
        calls: of one manifest.
        cut: keys of :data:`KEYS` that are dealt by value instead of tying groups together.

    Raises:
        ConfigError: a key is unknown, or the keys tie nearly everything into one group; says which, and the remedy.
    """
    cut = frozenset(cut)
    if unknown := cut - set(KEYS):
        raise ConfigError(f"--cut {min(unknown)}: no such key; there are {', '.join(KEYS)}")
    groups = _groups(calls, cut)
    _refuse_one_group(calls, groups, cut)
    kept: dict[str, RecordedCall] = {}
    for name, members in groups.items():
        sides = {call.id: {side_of(value) for value in _values(call, cut)} for call in members}
        fits = {split: sum(its <= {split} for its in sides.values()) for split in SPLITS}
        side = max(SPLITS, key=lambda split: (fits[split], split == side_of(name)))
        kept |= {call.id: call.model_copy(update={"split": side}) for call in members if sides[call.id] <= {side}}
    return Dealt([kept[c.id] for c in calls if c.id in kept], [c.id for c in calls if c.id not in kept])


def _values(call: RecordedCall, keys: Iterable[str]) -> list[str]:
    of_call = keys_of(call)
    return [f"{key}:{value}" for key in KEYS if key in keys for value in of_call[key]]


def _groups(calls: Sequence[RecordedCall], cut: frozenset[str]) -> dict[str, list[RecordedCall]]:
    """Calls that share a value of a key that is not cut, directly or through others; named by their smallest value."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.setdefault(name, name)) != name:
            parent[name] = name = parent[above]
        return name

    tying = [key for key in KEYS if key not in cut]
    values = {call.id: _values(call, tying) or [f"call:{call.id}"] for call in calls}
    for names in values.values():
        for name in names[1:]:
            first, second = sorted((root(names[0]), root(name)))
            parent[second] = first
    groups: dict[str, list[RecordedCall]] = defaultdict(list)
    for call in calls:
        groups[root(values[call.id][0])].append(call)
    return dict(groups)


def _refuse_one_group(
    calls: Sequence[RecordedCall], groups: Mapping[str, Sequence[RecordedCall]], cut: frozenset[str]
) -> None:
    largest = max(map(len, groups.values()), default=0)
    if largest <= max(2, MAX_GROUP_SHARE * len(calls)):
        return
    use: Counter[str] = Counter(
        key for call in calls for key, values in keys_of(call).items() if key not in cut for _ in values
    )
    spread = {key: len({v for call in calls for v in keys_of(call)[key]}) for key in use}
    glue = max(use, key=lambda key: use[key] / spread[key])
    raise ConfigError(
        f"{largest} of {len(calls)} calls are tied together, most of all by {glue} ({spread[glue]} of them in all): "
        f"add --cut {glue} to deal those out first (calls that stand between two sides are left out)"
    )
