"""Keeps up with one rtpengine: which calls it has, which of them are ours to follow, which are over.

Nothing but the node itself is believed, and it is asked again and again: so a crash of ours, a restart of the node or
a lost message all heal by themselves with the next round.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

import structlog

from inference.errors import ConfigError, GatewayError, ScamTapError
from inference.gateway.control import CallControl
from inference.gateway.rtpengine.config import RtpengineConfig
from inference.gateway.rtpengine.described import CallState, Note, listed_calls
from inference.gateway.rtpengine.ng import NgNode, RefusedError, UnansweredError
from inference.gateway.rtpengine.subscription import Subscriber, Subscription, Wanted, release
from inference.gateway.spec import CallSpec

log = structlog.get_logger(__name__)

MAX_UDP_LISTED = 800
"""A reply over UDP has 64 KiB: 80 characters for each of so many call-ids."""
MIN_LISTED = 25
MAX_AT_ONCE = 16
MAX_NEW = 4096
"""Calls seen for the first time that one round looks at: after a crash of ours, all that the node has."""
MAX_RINGING = 256
"""Calls not answered yet that one round looks at again; the others wait for the next."""
MAX_LEFT_ALONE = 100_000
RETRY_S = 10.0
"""After so long a call that could not be followed is tried again."""


def id_of(call_id: str) -> str:
    """What we call a call whose proxy gave it no name: a SIP Call-ID is hostile and may be personal."""
    return f"rtpengine-{hashlib.sha256(call_id.encode()).hexdigest()[:20]}"


class Follower:
    """The calls of one node.

    Args:
        node: the daemon.
        config: what is followed.
        subscriber: forks calls to us.
        control: the service.
        clock: monotonic seconds.

    Attributes:
        calls: followed now, by SIP Call-ID.
    """

    def __init__(
        self,
        node: NgNode,
        config: RtpengineConfig,
        subscriber: Subscriber,
        control: CallControl,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.node = node
        self.calls: dict[str, Subscription] = {}
        self._config = config
        self._subscriber = subscriber
        self._control = control
        self._clock = clock
        self._left_alone: set[str] = set()
        self._ringing: set[str] = set()
        self._next_try_s: dict[str, float] = {}
        self._checked_s: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._num_listed = config.max_listed if node.config.transport == "tcp" else MAX_UDP_LISTED
        self._limit = min(self._num_listed, config.max_listed)
        self._turn = 0
        self._is_away = False
        self._is_cut_said = False

    async def run(self) -> None:
        """Ask the node for its calls, for ever. A node that is away is said once; its calls stay as they are."""
        while True:
            try:
                await self.poll()
                if self._is_away:
                    log.info("rtpengine answers again", node=self.node.name)
                self._is_away = False
            except GatewayError as error:
                if not self._is_away:
                    log.warning("rtpengine is away", node=self.node.name, why=str(error))
                self._is_away = True
            await asyncio.sleep(self._config.poll_s)

    async def poll(self) -> None:
        """One round.

        Raises:
            GatewayError: the node does not say which calls it has.
        """
        try:
            reply = await self.node.request("list", limit=self._limit)
        except GatewayError:
            self._limit = max(MIN_LISTED, self._limit // 2)  # the reply may have been too long for a datagram
            raise
        listed = listed_calls(reply)
        is_whole = len(listed) < self._limit
        if not is_whole and not self._is_cut_said:
            log.warning("rtpengine has more calls than it lists", node=self.node.name, listed=len(listed))
        self._is_cut_said = not is_whole
        self._limit = min(2 * self._limit, self._num_listed, self._config.max_listed)
        if is_whole:
            self._forget_all_but(listed)
        self._drop_ended()
        now_s = self._clock()
        last_check_s = now_s if self._is_away else now_s - self._config.check_s
        due = [call_id for call_id in self.calls if self._checked_s.get(call_id, 0.0) <= last_check_s]
        self._ringing.intersection_update(listed)
        new = [call_id for call_id in listed if self._is_to_be_looked_at(call_id, now_s)]
        unseen = [call_id for call_id in new if call_id not in self._ringing][:MAX_NEW]
        looked_at = [*due, *unseen, *self._some_ringing(new)]
        await _few_at_once([self._check(of) if of in self.calls else self._consider(of) for of in looked_at])

    def _some_ringing(self, new: list[str]) -> list[str]:
        ringing = [call_id for call_id in new if call_id in self._ringing]
        turn = self._turn % max(1, len(ringing))  # those that ring for long must not keep others waiting
        self._turn += MAX_RINGING
        return [*ringing[turn:], *ringing[:turn]][:MAX_RINGING]

    def _is_to_be_looked_at(self, call_id: str, now_s: float) -> bool:
        if call_id in self.calls or call_id in self._left_alone or self._next_try_s.get(call_id, 0.0) > now_s:
            return False
        share = int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:4], "big") % self._config.num_workers
        return share == self._config.worker

    def _forget_all_but(self, listed: Iterable[str]) -> None:
        here = set(listed)
        for call_id in [call_id for call_id in self.calls if call_id not in here]:
            self._end(call_id)
        self._left_alone &= here
        for table in (self._next_try_s, self._checked_s, self._locks):
            for call_id in [call_id for call_id in table if call_id not in here and call_id not in self.calls]:
                del table[call_id]

    def _drop_ended(self) -> None:
        """Calls that the service ended by itself (no packets, or told to): their forks are stopped."""
        followed = set(self._control.call_ids)
        for call_id, subscription in list(self.calls.items()):
            if subscription.spec.id not in followed:
                self._leave_alone(call_id)
                del self.calls[call_id]
                self._subscriber.forget(subscription)
                self._spawn(self._stop_fork(subscription))

    def _leave_alone(self, call_id: str) -> None:
        if len(self._left_alone) < MAX_LEFT_ALONE:
            self._left_alone.add(call_id)

    async def _consider(self, call_id: str) -> None:
        """Look at a call that is new to us, and follow it where it is ours."""
        try:
            state = await self._subscriber.state(self.node, call_id)
            note = self._note(call_id, state)
            if note is None:
                return
            subscription = await self.follow(Wanted(self.node, call_id, note), state)
            if self._config.caller_while_warning == "held" and state.ours(self._config.tag) is not None:
                await release(subscription.wanted)  # our earlier life may have ended in the middle of a warning
        except RefusedError:
            self._next_try_s[call_id] = self._clock() + RETRY_S  # over already
        except UnansweredError as error:
            log.info("call not followed yet", call=id_of(call_id), node=self.node.name, why=str(error))
        except ScamTapError as error:
            self._next_try_s[call_id] = self._clock() + RETRY_S
            log.warning("call not followed", call=id_of(call_id), node=self.node.name, why=str(error))

    def _note(self, call_id: str, state: CallState) -> Note | None:
        ours = state.ours(self._config.tag)
        if ours is not None and state.are_talking(ours[1].roles):
            return ours[1]  # followed in an earlier life of ours
        roles = state.roles(self._config.far_label, self._config.near_label) if self._config.discover else None
        if roles is not None:
            return Note(id_of(call_id), roles, None)
        if self._config.discover and len(state.phones) < 2:
            self._ringing.add(call_id)
        else:
            self._leave_alone(call_id)
        return None

    async def follow(self, wanted: Wanted, state: CallState) -> Subscription:
        """Follow a call, or follow it anew where it changed.

        Raises:
            GatewayError: the node refuses.
            ConfigError, CapacityError, CodecError: the service does.
        """
        call_id = wanted.call_id
        async with self._locks.setdefault(call_id, asyncio.Lock()):
            before = self.calls.get(call_id)
            if before is not None and before.spec.id not in self._control.call_ids:
                before = None  # ended meanwhile
            if before is not None and before.spec.id != wanted.note.id:
                raise ConfigError("the call is followed under another id: end it first")
            is_begun = False

            def announce(spec: CallSpec) -> None:
                nonlocal is_begun
                if before is None:
                    self._control.begin(spec)
                    is_begun = True
                elif spec.id not in self._control.call_ids:
                    raise GatewayError("the call ended while it was forked anew")
                elif spec != before.spec:
                    self._control.change(spec)

            try:
                subscription = await self._subscriber.subscribe(wanted, state, announce, before)
            except BaseException:
                if is_begun:
                    self._spawn(self._end_at_service(wanted.note.id))
                raise
            self.calls[call_id] = subscription
            self._checked_s[call_id] = self._clock()
            self._left_alone.discard(call_id)
            self._ringing.discard(call_id)
        if before is None:
            log.info("call followed", call=wanted.note.id, node=self.node.name)
        return subscription

    async def _check(self, call_id: str) -> None:
        """Whether a call that we follow is still as it was."""
        subscription = self.calls.get(call_id)
        if subscription is None:
            return
        self._checked_s[call_id] = self._clock()
        try:
            state = await self._subscriber.state(self.node, call_id)
            wanted = self._as_it_is_now(subscription.wanted, state)
            if wanted != subscription.wanted or not self._is_unchanged(subscription, state):
                await self.follow(wanted, state)
                log.info("call forked anew", call=wanted.note.id, node=self.node.name)
        except RefusedError:
            self._end(call_id)
        except ScamTapError as error:
            log.warning("call not checked", call=subscription.spec.id, node=self.node.name, why=str(error))

    def _as_it_is_now(self, wanted: Wanted, state: CallState) -> Wanted:
        """After a transfer another phone is in the call: its label tells who it is."""
        if state.are_talking(wanted.note.roles):
            return wanted
        roles = state.roles(self._config.far_label, self._config.near_label)
        return wanted if roles is None else replace(wanted, note=replace(wanted.note, roles=roles))

    def _is_unchanged(self, subscription: Subscription, state: CallState) -> bool:
        codecs = state.codecs(subscription.wanted.note.roles)
        is_same = all(None in pair or pair[0] == pair[1] for pair in zip(subscription.codecs, codecs, strict=True))
        if is_same:  # the node tells a codec only after the first packet
            known = (codecs[0] or subscription.codecs[0], codecs[1] or subscription.codecs[1])
            self.calls[subscription.wanted.call_id] = replace(subscription, codecs=known)
        return is_same and state.is_heard_by(subscription.tag)

    def end(self, call_id: str) -> bool:
        """Stop following a call that goes on or is just over, as the proxy says; False where it is not followed."""
        subscription = self.calls.get(call_id)
        self._leave_alone(call_id)
        if subscription is None:
            return False
        self._end(call_id)
        self._spawn(self._stop_fork(subscription))
        return True

    def _end(self, call_id: str) -> None:
        subscription = self.calls.pop(call_id)
        self._subscriber.forget(subscription)
        self._spawn(self._end_at_service(subscription.spec.id))

    async def _stop_fork(self, subscription: Subscription) -> None:
        with contextlib.suppress(GatewayError):  # the call is over, or the node: either way nothing is forked
            await self._subscriber.unsubscribe(subscription)

    async def _end_at_service(self, name: str) -> None:
        with contextlib.suppress(KeyError):  # it ended by itself
            await self._control.end(name)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """Stop every fork and end the calls. How the calls end is waited for by the service, which bounds it."""
        stopping = [self._stop_fork(subscription) for subscription in self.calls.values()]
        for call_id in list(self.calls):
            self._end(call_id)
        await asyncio.gather(*stopping)


async def _few_at_once(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    room = asyncio.Semaphore(MAX_AT_ONCE)

    async def one(of: Coroutine[Any, Any, None]) -> None:
        async with room:
            await of

    await asyncio.gather(*map(one, work))
