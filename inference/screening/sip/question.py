"""What an INVITE asks: who calls whom, over which trunk, and who vouches for it."""

import hashlib
import ipaddress
from functools import lru_cache
from typing import get_args
from urllib.parse import unquote

from inference.errors import SignallingError
from inference.gateway.sip.message import Request
from inference.gateway.sip.syntax import Address, SipUri, split_list
from inference.screening.attempt import CallAttempt, Trunk
from inference.screening.passport import MAX_IDENTITY_CHARACTERS
from inference.screening.sip.config import SipConfig

MAX_TEXT = 256
"""As in :class:`CallAttempt`; no number is that long."""

NO_NUMBER = "unknown"
UNREADABLE_IDENTITY = "-"
"""Stands for an Identity header beyond all bounds: there, and malformed."""


class Questions:
    """Reads INVITEs.

    Args:
        config: whom to believe.
    """

    def __init__(self, config: SipConfig) -> None:
        self._config = config
        self._trunks = [(ipaddress.ip_network(text), trunk) for text, trunk in config.trunks.items()]
        self._trunks.sort(key=lambda item: -item[0].prefixlen)
        self._trunk_of = lru_cache(4096)(self._look_up)

    def attempt(self, request: Request, peer: str) -> CallAttempt:
        """The call attempt an INVITE stands for. Never raises for what it holds: what is no number is none.

        Args:
            request: with a Call-ID.
            peer: numeric address of the proxy.
        """
        trunk = self._trunk(request, peer)
        return CallAttempt(
            call_id=_call_id(request.headers.get("Call-ID") or ""),
            caller=self._caller(request),
            callee=_dialled(request.uri) or NO_NUMBER,
            trunk=trunk,
            identity=_identity(request),
            is_callback_window=self._is_callback(request, trunk),
        )

    def _caller(self, request: Request) -> str | None:
        for name in self._config.caller_headers:
            for line in request.headers.all(name)[:4]:
                # One header may name a sip: and a tel: identity (RFC 3325 section 9.1): the first with a number counts.
                for text in _split(line, name):
                    try:
                        number = _number(Address.parse(text, name).uri)
                    except SignallingError:
                        continue
                    if number:
                        return number
        return None

    def _trunk(self, request: Request, peer: str) -> Trunk | None:
        name = self._config.trunk_header
        said = None if name is None else request.headers.get(name)
        if said is not None:
            return next((trunk for trunk in get_args(Trunk) if trunk == said.strip().lower()), None)
        return self._trunk_of(peer) if self._trunks else None

    def _look_up(self, peer: str) -> Trunk | None:
        address = ipaddress.ip_address(peer.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        return next((trunk for network, trunk in self._trunks if mapped in network), None)

    def _is_callback(self, request: Request, trunk: Trunk | None) -> bool:
        is_said = (request.headers.get("Priority") or "").strip().lower() == "psap-callback"
        return is_said and self._config.trust_psap_callback and trunk != "international"


def _split(line: str, name: str) -> list[str]:
    try:
        return split_list(line, ",", name)[:4]
    except SignallingError:
        return []


def _number(uri: str) -> str:
    """The user part, as text that a JSON string could hold."""
    try:
        user = SipUri.parse(uri).user
    except SignallingError:
        return ""
    return _clean(user)[:MAX_TEXT]


def _dialled(uri: str) -> str:
    """The user part of a request's URI, also where the rest of it is malformed: it may be a call for help."""
    return _number(uri) or _clean(unquote(uri.partition(":")[2].partition("@")[0].partition(";")[0]))[:MAX_TEXT]


def _clean(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _call_id(text: str) -> str:
    """Itself; a digest where it is longer than anybody keeps."""
    cleaned = _clean(text)
    if 0 < len(cleaned) <= MAX_TEXT:
        return cleaned
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _identity(request: Request) -> str | None:
    """The Identity header of SHAKEN; of several (RFC 8224 section 4) the first that says so, else the first."""
    lines = request.headers.all("Identity")
    if not lines:
        return None
    chosen = next((line for line in lines[:8] if "shaken" in line), lines[0])
    return _clean(chosen) if len(chosen) <= MAX_IDENTITY_CHARACTERS else UNREADABLE_IDENTITY
