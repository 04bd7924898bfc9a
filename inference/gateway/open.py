"""The ways in that a configuration asks for."""

from pydantic import BaseModel, ConfigDict, Field

from inference.gateway.control import CallControl, Gateway
from inference.gateway.ports import MediaPorts
from inference.gateway.siprec.config import SiprecConfig
from inference.gateway.siprec.gateway import SiprecGateway


class GatewaysConfig(BaseModel):
    """Which gateways fork calls to us; none is opened that is not configured.

    Attributes:
        media_address: the address of ours that gateways are told to send to; None for ``media.host``.
        quarantine_s: how long a port of ``media.exclusive_ports`` rests after its leg: delayed forks still hit it.
        siprec: SBCs that record calls to us (RFC 7866); None for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    media_address: str | None = None
    quarantine_s: float = Field(default=10.0, ge=0, le=600)
    siprec: SiprecConfig | None = None


def make_gateways(config: GatewaysConfig, control: CallControl, ports: MediaPorts) -> list[Gateway]:
    """The configured gateways, not started yet."""
    made: list[Gateway] = []
    if config.siprec is not None:
        made.append(SiprecGateway(config.siprec, control, ports))
    return made
