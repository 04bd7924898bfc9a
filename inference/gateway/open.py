"""The ways in that a configuration asks for."""

from pydantic import BaseModel, ConfigDict, Field

from inference.gateway.audiosocket import AudioSocketConfig, AudioSocketGateway
from inference.gateway.control import CallControl, Gateway
from inference.gateway.ports import MediaPorts
from inference.gateway.rtpengine.config import RtpengineConfig
from inference.gateway.rtpengine.gateway import RtpengineGateway
from inference.gateway.siprec.config import SiprecConfig
from inference.gateway.siprec.gateway import SiprecGateway
from inference.gateway.static import StaticGateway, StaticLine
from inference.gateway.websocket.config import WebSocketConfig
from inference.gateway.websocket.server import WebSocketGateway


class GatewaysConfig(BaseModel):
    """Which gateways fork calls to us; none is opened that is not configured.

    Attributes:
        media_address: the address of ours that gateways are told to send to; None for ``media.host``.
        quarantine_s: how long a port of ``media.exclusive_ports`` rests after its leg: delayed forks still hit it.
        websocket: Twilio, Telnyx, SignalWire, jambonz, FreeSWITCH, Asterisk's chan_websocket, sessions of our own.
        audiosocket: Asterisk's AudioSocket.
        static: forks without signalling, by port or source.
        siprec: SBCs that record calls to us (RFC 7866); None for none.
        rtpengine: rtpengine daemons, beside Kamailio or OpenSIPS.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    media_address: str | None = None
    quarantine_s: float = Field(default=10.0, ge=0, le=600)
    websocket: WebSocketConfig | None = None
    audiosocket: AudioSocketConfig | None = None
    static: tuple[StaticLine, ...] = Field(default=(), max_length=1024)
    siprec: SiprecConfig | None = None
    rtpengine: RtpengineConfig | None = None


def make_gateways(config: GatewaysConfig, control: CallControl, ports: MediaPorts) -> list[Gateway]:
    """The configured gateways, not started yet."""
    gateways: list[Gateway] = []
    if config.siprec is not None:
        gateways.append(SiprecGateway(config.siprec, control, ports))
    if config.websocket is not None:
        gateways.append(WebSocketGateway(config.websocket, control))
    if config.audiosocket is not None:
        gateways.append(AudioSocketGateway(config.audiosocket, control))
    if config.static:
        gateways.append(StaticGateway(config.static, control))
    if config.rtpengine is not None:
        gateways.append(RtpengineGateway(config.rtpengine, control, ports))
    return gateways
