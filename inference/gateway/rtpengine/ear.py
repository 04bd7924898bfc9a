"""The way back to the subscriber: rtpengine plays the warning into their leg alone (``play media``)."""

import asyncio
import struct
from collections.abc import Callable

import numpy as np

from inference.alerts.ear import Announcement, Reach
from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import PCM
from inference.errors import AlertError, GatewayError
from inference.gateway.rtpengine.config import RtpengineConfig
from inference.gateway.rtpengine.described import Roles
from inference.gateway.rtpengine.guard import Guard, Release
from inference.gateway.rtpengine.ng import NgNode, RefusedError
from inference.gateway.rtpengine.subscription import NAME, Subscription, release
from inference.rtp.g711 import encode_ulaw

MAX_BLOB_SAMPLES = 8 * SAMPLE_RATE_HZ
"""A datagram has 65,507 bytes, a sample one: the telephone network's own law loses nothing the call would carry."""

MAX_TCP_BLOB_SAMPLES = 60 * SAMPLE_RATE_HZ
MAX_DURATION_MS = 60_000
TAIL_S = 0.06  # the last packet of a sound leaves up to a packet's time after its samples are counted out
PAD_SAMPLES = SAMPLE_RATE_HZ // 5
"""Silence after a sound: its last packets stay in a phone's jitter buffer until the next come, and those are another
SSRC's, which flushes it. Without, baresip 1.0 played 38 of a warning's 44 packets."""


def ulaw_wav(samples: PCM) -> bytes:
    """A WAV file of µ-law (RFC 2361, format 7): half the size of 16 bit. Samples: int16 ``[num_samples]`` at 8 kHz."""
    body = encode_ulaw(samples)
    # channels, samples/s, bytes/s, bytes per sample, bits per sample, no extra format bytes
    form = struct.pack("<HHIIHHH", 7, 1, SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, 1, 8, 0)
    chunks = b"".join(
        name + struct.pack("<I", len(chunk)) + chunk + bytes(len(chunk) % 2)
        for name, chunk in ((b"fmt ", form), (b"fact", struct.pack("<I", len(body))), (b"data", body))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


class RtpengineEar:
    """Plays warnings to the subscribers of calls on rtpengine. An :class:`inference.alerts.ear.Ear`.

    With a guard, the caller is blocked while a warning plays (``block media``), else phones get two streams at once and
    many play neither. On 10.5 the block is on all that the caller sends, so our fork has a gap for that time: what is
    said then is heard by nobody. Letting go lifts a block of the operator's own on this caller, too.

    Args:
        config: how.
        find: the call that a SIP Call-ID names, where we follow it.
        guard: releases callers should we die; None where callers are never held.
    """

    name = NAME

    def __init__(
        self, config: RtpengineConfig, find: Callable[[str], Subscription | None], guard: Guard | None = None
    ) -> None:
        self._config = config
        self._find = find
        self._guard = guard
        self._held: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._releasing: set[asyncio.Task[None]] = set()

    async def play(self, reach: Reach, announcement: Announcement) -> None:
        """See :meth:`inference.alerts.ear.Ear.play`. A new warning takes the place of one that is being played."""
        subscription = self._subscription(reach)
        node, call_id, roles = _parts(subscription)
        sound = announcement.samples[: self._most_samples(node) - PAD_SAMPLES]
        samples = np.concatenate([sound, np.zeros(PAD_SAMPLES, np.int16)])
        length_s = samples.size / SAMPLE_RATE_HZ
        is_held = is_played = False
        try:
            is_held = await self._hold(subscription, length_s)
            if self._config.sounds is not None:
                path = f"{self._config.sounds.rstrip('/')}/{announcement.name}.wav"
                reply = await node.request("play media", call_id=call_id, from_tag=roles.near, file=path)
            else:
                blob = ulaw_wav(samples)
                reply = await node.request(
                    "play media", is_binary=True, call_id=call_id, from_tag=roles.near, blob=blob
                )
            is_played = True
        except GatewayError as error:
            raise AlertError(str(error)) from None
        finally:
            if not is_played and self._guard is not None:  # also where whoever waits for us gave up
                self._release_later(subscription, 0.0)
        if is_held:
            told_ms = reply.get("duration")
            if isinstance(told_ms, int) and 0 < told_ms <= MAX_DURATION_MS:
                length_s = told_ms / 1000
            self._release_later(subscription, length_s + TAIL_S)
            await self._watch(subscription, length_s)

    def _most_samples(self, node: NgNode) -> int:
        return MAX_BLOB_SAMPLES if node.config.transport == "udp" else MAX_TCP_BLOB_SAMPLES

    async def stop(self, reach: Reach) -> None:
        """See :meth:`inference.alerts.ear.Ear.stop`."""
        subscription = self._subscription(reach)
        node, call_id, roles = _parts(subscription)
        try:
            await node.request("stop media", call_id=call_id, from_tag=roles.near)
        except GatewayError as error:
            raise AlertError(str(error)) from None
        finally:
            if _key(subscription) in self._held:
                await self._release(subscription)

    def _subscription(self, reach: Reach) -> Subscription:
        subscription = None if reach.call is None else self._find(reach.call.get_secret_value())
        if subscription is None:
            raise AlertError("the call is not followed on any rtpengine any more")
        return subscription

    async def _hold(self, subscription: Subscription, at_most_s: float) -> bool:
        """Keep the caller's voice from the subscriber; False where it goes on."""
        if self._guard is None:
            return False
        waiting = self._held.pop(_key(subscription), None)
        if waiting is not None:
            waiting.cancel()
        # The guard knows before anything is blocked: there is no moment in which only this process could undo it.
        if not await self._watch(subscription, at_most_s):
            return False
        node, call_id, roles = _parts(subscription)
        try:
            # From mr11.1 on, to-tag spares our fork; before, the block is on all that the caller sends.
            await node.request("block media", call_id=call_id, from_tag=roles.far, to_tag=roles.near)
        except GatewayError:
            await self._release(subscription)
            return False
        return True

    async def _watch(self, subscription: Subscription, length_s: float) -> bool:
        """Have the guard ready for the end of a sound, later than we should be ourselves."""
        within_s = length_s + TAIL_S + 2 * self._config.timeout_s
        return self._guard is not None and await self._guard.watch(_release_of(subscription), within_s)

    def _release_later(self, subscription: Subscription, after_s: float) -> None:
        def let_go() -> None:
            task = asyncio.create_task(self._release(subscription))
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

        waiting = self._held.pop(_key(subscription), None)
        if waiting is not None:
            waiting.cancel()
        self._held[_key(subscription)] = asyncio.get_running_loop().call_later(after_s, let_go)

    async def _release(self, subscription: Subscription) -> None:
        """Let the caller be heard again. Where the node does not answer, the guard tries on."""
        waiting = self._held.pop(_key(subscription), None)
        if waiting is not None:
            waiting.cancel()
        try:
            await release(subscription.wanted)
        except RefusedError:
            pass  # the call is over
        except GatewayError:
            return
        if self._guard is not None:
            await self._guard.forget(_release_of(subscription))

    async def aclose(self) -> None:
        """Let every caller be heard again that is held."""
        for waiting in self._held.values():
            waiting.cancel()
        self._held.clear()
        await asyncio.gather(*self._releasing)
        if self._guard is not None:
            await self._guard.aclose()  # which releases whom it still watches


def _parts(subscription: Subscription) -> tuple[NgNode, str, Roles]:
    wanted = subscription.wanted
    return wanted.node, wanted.call_id, wanted.note.roles


def _key(subscription: Subscription) -> tuple[str, str]:
    return subscription.wanted.node.name, subscription.wanted.call_id


def _release_of(subscription: Subscription) -> Release:
    node, call_id, roles = _parts(subscription)
    return Release(node.config, call_id, roles.far, roles.near)
