"""How a call is announced to us: which packets are which party. Said by signalling or config, never guessed."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inference.audio import LEGS, Leg

CALL_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@+~-]{0,127}$"

CodecName = Literal["PCMU", "PCMA", "CN", "telephone-event"]
Language = Literal["en", "zh", "auto"]


class LegSpec(BaseModel):
    """Where one party's packets arrive.

    Attributes:
        local_port: the UDP port of ours they are sent to.
        source: ``ip:port`` they come from; None where the port carries this leg alone and the sender is not known yet.
        payload_types: negotiated RTP payload types beside the static 0 (PCMU), 8 (PCMA) and 13 (CN).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    local_port: int = Field(ge=1, le=65535)
    source: str | None = Field(default=None, max_length=64)
    payload_types: dict[Annotated[int, Field(ge=0, le=127)], CodecName] = Field(default_factory=dict, max_length=16)

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

    @property
    def source_address(self) -> tuple[str, int] | None:
        """``source`` as (ip, port)."""
        if self.source is None:
            return None
        host, _, port = self.source.rpartition(":")
        return host.strip("[]"), int(port)


class CallSpec(BaseModel):
    """One call: an id and its two legs.

    Attributes:
        id: the operator's own id of the call; appears in alerts and logs, so no personal data belongs in it.
        far: the other party; for an incoming call, the caller.
        near: the subscriber we protect.
        language: overrides ``speech.language`` for this call.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=CALL_ID_PATTERN)
    far: LegSpec
    near: LegSpec
    language: Language | None = None

    @model_validator(mode="after")
    def _legs_differ(self) -> Self:
        if self.far.local_port == self.near.local_port and (
            self.far.source == self.near.source or None in (self.far.source, self.near.source)
        ):
            raise ValueError("far and near share a port, so each needs its own source")
        return self

    def leg(self, leg: Leg) -> LegSpec:
        """The spec of one leg."""
        return self.far if leg == LEGS[0] else self.near
