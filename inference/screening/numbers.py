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

ALWAYS_EMERGENCY = frozenset({"112", "911"})
"""Phones set these up as emergency calls wherever they are (3GPP TS 22.101 section 10.1)."""

MAX_EMERGENCY_DIGITS = 6

REMEMBERED = 4096
"""Numbers that were just read: busy callers, bombed callees. More would be work for the garbage collector."""

_SERVICE = re.compile(r"^(?:sips?:)?urn:service:sos(?:\.|$)", re.IGNORECASE)
"""RFC 5031: what an emergency call is addressed to before its centre is known."""

_WITHHELD = {"", "anonymous", "unavailable", "restricted", "unknown", "private", "withheld", "coverage"}
_DIALLED = re.compile(r"^\+?[0-9*#\-. ()/]+$")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
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


@lru_cache(REMEMBERED)
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
    parsed, e164 = _read_e164(user), digits
    if parsed is None:
        try:
            parsed = phonenumbers.parse(user, region)
        except phonenumbers.NumberParseException:
            return MALFORMED
        e164 = phonenumbers.format_number(parsed, PhoneNumberFormat.E164)[1:]
    of_plan = phonenumbers.region_code_for_number(parsed)
    country = of_plan if of_plan not in (None, "001") else _only_country(parsed.country_code or 0)
    if of_plan is not None and phonenumbers.is_valid_number_for_region(parsed, of_plan):
        return Number("valid", e164, digits, country)
    if not user.startswith("+") and _is_short(digits, region):
        return Number("short", digits=digits, country=region)
    possible = phonenumbers.is_possible_number_with_reason(parsed)
    is_possible = possible in (ValidationResult.IS_POSSIBLE, ValidationResult.IS_POSSIBLE_LOCAL_ONLY)
    return Number("unallocated" if is_possible else "impossible", e164, digits, country)


@lru_cache(REMEMBERED)
def parse_dialled(text: str, region: str) -> Number:
    """What was dialled: as :func:`parse_number`, and an emergency number in whatever dress it comes.

    A phone abroad, a switch that normalises, an IMS core: ``112`` and ``911`` anywhere, ``+44999``, ``urn:service:sos``
    are calls for help. Of a caller that is not believed: there ``parse_number`` reads.
    """
    if _SERVICE.match(text.strip().strip("<>")):
        return Number("emergency", digits="112", country=region)
    number = parse_number(text, region)
    user = user_part(text) or ""
    if number.kind in ("valid", "withheld", "emergency") or not _DIALLED.match(user):
        return number
    digits = number.e164 or re.sub(r"[^0-9]", "", user)
    for skip in range(4):  # behind no country code, or one of one to three digits
        regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(digits[:skip] or "0"), ()) if skip else (region,)
        short = digits[skip:]
        if 0 < len(short) <= MAX_EMERGENCY_DIGITS and any(
            short in ALWAYS_EMERGENCY or phonenumbers.is_emergency_number(short, r) for r in regions
        ):
            return Number("emergency", digits=short, country=regions[0])
    return number


def _read_e164(user: str) -> phonenumbers.PhoneNumber | None:
    """What ``phonenumbers.parse`` makes of ``+`` and plain digits, at a tenth of its cost; None where it must look."""
    if not _E164.fullmatch(user):
        return None
    for size in (1, 2, 3):  # no country code begins another one
        code, national = int(user[1 : 1 + size]), user[1 + size :]
        if code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            # A zero may be significant, and what looks like a national prefix may be one.
            if national[0] == "0" or _looks_prefixed(code, national):
                return None
            return phonenumbers.PhoneNumber(country_code=code, national_number=int(national))
    return None


def _looks_prefixed(code: int, national: str) -> bool:
    prefix = _national_prefix(code)
    return prefix is not None and prefix.match(national) is not None


@lru_cache(maxsize=1024)
def _national_prefix(code: int) -> "re.Pattern[str] | None":
    """How numbers begin that were dialled within a country, and must not be signalled so."""
    main = phonenumbers.region_code_for_country_code(code)
    plan = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, main)
    prefix = None if plan is None else plan.national_prefix_for_parsing
    return None if not prefix else re.compile(prefix)


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
    if _E164.fullmatch(text):
        return text
    bounded = text[: 4 * MAX_NUMBER_CHARACTERS].strip().strip("<>")
    user = re.split(r"[;@?]", _SCHEME.sub("", bounded), maxsplit=1)[0].strip()
    return "".join(c for c in user if unicodedata.category(c) not in ("Cf", "Cc"))


def read_plan(region: str) -> None:
    """Load a region's numbering plan now: the first call would wait for it some hundredths of a second."""
    example = phonenumbers.example_number(region)
    if example is not None:
        parse_number(phonenumbers.format_number(example, PhoneNumberFormat.E164), region)
        parse_dialled(phonenumbers.national_significant_number(example), region)


def has_plan(region: str) -> bool:
    """Whether a region's numbering plan is known; without one every national number would look malformed."""
    return region in phonenumbers.SUPPORTED_REGIONS
