"""Digest authentication of requests (RFC 7616 as RFC 8760 has it for SIP), without state for strangers.

A nonce carries its time and our signature, so a challenge costs no memory. Only who knew a password gets a row in the
bounded table that refuses replays.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from inference.errors import SignallingError
from inference.gateway.sip.message import RefusedError, Request
from inference.gateway.sip.syntax import SipUri, split_list, unquote_string

NONCE_S = 300
MAX_NONCES = 4096

Algorithm = Literal["SHA-256", "MD5"]
_HASHES: dict[str, Callable[[bytes], str]] = {
    "SHA-256": lambda data: hashlib.sha256(data).hexdigest(),
    "MD5": lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest(),  # what most SBCs still speak
}
_HEX = re.compile(r"[0-9a-f]{1,64}")


class DigestConfig(BaseModel):
    """Who may call us, by name and password.

    Attributes:
        realm: shown to the peer.
        users: password by name.
        algorithms: offered, the preferred one first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    realm: str = Field(default="scamtap", pattern=r"^[A-Za-z0-9._@-]{1,64}$")
    users: dict[str, SecretStr] = Field(min_length=1, max_length=256)
    algorithms: tuple[Algorithm, ...] = Field(default=("SHA-256", "MD5"), min_length=1, max_length=2)

    @field_validator("users")
    @classmethod
    def _passwords_are_long(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if any(len(password.get_secret_value()) < 12 for password in value.values()):
            raise ValueError("a password has fewer than 12 characters: a digest can be guessed offline")
        return value


class DigestAuth:
    """Checks requests.

    Args:
        config: names and passwords.
        clock: seconds.
    """

    def __init__(self, config: DigestConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._counts: OrderedDict[str, int] = OrderedDict()

    def check(self, request: Request) -> None:
        """Let a request pass, or not.

        Raises:
            RefusedError: 401 with challenges; 400, credentials that cannot be read.
        """
        for line in request.headers.all("Authorization"):
            scheme, _, rest = line.strip().partition(" ")
            if scheme.lower() != "digest":
                continue
            try:
                given = _pairs(rest)
            except SignallingError as error:
                raise RefusedError(400, str(error)) from error
            if given.get("realm") == self._config.realm:
                self._check(request, given)
                return
        raise self._challenge("no credentials")

    def _check(self, request: Request, given: Mapping[str, str]) -> None:
        algorithm = given.get("algorithm", "MD5").upper()
        if algorithm not in self._config.algorithms or given.get("qop", "").lower() != "auth":
            raise self._challenge("algorithm or qop is not one of those offered")
        hashed = _HASHES[algorithm]
        nonce, count = given.get("nonce", ""), given.get("nc", "").lower()
        is_fresh = self._is_fresh(nonce)
        password = self._config.users.get(given.get("username", ""))
        # Without such a name the same work is done, so that time does not tell which names there are.
        secret = secrets.token_hex(16) if password is None else password.get_secret_value()
        a1 = hashed(f"{given.get('username', '')}:{self._config.realm}:{secret}".encode(errors="replace"))
        a2 = hashed(f"{request.method}:{given.get('uri', '')}".encode(errors="replace"))
        middle = f"{nonce}:{given.get('nc', '')}:{given.get('cnonce', '')}:{given.get('qop', '')}"
        want = hashed(f"{a1}:{middle}:{a2}".encode(errors="replace"))
        is_right = hmac.compare_digest(want.encode(), given.get("response", "").lower().encode(errors="replace"))
        if password is None or not is_right or not _HEX.fullmatch(count):
            raise self._challenge("wrong credentials")
        if not _same_host(given.get("uri", ""), request.uri):
            raise self._challenge("credentials are for another host")
        if not is_fresh or int(count, 16) <= self._counts.get(nonce, 0):
            raise self._challenge("nonce is over or was used", is_stale=True)
        self._counts[nonce] = int(count, 16)
        self._counts.move_to_end(nonce)
        if len(self._counts) > MAX_NONCES:
            # The oldest may be replayed until its nonce is over: the key is changed, and everybody asked anew.
            self._counts.clear()
            self._key = secrets.token_bytes(32)

    def _is_fresh(self, nonce: str) -> bool:
        made, _, rest = nonce.partition(".")
        salt, _, signature = rest.partition(".")
        if not hmac.compare_digest(self._sign(f"{made}.{salt}").encode(), signature.encode(errors="replace")):
            return False
        return int(made, 16) + NONCE_S >= self._clock()

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(errors="replace"), "sha256").hexdigest()[:32]

    def _challenge(self, why: str, *, is_stale: bool = False) -> RefusedError:
        text = f"{int(self._clock()):x}.{secrets.token_hex(8)}"
        nonce = f"{text}.{self._sign(text)}"
        stale = ", stale=true" if is_stale else ""
        # Weaker algorithms further down (RFC 8760 section 2.4).
        fields = [
            (
                "WWW-Authenticate",
                f'Digest realm="{self._config.realm}", nonce="{nonce}", algorithm={name}, qop="auth"{stale}',
            )
            for name in self._config.algorithms
        ]
        return RefusedError(401, why, fields)


def _same_host(one: str, other: str) -> bool:
    """Peers differ in whether they sign the user and parameters of the request's URI too."""
    try:
        return SipUri.parse(one).host == SipUri.parse(other).host
    except SignallingError:
        return False


def _pairs(text: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for part in split_list(text, ",", "Authorization")[:32]:
        name, equals, value = part.partition("=")
        if not equals:
            raise SignallingError("Authorization has a malformed parameter")
        out.setdefault(name.strip().lower(), unquote_string(value.strip()))
    return out
