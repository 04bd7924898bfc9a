"""Our own full-duplex session: a client sends a call's audio and hears at once what is thought of it.

The protocol is docs/websocket-session.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from inference import __version__
from inference.alerts.ear import Reach
from inference.alerts.redact import redact
from inference.audio import Leg
from inference.errors import SignallingError
from inference.gateway.connected import ConnectedCalls
from inference.gateway.pcm import Encoding, Sound
from inference.gateway.websocket.config import SessionConfig
from inference.gateway.websocket.session import Outlet, Session, decode, spec_of


@dataclass(frozen=True, slots=True)
class Start:
    """The call begins.

    Attributes:
        call: its id.
        encoding, rate_hz: of the binary messages.
        legs: whose voice each channel is.
        language: spoken in it, or empty.
    """

    call: str
    encoding: Encoding
    rate_hz: int
    legs: tuple[Leg, ...]
    language: str


@dataclass(frozen=True, slots=True)
class Key:
    """A party pressed a key."""

    leg: Leg
    digit: str


@dataclass(frozen=True, slots=True)
class End:
    """The call is over."""


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["start", "key", "end"]
    call: str = ""
    codec: Encoding = "PCMU"
    rate: int = 8000
    channels: tuple[Leg, ...] = ()
    language: str = ""
    leg: Leg = "near"
    digit: str = ""


_decoder = msgspec.json.Decoder(_Message)


def parse(text: str) -> Start | Key | End:
    """One message of the client.

    Raises:
        SignallingError: it is not of the protocol.
    """
    message = decode(_decoder, text, "a message of the session")
    if message.type == "end":
        return End()
    if message.type == "key":
        return Key(message.leg, message.digit)
    legs = message.channels
    if "far" not in legs or len(set(legs)) != len(legs):
        raise SignallingError("channels is ['far'], or 'far' and 'near' in the order of the audio")
    return Start(message.call, message.codec, message.rate, legs, message.language)


class DuplexSession(Session):
    """One call of a client."""

    def __init__(
        self,
        name: str,
        config: SessionConfig,
        calls: ConnectedCalls,
        query: Mapping[str, str],
        outlet: Outlet,
        check: Callable[[Mapping[str, str]], None],
    ) -> None:
        super().__init__(calls, query, outlet, check)
        self._name = name
        self._config = config
        self._legs: tuple[Leg, ...] = ()
        self._sound: Sound | None = None

    def text(self, message: str) -> None:
        """See :class:`Session`."""
        parsed = parse(message)
        if isinstance(parsed, Start):
            self._start(parsed)
        elif self.place is None:
            raise SignallingError("the first message must be a start")
        elif isinstance(parsed, Key):
            self.place.key_pressed(parsed.leg, parsed.digit)
        else:
            self.place.finish()

    def binary(self, message: bytes) -> None:
        """See :class:`Session`."""
        if self._sound is None or self.place is None:
            raise SignallingError("audio came before the start message")
        for leg, samples in zip(self._legs, self._sound.take(message), strict=True):
            self.place.write(leg, samples)

    def _start(self, start: Start) -> None:
        sound = Sound(start.encoding, start.rate_hz, len(start.legs))
        parameters = {"language": start.language}
        spec = spec_of(start.call, parameters, Reach(), has_near=len(start.legs) == 2)  # the client hears of its alerts
        self.begin(spec, start.legs, self.query)
        self._legs, self._sound = start.legs, sound
        self._send({"type": "started", "call": start.call, "version": __version__})

    def told(self, event: Mapping[str, Any]) -> None:
        """An utterance becomes the call's risk, and its transcript where the configuration allows text."""
        event = redact(event, include_text=self._config.include_text)
        if event["type"] == "utterance":
            if self._config.include_text:
                self._send({name: event[name] for name in ("call", "leg", "start_s", "end_s", "text")}, "transcript")
            self._send({name: event[name] for name in ("call", "risk")} | {"at_s": event["end_s"]}, "risk")
        else:
            self._send(event)

    def _send(self, message: Mapping[str, Any], kind: str | None = None) -> None:
        body = message if kind is None else {"type": kind, **message}
        self.outlet.send(msgspec.json.encode(body).decode())
