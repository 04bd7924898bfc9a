"""Encrypted legs: packets are verified and opened before any rule of ours looks at them (RFC 3711).

RTCP is encrypted too; the plane has no use for it, and counts and leaves it as it does without encryption.
"""

import base64
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from pydantic import SecretStr

from inference.errors import CodecError

if TYPE_CHECKING:
    from pylibsrtp import Session

MAX_SSRCS = 8
"""Streams kept per leg. A sender that goes on to yet another SSRC lets the longest unheard one be forgotten."""

_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": "SRTP_PROFILE_AES128_CM_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32": "SRTP_PROFILE_AES128_CM_SHA1_32",
}


class Keyed(Protocol):
    """What a leg is encrypted with: :class:`inference.gateway.spec.SrtpKey`."""

    @property
    def suite(self) -> str:
        """The crypto-suite (RFC 4568)."""
        ...

    @property
    def key(self) -> SecretStr:
        """Base64 of master key and salt."""
        ...


class SrtpSession:
    """One leg's incoming packets under one key.

    State for an SSRC is made once a packet of it has been verified, never before.

    Raises:
        CodecError: the suite is not one we can open, or pylibsrtp is not installed.
    """

    def __init__(self, key: Keyed) -> None:
        try:
            import pylibsrtp
        except ImportError:
            raise CodecError("SRTP needs pylibsrtp, which is not installed: pip install pylibsrtp") from None
        if key.suite not in _PROFILES:
            raise CodecError(f"SRTP suite {key.suite} cannot be opened: answer with one of {', '.join(_PROFILES)}")
        self.key = base64.b64decode(key.key.get_secret_value())
        policy = pylibsrtp.Policy(
            key=self.key,
            ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND,
            srtp_profile=getattr(pylibsrtp.Policy, _PROFILES[key.suite]),
        )
        self._session: Session = pylibsrtp.Session(policy)
        self._error = pylibsrtp.Error
        self._ssrcs: OrderedDict[bytes, None] = OrderedDict()

    def open(self, packet: bytes) -> bytes | None:
        """The RTP packet within; None if it does not verify, or was seen before."""
        try:
            opened: bytes = self._session.unprotect(packet)
        except (self._error, ValueError):  # ValueError: longer than libsrtp takes
            return None
        self._remember(packet[8:12])
        return opened

    def open_rtcp(self, packet: bytes) -> bytes | None:
        """The RTCP packet within; None if it does not verify, or was seen before."""
        try:
            opened: bytes = self._session.unprotect_rtcp(packet)
        except (self._error, ValueError):
            return None
        self._remember(packet[4:8])
        return opened

    def _remember(self, ssrc: bytes) -> None:
        if ssrc in self._ssrcs:
            self._ssrcs.move_to_end(ssrc)
            return
        self._ssrcs[ssrc] = None
        if len(self._ssrcs) > MAX_SSRCS:
            oldest, _ = self._ssrcs.popitem(last=False)
            self._session.remove_stream(int.from_bytes(oldest))
