"""rtpengine as a way in and a way back: follows the calls of its nodes, lets the proxy announce some, warns in them.

How a call is found: the proxy gives ``rtpengine_offer`` or ``rtpengine_answer`` a label, and each node is asked again
and again which calls it has. A proxy may also announce a call and its end by itself (:mod:`.door`).
"""

import asyncio

import structlog

from inference.errors import ConfigError, GatewayError
from inference.gateway.control import CallControl
from inference.gateway.ports import MediaPorts
from inference.gateway.rtpengine.config import RtpengineConfig
from inference.gateway.rtpengine.described import CallState
from inference.gateway.rtpengine.door import make_door
from inference.gateway.rtpengine.ear import RtpengineEar
from inference.gateway.rtpengine.follower import Follower
from inference.gateway.rtpengine.guard import Guard
from inference.gateway.rtpengine.ng import NgNode, RefusedError
from inference.gateway.rtpengine.subscription import NAME, Subscriber, Subscription

log = structlog.get_logger(__name__)


class RtpengineGateway:
    """All nodes. A :class:`inference.gateway.control.Gateway`.

    Args:
        config: nodes, and how their calls are followed.
        control: the service.
        ports: where media may be sent.

    Attributes:
        ear: the way back to subscribers.
        door: what the proxy may tell over the control API.
    """

    name = NAME

    def __init__(self, config: RtpengineConfig, control: CallControl, ports: MediaPorts) -> None:
        self.config = config
        subscriber = Subscriber(config, ports)
        self._subscriber = subscriber
        self._followers = [
            Follower(NgNode(node, config.timeout_s), config, subscriber, control) for node in config.nodes
        ]
        self._guard = Guard() if config.caller_while_warning == "held" else None
        self.ear = RtpengineEar(config, self.find, self._guard)
        self.door = make_door(self)
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """See :meth:`inference.gateway.control.Gateway.start`. The first round begins at once."""
        if self._guard is not None:
            await self._guard.start()
        self._running = [asyncio.create_task(_keep_up(follower)) for follower in self._followers]

    def find(self, call_id: str) -> Subscription | None:
        """The call with this SIP Call-ID, where it is followed."""
        found = (follower.calls.get(call_id) for follower in self._followers)
        return next((subscription for subscription in found if subscription is not None), None)

    async def locate(self, call_id: str, node: str | None) -> tuple[Follower, CallState]:
        """On which node a call is, and who is in it.

        Args:
            call_id: SIP Call-ID.
            node: name of a configured node, or None to ask all.

        Raises:
            ConfigError: no node of this name.
            KeyError: no such call.
            GatewayError: a node does not answer, and no other has the call.
        """
        asked = [follower for follower in self._followers if node in (None, follower.node.name)]
        if not asked:
            raise ConfigError("no rtpengine node of this name is configured")
        failure: GatewayError | None = None
        for follower in asked:
            try:
                return follower, await self._subscriber.state(follower.node, call_id)
            except RefusedError:
                continue
            except GatewayError as error:
                failure = error
        if failure is not None:
            raise failure
        raise KeyError("no such call")

    def end(self, call_id: str) -> bool:
        """The proxy says that a call is over; False where it was not followed."""
        ended = [follower.end(call_id) for follower in self._followers]  # every node is told
        return any(ended)

    async def aclose(self) -> None:
        """See :meth:`inference.gateway.control.Gateway.aclose`."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.ear.aclose()
        await asyncio.gather(*(follower.aclose() for follower in self._followers))
        for follower in self._followers:
            await follower.node.aclose()


async def _keep_up(follower: Follower) -> None:
    """Run a follower for ever; should a mistake of ours end it, begin again: the node knows what we forgot."""
    while True:
        running = asyncio.create_task(follower.run())
        try:
            await asyncio.wait({running})
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        kind = type(running.exception()).__name__
        log.error("rtpengine is followed anew after an internal error", node=follower.node.name, kind=kind)
        await asyncio.sleep(follower.node.timeout_s)
