"""Have one call forked to us: ask for both parties' audio, and say where it goes.

query ─► who is who ─► subscribe request ─► their ports and codecs ─► legs in our plane ─► subscribe answer
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import SecretStr, ValidationError

from inference.alerts.ear import Reach
from inference.errors import GatewayError, SignallingError
from inference.gateway.ports import MediaPorts
from inference.gateway.rtpengine.config import RtpengineConfig
from inference.gateway.rtpengine.described import CallState, Note, Roles, media_owners, sdp_of
from inference.gateway.rtpengine.ng import NgNode
from inference.gateway.rtpengine.sdp import Crypto, Media, parse_offer, write_answer
from inference.gateway.spec import SRTP_KEY_BYTES, CallSpec, CodecName, LegSpec, SrtpKey

NAME = "rtpengine"
"""Of the gateway, and of the ear that its calls are warned through."""

TRANSCODED: CodecName = "PCMA"
_CODEC_NAMES: dict[str, CodecName] = {name.upper(): name for name in get_args(CodecName)}
_BESIDE_AUDIO = {"CN", "TELEPHONE-EVENT"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call to be followed, as the proxy or its labels tell.

    Attributes:
        node: where it is.
        call_id: its SIP Call-ID; hostile text.
        note: what we call it, who is who.
        subscriber, caller: numbers for messages, where the proxy gave them.
    """

    node: NgNode
    call_id: str
    note: Note
    subscriber: SecretStr | None = None
    caller: SecretStr | None = None

    @property
    def reach(self) -> Reach:
        """How its subscriber is warned."""
        return Reach(
            via=NAME,
            call=SecretStr(self.call_id),
            ear=SecretStr(self.note.roles.near),
            subscriber=self.subscriber,
            caller=self.caller,
        )


@dataclass(frozen=True, slots=True)
class Subscription:
    """A call that is forked to us.

    Attributes:
        wanted: which.
        tag: our own tag in it.
        spec: how it was announced to the service.
        leased: exclusive media ports it holds.
        codecs: what far and near spoke when we subscribed.
    """

    wanted: Wanted
    tag: str
    spec: CallSpec
    leased: tuple[int, ...]
    codecs: tuple[str | None, str | None]


class Subscriber:
    """Subscribes to calls.

    Args:
        config: how.
        ports: where media may be sent.
    """

    def __init__(self, config: RtpengineConfig, ports: MediaPorts) -> None:
        self._config = config
        self._ports = ports

    async def state(self, node: NgNode, call_id: str) -> CallState:
        """Who is in a call.

        Raises:
            RefusedError: no such call.
            GatewayError: no answer, or none that can be read.
        """
        try:
            return CallState.parse(await node.request("query", call_id=call_id))
        except SignallingError as error:
            raise GatewayError(f"rtpengine {node.name}: {error}") from None

    async def subscribe(
        self, wanted: Wanted, state: CallState, announce: Callable[[CallSpec], None], before: Subscription | None = None
    ) -> Subscription:
        """Have a call forked to us, or forked anew.

        Args:
            wanted: the call.
            state: who is in it.
            announce: takes the legs before the first packet can come.
            before: the subscription that this one replaces; its ports are kept where they are leased.

        Raises:
            GatewayError: the node refuses, or offers what cannot be taken.
            ConfigError, CapacityError, CodecError: from ``announce``, or no port is free.
        """
        ours = state.ours(self._config.tag)
        tag = ours[0] if ours is not None else f"{self._config.tag}-{secrets.token_hex(8)}"
        leased: list[int] = list(before.leased) if before is not None else []
        try:
            offer, is_transcoded, owners = await self._offer(wanted, tag)
            legs, ports, chosen = self._legs(wanted.note.roles, offer, owners, leased)
            note = wanted.note
            spec = CallSpec(id=note.id, language=note.language, reach=wanted.reach, **legs)
            announce(spec)
            answer = write_answer(offer, self._ports.address, ports, chosen)
            flags = ["allow-transcoding"] if is_transcoded else []
            await wanted.node.request("subscribe answer", call_id=wanted.call_id, to_tag=tag, sdp=answer, flags=flags)
        except (SignallingError, ValidationError) as error:
            self._give_back(leased, before)
            what = error if isinstance(error, SignallingError) else "its legs contradict each other"
            raise GatewayError(f"rtpengine {wanted.node.name}: {what}") from None
        except BaseException:
            self._give_back(leased, before)
            raise
        return Subscription(wanted, tag, spec, tuple(leased), state.codecs(note.roles))

    async def _offer(self, wanted: Wanted, tag: str) -> tuple[list[Media], bool, dict[str, str]]:
        """What the node offers to send: media, whether transcoded, and whose each is."""
        reply = await self._request(wanted, tag)
        offer = parse_offer(sdp_of(reply))
        is_transcoded = not all(self._is_native(media) for media in offer)
        if is_transcoded:
            # Asked again under the same tag, which replaces the first request; half a millisecond on a local node.
            reply = await self._request(wanted, tag, codec={"mask": ["all"], "transcode": [TRANSCODED]})
            offer = parse_offer(sdp_of(reply))
        return offer, is_transcoded, media_owners(reply)

    async def _request(self, wanted: Wanted, tag: str, **more: Any) -> dict[str, Any]:
        if self._config.srtp:
            more["transport_protocol"] = "RTP/SAVP"
        roles = wanted.note.roles
        return await wanted.node.request(
            "subscribe request",
            call_id=wanted.call_id,
            from_tags=[roles.far, roles.near],
            to_tag=tag,
            set_label=str(wanted.note),
            flags=["SIPREC"],  # label every m-line and say whose it is
            rtcp_mux=["offer"],
            **more,
        )

    def _is_native(self, media: Media) -> bool:
        native = {name.upper() for name in self._config.native_codecs} | _BESIDE_AUDIO
        names = {name.upper() for name in media.codecs.values()}
        return not names <= _BESIDE_AUDIO and names <= native

    def _legs(
        self, roles: Roles, offer: Sequence[Media], owners: dict[str, str], leased: list[int]
    ) -> tuple[dict[str, LegSpec], list[int], list[Crypto | None]]:
        """Our legs, and port and crypto for every m-line; a second m-line of one party is declined (port 0)."""
        if self._config.latch:
            while len(leased) < 2:
                leased.append(self._ports.lease())
        shared = None if self._config.latch else self._ports.shared()  # one for both: their sources differ
        of_party = {roles.far: "far", roles.near: "near"}
        legs: dict[str, LegSpec] = {}
        ports: list[int] = []
        chosen: list[Crypto | None] = []
        for media in offer:
            leg = of_party.get(owners.get(media.label or "", ""))
            if leg is None or leg in legs or not media.port:
                ports.append(0)
                chosen.append(None)
                continue
            crypto = _choose(media) if self._config.srtp else None
            port = leased[len(legs)] if shared is None else shared
            legs[leg] = _leg(media, port, crypto, has_source=shared is not None)
            ports.append(port)
            chosen.append(crypto)
        if len(legs) < 2:
            raise SignallingError("the fork does not offer audio of both parties")
        return legs, ports, chosen

    def _give_back(self, leased: list[int], before: Subscription | None) -> None:
        for port in leased:
            if before is None or port not in before.leased:
                self._ports.give_back(port)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop a fork.

        Raises:
            GatewayError: the node did not do it.
        """
        wanted = subscription.wanted
        await wanted.node.request("unsubscribe", call_id=wanted.call_id, to_tag=subscription.tag)

    def forget(self, subscription: Subscription) -> None:
        """Free the ports of a call that is over."""
        for port in subscription.leased:
            self._ports.give_back(port)


def _leg(media: Media, port: int, crypto: Crypto | None, *, has_source: bool) -> LegSpec:
    known = {pt: _CODEC_NAMES[name.upper()] for pt, name in media.codecs.items() if name.upper() in _CODEC_NAMES}
    host = f"[{media.address}]" if ":" in media.address else media.address
    key = None
    if crypto is not None:
        key = SrtpKey.model_validate({"suite": crypto.suite, "key": crypto.key})
    return LegSpec(
        local_port=port,
        source=f"{host}:{media.port}" if has_source else None,
        payload_types=known,
        formats={pt: text for pt, text in media.formats.items() if pt in known},
        srtp=key,
    )


def _choose(media: Media) -> Crypto:
    """The offered crypto that we like best.

    Raises:
        SignallingError: none is of a suite we know.
    """
    order = list(SRTP_KEY_BYTES)
    if not media.crypto:
        raise SignallingError("the fork offers no SRTP suite that we know")
    return min(media.crypto, key=lambda crypto: order.index(crypto.suite))


async def release(wanted: Wanted) -> None:
    """Let the caller be heard again, where a warning held them; see :mod:`.ear`.

    Raises:
        GatewayError: the node did not do it.
    """
    roles = wanted.note.roles
    await wanted.node.request("unblock media", call_id=wanted.call_id, from_tag=roles.far, to_tag=roles.near)
