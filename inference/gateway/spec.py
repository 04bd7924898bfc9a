"""How a call is announced to us: which packets are which party. Said by signalling or config, never guessed."""

import base64
import ipaddress
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from inference.alerts.ear import Reach
from inference.audio import LEGS, Leg

CALL_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@+~-]{0,127}$"

CodecName = Literal[
    "PCMU", "PCMA", "CN", "telephone-event", "red", "G722", "opus", "AMR", "AMR-WB", "G729", "GSM", "iLBC"
]
Language = Literal["en", "zh", "auto"]

SRTP_KEY_BYTES = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30}
"""Master key and salt of the suites we accept (RFC 4568 section 6.2); pylibsrtp has no AES-256 profile."""


class SrtpKey(BaseModel):
    """With what a leg's packets are encrypted (SDES, RFC 4568).

    Attributes:
        suite: the crypto-suite.
        key: base64 of master key and salt, as in ``inline:``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    suite: Literal["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]
    key: SecretStr

    @model_validator(mode="after")
    def _key_fits_suite(self) -> Self:
        try:
            size = len(base64.b64decode(self.key.get_secret_value(), validate=True))
        except ValueError:
            size = -1
        if size != SRTP_KEY_BYTES[self.suite]:
            raise ValueError(f"key is not base64 of {SRTP_KEY_BYTES[self.suite]} bytes")
        return self


class LegSpec(BaseModel):
    """Where one party's audio arrives: as packets, or over a connection of a gateway.

    Attributes:
        local_port: the UDP port of ours that packets are sent to; None for audio over a connection.
        source: ``ip:port`` they come from; None where the port carries this leg alone and the sender is not known yet.
        payload_types: negotiated RTP payload types beside the static 0 (PCMU), 8 (PCMA) and 13 (CN).
        formats: SDP format parameters (``a=fmtp``) of payload types that have some, e.g. ``octet-align=1``.
        srtp: the key where packets are encrypted; a packet that does not verify is counted and dropped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    local_port: int | None = Field(default=None, ge=1, le=65535)
    source: str | None = Field(default=None, max_length=64)
    payload_types: dict[Annotated[int, Field(ge=0, le=127)], CodecName] = Field(default_factory=dict, max_length=16)
    formats: dict[Annotated[int, Field(ge=0, le=127)], Annotated[str, Field(max_length=256)]] = Field(
        default_factory=dict, max_length=16
    )
    srtp: SrtpKey | None = None

    @field_validator("source")
    @classmethod
    def _is_ip_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            host, _, port = value.rpartition(":")
            try:
                ipaddress.ip_address(host.strip("[]"))
                in_range = 1 <= int(port) <= 65535
            except ValueError:
                in_range = False
            if not in_range:
                raise ValueError("source is an IP address and port, e.g. 192.0.2.10:30000")
        return value

    @model_validator(mode="after")
    def _packets_need_a_port(self) -> Self:
        if self.local_port is None and (self.source or self.payload_types or self.formats or self.srtp):
            raise ValueError("local_port is missing: source, payload types and keys are of packets")
        return self

    @property
    def is_streamed(self) -> bool:
        """Whether its audio comes over a connection, written by its gateway."""
        return self.local_port is None

    @property
    def source_address(self) -> tuple[str, int] | None:
        """``source`` as (ip, port)."""
        if self.source is None:
            return None
        host, _, port = self.source.rpartition(":")
        return host.strip("[]"), int(port)


class CallSpec(BaseModel):
    """One call: an id and its legs.

    Attributes:
        id: the operator's own id of the call; appears in alerts and logs, so no personal data belongs in it.
        far: the other party; for an incoming call, the caller.
        near: the subscriber we protect; None where the gateway forks the other party alone.
        language: overrides ``speech.language`` for this call.
        reach: how the subscriber is warned; None where nobody can be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=CALL_ID_PATTERN)
    far: LegSpec
    near: LegSpec | None = None
    language: Language | None = None
    reach: Reach | None = None

    @model_validator(mode="after")
    def _legs_differ(self) -> Self:
        far, near = self.far, self.near
        if near is None or far.is_streamed or near.is_streamed:
            return self
        if far.local_port == near.local_port and (far.source == near.source or None in (far.source, near.source)):
            raise ValueError("far and near share a port, so each needs its own source")
        return self

    @property
    def legs(self) -> dict[Leg, LegSpec]:
        """The legs there are."""
        both = {LEGS[0]: self.far, LEGS[1]: self.near}
        return {leg: spec for leg, spec in both.items() if spec is not None}
