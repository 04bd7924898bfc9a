"""Train, dev, test: no caller, campaign, script or voice stands on two sides.

Calls that share any of these are one group, and groups are dealt out whole, by a stable hash of the group's smallest
key: the same calls always land on the same side. What shares too much (a handful of voices read everything) would make
one group of all calls; such a key can be *cut* instead: its values are dealt out first, and a call whose values do not
all fall on the side of its group is left out of all three, and told.

Two things have their side already: a script of ours (``Script.split``: the intent models have read it as text, or not),
and a synthetic voice (:mod:`training.voice.voices`). A recording of a script stands where that does, or is left out.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from inference.errors import ConfigError
from training.manifest import RecordedCall, Split
from training.scripts import load_scripts, split_of_name
from training.voice.voices import ESPEAK_VARIANTS, MANDARIN, RESERVED, VOICES

KEYS = ("caller", "campaign", "script", "voice")
SHARES: dict[Split, float] = {"train": 0.70, "dev": 0.15, "test": 0.15}
SPLITS: tuple[Split, ...] = get_args(Split)

MAX_GROUP_SHARE = 0.5
"""A group larger than this share of all calls leaves nothing to measure on."""


REWRITTEN = "-rewritten-"
"""In the id of a script that tells another one anew, after that one's id."""

_SIDE_OF_VOICE: dict[str, Split] = {
    **{name: split for its in (VOICES, MANDARIN, ESPEAK_VARIANTS) for split, names in its.items() for name in names},
    **dict.fromkeys(RESERVED, "test"),
}


def voice_side(voice: str) -> Split | None:
    """The side that a synthetic voice is kept to (espeak's by its variant); None for a voice that is none of ours."""
    return _SIDE_OF_VOICE.get(voice.partition("+")[2].partition("@")[0] or voice)


def with_script_sides(calls: Sequence[RecordedCall], folder: Path) -> list[RecordedCall]:
    """The calls with ``script_split``: where the script that was read stands for the intent models.

    A script that is not under ``folder`` keeps what its call says of it, if anything.

    Raises:
        ConfigError: calls name scripts, and there are none in ``folder``, or they have faults.
    """
    if all(call.script is None for call in calls):
        return list(calls)
    sides = {script.id: script.split for script in load_scripts(folder)}
    if not sides:
        raise ConfigError(
            f"--scripts {folder}: no call scripts there (*.yaml); give the folder of those that were read"
        )

    def side(call: RecordedCall) -> Split | None:
        name, is_rewritten, _ = (call.script or "").partition(REWRITTEN)
        return split_of_name(name) if is_rewritten else sides.get(name, call.script_split)

    return [call.model_copy(update={"script_split": side(call)}) for call in calls]


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
    """Calls with their sides, in the order given, and why others were left out, by id."""

    calls: list[RecordedCall]
    left_out: dict[str, str]


def deal(calls: Sequence[RecordedCall], cut: Iterable[str] = ()) -> Dealt:
    """Give every call its side.

    A group's side is that on which most of its calls can stay, by their scripts and the values that were cut; without
    any, its own hash.

    Args:
        calls: of one manifest, with the sides of their scripts (:func:`with_script_sides`).
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
    left_out: dict[str, str] = {}
    for name, members in groups.items():
        fixed = {call.id: _fixed_sides(call, cut) for call in members}
        fits = {split: sum(set(its.values()) <= {split} for its in fixed.values()) for split in SPLITS}
        side = max(SPLITS, key=lambda split: (fits[split], split == side_of(name)))
        for call in members:
            if set(fixed[call.id].values()) <= {side}:
                kept[call.id] = call.model_copy(update={"split": side})
            else:
                stands = ", ".join(f"{what.partition(':')[0]} on {its}" for what, its in fixed[call.id].items())
                left_out[call.id] = f"{stands}, the calls it is tied to on {side}"
    return Dealt([kept[c.id] for c in calls if c.id in kept], {c.id: left_out[c.id] for c in calls if c.id in left_out})


def _fixed_sides(call: RecordedCall, cut: Iterable[str]) -> dict[str, Split]:
    """Key and value -> side, of all that does not ask on which side the call's group stands."""
    script: dict[str, Split] = {} if call.script_split is None else {f"script:{call.script}": call.script_split}
    return {value: _side_of_value(value) for value in _values(call, cut)} | script


def _side_of_value(value: str) -> Split:
    key, _, name = value.partition(":")
    return (voice_side(name) if key == "voice" else None) or side_of(value)


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
    # Where the scripts of all its calls stand on one side already, a large group hides nothing: that side is as large.
    loose = [its for its in groups.values() if len({c.script_split for c in its}) > 1 or its[0].script_split is None]
    largest = max(map(len, loose), default=0)
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
