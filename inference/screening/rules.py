"""The policy: what is done with a call attempt, from the strongest ground to the weakest. The page to read first.

    who may never be blocked ─► lists ─► spoofed ranges ─► call bombing ─► numbering plan ─► risk of the number ─► allow

Each ground has a code; a decision names all that spoke, the weightiest first. Rules are plain functions of what is
known; nothing here waits, and what cannot be known (the store is away) speaks for the call.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inference.screening.attempt import ACTIONS, Action, Trunk
from inference.screening.lists import Hit
from inference.screening.numbers import Number, has_plan
from inference.screening.passport import PassportCheck
from inference.screening.store import DEFAULT_PREFERENCES, CalleeWindow, CallerWindow, Preferences

RULES_VERSION = "2"
"""Raised with every change of meaning below; a decision carries it, with the digest of the configuration."""

UNATTESTED_HEARD_CAP = 2.0
"""What was heard counts no further for a number that nobody vouches for: a spoofer may have borrowed it."""

MIN_HEARD_CALLEES = 1.5
"""One callee's call heard as a scam moves nothing by itself: two must have been, a while apart or not."""

SPOOFED = frozenset(("SPOOFED_OWN_RANGE", "DO_NOT_ORIGINATE", "SPOOFED_EMERGENCY"))
"""The number shown is not the caller's: what is known of the number's owner speaks for nobody."""

Digits = tuple[str, ...]


class RulesConfig(BaseModel):
    """What an operator decides.

    Attributes:
        region: ISO 3166 region of the operator: how national numbers are read.
        own_ranges: prefixes (digits, E.164) of our subscribers that do not roam: from abroad they are spoofed.
        roaming_ranges: prefixes of ours that may call from abroad: there they are prompted, not rejected.
        emergency_callers: further numbers of emergency services that call back, digits as signalled or E.164.
        withheld, unallocated, spoofed, shielded: what is done with each.
        heard_prompt_from, heard_challenge_from: callees whose calls listening heard as scams, faded with time, from
            which a number is prompted and challenged; the latter only where the number was vouched for.
        prompt_from, challenge_from, reject_from: risk from which each begins; None never. Rejecting by the model alone
            is off: a number can be spoofed, and its owner would be cut off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: str = Field(default="GB", pattern=r"^[A-Z]{2}$")
    own_ranges: Digits = ()
    roaming_ranges: Digits = ()
    emergency_callers: Digits = ()
    withheld: Literal["allow", "prompt", "challenge"] = "allow"
    unallocated: Literal["allow", "prompt", "challenge", "reject"] = "challenge"
    spoofed: Literal["prompt", "challenge", "reject"] = "reject"
    shielded: Literal["challenge", "reject"] = "challenge"
    heard_prompt_from: float = Field(default=1.5, ge=1)
    heard_challenge_from: float = Field(default=4.0, ge=2)
    prompt_from: float | None = Field(default=0.5, gt=0, le=1)
    challenge_from: float | None = Field(default=0.9, gt=0, le=1)
    reject_from: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> "RulesConfig":
        steps = [step for step in (self.prompt_from, self.challenge_from, self.reject_from) if step is not None]
        if steps != sorted(steps):
            raise ValueError("prompt_from, challenge_from and reject_from must rise in this order")
        if bad := [
            p
            for p in (*self.own_ranges, *self.roaming_ranges, *self.emergency_callers)
            if not re.fullmatch("[0-9]+", p)
        ]:
            raise ValueError(f"{bad[0]!r} is no prefix: want digits, E.164 without +")
        if not has_plan(self.region):
            raise ValueError(f"region {self.region!r} has no numbering plan: want ISO 3166, e.g. CN or GB (not UK)")
        return self


class RiskModel(Protocol):
    """Scores a caller; see :mod:`inference.screening.score`."""

    version: str

    def risk(self, known: "Known") -> tuple[float, Mapping[str, float]]:
        """Probability that the call is unwanted, and each feature's share of its log-odds."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of an attempt when it is decided.

    Attributes:
        caller, callee: the parties' numbers.
        trunk: where it came in; None for unknown.
        passport: what was vouched for.
        hits: lists that the caller is on, the most particular first.
        caller_window, callee_window: what the store remembers; None while it is away.
        is_contact: of the callee, or expected to call back.
        is_callback_window: the callee called an emergency number a short while ago.
        is_attacked: the callee is under a call-bombing attack, or asked to be shielded.
        wants: the callee's preferences.
        at_s: when, seconds since the epoch.
    """

    caller: Number
    callee: Number
    trunk: Trunk | None
    passport: PassportCheck
    hits: Sequence[Hit] = ()
    caller_window: CallerWindow | None = None
    callee_window: CalleeWindow | None = None
    is_contact: bool = False
    is_callback_window: bool = False
    is_attacked: bool = False
    wants: Preferences = DEFAULT_PREFERENCES
    at_s: float | None = None

    def hit(self, kind: str) -> Hit | None:
        """The most particular match on a list of that kind."""
        return next((hit for hit in self.hits if hit.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say: an action, its grounds, what it is about, and the model's part in it.

    Attributes:
        category: of the label; None where nothing is to be shown.
        source: of the category: ``listening``, ``subscribers``, ``numbering``, ``list:<name>``, ``behaviour``.
        matched: list entries that spoke, for or against.
    """

    action: Action
    reasons: tuple[str, ...]
    category: str | None = None
    source: str | None = None
    risk: float | None = None
    contributions: Mapping[str, float] | None = None
    matched: tuple[Hit, ...] = ()


def rule(known: Known, config: RulesConfig, model: RiskModel | None) -> Ruling:
    """Decide one attempt. A pure function; every ground is in :func:`_never_blocked` and the rules after it."""
    if (code := _never_blocked(known, config)) is not None:
        return Ruling("allow", (code,), matched=_vouching(known) if code == "ALLOW_ATTESTED" else ())
    found = [ruling for ruling in (_by_list(known), _spoofed(known, config), _bombed(known, config)) if ruling]
    weaker = (_by_plan(known, config), _by_heard(known, config), _by_risk(known, config, model))
    found += [ruling for ruling in weaker if ruling]
    if known.passport.state not in ("valid", "none", "no_certificate"):
        found.append(Ruling("allow", (f"PASSPORT_{known.passport.state.upper()}",)))  # a signal, not a verdict
    if not found:
        return Ruling("allow", ("DEFAULT",))
    found.sort(key=lambda ruling: -ACTIONS.index(ruling.action))
    reasons = tuple(code for ruling in found for code in ruling.reasons)
    matched = tuple(hit for ruling in found for hit in ruling.matched)
    is_spoofed = not SPOOFED.isdisjoint(reasons)
    if known.is_contact and is_spoofed:
        # A relative's number from abroad is how the relative in trouble calls: let through, and said.
        return Ruling("prompt", ("CONTACT_SPOOFED", *reasons), "spoofed", "numbering", matched=matched)
    if known.is_contact:
        return Ruling("allow", ("CONTACT", *reasons), matched=matched)
    if not is_spoofed and _is_trusted_list(known):
        return Ruling("allow", ("ALLOW_LISTED", *reasons), matched=(*_vouching(known), *matched))
    scored = next((r for r in found if r.risk is not None), None)
    return Ruling(
        found[0].action,
        reasons or ("DEFAULT",),
        next((r.category for r in found if r.category is not None), None),
        next((r.source for r in found if r.category is not None), None),
        scored.risk if scored is not None else None,
        scored.contributions if scored is not None else None,
        matched,
    )


def _never_blocked(known: Known, config: RulesConfig) -> str | None:
    """Emergency calls, calls back after one, and vouched-for numbers that are allowed."""
    if known.callee.kind == "emergency":
        return "EMERGENCY_CALLEE"
    if known.is_callback_window:
        return "EMERGENCY_CALLBACK"
    is_emergency_service = _is_emergency_service(known.caller, config)
    # From abroad a police number is the oldest trick there is; it is not let through on its name alone.
    if is_emergency_service and known.trunk != "international":
        return "EMERGENCY_CALLER"
    is_attested = known.passport.state == "valid" and known.passport.attestation == "A"
    if is_attested and (known.hit("allow") is not None or known.hit("business") is not None):
        return "ALLOW_ATTESTED"
    return None


def _vouching(known: Known) -> tuple[Hit, ...]:
    found = known.hit("allow") or known.hit("business")
    return () if found is None else (found,)


def _is_emergency_service(caller: Number, config: RulesConfig) -> bool:
    named = config.emergency_callers
    return caller.kind == "emergency" or caller.digits in named or caller.e164 in named


def _is_trusted_list(known: Known) -> bool:
    """An allow entry without attestation holds against behaviour, not against a more particular denial."""
    allow, deny = known.hit("allow"), known.hit("deny")
    if allow is None:
        return False
    return deny is None or (allow.num_digits, allow.is_exact) >= (deny.num_digits, deny.is_exact)


def _by_list(known: Known) -> Ruling | None:
    if (never := known.hit("do_not_originate")) is not None:
        return Ruling("reject", ("DO_NOT_ORIGINATE",), "spoofed", f"list:{never.list_name}", matched=(never,))
    if (denied := known.hit("deny")) is not None:
        return Ruling("reject", ("DENY_LISTED",), denied.category, f"list:{denied.list_name}", matched=(denied,))
    return None


def _spoofed(known: Known, config: RulesConfig) -> Ruling | None:
    if known.trunk != "international":
        return None
    if _is_emergency_service(known.caller, config):
        return Ruling("prompt", ("SPOOFED_EMERGENCY",), "spoofed", "numbering")
    number = known.caller.e164 or ""
    if number and number.startswith(config.own_ranges):
        return Ruling(config.spoofed, ("SPOOFED_OWN_RANGE",), "spoofed", "numbering")
    if number and number.startswith(config.roaming_ranges):
        return Ruling("prompt", ("OWN_RANGE_FROM_ABROAD",), "spoofed", "numbering")
    return None


def _bombed(known: Known, config: RulesConfig) -> Ruling | None:
    return Ruling(config.shielded, ("CALL_BOMBING",)) if known.is_attacked else None


def _by_plan(known: Known, config: RulesConfig) -> Ruling | None:
    kind = known.caller.kind
    if kind in ("impossible", "malformed"):
        return Ruling(config.unallocated, (f"NUMBER_{kind.upper()}",), "spoofed", "numbering")
    if kind == "unallocated":
        return Ruling(config.unallocated, ("NUMBER_UNALLOCATED",), "spoofed", "numbering")
    if kind == "withheld" and config.withheld != "allow":
        return Ruling(config.withheld, ("NUMBER_WITHHELD",))
    return None


def heard(window: CallerWindow) -> float:
    """Callees whose calls were heard as scams, less those who said it was none; capped where nobody vouches."""
    total = window.heard_danger + 0.3 * window.heard_suspect - window.not_a_scam
    if total < MIN_HEARD_CALLEES:
        return 0.0
    return total if window.heard_attested >= 1 else min(total, UNATTESTED_HEARD_CAP)


def _by_heard(known: Known, config: RulesConfig) -> Ruling | None:
    if known.caller_window is None:
        return None
    callees = heard(known.caller_window)
    if callees >= config.heard_challenge_from and known.caller_window.heard_attested >= 1:
        return Ruling("challenge", ("HEARD",), "suspected_fraud", "listening")
    if callees >= config.heard_prompt_from:
        return Ruling("prompt", ("HEARD",), "suspected_fraud", "listening")
    return None


def _by_risk(known: Known, config: RulesConfig, model: RiskModel | None) -> Ruling | None:
    if model is None or known.caller_window is None or known.caller.key is None:
        return None
    risk, contributions = model.risk(known)
    action: Action = "allow"
    for step, name in (
        (config.prompt_from, "prompt"),
        (config.challenge_from, "challenge"),
        (config.reject_from, "reject"),
    ):
        if step is not None and risk >= step:
            action = name  # type: ignore[assignment]
    if action == "allow":
        return Ruling("allow", (), risk=risk, contributions=contributions)
    window = known.caller_window
    heard = window.heard_danger + window.heard_suspect
    source = "listening" if heard >= 1 else "subscribers" if window.complaints >= 1 else "behaviour"
    weightiest = max(contributions, key=lambda name: contributions[name], default="")
    code = f"RISK_{weightiest.upper()}" if weightiest else "RISK"
    return Ruling(action, (code,), "suspected_fraud", source, risk, contributions)
