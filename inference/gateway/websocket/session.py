"""What all dialects share: a session between one connection and its call."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

import msgspec
from pydantic import SecretStr, ValidationError

from inference.alerts.ear import Reach
from inference.audio import Leg
from inference.errors import CodecError, SignallingError
from inference.gateway.connected import ConnectedCalls, Place, Player
from inference.gateway.pcm import Encoding
from inference.gateway.spec import CallSpec, LegSpec

Message = TypeVar("Message")

ENCODINGS: Mapping[str, tuple[Encoding, int]] = {
    "PCMU": ("PCMU", 8000),
    "PCMA": ("PCMA", 8000),
    "AUDIO/X-MULAW": ("PCMU", 8000),
    "MULAW": ("PCMU", 8000),
    "ULAW": ("PCMU", 8000),
    "ALAW": ("PCMA", 8000),
    "L16": ("L16", 8000),
    "SLIN": ("L16", 8000),
    "SLIN12": ("L16", 12000),
    "SLIN16": ("L16", 16000),
    "SLIN24": ("L16", 24000),
    "SLIN32": ("L16", 32000),
    "SLIN44": ("L16", 44100),
    "SLIN48": ("L16", 48000),
}
"""What gateways call their audio, in capitals, and its usual rate."""


def encoding_of(name: str) -> tuple[Encoding, int]:
    """What a gateway's name of an encoding is here, and its rate where the gateway tells none.

    Raises:
        CodecError: it is not decoded here.
    """
    found = ENCODINGS.get(name.upper())
    if found is None:
        raise CodecError("a codec that is not decoded here: stream PCMU, PCMA or linear audio")
    return found


def decode(decoder: msgspec.json.Decoder[Message], text: str | bytes, what: str) -> Message:
    """JSON as a typed message; fields it does not know are passed over.

    Raises:
        SignallingError: not JSON, or not such a message. Its text holds nothing of what came.
    """
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SignallingError(f"{what} is not JSON of the right form") from error


def spec_of(call: str, parameters: Mapping[str, str], reach: Reach, *, has_near: bool = True) -> CallSpec:
    """A call whose audio comes over connections.

    Args:
        call: its id.
        parameters: what the gateway was told to say of it: ``language``, ``subscriber``, ``caller``.
        reach: how its subscriber is reached.
        has_near: the subscriber's audio comes too.

    Raises:
        SignallingError: the id or a parameter is not of the right form.
    """
    people = {who: SecretStr(parameters[who]) for who in ("subscriber", "caller") if parameters.get(who)}
    try:
        return CallSpec(
            id=call,
            far=LegSpec(),
            near=LegSpec() if has_near else None,
            language=cast(Any, parameters.get("language") or None),
            reach=Reach.model_validate(reach.model_dump(exclude_none=True) | people),
        )
    except ValidationError as error:
        field = error.errors(include_input=False, include_url=False)[0]["loc"][0]
        raise SignallingError(f"the call's {field} is not of the right form") from error


def reach_of(name: str, reference: str, parameters: Mapping[str, str], *, is_near: bool) -> Reach:
    """How the gateway itself can speak to the subscriber; nobody where it might speak to the other party instead.

    Args:
        name: of the dialect, and of its ear.
        reference: the gateway's name of the channel that the connection hangs on.
        parameters: what the gateway was told to say: ``ear``, its name of the subscriber's channel or call, and
            ``conference``, Twilio's of the conference it is in.
        is_near: that channel is the subscriber's own.

    Raises:
        SignallingError: a name is too long.
    """
    ear = parameters.get("ear") or (reference if is_near else "")
    if not ear:
        return Reach()
    try:
        return Reach(via=name, call=SecretStr(parameters.get("conference") or reference), ear=SecretStr(ear))
    except ValidationError as error:
        raise SignallingError("the name of the subscriber's channel is too long") from error


class Outlet(Protocol):
    """The connection's other direction; nothing waits."""

    def send(self, message: str | bytes) -> None:
        """Queue a message; a reader that is too slow is dropped."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close the connection, once what waits is sent."""
        ...


class Session(ABC):
    """One connection in one dialect: messages in, a call out. Its call's :class:`inference.gateway.connected.Line`.

    Args:
        calls: where calls begin.
        query: parameters of the URL.
        outlet: what is sent back.
        check: called with the parameters of the call where the handshake carried no token; raises ConfigError
            where these do not carry it either.
    """

    def __init__(
        self,
        calls: ConnectedCalls,
        query: Mapping[str, str],
        outlet: Outlet,
        check: Callable[[Mapping[str, str]], None],
    ) -> None:
        self.calls = calls
        self.query = query
        self.outlet = outlet
        self.check = check
        self.place: Place | None = None
        self.is_over = False

    @abstractmethod
    def text(self, message: str) -> None:
        """A text message came.

        Raises:
            SignallingError: it is not what the dialect says.
            CodecError, CapacityError, ConfigError: its call cannot be taken.
        """

    @abstractmethod
    def binary(self, message: bytes) -> None:
        """A binary message came; raises as :meth:`text` does."""

    @property
    def player(self) -> Player | None:
        """Where the near party can be spoken to over this connection."""
        return None

    def begin(self, spec: CallSpec, legs: tuple[Leg, ...], parameters: Mapping[str, str]) -> Place:
        """Take the place in the call that this connection has.

        Raises:
            SignallingError: it has one already.
            CapacityError, ConfigError: the call cannot be taken.
        """
        if self.place is not None:
            raise SignallingError("the call began twice")
        self.check(parameters)
        self.place = self.calls.join(spec, legs, self)
        return self.place

    def hang_up(self) -> None:
        """The gateway said that the call is over: its connection has nothing more to say."""
        self.is_over = True
        self.outlet.close(1000, "the call is over")

    def closed(self, *, is_clean: bool) -> None:
        """The connection is closed; cleanly means that it did not break."""
        if self.place is not None:
            self.place.leave(is_over=self.is_over or is_clean)

    def over(self) -> None:
        """See :class:`inference.gateway.connected.Line`."""
        self.is_over = True
        self.outlet.close(1000, "the call is over")

    def told(self, event: Mapping[str, Any]) -> None:  # noqa: B027 (few dialects say anything)
        """See :class:`inference.gateway.connected.Line`."""
