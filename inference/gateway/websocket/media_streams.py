"""Media Streams of Twilio, Telnyx and SignalWire: JSON, audio in base64, one track a party.

twilio.com/docs/voice/media-streams/websocket-messages; developers.telnyx.com "Media Streaming over WebSockets";
SignalWire's compatibility API. Telnyx spells names with underscores and does not promise the order of messages.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.audio.segment import PCM
from inference.errors import CodecError, SignallingError
from inference.gateway.connected import ConnectedCalls, Player
from inference.gateway.pcm import Encoding, Sound, encode
from inference.gateway.websocket.config import MediaStreamsConfig
from inference.gateway.websocket.session import Outlet, Session, decode, encoding_of, reach_of, spec_of

Track = Literal["inbound", "outbound"]

MAX_PARAMETERS = 32
MAX_TIMESTAMP_MS = 10 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Started:
    """The stream began.

    Attributes:
        call: the service's reference of the call.
        stream: its reference of the stream.
        encoding, rate_hz: of both tracks.
        parameters: what the stream was configured to say.
    """

    call: str
    stream: str
    encoding: Encoding
    rate_hz: int
    parameters: Mapping[str, str]


class Chunk(NamedTuple):
    """Audio of one track; ``timestamp_ms`` is of its first sample, None where the service tells none."""

    track: Track
    timestamp_ms: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """A key was pressed on a track."""

    track: Track
    digit: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The stream is over."""


class _Format(msgspec.Struct):
    encoding: str
    sampleRate: int | None = None  # noqa: N815
    sample_rate: int | None = None
    channels: int = 1


class _Start(msgspec.Struct):
    callSid: str = ""  # noqa: N815
    call_control_id: str = ""
    streamSid: str = ""  # noqa: N815
    mediaFormat: _Format | None = None  # noqa: N815
    media_format: _Format | None = None
    customParameters: Any = None  # noqa: N815
    custom_parameters: Any = None


class _Media(msgspec.Struct):
    payload: str
    track: str = "inbound"
    timestamp: str | int | None = None


class _Dtmf(msgspec.Struct):
    digit: str
    track: str = "inbound"


class _Envelope(msgspec.Struct):
    event: str
    media: _Media | None = None
    start: _Start | None = None
    dtmf: _Dtmf | None = None
    streamSid: str = ""  # noqa: N815
    stream_id: str = ""


_decoder = msgspec.json.Decoder(_Envelope)
_TRACKS: dict[str, Track] = {
    "inbound": "inbound", "outbound": "outbound", "inbound_track": "inbound", "outbound_track": "outbound"
}  # fmt: skip


def parse(text: str) -> Started | Chunk | Key | Stopped | None:
    """One message; None for those that tell us nothing (``connected``, ``mark``, others yet to come).

    Raises:
        SignallingError: it is not of the protocol; the text names the field, never its value.
        CodecError: audio that is not decoded here.
    """
    message = decode(_decoder, text, "a message of the stream")
    if message.event == "media":
        if message.media is None:
            raise SignallingError("a media message has no media")
        return _chunk(message.media)
    if message.event == "start":
        return _started(message)
    if message.event == "dtmf" and message.dtmf is not None:
        return Key(_track(message.dtmf.track), message.dtmf.digit)
    return Stopped() if message.event == "stop" else None


def _chunk(media: _Media) -> Chunk:
    timestamp_ms: int | None = None
    if media.timestamp is not None:
        try:
            timestamp_ms = int(media.timestamp)
        except ValueError as error:
            raise SignallingError("media.timestamp is no number") from error
        if not 0 <= timestamp_ms <= MAX_TIMESTAMP_MS:
            raise SignallingError("media.timestamp is out of range")
    try:
        data = binascii.a2b_base64(media.payload, strict_mode=True)
    except ValueError as error:  # binascii.Error, or not ASCII
        raise SignallingError("media.payload is not base64") from error
    return Chunk(_track(media.track), timestamp_ms, data)


def _track(name: str) -> Track:
    try:
        return _TRACKS[name]
    except KeyError:
        raise SignallingError("a track is neither inbound nor outbound") from None


def _started(message: _Envelope) -> Started:
    start = message.start
    form = None if start is None else start.mediaFormat or start.media_format
    if start is None or form is None:
        raise SignallingError("the start message lacks its start or media format")
    if form.channels != 1:
        raise CodecError("a track of several channels: stream one channel a track")
    encoding, usual_hz = encoding_of(form.encoding)
    return Started(
        call=start.callSid or start.call_control_id,
        stream=message.streamSid or message.stream_id or start.streamSid,
        encoding=encoding,
        rate_hz=form.sampleRate or form.sample_rate or usual_hz,
        parameters=_parameters(start.customParameters or start.custom_parameters),
    )


def _parameters(given: Any) -> dict[str, str]:
    """Twilio sends an object, Telnyx takes a list of names and values."""
    if isinstance(given, list):
        given = {item.get("name"): item.get("value") for item in given[:MAX_PARAMETERS] if isinstance(item, dict)}
    if not isinstance(given, dict):
        return {}
    pairs = list(given.items())[:MAX_PARAMETERS]
    return {name: value for name, value in pairs if isinstance(name, str) and isinstance(value, str)}


class MediaStreamsSession(Session):
    """One stream: both tracks of a call."""

    def __init__(
        self,
        name: str,
        config: MediaStreamsConfig,
        calls: ConnectedCalls,
        query: Mapping[str, str],
        outlet: Outlet,
        check: Callable[[Mapping[str, str]], None],
    ) -> None:
        super().__init__(calls, query, outlet, check)
        self._name = name
        self._config = config
        self._legs: dict[Track, Leg] = {}
        self._sounds: dict[Track, Sound] = {}
        self._per_ms = 0
        self._player: StreamPlayer | None = None

    def text(self, message: str) -> None:
        """See :class:`Session`."""
        parsed = parse(message)
        if isinstance(parsed, Chunk):
            if self.place is None:
                raise SignallingError("media came before its start message")
            (samples,) = self._sounds[parsed.track].take(parsed.data)
            at = None if parsed.timestamp_ms is None else parsed.timestamp_ms * SAMPLE_RATE_HZ // 1000
            self.place.write(self._legs[parsed.track], samples, at)
        elif isinstance(parsed, Started):
            self._start(parsed)
        elif isinstance(parsed, Key) and self.place is not None:
            self.place.key_pressed(self._legs[parsed.track], parsed.digit)
        elif isinstance(parsed, Stopped):
            self.hang_up()

    def binary(self, message: bytes) -> None:  # noqa: ARG002
        """See :class:`Session`."""
        raise SignallingError("a binary message came; audio of a media stream is JSON")

    def _start(self, started: Started) -> None:
        parameters = {**self.query, **started.parameters}
        near = _track(parameters.get("near") or self._config.near)
        self._legs = {track: LEGS[track == near] for track in ("inbound", "outbound")}
        self._sounds = {track: Sound(started.encoding, started.rate_hz) for track in ("inbound", "outbound")}
        call = parameters.get("call") or started.call
        plays = self._config.plays and near == "inbound"
        reach = reach_of(self._name, started.call, parameters, is_near=near == "inbound")
        self.begin(spec_of(call, parameters, self.calls.reach(call) if plays else reach), LEGS, parameters)
        if plays:
            self._player = StreamPlayer(self._name, started, self.outlet)

    @property
    def player(self) -> Player | None:
        """The stream itself, where it is bidirectional and hangs on the subscriber's leg."""
        return self._player


class StreamPlayer:
    """Plays to the party on the streamed call leg; Twilio and SignalWire name the stream, Telnyx has one alone."""

    def __init__(self, name: str, started: Started, outlet: Outlet) -> None:
        self._started = started
        self._outlet = outlet
        self._stream = {} if name == "telnyx" else {"streamSid": started.stream}

    def play(self, samples: PCM) -> None:
        """See :class:`inference.gateway.connected.Player`. A message holds 20 ms to 30 s; ours a second."""
        audio = encode(samples, self._started.encoding, self._started.rate_hz)
        second = len(encode(samples[:SAMPLE_RATE_HZ], self._started.encoding, self._started.rate_hz))
        for start in range(0, len(audio), max(second, 1)):
            payload = base64.b64encode(audio[start : start + second]).decode()
            self._send({"event": "media", **self._stream, "media": {"payload": payload}})

    def stop(self) -> None:
        """See :class:`inference.gateway.connected.Player`."""
        self._send({"event": "clear", **self._stream})

    def _send(self, message: Mapping[str, Any]) -> None:
        self._outlet.send(msgspec.json.encode(message).decode())
