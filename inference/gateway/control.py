"""What a gateway may tell the service: calls begin, change, end; audio comes; a key is pressed."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from fastapi import APIRouter

from inference.alerts.ear import Ear
from inference.audio import Leg
from inference.audio.segment import PCM
from inference.gateway.spec import CallSpec


class CallControl(Protocol):
    """The service as gateways see it. To be called from its event loop; nothing here waits but :meth:`end`."""

    @property
    def is_full(self) -> bool:
        """Whether another call would be refused now: say so in the gateway's own terms, e.g. 503."""
        ...

    @property
    def call_ids(self) -> list[str]:
        """Ids of the calls followed now, oldest first."""
        ...

    def begin(self, spec: CallSpec) -> None:
        """Follow a call from now on; now is second 0 of its time.

        Raises:
            ConfigError: the id is in use, a port is not ours, or a source belongs to another call.
            CapacityError: no room for another call.
            CodecError: a codec that is not decoded here.
        """
        ...

    def keep(self, spec: CallSpec, *, idle_s: float | None = None) -> None:
        """Follow a call that is always there: whenever it ends, the next begins within a second or so.

        Args:
            spec: the call, or a line that carries one call after another.
            idle_s: for a line, how long without a packet a call of it is over; each gets an id of its own, the line's
                with the time at which it was first heard. None: one call, whose id stays.

        Raises:
            ConfigError, CapacityError, CodecError: as for :meth:`begin`.
        """
        ...

    def change(self, spec: CallSpec) -> None:
        """The call goes on with other legs: another codec, address or key.

        Legs whose spec is the same are untouched; what was heard and thought of the call stays.

        Raises:
            KeyError: no such call.
            ConfigError, CapacityError, CodecError: as for :meth:`begin`; the call goes on as it was.
        """
        ...

    def write(self, call_id: str, leg: Leg, samples: PCM, timestamp: int) -> None:
        """Audio of a leg that came over a connection (:attr:`LegSpec.is_streamed`). A call that ended is no error.

        Args:
            call_id: of which call.
            leg: of which party.
            samples: int16 ``[num_samples]`` at 8 kHz, at most a second.
            timestamp: number of the first sample in the sender's own time, from any origin, like an RTP timestamp: a
                step without samples is a gap, an older one fills its place.
        """
        ...

    def key_pressed(self, call_id: str, leg: Leg, digit: str) -> None:
        """A party pressed a key (``0-9*#ABCD``), told by signalling. A call that ended is no error."""
        ...

    def follow(self, call_id: str, told: Callable[[Mapping[str, Any]], None]) -> None:
        """Tell ``told`` whatever happens in a call, its verdict last: the JSON of each event, with what was said in it.

        It is called from the event loop and must neither wait nor raise. One follower a call: its gateway.

        Raises:
            KeyError: no such call.
        """
        ...

    async def end(self, call_id: str) -> Any:
        """Stop following a call: what was heard is understood first, then the verdict is given and returned.

        Raises:
            KeyError: no such call.
        """
        ...


class Gateway(Protocol):
    """A way in: started by the worker once calls can be followed, stopped before they are drained."""

    name: str

    async def start(self) -> None:
        """Listen, or attach to the gateway. A gateway that is away is no error: it is tried again and said once.

        Raises:
            ConfigError: an address cannot be had, a certificate cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Refuse new calls, detach from the gateway, end the calls that came through it."""
        ...


@runtime_checkable
class WithDoor(Protocol):
    """A gateway that signalling can tell something over the control API, under its token and bounds."""

    door: APIRouter


@runtime_checkable
class WithEar(Protocol):
    """A gateway through which the subscribers of its calls can be warned."""

    ear: Ear
