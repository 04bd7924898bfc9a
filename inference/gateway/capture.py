"""A capture's RTP as calls: find the streams, pair them, play them in capture time.

Codecs: PCMU and PCMA, which are payload types 0 and 8 without any signalling (RFC 3551).
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from inference.audio import LEGS, Leg
from inference.errors import CodecError, ConfigError, MediaError
from inference.gateway.pcap import Address, Capture, is_capture
from inference.gateway.playout import Playout
from inference.gateway.recorded import LegBlock, RecordedCall
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


def open_capture(path: Path, *, far: str | None = None) -> list[RecordedCall]:
    """Open a pcap or pcapng file.

    Args:
        path: the file.
        far: which stream is the far leg: SSRC (decimal or 0x…) or ``ip:port`` that it is sent from, or else to.
            None: the first to send in each call, with a notice that says so.

    Raises:
        MediaError: no capture, or no RTP in it.
        CodecError: RTP, but none of it PCMU or PCMA.
        ConfigError: ``far`` is no stream of any call.
    """
    capture = Capture(path)
    found = find_streams(capture.datagrams())
    counters = capture.counters
    if not found.streams:
        what = f"{counters.frames} frames"
        for name, count in (("of unknown link types", counters.unknown_link), ("IP fragments", counters.fragments)):
            what += f", {count} {name}" if count else ""
        raise MediaError(f"{path}: no RTP stream in the capture ({what}): capture the media ports too")
    decodable = [stream for stream in found.streams if not _DECODED.isdisjoint(stream.payload_types)]
    skipped = [stream for stream in found.streams if _DECODED.isdisjoint(stream.payload_types)]
    if not decodable:
        raise CodecError(
            f"{path}: RTP of {_describe(skipped)}; decoded here are PCMU (0) and PCMA (8): transcode to G.711"
        )
    calls = pair(legs_of(decodable))
    general = []
    if counters.is_truncated:
        general.append(f"{path}: the capture ends or breaks inside a record; what comes before is used")
    if skipped:
        general.append(f"{path}: skipped RTP of {_describe(skipped)}")
    if far is not None and not any(_is_named(leg, far) for call in calls for leg in call):
        streams = ", ".join(f"0x{s.ssrc:08x} from {s.source}" for s in decodable[:8])
        raise ConfigError(f"{path}: --far {far} is no stream of this capture; it holds {streams}")
    return [
        _call(
            capture,
            legs,
            far,
            path.stem if len(calls) == 1 else f"{path.stem}-{number}",
            general if number == 1 else [],
        )
        for number, legs in enumerate(calls, 1)
    ]


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


def _call(capture: Capture, legs: list[CapturedLeg], far: str | None, name: str, notices: list[str]) -> RecordedCall:
    named = [leg for leg in legs if far is not None and _is_named(leg, far)]
    if len(named) == 2:  # an address that both legs touch: the sender's counts
        named = [leg for leg in named if str(leg.source) == far] or named
    ordered = [named[0], *(leg for leg in legs if leg is not named[0])] if named else legs
    first = ordered[0].streams[0]
    if not named:
        how = "the only leg" if len(legs) == 1 else "the first to send"
        choose = "" if len(legs) == 1 else "; choose with --far"
        notices = [*notices, f"{name}: far leg is 0x{first.ssrc:08x} from {first.source}, {how}{choose}"]
    by_leg = dict(zip(LEGS, ordered, strict=False))
    packets: dict[Leg, LegCounters] = {}
    began_s = min(leg.first_s for leg in legs) - PACKET_S
    return RecordedCall(
        id=name,
        legs=tuple(by_leg),
        duration_s=max(leg.last_s for leg in legs) - began_s,
        blocks=lambda: _blocks(capture.path, by_leg, began_s, packets),
        packets=packets,
        notices=tuple(notices),
    )


def _blocks(
    path: Path, legs: dict[Leg, CapturedLeg], began_s: float, packets: dict[Leg, LegCounters]
) -> Iterator[LegBlock]:
    """Read the capture again, yield the call's blocks, both legs in step, and fill in the counters."""
    packets.clear()
    playout = Playout(tuple(legs))
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
