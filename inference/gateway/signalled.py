"""Whose voice a capture's RTP is, told by the SIP calls in the same capture.

Each session description says where a party receives, so what goes there is the other party's voice. Descriptions are
told apart by the tags of their senders (RFC 3261 section 12), so re-INVITEs and either side's offers fall in place. SIP
over UDP, whole in one datagram.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from inference.errors import SignallingError
from inference.gateway.pcap import Address, Datagram, packed
from inference.gateway.sip.message import Request, Response, parse_message
from inference.gateway.sip.sdp import Description
from inference.gateway.sip.syntax import Address as Party
from inference.gateway.sip.syntax import CSeq, SipUri
from inference.gateway.streams import Stream

Role = Literal["caller", "callee"]

MAX_CALLS = 1024
"""The oldest is forgotten first: a flood of INVITEs costs no memory."""

MAX_ADDRESSES = 64  # of one call: each re-INVITE may bring new ones
AFTER_BYE_S = 5.0  # media under way when it was sent
BEFORE_INVITE_S = 1.0  # of captures whose clocks differ
_METHODS = (b"INVITE ", b"ACK ", b"BYE ", b"CANCEL ", b"UPDATE ", b"PRACK ", b"SIP/2.0 ")
_CODECS = {"PCMU", "PCMA", "CN", "TELEPHONE-EVENT"}


@dataclass(slots=True)
class SignalledCall:
    """One SIP call.

    Attributes:
        began_s, ended_s: capture time of its INVITE, and of its BYE or None.
        caller_tag: tag of the party that sent the INVITE.
        numbers: user part of each party's address. Personal data.
        receives: who receives at an address.
        payload_types: codecs of dynamic payload types, as far as they are decoded here.
    """

    began_s: float
    caller_tag: str
    numbers: dict[Role, str]
    ended_s: float | None = None
    receives: dict[Address, Role] = field(default_factory=dict)
    payload_types: dict[int, str] = field(default_factory=dict)

    def role_of(self, stream: Stream) -> Role | None:
        """Whose voice a stream is; None where it is not of this call."""
        until_s = float("inf") if self.ended_s is None else self.ended_s + AFTER_BYE_S
        if not self.began_s - BEFORE_INVITE_S <= stream.first_s <= until_s:
            return None
        listener = self.receives.get(stream.destination)
        if listener is not None:
            return "caller" if listener == "callee" else "callee"
        return self.receives.get(stream.source)  # behind NAT the other address may be another: parties send from theirs

    def near(self, prefix: str | None) -> Role:
        """The party whose number begins so; the callee where that tells nothing, as for an incoming call."""
        if prefix is None:
            return "callee"
        caller, callee = (_digits(self.numbers[role]).startswith(_digits(prefix)) for role in ("caller", "callee"))
        return "caller" if caller and not callee else "callee"


def _digits(number: str) -> str:
    """A number without what countries write before it."""
    bare = "".join(character for character in number if character.isalnum())
    return bare.removeprefix("00") if not number.startswith("+") else bare


class Signalling:
    """The SIP calls of a capture.

    Attributes:
        calls: by Call-ID, in order of their INVITEs.
        num_malformed: datagrams that began like SIP and were none.
    """

    def __init__(self) -> None:
        self.calls: OrderedDict[str, SignalledCall] = OrderedDict()
        self.num_malformed = 0

    def watch(self, datagrams: Iterable[Datagram]) -> Iterator[Datagram]:
        """Yield all datagrams, and learn from those that are SIP."""
        for datagram in datagrams:
            if datagram.payload.startswith(_METHODS):
                try:
                    self._take(parse_message(datagram.payload), datagram.arrival_s)
                except SignallingError:
                    self.num_malformed += 1
            yield datagram

    def _take(self, message: Request | Response, arrival_s: float) -> None:
        headers = message.headers
        call_id, sequence = headers.get("Call-ID"), CSeq.parse(headers.get("CSeq") or "")
        sender = Party.parse(headers.get("From") or "", "From")
        other = Party.parse(headers.get("To") or "", "To")
        if not call_id or sender.tag is None:
            return
        call = self.calls.get(call_id)
        if call is None:
            if not isinstance(message, Request) or message.method != "INVITE":
                return
            numbers: dict[Role, str] = {"caller": _user(sender), "callee": _user(other)}
            call = self.calls[call_id] = SignalledCall(arrival_s, sender.tag, numbers)
            if len(self.calls) > MAX_CALLS:
                self.calls.popitem(last=False)
        if sequence.method == "BYE" and call.ended_s is None:
            call.ended_s = arrival_s
        if message.body and (headers.get("Content-Type") or "").lower().startswith("application/sdp"):
            asked_by_caller = sender.tag == call.caller_tag
            told_by_caller = asked_by_caller == isinstance(message, Request)
            _learn(call, Description.parse(message.body), "caller" if told_by_caller else "callee")


def _user(party: Party) -> str:
    try:
        return SipUri.parse(party.uri).user
    except SignallingError:
        return ""


def _learn(call: SignalledCall, description: Description, role: Role) -> None:
    """Where a party receives, and in which codecs."""
    for media in description.media:
        host = description.address(media)
        if media.kind != "audio" or not media.port or host is None or len(call.receives) >= MAX_ADDRESSES:
            continue
        call.receives[Address(packed(host), media.port)] = role
        for codec in media.codecs():
            if codec.name.upper() in _CODECS and codec.clock_hz == 8000:
                call.payload_types.setdefault(codec.payload_type, codec.name)
