"""Forks of FreeSWITCH: jambonz ``listen``, mod_audio_fork, mod_audio_stream. Linear audio, stereo for two parties.

docs.jambonz.org/verbs/verbs/listen; the READMEs of the modules. A first text frame may say which call it is (jambonz
always sends one); where it does not, the URL does. In stereo the left channel is the party that the fork hangs on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from inference.audio import LEGS, Leg
from inference.errors import CodecError, SignallingError
from inference.gateway.connected import ConnectedCalls
from inference.gateway.pcm import Sound
from inference.gateway.websocket.config import ForkConfig
from inference.gateway.websocket.session import Outlet, Session, decode, reach_of, spec_of

Mix = Literal["mono", "stereo", "mixed"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the first text frame says of the call; None where it does not say.

    Attributes:
        call: the channel's or call's own reference.
        rate_hz: samples per second.
        mix: what its channels are.
        parameters: everything else that is text.
    """

    call: str | None
    rate_hz: int | None
    mix: Mix | None
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Key:
    """The party that the fork hangs on pressed a key."""

    digit: str


_decoder = msgspec.json.Decoder(dict[str, Any])
_MIXES: dict[str, Mix] = {"mono": "mono", "stereo": "stereo", "mixed": "mixed"}


def parse(text: str) -> Metadata | Key | None:
    """A text frame; None for those that tell us nothing.

    Raises:
        SignallingError: not a JSON object, or a field of it is wrong.
    """
    message = decode(_decoder, text, "a text frame")
    if message.get("event") == "dtmf":
        digit = message.get("dtmf")
        if not isinstance(digit, str):
            raise SignallingError("dtmf is no text")
        return Key(digit)
    if "event" in message:
        return None
    texts = {name: value for name, value in message.items() if isinstance(value, str)}
    call = texts.get("callSid") or texts.get("call") or texts.get("uuid")
    return Metadata(call, rate_of(message.get("sampleRate")), mix_of(texts.get("mixType")), texts)


def rate_of(value: object) -> int | None:
    """Samples per second as modules write them: 8000, "8000", "8k".

    Raises:
        SignallingError: it is none of these.
    """
    if value is None or value == "":
        return None
    text = str(value).lower()
    number = text.removesuffix("k")
    if not (number.isascii() and number.isdigit() and len(number) <= 6):
        raise SignallingError("the sampling rate is no number")
    return int(number) * (1000 if text.endswith("k") else 1)


def mix_of(value: str | None) -> Mix | None:
    """What the channels are.

    Raises:
        SignallingError: none of mono, stereo, mixed.
    """
    if not value:
        return None
    if value not in _MIXES:
        raise SignallingError("the mix type is none of mono, stereo, mixed")
    return _MIXES[value]


class ForkSession(Session):
    """One fork: a call's parties in the channels of one stream."""

    def __init__(
        self,
        name: str,
        config: ForkConfig,
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
        """See :class:`Session`. mod_audio_stream's metadata may be any text: what is no JSON tells us nothing."""
        parsed = parse(message) if message.lstrip().startswith("{") else None
        if isinstance(parsed, Key):
            if self.place is not None:
                self.place.key_pressed(self._legs[0], parsed.digit)
        elif parsed is not None and self.place is None:  # mod_audio_stream may send more of it later
            self._start(parsed)

    def binary(self, message: bytes) -> None:
        """See :class:`Session`."""
        if self._sound is None:
            self._start(Metadata(None, None, None, {}))
        if self._sound is not None and self.place is not None:
            for leg, samples in zip(self._legs, self._sound.take(message), strict=True):
                self.place.write(leg, samples)

    def _start(self, metadata: Metadata) -> None:
        parameters = {**metadata.parameters, **self.query}
        call = self.query.get("call") or metadata.call
        if not call:
            raise SignallingError("the call is not named: add ?call=UUID to the URL, or callSid to the metadata")
        mix = metadata.mix or mix_of(self.query.get("mix")) or "stereo"
        self._legs = self._legs_of(mix, parameters.get("near") or self._config.near)
        rate_hz = metadata.rate_hz or rate_of(self.query.get("rate")) or 8000
        sound = Sound("L16", rate_hz, len(self._legs))
        is_near = self._legs[0] == LEGS[1]
        reach = reach_of(self._name, metadata.call or call, parameters, is_near=is_near)
        spec = spec_of(call, parameters, reach, has_near=len(self._legs) == 2)
        self.begin(spec, self._legs, parameters)
        self._sound = sound

    def _legs_of(self, mix: Mix, near: str) -> tuple[Leg, ...]:
        if mix == "mixed" or (mix == "mono" and self._config.mono == "refuse"):
            raise CodecError("a fork of one channel does not tell the parties apart: fork in stereo")
        if mix == "mono":
            return LEGS[:1]
        if near not in ("left", "right"):
            raise SignallingError("near is neither left nor right")
        return LEGS if near == "right" else LEGS[::-1]
