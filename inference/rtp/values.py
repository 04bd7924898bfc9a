"""What the packet plane takes and gives: datagrams in, audio and keys out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.rtp.layout import Int64s


@dataclass(frozen=True, slots=True)
class Datagram:
    """What a capture or a test hands to :meth:`PacketPlane.feed`.

    Attributes:
        data: UDP payload.
        source: numeric address and port it came from.
        local_port: port it came to.
        arrived_s: when, on the clock that the readers use.
    """

    data: bytes
    source: tuple[str, int]
    local_port: int
    arrived_s: float


@dataclass(frozen=True, slots=True)
class AudioBatch:
    """Audio of K legs since each was last read.

    Attributes:
        start_samples: int64 ``[K]``, position of each leg's first sample: seconds of the plane's clock * 8000.
        num_samples: int64 ``[K]``, how many are new; 0 for a leg that was released.
        samples: int16 ``[K, W]``, 0 where nothing was received and beyond ``num_samples``.
        present: bool ``[K, W]``, where a packet brought the sample.
    """

    start_samples: Int64s
    num_samples: Int64s
    samples: npt.NDArray[np.int16]
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """A key pressed during the call (RFC 4733).

    Attributes:
        leg: handle of the leg.
        digit: one of ``0-9*#ABCD``, or ``"?"`` for other events.
        code: event code as sent, 0-255.
        at_s: when it began, seconds of the plane's clock.
        duration_s: how long.
        is_complete: its end was received.
    """

    leg: int
    digit: str
    code: int
    at_s: float
    duration_s: float
    is_complete: bool
