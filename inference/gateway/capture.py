"""A capture's RTP as calls: find the streams, pair them, play them in capture time.

Codecs: PCMU and PCMA, which are payload types 0 and 8 without any signalling (RFC 3551). Where the calls' own SIP was
captured too, it says who is who and which payload types are which.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from inference.audio import LEGS, Leg
from inference.errors import CodecError, ConfigError, MediaError
from inference.gateway.pcap import Address, Capture, is_capture
from inference.gateway.playout import Playout
from inference.gateway.recorded import LegBlock, RecordedCall
from inference.gateway.signalled import Role, SignalledCall, Signalling
from inference.gateway.streams import CapturedLeg, Stream, find_streams, legs_of, pair, rtp_packet
from inference.rtp.counters import LegCounters
from inference.rtp.packet import PT_PCMA, PT_PCMU

__all__ = ["is_capture", "open_capture"]

REORDER_S = 60.0
"""Captures merged from several files are out of order by less; reading stops this long after a call's end."""

PACKET_S = 0.02
"""Audio of the usual packet (RFC 3551 section 4.2). A packet's audio ends when it arrives: call time begins so much
before the first arrival."""

_DECODED = {PT_PCMU, PT_PCMA}
_NAMES = {3: "GSM", 4: "G.723", 7: "LPC", 9: "G.722", 12: "QCELP", 15: "G.728", 18: "G.729"}  # RFC 3551 table 4
_AUDIO_BY_SIGNALLING = "dynamic: only signalling names its codec"


def open_capture(path: Path, *, far: str | None = None, near: str | None = None) -> list[RecordedCall]:
    """Open a pcap or pcapng file.

    Args:
        path: the file.
        far: which stream is the far leg: SSRC (decimal or 0x…) or ``ip:port`` that it is sent from, or else to.
            None: the caller where the call's own SIP was captured too, else the first to send, with a notice that says
            so.
        near: how the subscriber's number begins, for captures with SIP; None: the callee is the subscriber.

    Raises:
        MediaError: no capture, or no RTP in it.
        CodecError: RTP, but none of it PCMU or PCMA.
        ConfigError: ``far`` is no stream of any call, or ``near`` was given and no SIP was captured.
    """
    capture = Capture(path)
    signalling = Signalling()
    found = find_streams(signalling.watch(capture.datagrams()))
    counters = capture.counters
    if not found.streams:
        what = f"{counters.frames} frames"
        for name, count in (("of unknown link types", counters.unknown_link), ("IP fragments", counters.fragments)):
            what += f", {count} {name}" if count else ""
        raise MediaError(f"{path}: no RTP stream in the capture ({what}): capture the media ports too")
    decoded = _DECODED | {t for call in signalling.calls.values() for t, name in call.payload_types.items()
                          if name.upper() in ("PCMU", "PCMA")}  # fmt: skip
    decodable = [stream for stream in found.streams if not decoded.isdisjoint(stream.payload_types)]
    skipped = [stream for stream in found.streams if decoded.isdisjoint(stream.payload_types)]
    if not decodable:
        raise CodecError(
            f"{path}: RTP of {_describe(skipped)}; decoded here are PCMU (0) and PCMA (8): transcode to G.711"
        )
    calls, general = _calls(decodable, signalling, near)
    if near is not None and not any(call.signalled for call in calls):
        raise ConfigError(f"{path}: --near needs the SIP of its calls in the capture; choose with --far")
    if counters.is_truncated:
        general.append(f"{path}: the capture ends or breaks inside a record; what comes before is used")
    if skipped:
        general.append(f"{path}: skipped RTP of {_describe(skipped)}")
    if far is not None and not any(_is_named(leg, far) for call in calls for leg in call.legs):
        streams = ", ".join(f"0x{s.ssrc:08x} from {s.source}" for s in decodable[:8])
        raise ConfigError(f"{path}: --far {far} is no stream of this capture; it holds {streams}")
    return [
        _call(
            capture,
            call,
            far,
            path.stem if len(calls) == 1 else f"{path.stem}-{number}",
            general if number == 1 else [],
        )
        for number, call in enumerate(calls, 1)
    ]


class _Paired(NamedTuple):
    """Legs that are a call, the far one first where that is ``signalled``."""

    legs: list[CapturedLeg]
    signalled: SignalledCall | None = None
    far_is_caller: bool = True


def _calls(streams: list[Stream], signalling: Signalling, near: str | None) -> tuple[list[_Paired], list[str]]:
    """Calls in order of their start, by SIP where it was captured, and what is to be said of it."""
    paired: list[_Paired] = []
    num_copies = 0
    for signalled in reversed(signalling.calls.values()):  # of two calls at one port, the newer one's streams are newer
        by_role: dict[Role, list[Stream]] = {}
        rest: list[Stream] = []
        for stream in streams:
            role = signalled.role_of(stream)
            (rest if role is None else by_role.setdefault(role, [])).append(stream)
        streams = rest
        near_role = signalled.near(near)
        chosen = []
        for role in sorted(by_role, key=lambda role: role == near_role):
            legs = legs_of(by_role[role])
            chosen.append(max(legs, key=lambda leg: leg.payload_types.total()))
            num_copies += len(legs) - 1  # a capture on both sides of a proxy holds a voice twice
        if chosen:
            is_near_alone = by_role.keys() == {near_role}
            paired.append(_Paired(chosen, signalled, (near_role == "callee") != is_near_alone))
    paired += [_Paired(legs) for legs in pair(legs_of(streams))]
    notices = [f"{num_copies} further streams of the same voices were left out"] if num_copies else []
    return sorted(paired, key=lambda call: min(leg.first_s for leg in call.legs)), notices


def _describe(streams: list[Stream]) -> str:
    kinds: Counter[int] = sum((stream.payload_types for stream in streams), Counter())
    names = [f"payload type {kind} ({_NAMES.get(kind, _AUDIO_BY_SIGNALLING)})" for kind, _ in kinds.most_common(3)]
    return ", ".join(names)


def _is_named(leg: CapturedLeg, far: str) -> bool:
    if ":" in far:
        return far in (str(leg.source), str(leg.destination))
    try:
        ssrc = int(far, 0)
    except ValueError:
        return False
    return any(stream.ssrc == ssrc for stream in leg.streams)


def _call(capture: Capture, call: _Paired, far: str | None, name: str, notices: list[str]) -> RecordedCall:
    legs, signalled = call.legs, call.signalled
    named = [leg for leg in legs if far is not None and _is_named(leg, far)]
    if len(named) == 2:  # an address that both legs touch: the sender's counts
        named = [leg for leg in named if str(leg.source) == far] or named
    ordered = [named[0], *(leg for leg in legs if leg is not named[0])] if named else legs
    first = ordered[0].streams[0]
    if not named and signalled is not None:
        who = "caller" if call.far_is_caller else "callee"
        notices = [*notices, f"{name}: far leg is 0x{first.ssrc:08x} from {first.source}, the {who} in the call's SIP"]
    elif not named:
        how = "the only leg" if len(legs) == 1 else "the first to send"
        choose = "" if len(legs) == 1 else "; choose with --far"
        notices = [*notices, f"{name}: far leg is 0x{first.ssrc:08x} from {first.source}, {how}{choose}"]
    by_leg = dict(zip(LEGS, ordered, strict=False))
    packets: dict[Leg, LegCounters] = {}
    began_s = min(leg.first_s for leg in legs) - PACKET_S
    payload_types = {} if signalled is None else signalled.payload_types
    return RecordedCall(
        id=name,
        legs=tuple(by_leg),
        duration_s=max(leg.last_s for leg in legs) - began_s,
        blocks=lambda: _blocks(capture.path, by_leg, began_s, packets, payload_types),
        packets=packets,
        notices=tuple(notices),
    )


def _blocks(
    path: Path,
    legs: dict[Leg, CapturedLeg],
    began_s: float,
    packets: dict[Leg, LegCounters],
    payload_types: dict[int, str],
) -> Iterator[LegBlock]:
    """Read the capture again, yield the call's blocks, both legs in step, and fill in the counters."""
    packets.clear()
    playout = Playout(tuple(legs), payload_types)
    leg_of: dict[tuple[Address, Address, int], Leg] = {}
    leg_at: dict[tuple[Address, Address], Leg] = {}
    for leg, captured in legs.items():
        leg_at.setdefault((captured.source, captured.destination), leg)
        leg_of |= {(s.source, s.destination, s.ssrc): leg for s in captured.streams}
    ended_s = max(captured.last_s for captured in legs.values())
    for datagram in Capture(path).datagrams():
        if datagram.arrival_s > ended_s + REORDER_S:
            break
        way = (datagram.source, datagram.destination)
        if way not in leg_at or not began_s <= datagram.arrival_s <= ended_s:
            continue
        packet = rtp_packet(datagram.payload)
        if packet is None:
            continue
        owner = leg_of.get((*way, packet.ssrc))
        if owner is None:
            playout.put_foreign(leg_at[way])
        else:
            yield from playout.put(owner, datagram.payload, datagram.arrival_s - began_s)
    yield from playout.finish()
    packets |= playout.counters
