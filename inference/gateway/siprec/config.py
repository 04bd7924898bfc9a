"""Configuration of the SIPREC recording server."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from inference.gateway.sip.auth import DigestConfig
from inference.gateway.siprec.ear import InfoConfig
from inference.gateway.siprec.roles import check_number_pattern

_LISTEN = re.compile(r"(udp|tcp|tls):(\[[0-9a-fA-F:.]+\]|[0-9.]+):([0-9]{1,5})")


class Listener(NamedTuple):
    """One address of ours."""

    transport: Literal["udp", "tcp", "tls"]
    host: str
    port: int


class TlsConfig(BaseModel):
    """Our certificate, and whose we ask for.

    Attributes:
        certificate: PEM file of our certificate and those up to a root.
        key: PEM file of its key.
        client_ca: PEM file of the authority that signs the certificates of our SBCs; set, nobody else may connect.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    certificate: Path
    key: Path
    client_ca: Path | None = None


class SiprecConfig(BaseModel):
    """Where SBCs call us, who may, and how their calls are understood.

    Attributes:
        listen: addresses, e.g. ``udp:127.0.0.1:5060``, ``tcp:…``, ``tls:…``; port 0 lets the system choose.
        advertised: host that peers are told in Contact, where it is not that of the socket.
        tls: for ``tls:`` listeners.
        allow_from: addresses and networks that may send anything at all; None for everywhere.
        digest: names and passwords asked of an INVITE; a peer with a certificate of ``tls.client_ca`` is not asked.
        near_numbers: which numbers our subscribers have: the beginning of a number (``+1555``), a host
            (``@ims.example``) or a regular expression of the whole number (``^…``).
        near_side: whom we protect where ``near_numbers`` do not tell: the first or second participant of the metadata,
            the one an SBC marks as caller being first. By default the second: whom somebody called.
        latch: audio does not come from the addresses in the SDP (NAT, a media relay that sends from elsewhere): each
            stream gets a port of ``media.exclusive_ports``, and its first sender becomes its only one.
        call_ids: ``digest`` names calls by a keyed digest of the operator's call id, that may hold numbers or
            names; ``plain`` takes it as it is, for operators whose ids hold none.
        id_key: makes digests that others cannot recompute from a guessed call id; the same on all workers.
        info: the warning returns as INFO in the recording session, for SBCs that play it; None for none. Calls then
            name this way as theirs.
        ear: another ear, that reaches subscribers whose calls come this way, e.g. ``asterisk``; None for ``info``.
        max_sessions: bound on recordings at once, beside the worker's own on calls.
        max_connections: bound on TCP and TLS connections of one listener.
        session_interval_s: a recording must be refreshed within this (RFC 4028).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: tuple[str, ...] = Field(default=("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"), min_length=1, max_length=16)
    advertised: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.:-]{1,128}$")
    tls: TlsConfig | None = None
    allow_from: tuple[str, ...] | None = Field(default=None, max_length=1024)
    digest: DigestConfig | None = None
    near_numbers: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(default=(), max_length=1024)
    near_side: Literal["first", "second"] = "second"
    latch: bool = False
    call_ids: Literal["digest", "plain"] = "digest"
    id_key: SecretStr | None = None
    info: InfoConfig | None = None
    ear: str | None = Field(default=None, max_length=64)
    max_sessions: int = Field(default=4096, ge=1, le=100_000)
    max_connections: int = Field(default=256, ge=1, le=10_000)
    session_interval_s: int = Field(default=1800, ge=90, le=86_400)

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            found = _LISTEN.fullmatch(text)
            try:
                is_good = (
                    found is not None and int(found[3]) <= 65535 and bool(ipaddress.ip_address(found[2].strip("[]")))
                )
            except ValueError:
                is_good = False
            if not is_good:
                raise ValueError("an address is not like udp:127.0.0.1:5060, tcp:[::1]:5060 or tls:192.0.2.1:5061")
        return value

    @field_validator("allow_from")
    @classmethod
    def _is_network(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in value or ():
            try:
                network = ipaddress.ip_network(text)
            except ValueError:
                raise ValueError("want addresses or networks, e.g. 192.0.2.10 or 192.0.2.0/24") from None
            if network.prefixlen == 0:
                raise ValueError("a network of everybody is no allow-list: name your SBCs")
        return value

    @field_validator("near_numbers")
    @classmethod
    def _is_pattern(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            check_number_pattern(text)
        return value

    @model_validator(mode="after")
    def _strangers_stay_out(self) -> Self:
        for listener in self.listeners:
            if listener.transport == "tls" and self.tls is None:
                raise ValueError("tls is missing: a tls: listener needs tls.certificate and tls.key")
            address = ipaddress.ip_address(listener.host)
            if address.is_unspecified and self.advertised is None:
                raise ValueError("advertised is missing: peers cannot be told to send to every address")
            asks_certificate = listener.transport == "tls" and self.tls is not None and self.tls.client_ca is not None
            if not (address.is_loopback or asks_certificate or self.allow_from is not None or self.digest is not None):
                raise ValueError("beyond loopback, allow_from, digest or (on tls: listeners) tls.client_ca is required")
        return self

    @model_validator(mode="after")
    def _one_way_back(self) -> Self:
        if self.info is not None and self.ear not in (None, self.info.name):
            raise ValueError("info and ear name two ways back, and a call has one: leave one of them out")
        return self

    @property
    def listeners(self) -> list[Listener]:
        """``listen``, taken apart."""
        out = []
        for text in self.listen:
            found = _LISTEN.fullmatch(text)
            if found is not None:
                out.append(Listener(found[1], found[2].strip("[]"), int(found[3])))  # type: ignore[arg-type]
        return out
