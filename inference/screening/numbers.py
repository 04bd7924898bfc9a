"""Numbers as signalled -> numbers of the plan: E.164, or what else they are (libphonenumber holds the plans)."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import phonenumbers
from phonenumbers import PhoneNumberFormat, ValidationResult

NumberKind = Literal["valid", "unallocated", "impossible", "short", "emergency", "withheld", "malformed"]

MAX_NUMBER_CHARACTERS = 64
"""A longer one is no number: E.164 has 15 digits, a SIP user part with parameters a few dozen characters."""

_WITHHELD = {"", "anonymous", "unavailable", "restricted", "unknown", "private", "withheld", "coverage"}
_DIALLED = re.compile(r"^\+?[0-9*#\-. ()/]+$")
_SCHEME = re.compile(r"^(?:tel|sips?):", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Number:
    """One party's number.

    Attributes:
        kind: ``valid``: a range of the plan holds it. ``unallocated``: right length, but no range does.
            ``impossible``: too long or too short for the plan. ``short``: a short code of the country (a bank's 95588).
            ``emergency``, ``withheld``, ``malformed``: as named.
        e164: digits without ``+``; None unless valid, unallocated or impossible.
        digits: what was dialled, digits only: short and emergency numbers keep theirs.
        country: ISO 3166 region of the plan, e.g. ``CN``; None where the plan is of no single country.
    """

    kind: NumberKind
    e164: str | None = None
    digits: str = ""
    country: str | None = None

    @property
    def key(self) -> str | None:
        """What windows and lists know it by; None for a withheld or malformed one."""
        return self.e164 or (self.digits if self.kind in ("short", "emergency") else None)


WITHHELD = Number("withheld")
MALFORMED = Number("malformed")


@lru_cache(maxsize=65_536)
def parse_number(text: str | None, region: str) -> Number:
    """What a signalled number is.

    Args:
        text: E.164 with or without ``+``/``00``, national, ``tel:``/``sip:`` URI or its user part; None where withheld.
        region: ISO 3166 region of the operator, for national and short numbers.

    Never raises: whatever it is not, it is ``malformed``. Digits of other scripts (Arabic, full width …) are refused
    where signalling may not carry them: a number that only looks like the bank's must not become the bank's.
    """
    user = user_part(text)
    if user is None or user.lower() in _WITHHELD:
        return WITHHELD
    if not _DIALLED.match(user) or len(user) > MAX_NUMBER_CHARACTERS:
        return MALFORMED
    digits = re.sub(r"[^0-9]", "", user)
    if not digits:
        return MALFORMED
    if not user.startswith("+") and phonenumbers.is_emergency_number(digits, region):
        return Number("emergency", digits=digits, country=region)
    try:
        parsed = phonenumbers.parse(user, region)
    except phonenumbers.NumberParseException:
        return MALFORMED
    country = phonenumbers.region_code_for_number(parsed) or _only_country(parsed.country_code or 0)
    e164 = phonenumbers.format_number(parsed, PhoneNumberFormat.E164)[1:]
    if phonenumbers.is_valid_number(parsed):
        return Number("valid", e164, digits, country)
    if not user.startswith("+") and _is_short(digits, region):
        return Number("short", digits=digits, country=region)
    possible = phonenumbers.is_possible_number_with_reason(parsed)
    is_possible = possible in (ValidationResult.IS_POSSIBLE, ValidationResult.IS_POSSIBLE_LOCAL_ONLY)
    return Number("unallocated" if is_possible else "impossible", e164, digits, country)


def _only_country(calling_code: int) -> str | None:
    region = phonenumbers.region_code_for_country_code(calling_code)
    return None if region in ("001", "ZZ") else region


def _is_short(digits: str, region: str) -> bool:
    try:
        short = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.is_possible_short_number_for_region(short, region)) and len(digits) <= 6


def user_part(text: str | None) -> str | None:
    """The number inside a ``tel:`` or ``sip:`` URI, or ``text`` itself; None for None. Bounded, without parameters."""
    if text is None:
        return None
    bounded = text[: 4 * MAX_NUMBER_CHARACTERS].strip().strip("<>")
    user = re.split(r"[;@?]", _SCHEME.sub("", bounded), maxsplit=1)[0].strip()
    return "".join(c for c in user if unicodedata.category(c) not in ("Cf", "Cc"))


def has_plan(region: str) -> bool:
    """Whether a region's numbering plan is known; without one every national number would look malformed."""
    return region in phonenumbers.SUPPORTED_REGIONS
