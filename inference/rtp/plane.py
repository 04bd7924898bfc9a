"""The packet plane: a few sockets, one thread, all legs.

    with PacketPlane(PlaneConfig(ports=(40000,))) as plane:
        leg = plane.register(40000, ("192.0.2.7", 30000))
        batch = plane.read([leg])          # every tick, all legs at once
        plane.release(leg)

A thread gathers datagrams for a tick, takes them with ``recvmmsg`` and runs the kernel over the batch; both without
the GIL. Readers get audio on one time axis for all legs, a playout delay behind now, so that reordering has healed.
"""

import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, field_validator

from inference.errors import ConfigError
from inference.rtp import kernel, kernel_numpy, layout, reader, streamed
from inference.rtp.counters import LegCounters, PlaneCounters, leg_counters, plane_counters, total_counters
from inference.rtp.jit import HAS_NUMBA
from inference.rtp.layout import SAMPLE_RATE_HZ, Int64s
from inference.rtp.legs import DEFAULT_PAYLOAD_TYPES, LegTable, source_words
from inference.rtp.sockets import PlainReceiver, Receiver, make_receiver, open_socket, queue_drops

MAX_READ_SAMPLES = SAMPLE_RATE_HZ  # per leg and read: a reader that fell behind catches up a second at a time
PCM = npt.NDArray[np.int16]
DIGITS = "0123456789*#ABCD"

_POLL_S = 0.05  # how long stop() may take to be noticed
_MAX_BATCHES_PER_TICK = 64  # a flood on one socket must not starve the others


class PlaneConfig(BaseModel):
    """Sockets, timing and memory of the packet plane.

    Attributes:
        host: numeric address to bind; ``::`` takes IPv4 and IPv6.
        ports: UDP ports; few, shared by all legs. 0 lets the system choose.
        exclusive_ports: UDP ports for one leg at a time each, for senders whose address is not known beforehand (NAT):
            the first and last of a range, or None.
        max_legs: rows reserved; a call has two legs. Memory is touched only as legs use it.
        ring_samples: audio kept per leg until it is read, 8 kHz; a power of two.
        tick_ms: how long datagrams gather before they are taken.
        playout_delay_ms: how long a reader waits for reordered packets.
        max_ahead_ms: audio further ahead of its arrival than this is anchored anew.
        reuse_guard_s: how long a released leg's SSRC is refused when its source is registered again.
        receive_buffer_bytes: socket buffer wanted; the system holds memory only for what waits in it.
        batch_packets: rows per ``recvmmsg``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    ports: tuple[int, ...] = Field(default=(40000,), min_length=1, max_length=256)
    exclusive_ports: tuple[int, int] | None = None
    max_legs: int = Field(default=4096, ge=1, le=1 << 20)
    ring_samples: int = Field(default=32768, ge=8192, le=1 << 20)
    tick_ms: float = Field(default=5.0, gt=0, le=100)
    playout_delay_ms: float = Field(default=60.0, ge=0, le=1000)
    max_ahead_ms: float = Field(default=500.0, ge=100, le=900)
    reuse_guard_s: float = Field(default=5.0, ge=0, le=60)
    receive_buffer_bytes: int = Field(default=64 << 20, ge=1 << 16)
    batch_packets: int = Field(default=512, ge=1, le=4096)

    @field_validator("ring_samples")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value


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


class PacketPlane:
    """Receives for all legs of a worker. Every method may be called from any thread."""

    def __init__(self, config: PlaneConfig, *, backend: Literal["auto", "numba", "numpy"] = "auto") -> None:
        """Reserve memory and load the kernels (compiling them takes seconds, the first time on a machine).

        Raises:
            ConfigError: numba was asked for and is not installed.
        """
        if backend == "numba" and not HAS_NUMBA:
            raise ConfigError("the numba backend was asked for but numba is not installed: install it or use 'auto'")
        self.config = config
        self.backend = "numba" if backend == "numba" or (backend == "auto" and HAS_NUMBA) else "numpy"
        self._receive = kernel.receive if self.backend == "numba" else kernel_numpy.receive
        self._read = reader.read if self.backend == "numba" else kernel_numpy.read
        self._legs = LegTable(config.max_legs, config.ring_samples)
        self._sockets: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._fed = PlainReceiver(config.batch_packets)
        self._receiver = make_receiver(config.batch_packets)
        self._max_ahead = _samples(config.max_ahead_ms / 1000)
        self._delay_s = config.playout_delay_ms / 1000
        self._events_read = 0
        self._events_dropped = 0
        self._socket_errors = 0
        self._drops_of_closed = 0
        for rows in (self._receiver, self._fed):
            self._receive(self._legs.tables, rows.arrived, 0, 0, -1, self._max_ahead)
        self.read([])

    def start(self) -> None:
        """Bind the sockets and start receiving.

        Raises:
            ConfigError: a port is in use, or the address is not of this machine.
        """
        if self._thread is not None:
            raise ConfigError("the packet plane is running already: stop it first")
        try:
            for port in self.config.ports:
                sock = open_socket(self.config.host, port, self.config.receive_buffer_bytes)
                self._sockets[int(sock.getsockname()[1])] = sock
        except ConfigError:
            self._close_sockets()
            raise
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="rtp-plane", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop receiving, join the thread and close the sockets; legs and counters stay readable."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._close_sockets()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def ports(self) -> tuple[int, ...]:
        """Local ports bound, in the order of the configuration; empty while stopped."""
        return tuple(self._sockets)

    @property
    def granted_buffer_bytes(self) -> int:
        """The smallest receive buffer that the system gave to a socket, bytes; 0 while stopped."""
        # Linux doubles what it is asked for, to allow for its own book-keeping.
        got = (sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for sock in self._sockets.values())
        return min(got, default=0) // (2 if sys.platform == "linux" else 1)

    @property
    def memory_bytes(self) -> int:
        """Bytes reserved for all legs and batches."""
        rows = sum(array.nbytes for array in (*self._receiver.arrived, *self._fed.arrived))
        return self._legs.memory_bytes + rows

    def register(
        self,
        local_port: int,
        source: tuple[str, int] | None,
        payload_types: Mapping[int, str] = DEFAULT_PAYLOAD_TYPES,
        *,
        now_s: float | None = None,
    ) -> int:
        """Admit a leg; its audio begins now. Register both legs of a call with one ``now_s``.

        Args:
            local_port: port the gateway sends to.
            source: numeric address and port it sends from; None if not known beforehand: then the port is this
                leg's alone, and the first source with a valid packet becomes its only one.
            payload_types: codec names (``PCMU``, ``PCMA``, ``CN``, ``telephone-event``) of negotiated payload types.
                0, 8 and 13 need no entry.
            now_s: default: the monotonic clock.

        Returns:
            The leg's handle. Never valid again after :meth:`release`.

        Raises:
            CapacityError: ``max_legs`` are in use.
            CodecError: a codec the plane does not decode.
            ConfigError: a port we do not have, a source that is taken, or no address.
        """
        if self._sockets and local_port not in self._sockets:
            raise ConfigError(f"UDP port {local_port} is not one of the plane's: add it to media.ports")
        words = None if source is None else source_words(*source, self._family(local_port))
        with self._lock:
            return self._legs.add(local_port, words, payload_types, self._position(now_s))

    def open_stream(self, *, now_s: float | None = None) -> int:
        """Admit a leg whose audio does not come as packets but is written; returns its handle.

        Raises:
            CapacityError: ``max_legs`` are in use.
        """
        with self._lock:
            return self._legs.add_streamed(self._position(now_s))

    def write(
        self, leg: int, samples: npt.NDArray[np.int16], timestamp: int, *, arrived_s: float | None = None
    ) -> None:
        """Take audio of a leg from :meth:`open_stream`, placed by its timestamp as packets are.

        Args:
            leg: its handle.
            samples: int16 ``[num_samples]`` at 8 kHz.
            timestamp: number of the first sample in the sender's own time; never wraps.
            arrived_s: default: the monotonic clock.

        Raises:
            KeyError: it was released.
        """
        with self._lock:
            slot = self._legs.slot(leg)
            streamed.write(self._legs.tables, slot, samples, timestamp, self._position(arrived_s), self._max_ahead)

    def release(self, leg: int, *, now_s: float | None = None, goes_on: bool = False) -> LegCounters:
        """Give the leg's row back and return its last counters.

        Args:
            leg: its handle.
            now_s: default: the monotonic clock.
            goes_on: the call goes on from this source, and is to be registered anew: its SSRC stays welcome.

        Raises:
            KeyError: it was released before.
        """
        with self._lock:
            counters = leg_counters(self._legs.tables.state[self._legs.slot(leg)])
            guard_s = 0 if goes_on else self.config.reuse_guard_s
            self._legs.remove(leg, self._position(now_s) + _samples(guard_s))
            return counters

    def read(self, legs: Sequence[int] | Int64s, *, now_s: float | None = None) -> AudioBatch:
        """Take the audio of many legs, up to the playout delay before now, at most one second per call and leg.

        Args:
            legs: handles ``[K]``; each once.
            now_s: default: the monotonic clock. After the last packet of a capture, a later time drains the rings.
        """
        handles = np.asarray(legs, np.int64)
        until = self._position(now_s) - _samples(self._delay_s)
        starts, nums = np.zeros(len(handles), np.int64), np.zeros(len(handles), np.int64)
        with self._lock:
            slots = self._legs.slots(handles)
            waiting = until - self._legs.tables.state[slots[slots >= 0], layout.READ]
            width = int(min(max(waiting.max(initial=0), 0), MAX_READ_SAMPLES))
            samples = np.empty((len(handles), width), np.int16)
            present = np.empty((len(handles), width), np.bool_)
            self._read(self._legs.tables, slots, until, starts, nums, samples, present)
        return AudioBatch(starts, nums, samples, present)

    def counters(self, leg: int) -> LegCounters:
        """What a leg has received so far.

        Raises:
            KeyError: it was released.
        """
        with self._lock:
            return leg_counters(self._legs.tables.state[self._legs.slot(leg)])

    def total_counters(self, legs: Sequence[int] | Int64s) -> LegCounters:
        """What many legs have received so far, summed; those released do not count."""
        with self._lock:
            slots = self._legs.slots(np.asarray(legs, np.int64))
            return total_counters(self._legs.tables.state[slots[slots >= 0]])

    def last_arrivals_s(self, legs: Sequence[int] | Int64s) -> npt.NDArray[np.float64]:
        """When each leg's newest packet came, ``[K]`` seconds of the plane's clock; NaN for none or a released leg."""
        with self._lock:
            slots = self._legs.slots(np.asarray(legs, np.int64))
            state = self._legs.tables.state[slots]
        is_known = (slots >= 0) & (state[:, layout.RECEIVED] > 0)
        return np.where(is_known, state[:, layout.LAST_ARRIVAL] / SAMPLE_RATE_HZ, np.nan)

    def plane_counters(self) -> PlaneCounters:
        """What no leg can be charged with, summed over the plane's life."""
        with self._lock:
            drops = self._drops_of_closed + sum(queue_drops(sock) for sock in self._sockets.values())
            return plane_counters(
                self._legs.tables.plane, len(self._legs), drops, self._events_dropped, self._socket_errors
            )

    def telephone_events(self) -> list[TelephoneEvent]:
        """Keys pressed since the last call, oldest first."""
        tables = self._legs.tables
        with self._lock:
            head, room = int(tables.plane[layout.EVENT_HEAD]), len(tables.events)
            first = max(self._events_read, head - room)
            self._events_dropped += first - self._events_read
            self._events_read = head
            rows = [tables.events[at & (room - 1)].tolist() for at in range(first, head)]
        return [
            TelephoneEvent(
                leg=self._legs.handle(slot, generation),
                digit=DIGITS[code] if code < len(DIGITS) else "?",
                code=code,
                at_s=position / SAMPLE_RATE_HZ,
                duration_s=num / SAMPLE_RATE_HZ,
                is_complete=bool(is_complete),
            )
            for slot, generation, code, num, position, is_complete in rows
        ]

    def feed(self, datagrams: Iterable[Datagram]) -> None:
        """Put datagrams through the kernel as if they had come over the network, at the times they carry.

        Feed in order of arrival, and read between: a ring holds ``ring_samples``.

        Raises:
            ConfigError: a source is not a numeric address and port.
        """
        num, port, fed = 0, -1, self._fed
        with self._lock:
            for datagram in datagrams:
                if num == fed.capacity or (num and datagram.local_port != port):
                    self._take(fed, port, num)
                    num = 0
                port = datagram.local_port
                fed.put(num, datagram.data, source_words(*datagram.source, self._family(port)))
                fed.arrived.arrivals[num] = self._position(datagram.arrived_s)
                num += 1
            if num:
                self._take(fed, port, num)

    def _take(self, rows: Receiver, port: int, num: int) -> None:
        exclusive = self._legs.exclusive.get(port, -1)
        self._receive(self._legs.tables, rows.arrived, num, port, exclusive, self._max_ahead)

    def _run(self) -> None:
        """The media thread."""
        receiver, tick_s = self._receiver, self.config.tick_ms / 1000
        with selectors.DefaultSelector() as selector:
            for sock in self._sockets.values():
                selector.register(sock, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if not selector.select(_POLL_S):
                    continue
                self._stopping.wait(tick_s)  # packets gather: one batch costs little more than one packet
                for port, sock in self._sockets.items():
                    for _ in range(_MAX_BATCHES_PER_TICK):
                        try:
                            num = receiver.receive(sock)
                        except OSError:
                            self._socket_errors += 1
                            num = 0
                        if num:
                            receiver.arrived.arrivals[:num] = self._position(None)
                            with self._lock:
                                self._take(receiver, port, num)
                        if num < receiver.capacity:
                            break

    def _close_sockets(self) -> None:
        for sock in self._sockets.values():
            self._drops_of_closed += queue_drops(sock)
            sock.close()
        self._sockets.clear()

    def _family(self, local_port: int) -> int:
        sock = self._sockets.get(local_port)
        if sock is not None:
            return int(sock.family)
        return socket.AF_INET6 if ":" in self.config.host else socket.AF_INET

    def _position(self, now_s: float | None) -> int:
        return _samples(time.monotonic() if now_s is None else now_s)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)
