"""Asterisk's chan_websocket: one party a connection, audio in binary messages, control in text.

docs.asterisk.org/Configuration/Channel-Drivers/WebSocket. Control is a line of words, or JSON where
chan_websocket.conf says so. Two connections with the same ``call`` and another ``leg`` in their URL are one call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from inference.audio import LEGS, Leg
from inference.audio.segment import PCM
from inference.errors import SignallingError
from inference.gateway.connected import ConnectedCalls, Player
from inference.gateway.pcm import Encoding, Sound, encode
from inference.gateway.websocket.config import AsteriskConfig
from inference.gateway.websocket.session import Outlet, Session, decode, encoding_of, reach_of, spec_of

MAX_WORDS = 64


@dataclass(frozen=True, slots=True)
class MediaStart:
    """Audio begins.

    Attributes:
        encoding, rate_hz: how it is written.
        channel: Asterisk's name of the channel.
        is_json: Asterisk speaks JSON, and wants commands in it.
    """

    encoding: Encoding
    rate_hz: int
    channel: str
    is_json: bool


@dataclass(frozen=True, slots=True)
class Key:
    """A key was pressed."""

    digit: str


_decoder = msgspec.json.Decoder(dict[str, Any])


def parse(text: str) -> MediaStart | Key | None:
    """One control message; None for those that tell us nothing.

    Raises:
        SignallingError: it is not of the protocol.
        CodecError: audio that is not decoded here.
    """
    is_json = text.startswith("{")
    fields = decode(_decoder, text, "a control message") if is_json else _words(text)
    event = fields.get("event")
    if event == "MEDIA_START":
        form = fields.get("format")
        if not isinstance(form, str):
            raise SignallingError("MEDIA_START has no format: it needs Asterisk 20.16, 21.11, 22.6, 23.0 or later")
        channel = fields.get("channel")
        return MediaStart(*encoding_of(form), channel if isinstance(channel, str) else "", is_json)
    if event == "DTMF_END":
        digit = fields.get("digit")
        if not isinstance(digit, str):
            raise SignallingError("DTMF_END has no digit")
        return Key(digit)
    return None


def _words(text: str) -> dict[str, Any]:
    """``EVENT name:value name:value``."""
    event, *words = text.split(maxsplit=MAX_WORDS) or [""]
    pairs = (word.partition(":") for word in words)
    return {name: value for name, _, value in pairs} | {"event": event}


class AsteriskSession(Session):
    """One connection: one party of a call."""

    def __init__(
        self,
        name: str,
        config: AsteriskConfig,
        calls: ConnectedCalls,
        query: Mapping[str, str],
        outlet: Outlet,
        check: Callable[[Mapping[str, str]], None],
    ) -> None:
        super().__init__(calls, query, outlet, check)
        self._name = name
        self._config = config
        self._leg: Leg = "far"
        self._sound: Sound | None = None
        self._player: WhisperPlayer | None = None

    def text(self, message: str) -> None:
        """See :class:`Session`."""
        parsed = parse(message)
        if isinstance(parsed, MediaStart):
            self._start(parsed)
        elif isinstance(parsed, Key) and self.place is not None:
            self.place.key_pressed(self._leg, parsed.digit)

    def binary(self, message: bytes) -> None:
        """See :class:`Session`."""
        if self._sound is None or self.place is None:
            raise SignallingError("audio came before MEDIA_START")
        (samples,) = self._sound.take(message)
        self.place.write(self._leg, samples)

    def _start(self, start: MediaStart) -> None:
        call, leg = self.query.get("call"), self.query.get("leg")
        if not call or leg not in LEGS:
            raise SignallingError("the URL names no call and leg: Dial(WebSocket/name/c(ulaw)v(call=…,leg=far))")
        self._leg = leg
        self._sound = Sound(start.encoding, start.rate_hz)
        plays = self._config.plays
        reach = reach_of(self._name, call, self.query, is_near=False)  # what the connection hangs on is a tap
        spec = spec_of(call, self.query, self.calls.reach(call) if plays else reach)
        self.begin(spec, (leg,), self.query)
        if plays:
            self._player = WhisperPlayer(start, self.outlet)

    @property
    def player(self) -> Player | None:
        """The channel itself, where it whispers."""
        return self._player


class WhisperPlayer:
    """Plays over the connection; Asterisk cuts it into frames and times them."""

    def __init__(self, start: MediaStart, outlet: Outlet) -> None:
        self._start = start
        self._outlet = outlet

    def play(self, samples: PCM) -> None:
        """See :class:`inference.gateway.connected.Player`. Asterisk's queue holds 20 s, its messages 65,500 bytes."""
        audio = encode(samples, self._start.encoding, self._start.rate_hz)
        self._command("START_MEDIA_BUFFERING")
        for start in range(0, len(audio), 32000):
            self._outlet.send(audio[start : start + 32000])
        self._command("STOP_MEDIA_BUFFERING")

    def stop(self) -> None:
        """See :class:`inference.gateway.connected.Player`."""
        self._command("FLUSH_MEDIA")

    def _command(self, name: str) -> None:
        self._outlet.send(f'{{"command":"{name}"}}' if self._start.is_json else name)
