"""Counters of legs and of the plane, as plain values for output and metrics."""

from dataclasses import asdict, dataclass
from typing import Any

from inference.rtp import layout
from inference.rtp.layout import SAMPLE_RATE_HZ, Int64s


@dataclass(frozen=True, slots=True)
class LegCounters:
    """What one leg has received.

    Attributes:
        received: RTP packets from its source.
        lost: packets missing in sequence (RFC 3550 A.3).
        late: packets older than the reader, or too old to be told from duplicates; not used.
        duplicate: packets received before; not used.
        stray: packets out of line that no second one confirmed, or of the source's previous call; not used.
        foreign: packets from another source to the port that this leg has to itself; in a capture, those between
            its addresses that are of no stream of the call.
        unverified: encrypted packets that do not verify under the leg's key, or were seen before; not looked at.
        unknown_payload: packets of a payload type that was not negotiated, or not of its form.
        undecoded: packets that their decoder could not make sense of or came to too late.
        comfort_noise: packets that say the sender is silent: RFC 3389, or the codec's own.
        telephone_events: keys pressed.
        ssrc_changes: how often the sender started over with another SSRC.
        reanchors: how often the sender's time and ours had to be aligned anew.
        overrun: packets for which the ring had no room: the reader stands still.
        num_bytes: UDP payload bytes.
        gap_s: time read since the leg's first audio that no packet brought (silence, loss or hold), seconds.
        silence_s: gaps in time without gaps in sequence: the sender was silent (DTX), seconds.
        last_arrival_s: when the newest packet came, seconds of the plane's clock; None before the first.
    """

    received: int
    lost: int
    late: int
    duplicate: int
    stray: int
    foreign: int
    unverified: int
    unknown_payload: int
    undecoded: int
    comfort_noise: int
    telephone_events: int
    ssrc_changes: int
    reanchors: int
    overrun: int
    num_bytes: int
    gap_s: float
    silence_s: float
    last_arrival_s: float | None

    def to_json(self) -> dict[str, Any]:
        """As they are printed: arrival times mean nothing outside the process and stay out."""
        return {name: value for name, value in asdict(self).items() if name != "last_arrival_s"}

    def __add__(self, later: "LegCounters") -> "LegCounters":
        """Both registrations of a leg that was registered anew."""
        sums = {name: getattr(self, name) + value for name, value in later.to_json().items()}
        newest_s = self.last_arrival_s if later.last_arrival_s is None else later.last_arrival_s
        return LegCounters(**sums, last_arrival_s=newest_s)


@dataclass(frozen=True, slots=True)
class PlaneCounters:
    """What no leg can be charged with.

    Attributes:
        legs: legs registered now.
        datagrams: all that came.
        unregistered: valid RTP from a source that nobody registered.
        malformed: neither RTP nor RTCP.
        oversized: longer than any packet of a call.
        rtcp: RTCP packets, recognised and left alone.
        queue_drops: datagrams the system dropped since our socket buffers were full.
        events_dropped: telephone events nobody fetched in time.
        socket_errors: failed receive calls.
        decoder_restarts: decoder processes that died.
    """

    legs: int
    datagrams: int
    unregistered: int
    malformed: int
    oversized: int
    rtcp: int
    queue_drops: int
    events_dropped: int
    socket_errors: int
    decoder_restarts: int


def leg_counters(state: Int64s) -> LegCounters:
    """Counters out of a leg's row of ``Tables.state``."""
    return total_counters(state[None])


def total_counters(states: Int64s) -> LegCounters:
    """Counters of many legs in one; ``[K, NUM_STATE]`` rows of ``Tables.state``."""
    row = [int(value) for value in states.sum(axis=0)]
    begun = states[states[:, layout.EXT_SEQ] >= 0]
    expected = begun[:, layout.EXT_SEQ] - begun[:, layout.BASE_SEQ] + 1
    arrivals = states[states[:, layout.RECEIVED] > 0, layout.LAST_ARRIVAL]
    return LegCounters(
        received=row[layout.RECEIVED],
        lost=row[layout.LOST_BEFORE] + int((expected - begun[:, layout.EPOCH_RECEIVED]).sum()),
        late=row[layout.LATE],
        duplicate=row[layout.DUPLICATE],
        stray=row[layout.STRAY],
        foreign=row[layout.FOREIGN],
        unverified=row[layout.UNVERIFIED],
        unknown_payload=row[layout.UNKNOWN_PAYLOAD],
        undecoded=row[layout.UNDECODED],
        comfort_noise=row[layout.COMFORT_NOISE],
        telephone_events=row[layout.EVENTS],
        ssrc_changes=row[layout.SSRC_CHANGES],
        reanchors=row[layout.REANCHORS],
        overrun=row[layout.OVERRUN],
        num_bytes=row[layout.BYTES],
        gap_s=row[layout.GAP] / SAMPLE_RATE_HZ,
        silence_s=row[layout.SILENCE] / SAMPLE_RATE_HZ,
        last_arrival_s=int(arrivals.max()) / SAMPLE_RATE_HZ if len(arrivals) else None,
    )


def sum_counters(before: LegCounters | None, later: LegCounters) -> LegCounters:
    """Both together; ``later`` where there is nothing before."""
    return later if before is None else before + later


def plane_counters(
    plane: Int64s, *, legs: int, queue_drops: int, events_dropped: int, socket_errors: int, decoder_restarts: int
) -> PlaneCounters:
    """Counters out of ``Tables.plane`` and what the plane itself has counted."""
    return PlaneCounters(
        legs=legs,
        datagrams=int(plane[layout.DATAGRAMS]),
        unregistered=int(plane[layout.UNREGISTERED]),
        malformed=int(plane[layout.MALFORMED]),
        oversized=int(plane[layout.OVERSIZED]),
        rtcp=int(plane[layout.RTCP]),
        queue_drops=queue_drops,
        events_dropped=events_dropped,
        socket_errors=socket_errors,
        decoder_restarts=decoder_restarts,
    )
