"""STIR/SHAKEN: who vouches for the caller's number (RFC 8224, 8225, 8588), as a signal and never as a verdict.

Certificates are not fetched while a call waits: the ``x5u`` of a PASSporT is looked up in a store that is filled beside
the call path, and a certificate that is not there yet is its own answer.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

Attestation = Literal["A", "B", "C"]
PassportState = Literal[
    "valid", "none", "malformed", "stale", "replayed", "bad_signature", "bad_chain", "no_certificate", "mismatch"
]

FRESHNESS_S = 60.0
"""RFC 8224 section 6: an ``iat`` further from now than this is stale; a replayed PASSporT mostly is."""

MAX_SEEN = 65_536
"""PASSporTs remembered against replay; a worker that verifies more in a minute forgets the oldest."""

MAX_CHAINS = 1024
CHAIN_GOOD_FOR_S = 60.0
"""So long a chain that was found good is not verified again: one operator's signs thousands of calls."""

MAX_IDENTITY_CHARACTERS = 8192
MAX_PARAMETERS = 8
MAX_EPOCH_S = 100_000_000_000
_TOKEN = re.compile(r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$")
_PARAMETER = re.compile(r"^[a-z0-9]{1,16}=[^\s;]{1,512}$")

# Certificates of SHAKEN carry a TNAuthList and no DNS name: what the web's policy asks for is not there.
_LEAF = ExtensionPolicy.permit_all()
_AUTHORITY = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)


@dataclass(frozen=True, slots=True)
class PassportCheck:
    """What a PASSporT is worth.

    Attributes:
        state: ``valid``, or what is wrong.
        attestation: A (the operator knows the caller and that the number is the caller's), B or C; where valid.
    """

    state: PassportState
    attestation: Attestation | None = None


NO_PASSPORT = PassportCheck("none")

CertificateSource = Callable[[str], Sequence[x509.Certificate] | None]
"""``x5u`` -> the certificate and its intermediates, leaf first; None where it is not known (yet)."""


class PassportVerifier:
    """Verifies Identity headers.

    Args:
        roots: trust anchors of the operator's country (STI-PA list); without any, no chain is good.
        certificates: where certificates come from; must not wait.
        clock: seconds since the epoch.
    """

    def __init__(
        self, roots: Sequence[x509.Certificate], certificates: CertificateSource, clock: Callable[[], float]
    ) -> None:
        self._store = Store(list(roots)) if roots else None
        self._certificates = certificates
        self._clock = clock
        self._call_of: OrderedDict[bytes, str] = OrderedDict()
        self._good_until_s: OrderedDict[tuple[bytes, ...], float] = OrderedDict()

    def check(self, identity: str | None, caller: str | None, callee: str, call_id: str = "") -> PassportCheck:
        """Judge one Identity header.

        Args:
            identity: the header's value, or None.
            caller: E.164 digits that the call claims; None where withheld.
            callee: digits called.
            call_id: of the call; a PASSporT that vouched for another call is ``replayed``, unless it was asked about
                the same one again. Known per worker; beyond it, freshness holds.

        Never raises: what cannot be read is ``malformed``.
        """
        if not identity or not identity.strip():
            return NO_PASSPORT
        token, *parameters = (part.strip() for part in identity[: MAX_IDENTITY_CHARACTERS + 1].split(";"))
        is_bounded = len(identity) <= MAX_IDENTITY_CHARACTERS and len(parameters) <= MAX_PARAMETERS
        if not is_bounded or not _TOKEN.match(token) or not all(map(_PARAMETER.match, parameters)):
            return PassportCheck("malformed")
        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError, OverflowError):
            return PassportCheck("malformed")
        if not self._is_shaken(header, claims):
            return PassportCheck("malformed")
        if abs(self._clock() - claims["iat"]) > FRESHNESS_S:
            return PassportCheck("stale")
        checked = self._verify(token, header["x5u"], claims, caller, callee)
        if checked.state == "valid" and self._is_replayed(token, call_id):
            return PassportCheck("replayed")
        return checked

    def _is_replayed(self, token: str, call_id: str) -> bool:
        """Whether a valid one vouched for another call; without its signature: ECDSA has several for one content."""
        digest = hashlib.sha256(token.rpartition(".")[0].encode()).digest()
        first = self._call_of.setdefault(digest, call_id)
        while len(self._call_of) > MAX_SEEN:
            self._call_of.popitem(last=False)
        return first != call_id

    def _verify(
        self, token: str, x5u: str, claims: Mapping[str, Any], caller: str | None, callee: str
    ) -> PassportCheck:
        chain = self._certificates(x5u)
        if not chain:
            return PassportCheck("no_certificate")
        try:
            key = chain[0].public_key()
        except (UnsupportedAlgorithm, ValueError):
            return PassportCheck("bad_chain")
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return PassportCheck("bad_chain")
        try:
            # The signature alone: claims that JWT knows and SHAKEN does not (aud, nbf) are nobody's business here.
            jwt.api_jws.decode(token, key, algorithms=["ES256"])
        except (jwt.PyJWTError, InvalidSignature, ValueError):
            return PassportCheck("bad_signature")
        if not self._is_trusted(chain):
            return PassportCheck("bad_chain")
        originating, called = claims["orig"].get("tn"), claims["dest"].get("tn")
        if originating != caller or callee not in (called if isinstance(called, list) else [called]):
            return PassportCheck("mismatch")
        return PassportCheck("valid", claims["attest"])

    @staticmethod
    def _is_shaken(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bool:
        """Whether it is a PASSporT with the ``shaken`` extension (RFC 8588), in shape."""
        originating, called, issued = claims.get("orig"), claims.get("dest"), claims.get("iat")
        return (
            header.get("alg") == "ES256"
            and header.get("typ") == "passport"
            and header.get("ppt") == "shaken"
            and isinstance(header.get("x5u"), str)
            and header["x5u"].startswith("https://")
            and isinstance(originating, dict)
            and isinstance(originating.get("tn"), str)
            and isinstance(called, dict)
            and isinstance(issued, int)
            and not isinstance(issued, bool)
            and 0 <= issued < MAX_EPOCH_S
            and claims.get("attest") in ("A", "B", "C")
        )

    def _is_trusted(self, chain: Sequence[x509.Certificate]) -> bool:
        if self._store is None:
            return False
        now_s = self._clock()
        name = tuple(c.fingerprint(hashes.SHA256()) for c in chain)
        if now_s < self._good_until_s.get(name, 0.0) <= now_s + CHAIN_GOOD_FOR_S:
            return True
        now = datetime.fromtimestamp(now_s, UTC)
        policy = PolicyBuilder().store(self._store).time(now).extension_policies(ee_policy=_LEAF, ca_policy=_AUTHORITY)
        try:
            policy.build_client_verifier().verify(chain[0], list(chain[1:]))
        except (VerificationError, ValueError):
            return False
        self._good_until_s[name] = now_s + CHAIN_GOOD_FOR_S
        while len(self._good_until_s) > MAX_CHAINS:
            self._good_until_s.popitem(last=False)
        return True
