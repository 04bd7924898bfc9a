"""Settings of the redirect server."""

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inference.screening.attempt import Trunk

CallerHeader = Literal["P-Asserted-Identity", "Remote-Party-ID", "P-Preferred-Identity", "From"]
Networks = Annotated[tuple[str, ...], Field(min_length=1, max_length=1024)]
_URI = re.compile(r"(?:sips?|tel):[A-Za-z0-9\-_.!~*'()&=+$,;?/:@%\[\]#]{1,500}")
_HTTPS = re.compile(r"https://[A-Za-z0-9\-_.!~*'()&=+$,;?/:@%\[\]#]{1,1000}")
_TOKEN = r"^[A-Za-z0-9\-]{1,64}$"  # noqa: S105 -- a SIP token, no secret


class SipConfig(BaseModel):
    """Where proxies ask, who may, and where calls are sent to.

    Attributes:
        host, port: address of ours; port 0 lets the system choose.
        tcp: whether TCP is listened on beside UDP, on the same port.
        reuse_port: several workers of this host share the address. What one proxy sends from one port goes to one of
            them, a copy too; with proxies of several ports or over TCP, all have their share.
        allow_from: addresses and networks of the proxies that may ask; required beyond loopback.
        caller_headers: which header names the caller, the most trusted first. Your border must take
            ``P-Asserted-Identity`` away from peers that are not trusted (RFC 3325).
        trunk_header: header in which the proxy says where the call came in: ``own``, ``national`` or
            ``international``. The proxy must remove it from what others send.
        trunks: the same by the network of the proxy that asks, where that tells: ``192.0.2.0/24: international``.
        trust_psap_callback: ``Priority: psap-callback`` (RFC 7090) marks a call back after an emergency call; only
            where your border takes it away from strangers, and never on an international trunk.
        challenge_uri: your service that plays an announcement and asks for a digit; None leaves it to the proxy, which
            reads ``X-ScamTap-Decision: challenge``.
        announcement_uri: your service that tells a caller of a rejection by 608. RFC 8688 section 3.4 asks for one
            where the caller's side did not say that it understands 608 (``Feature-Caps: *;+sip.608``).
        redress_uri: https address of your signed jCard (RFC 8688 section 3.2): where owners of numbers appeal.
        answer_within_s: what is not decided by then is allowed, marked degraded; less than the proxy waits.
        max_transactions: bound on calls being answered, or not forgotten yet: each is kept 5 s.
        max_connections: bound on TCP connections; one host gets a quarter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=5070, ge=0, le=65535)
    tcp: bool = True
    reuse_port: bool = False
    allow_from: Networks | None = None
    caller_headers: tuple[CallerHeader, ...] = Field(default=("P-Asserted-Identity", "From"), min_length=1)
    trunk_header: str | None = Field(default=None, pattern=_TOKEN)
    trunks: dict[str, Trunk] = Field(default={}, max_length=1024)
    trust_psap_callback: bool = False
    challenge_uri: str | None = None
    announcement_uri: str | None = None
    redress_uri: str | None = None
    answer_within_s: float = Field(default=0.04, gt=0, le=5)
    max_transactions: int = Field(default=65_536, ge=16, le=1_000_000)
    max_connections: int = Field(default=256, ge=4, le=10_000)

    @field_validator("host")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("want a numeric address of this host, e.g. 192.0.2.1") from None
        return value

    @field_validator("allow_from")
    @classmethod
    def _are_networks(cls, value: Networks | None) -> Networks | None:
        for text in value or ():
            _check_network(text)
        return value

    @field_validator("trunks")
    @classmethod
    def _are_trunks(cls, value: dict[str, Trunk]) -> dict[str, Trunk]:
        for text in value:
            _check_network(text)
        return value

    @field_validator("challenge_uri", "announcement_uri")
    @classmethod
    def _is_uri(cls, value: str | None) -> str | None:
        if value is not None and not _URI.fullmatch(value):
            raise ValueError("want a SIP or tel URI without angle brackets, e.g. sip:challenge@media.example")
        return value

    @field_validator("redress_uri")
    @classmethod
    def _is_https(cls, value: str | None) -> str | None:
        if value is not None and not _HTTPS.fullmatch(value):
            raise ValueError("want an https address, e.g. https://operator.example/redress.jws")
        return value

    @model_validator(mode="after")
    def _strangers_stay_out(self) -> Self:
        if not ipaddress.ip_address(self.host).is_loopback and self.allow_from is None:
            raise ValueError("beyond loopback, allow_from is required: the addresses of your proxies")
        return self


def _check_network(text: str) -> None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("want addresses or networks, e.g. 192.0.2.10 or 192.0.2.0/24") from None
    if network.prefixlen == 0:
        raise ValueError("a network of everybody is no list: name your proxies")
