"""Calls whose audio comes over connections: which connection brings which leg, and when the call is over.

A call lives as long as one of its connections, and a little longer where the last one broke: media servers connect
anew. Nothing here reads a socket.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from pydantic import SecretStr

from inference.alerts.ear import Announcement, Reach
from inference.audio import LEGS, SAMPLE_RATE_HZ, Leg
from inference.audio.segment import PCM
from inference.errors import AlertError, CodecError, ConfigError, ScamTapError, SignallingError
from inference.gateway.control import CallControl
from inference.gateway.spec import CallSpec
from inference.gateway.timeline import Timeline

log = structlog.get_logger(__name__)

MAX_CHUNK = SAMPLE_RATE_HZ  # the most that the service takes at once


def reason(error: ScamTapError) -> str:
    """Why a connection was cut, for counters and the log: nothing of the call in it, so there are only so many."""
    return str(error) if isinstance(error, SignallingError | CodecError) else f"call refused ({type(error).__name__})"


class Player(Protocol):
    """A connection that plays what it is sent to the party whose audio it brings, and to nobody else."""

    def play(self, samples: PCM) -> None:
        """Begin to play int16 ``[num_samples]`` at 8 kHz; nothing waits."""
        ...

    def stop(self) -> None:
        """Play no more of it."""
        ...


class Line(Protocol):
    """One connection, as the calls see it."""

    def over(self) -> None:
        """The service ended the call: hang up. Nothing waits."""
        ...

    def told(self, event: Mapping[str, Any]) -> None:
        """Something happened in the call: the event's JSON, with what was said. Nothing waits."""
        ...

    @property
    def player(self) -> Player | None:
        """How the near party hears us over this connection; None where it does not."""
        ...


class _Call:
    """One call and its connections."""

    def __init__(self, spec: CallSpec) -> None:
        self.spec = spec
        self.timelines = {leg: Timeline() for leg in spec.legs}
        self.lines: dict[Leg, Line] = {}
        self.lingering: asyncio.TimerHandle | None = None


class Place:
    """A connection's place in its call."""

    def __init__(self, calls: "ConnectedCalls", call: _Call, legs: Sequence[Leg], line: Line) -> None:
        self._calls = calls
        self._call = call
        self._legs = tuple(legs)
        self._line = line

    @property
    def call_id(self) -> str:
        """Id of the call."""
        return self._call.spec.id

    def write(self, leg: Leg, samples: PCM, timestamp: int | None = None) -> None:
        """Audio of a leg of this connection.

        Args:
            leg: of which party.
            samples: int16 ``[num_samples]`` at 8 kHz.
            timestamp: number of the first sample in the sender's time; None: it follows the last.

        Raises:
            SignallingError: more of it than can be spoken.
        """
        if len(samples) > MAX_CHUNK:
            for start in range(0, len(samples), MAX_CHUNK):
                part = samples[start : start + MAX_CHUNK]
                self.write(leg, part, None if timestamp is None else timestamp + start)
            return
        at = self._call.timelines[leg].place(len(samples), self._calls.clock(), timestamp)
        if at is not None:
            self._calls.control.write(self._call.spec.id, leg, samples, at)

    def key_pressed(self, leg: Leg, digit: str) -> None:
        """A party pressed a key; anything that is none is ignored."""
        if len(digit) == 1 and digit in "0123456789*#ABCD":
            self._calls.control.key_pressed(self._call.spec.id, leg, digit)

    def leave(self, *, is_over: bool) -> None:
        """The connection ended.

        Args:
            is_over: it was hung up; otherwise it broke, and the call waits a while for another one.
        """
        for leg in self._legs:
            if self._call.lines.get(leg) is self._line:
                del self._call.lines[leg]
        self._calls.left(self._call, is_over=is_over)

    def finish(self) -> None:
        """The call is over; the connection stays, to be told the verdict."""
        self._calls.end(self._call)


class ConnectedCalls:
    """The calls of one gateway; also the :class:`inference.alerts.ear.Ear` that speaks over their connections.

    Args:
        name: of the ear.
        control: the service.
        linger_s: how long a call waits when its last connection broke.
        clock: monotonic seconds.
    """

    def __init__(
        self, name: str, control: CallControl, *, linger_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.control = control
        self.clock = clock
        self._linger_s = linger_s
        self._calls: dict[str, _Call] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._calls)

    def join(self, spec: CallSpec, legs: Sequence[Leg], line: Line) -> Place:
        """A connection brings ``legs`` of a call, which begins if it is not under way.

        Raises:
            ConfigError: another connection brings that leg already, or the call came another way.
            CapacityError: no room for another call.
        """
        call = self._calls.get(spec.id)
        if call is None:
            self.control.begin(spec)
            call = self._calls[spec.id] = _Call(spec)
            self.control.follow(spec.id, lambda event: self._told(call, event))
        elif spec.reach is not None and spec.reach.via is not None and call.spec.reach != spec.reach:
            call.spec = call.spec.model_copy(update={"reach": spec.reach})  # this connection knows how
            self.control.change(call.spec)
        if any(leg in call.lines or leg not in call.timelines for leg in legs):
            raise ConfigError("that leg of the call is connected already")
        if call.lingering is not None:
            call.lingering.cancel()
            call.lingering = None
        call.lines |= dict.fromkeys(legs, line)
        return Place(self, call, legs, line)

    def left(self, call: _Call, *, is_over: bool) -> None:
        """A connection of ``call`` ended; where it was the last, the call ends now or soon."""
        if call.lines or self._calls.get(call.spec.id) is not call:
            return
        if is_over:
            self.end(call)
        elif call.lingering is None:
            call.lingering = asyncio.get_running_loop().call_later(self._linger_s, self.end, call)

    def end(self, call: _Call) -> None:
        """End ``call`` now, if it has not ended."""
        if self._calls.get(call.spec.id) is not call:
            return
        del self._calls[call.spec.id]
        if call.lingering is not None:
            call.lingering.cancel()
        ending = asyncio.create_task(self._ended(call.spec.id))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _ended(self, call_id: str) -> None:
        try:
            await self.control.end(call_id)
        except KeyError:  # the service was faster
            log.debug("call had ended", call=call_id)

    def _told(self, call: _Call, event: Mapping[str, Any]) -> None:
        lines = list(dict.fromkeys(call.lines.values()))  # one connection may bring both legs
        for line in lines:
            line.told(event)
        if event["type"] == "verdict":
            if self._calls.get(call.spec.id) is call:
                del self._calls[call.spec.id]
            for line in lines:
                line.over()

    def reach(self, call_id: str) -> Reach:
        """How the subscriber of a call is reached where its near connection plays."""
        return Reach(via=self.name, call=SecretStr(call_id))

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """Have it played to the subscriber alone, over the connection that brings the near leg.

        Raises:
            AlertError: the call is gone, or no connection of it can be heard by the subscriber.
        """
        self._player(reach).play(announcement.samples)

    async def stop(self, reach: Reach) -> None:
        """Stop what is being played.

        Raises:
            AlertError: as for :meth:`play`.
        """
        self._player(reach).stop()

    def _player(self, reach: Reach) -> Player:
        call = self._calls.get(reach.call.get_secret_value()) if reach.call is not None else None
        line = call.lines.get(LEGS[1]) if call is not None else None
        player = line.player if line is not None else None
        if player is None:
            raise AlertError("the subscriber cannot be reached over a connection: the call is gone, or only listens")
        return player

    async def aclose(self) -> None:
        """End every call, and wait for their verdicts."""
        for call in list(self._calls.values()):
            self.end(call)
        if self._ending:
            await asyncio.wait(self._ending)
