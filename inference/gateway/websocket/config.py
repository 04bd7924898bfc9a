"""What the WebSocket server listens on, whom it believes, and how each dialect's parties are told apart."""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

DIALECTS = ("twilio", "telnyx", "signalwire", "jambonz", "freeswitch", "asterisk", "session")
"""Each is served at the path of its name."""


class MediaStreamsConfig(BaseModel):
    """Twilio, Telnyx, SignalWire.

    Attributes:
        near: the track of the subscriber we protect: ``inbound`` is what the party on the streamed call leg says,
            ``outbound`` what it hears. A call may say otherwise in its parameter ``near``.
        plays: the stream is bidirectional, and what we send is heard on the subscriber's leg alone (Telnyx:
            ``stream_bidirectional_mode: rtp``, ``stream_bidirectional_target_legs: self``, ``near: inbound``).
        signed_with: the account's auth token (Twilio): then its ``X-Twilio-Signature`` must fit ``public_url``.
        public_url: the very URL that stands in ``<Stream url=…>``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    near: Literal["inbound", "outbound"] = "outbound"
    plays: bool = False
    signed_with: SecretStr | None = None
    public_url: str | None = None

    @model_validator(mode="after")
    def _signature_needs_url(self) -> Self:
        if (self.signed_with is None) != (self.public_url is None):
            raise ValueError("signed_with and public_url go together: the signature is over the URL")
        return self


class ForkConfig(BaseModel):
    """jambonz ``listen``, FreeSWITCH mod_audio_fork and mod_audio_stream.

    Attributes:
        near: the channel of the subscriber: ``left`` is the party that the fork hangs on, ``right`` the one it talks
            to. A call may say otherwise in its parameter ``near``.
        mono: a fork of one channel brings the far party alone (``far``), or is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    near: Literal["left", "right"] = "right"
    mono: Literal["far", "refuse"] = "refuse"


class AsteriskConfig(BaseModel):
    """Asterisk's chan_websocket: each connection brings one party, named by the parameters ``call`` and ``leg``.

    Attributes:
        plays: the near connection's channel whispers to the subscriber: a snoop with ``whisper=out``, or ChanSpy's
            option ``w``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    plays: bool = False


class SessionConfig(BaseModel):
    """Our own full-duplex session (docs/websocket-session.md).

    Attributes:
        include_text: tell the client what was said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    include_text: bool = False


class WebSocketConfig(BaseModel):
    """The server and its dialects; a dialect that is not configured is not served.

    Attributes:
        host, port: where it listens; loopback unless a token is set.
        token: to be given as ``Authorization: Bearer``, as the password of ``Basic``, or as ``?token=``; by Twilio and
            its like, which can do none of these, as the parameter ``token`` of the stream.
        certificate, certificate_key: PEM files, for ``wss``; without, TLS is a proxy's work.
        allowed_origins: of web pages that may connect; gateways send no Origin.
        max_connections: bound on connections at once.
        max_message_bytes: a longer message ends its connection.
        open_timeout_s: how long TLS and the handshake may take.
        start_timeout_s: how long after it the call must have begun.
        idle_timeout_s: how long a connection may say nothing.
        linger_s: how long a call waits for a new connection when its last one broke.
        max_waiting: messages kept for a slow reader; then it is dropped.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8651, ge=0, le=65535)
    token: SecretStr | None = Field(default=None, min_length=8)
    certificate: Path | None = None
    certificate_key: Path | None = None
    allowed_origins: tuple[str, ...] = ()
    max_connections: int = Field(default=4096, ge=1, le=65536)
    max_message_bytes: int = Field(default=65536, ge=1024, le=1 << 20)
    open_timeout_s: float = Field(default=5.0, gt=0, le=60)
    start_timeout_s: float = Field(default=10.0, gt=0, le=120)
    idle_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    linger_s: float = Field(default=5.0, ge=0, le=120)
    max_waiting: int = Field(default=256, ge=8, le=4096)
    twilio: MediaStreamsConfig | None = None
    telnyx: MediaStreamsConfig | None = None
    signalwire: MediaStreamsConfig | None = None
    jambonz: ForkConfig | None = None
    freeswitch: ForkConfig | None = None
    asterisk: AsteriskConfig | None = None
    session: SessionConfig | None = None

    @model_validator(mode="after")
    def _token_beyond_loopback(self) -> Self:
        try:
            is_loopback = ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            is_loopback = self.host == "localhost"
        if not is_loopback and self.token is None:
            raise ValueError("beyond loopback the WebSocket server needs a token: set gateways.websocket.token")
        return self

    @model_validator(mode="after")
    def _certificate_has_key(self) -> Self:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key go together")
        return self

    @model_validator(mode="after")
    def _some_dialect(self) -> Self:
        if not any(getattr(self, name) for name in DIALECTS):
            raise ValueError(f"no dialect is configured: one of {', '.join(DIALECTS)}, e.g. twilio: {{}}")
        return self
