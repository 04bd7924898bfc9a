"""Which participant is the subscriber we protect: by the operator's numbering, else by the configured side."""

import re
from collections.abc import Sequence
from typing import Literal

from inference.errors import SignallingError
from inference.gateway.sip.syntax import SipUri
from inference.gateway.siprec.metadata import Participant

MAX_NUMBER = 128
_SEPARATORS = re.compile(r"[\s\-.()]")
_NUMBER = re.compile(r"\+?[0-9*#]+")


def check_number_pattern(pattern: str) -> None:
    """Whether :class:`Numbering` understands it.

    Raises:
        ValueError: it is a regular expression with a mistake.
    """
    if pattern.startswith("^"):
        try:
            re.compile(pattern)
        except re.error:
            raise ValueError("a regular expression among near_numbers has a mistake") from None


def address_of(aor: str) -> tuple[str, str]:
    """(number or user, host) of an address, the number without its separators; empty where it cannot be read.

    ``sip:+1-555-123-0001@sbc.example;user=phone``, ``tel:+1(555)1230001`` and ``+15551230001@sbc.example`` name the
    same number.
    """
    text = aor.strip().strip("<>")
    if not text.lower().startswith(("sip:", "sips:", "tel:")):
        text = f"sip:{text}" if "@" in text else f"tel:{text}"
    try:
        uri = SipUri.parse(text)
    except SignallingError:
        return "", ""
    bare = _SEPARATORS.sub("", uri.user)
    return (bare if _NUMBER.fullmatch(bare) else uri.user)[:MAX_NUMBER], uri.host


class Numbering:
    """Which addresses are our subscribers'.

    Args:
        patterns: see :attr:`inference.gateway.siprec.config.SiprecConfig.near_numbers`.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._regexes = [re.compile(pattern) for pattern in patterns if pattern.startswith("^")]
        self._hosts = {pattern[1:].lower() for pattern in patterns if pattern.startswith("@")}
        plain = [pattern for pattern in patterns if pattern[0] not in "^@"]
        self._prefixes = tuple(_SEPARATORS.sub("", prefix) for prefix in plain)

    def is_ours(self, participant: Participant) -> bool:
        """Whether one of its addresses is a subscriber's."""
        for aor in participant.aors:
            number, host = address_of(aor)
            if host and host in self._hosts:
                return True
            if number and (number.startswith(self._prefixes) or any(r.fullmatch(number) for r in self._regexes)):
                return True
        return False


def near_of(participants: Sequence[Participant], numbering: Numbering, side: Literal["first", "second"]) -> int | None:
    """Which of the participants is near; None where only the far one is there.

    Args:
        participants: in the metadata's order, at least one.
        numbering: tells subscribers; it decides where it picks exactly one.
        side: decides otherwise. A participant marked as the caller is the first.
    """
    ours = [at for at, participant in enumerate(participants) if numbering.is_ours(participant)]
    if len(ours) == 1:
        return ours[0]
    if len(participants) == 1:
        return None
    order = sorted(range(len(participants)), key=lambda at: participants[at].is_caller is not True)
    if participants[order[0]].is_caller is None and any(p.is_caller is False for p in participants):
        order.sort(key=lambda at: participants[at].is_caller is False)
    return order[0 if side == "first" else 1]
