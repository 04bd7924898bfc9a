"""One captured leg's packets onto the call's time line, by RTP timestamp, anchored on arrival.

The capture's counterpart of the packet plane's ring: the same rules (duplicates once, late counted, a jump of time
stamps beyond the window anchored anew), one packet at a time.
"""

import numpy as np
import numpy.typing as npt

from inference.audio import SAMPLE_RATE_HZ
from inference.gateway.recorded import BLOCK_NUM_SAMPLES, PCM, PacketCounters, Presence
from inference.rtp.g711 import ALAW_TO_PCM, ULAW_TO_PCM
from inference.rtp.packet import PT_COMFORT_NOISE, PT_PCMA, PT_PCMU, PT_TELEPHONE_EVENT, RtpPacket

DECODERS: dict[int, npt.NDArray[np.int16]] = {PT_PCMU: ULAW_TO_PCM, PT_PCMA: ALAW_TO_PCM}
"""Payload type to the value of each byte."""

DELAY_S = 0.4
"""How long a place is kept open for packets that come late: a live jitter buffer would give up sooner."""

IDLE_S = 10.0
"""Silence of a call that is skipped instead of read out as zeros."""

WINDOW_NUM_SAMPLES = 4 * SAMPLE_RATE_HZ
"""Ring length. A packet further from where its arrival puts it than half of that is anchored anew."""

MAX_MISORDER = 100
"""Packets (RFC 3550 appendix A.1): further back it is a restart."""

_SEQUENCE_WINDOW = 1024


class LegPlacement:
    """Ring of one leg.

    Args:
        counters: the call's, both legs add to them.
    """

    def __init__(self, counters: PacketCounters) -> None:
        self._counters = counters
        self._ring = np.zeros(WINDOW_NUM_SAMPLES, np.int16)
        self._present = np.zeros(WINDOW_NUM_SAMPLES, np.bool_)
        self._read = 0  # position not read yet; nothing is written before it
        self._head = 0  # just after the newest sample
        self._num_written = 0
        self._first = -1  # position of the leg's first sample
        self._ssrc = -1
        self._timestamp = 0
        self._position = 0  # of _timestamp
        self._highest = -1  # extended sequence number
        self._base = 0
        self._seen: set[int] = set()
        self._num_unique = 0

    def is_due(self, now_s: float) -> bool:
        """Whether the next 40 ms will get no packet any more."""
        return self._read + BLOCK_NUM_SAMPLES <= (now_s - DELAY_S) * SAMPLE_RATE_HZ

    def is_idle(self, now_s: float) -> bool:
        """Whether nothing waits and nothing came for so long that its silence is not worth reading out."""
        return not self.has_more and (now_s - IDLE_S) * SAMPLE_RATE_HZ > self._read

    def skip_to(self, now_s: float) -> None:
        """Go on reading just before now."""
        blocks = int((now_s - DELAY_S) * SAMPLE_RATE_HZ) // BLOCK_NUM_SAMPLES
        self._read = max(self._read, blocks * BLOCK_NUM_SAMPLES)

    @property
    def has_more(self) -> bool:
        """Whether samples wait beyond what was read."""
        return self._read < self._head

    def place(self, packet: RtpPacket, now_s: float) -> None:
        """Put a packet where it belongs; counts it if it cannot be."""
        counters = self._counters
        counters.received += 1
        arrival = round(now_s * SAMPLE_RATE_HZ)
        if packet.ssrc != self._ssrc:
            self._begin_epoch(packet, arrival)
        elif not self._is_new(packet.sequence_number):
            counters.duplicate += 1
            return
        table = DECODERS.get(packet.payload_type)
        if table is None:
            is_event = packet.payload_type in (PT_COMFORT_NOISE, PT_TELEPHONE_EVENT)
            counters.event += is_event
            counters.undecoded += not is_event
            return
        samples = table[np.frombuffer(packet.payload, np.uint8)][: SAMPLE_RATE_HZ // 2]
        step = (packet.timestamp - self._timestamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        position = self._position + step
        if abs(position - arrival) > WINDOW_NUM_SAMPLES // 4:  # the sender's clock jumped
            position, step = max(arrival, self._read), 0
        if step >= 0:
            self._timestamp, self._position = packet.timestamp, position
        if position < self._read:
            counters.late += 1
            return
        self._write(position, samples)

    def _begin_epoch(self, packet: RtpPacket, arrival: int) -> None:
        self._settle()
        self._ssrc = packet.ssrc
        self._timestamp, self._position = packet.timestamp, max(arrival, self._head)
        self._highest = self._base = packet.sequence_number
        self._seen = {packet.sequence_number}
        self._num_unique = 1

    def _is_new(self, sequence_number: int) -> bool:
        """Extend the sequence number; False for one that was seen."""
        step = (sequence_number - self._highest + 0x8000 & 0xFFFF) - 0x8000
        if step < -MAX_MISORDER or step > 3000:  # the sender restarted
            self._settle()
            self._base = self._highest = sequence_number
            self._seen = {sequence_number}
            self._num_unique = 1
            return True
        extended = self._highest + step
        if extended in self._seen:
            return False
        self._seen.add(extended)
        self._num_unique += 1
        self._base = min(self._base, extended)
        self._highest = max(self._highest, extended)
        if len(self._seen) > 2 * _SEQUENCE_WINDOW:
            self._seen = {number for number in self._seen if number > self._highest - _SEQUENCE_WINDOW}
        return True

    def _settle(self) -> None:
        """Add the losses of the epoch that ends."""
        if self._num_unique:
            self._counters.lost += max(0, self._highest - self._base + 1 - self._num_unique)
        self._num_unique = 0

    def _write(self, position: int, samples: PCM) -> None:
        # A packet lies within a quarter of the window of its arrival and reading lags less: it always fits.
        at = (position + np.arange(len(samples))) % WINDOW_NUM_SAMPLES
        self._num_written += int((~self._present[at]).sum())
        self._ring[at] = samples
        self._present[at] = True
        self._head = max(self._head, position + len(samples))
        self._first = position if self._first < 0 else min(self._first, position)

    def read(self, num_samples: int) -> tuple[int, PCM, Presence]:
        """Take the next samples: start, int16 and presence ``[num_samples]``; zeros where nothing came."""
        start = self._read
        at = (start + np.arange(num_samples)) % WINDOW_NUM_SAMPLES
        samples, present = self._ring[at], self._present[at]
        self._ring[at] = 0
        self._present[at] = False
        self._read += num_samples
        return start, samples, present

    def finish(self) -> None:
        """Settle the counters: no packet follows."""
        self._settle()
        if self._first >= 0:
            self._counters.gap_s += (self._head - self._first - self._num_written) / SAMPLE_RATE_HZ
