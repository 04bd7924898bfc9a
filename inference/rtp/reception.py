"""What the kernel sets aside: encrypted packets are opened and received again, compressed ones decoded and stored."""

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from inference.rtp import kernel, kernel_numpy, layout, streamed
from inference.rtp.layout import Int64s
from inference.rtp.legs import LegTable
from inference.rtp.settings import PlaneConfig
from inference.rtp.sockets import PlainReceiver, Receiver
from inference.rtp.srtp import SrtpSession

if TYPE_CHECKING:
    from inference.rtp.codecs.decoding import Decoding
    from inference.rtp.codecs.messages import Decoded
    from inference.rtp.codecs.pool import DecoderPool


class Reception:
    """Takes batches of datagrams all the way: through the kernel, and what it sets aside through keys and decoders.

    Not locked: the plane holds its lock around every call but :meth:`prepare` and :meth:`stop`.

    Args:
        config: how far ahead audio may lie, how many decoder processes.
        legs: the table of legs.
        is_compiled: which kernel.
        settle: gets what a process has decoded, from a thread of its own; to call :meth:`store` under the lock.
    """

    def __init__(
        self, config: PlaneConfig, legs: LegTable, *, is_compiled: bool, settle: Callable[["Decoded"], None]
    ) -> None:
        self._legs = legs
        self._delay = round(config.codec_delay_ms * layout.SAMPLE_RATE_HZ / 1000)
        self._max_ahead = round(config.max_ahead_ms * layout.SAMPLE_RATE_HZ / 1000)
        self._receive = kernel.receive if is_compiled else kernel_numpy.receive
        self._settle = settle
        self._num_processes = config.codec_processes if sys.platform == "linux" else 0
        self._pool: DecoderPool | None = None
        self._decoding: Decoding | None = None
        self._opened = PlainReceiver(config.batch_packets)
        self._sessions: dict[int, SrtpSession] = {}
        self._kept: OrderedDict[bytes, SrtpSession] = OrderedDict()

    @property
    def num_restarts(self) -> int:
        """How often a decoder process died and was started anew."""
        return 0 if self._pool is None else self._pool.num_restarts

    @property
    def memory_bytes(self) -> int:
        """Bytes of rows for opened packets."""
        return sum(array.nbytes for array in self._opened.arrived)

    def warm_up(self, rows: Receiver) -> None:
        """Have the kernels compiled."""
        tables = self._legs.tables
        self._receive(tables, rows.arrived, 0, 0, -1, self._max_ahead, False)
        streamed.settle(tables, np.zeros((0, 4), np.int64), np.zeros(0, np.int16), np.zeros((0, 2), np.int64))

    def prepare(self) -> None:
        """A leg will need decoding: start the processes, should there be any."""
        if self._num_processes:
            self._make_pool().start()

    def stop(self) -> None:
        """End the decoder processes."""
        if self._pool is not None:
            self._pool.stop()

    def admit(self, slot: int, session: SrtpSession | None, *, is_decoded: bool) -> None:
        """A leg begins; with a session where its packets are encrypted."""
        if session is not None:
            # A leg registered anew under its old key goes on where it was: how often its sequence number has wrapped
            # is part of what is verified, and is told in no packet.
            self._sessions[slot] = self._kept.pop(session.key, session)
            self._legs.tables.state[slot, layout.IS_SEALED] = 1
        if is_decoded:
            self._legs.tables.state[slot, layout.DELAY] = self._delay

    def dismiss(self, slot: int, generation: int, *, goes_on: bool) -> None:
        """A leg is over, or to be registered anew."""
        session = self._sessions.pop(slot, None)
        if session is not None and goes_on:
            self._kept[session.key] = session
            while len(self._kept) > self._legs.max_legs:
                self._kept.popitem(last=False)
        if self._pool is not None:
            self._pool.release(slot, generation)

    def wait_for_decoders(self, slots: Int64s) -> None:
        """Have the readers of decoded legs among ``slots`` ``[K]`` wait as long as their processes are late."""
        if self._pool is None:
            return
        delays = self._legs.tables.state[:, layout.DELAY]
        decoded = slots[(slots >= 0) & (delays[slots] > 0)]
        lags = np.round(np.array(self._pool.lags_s()) * layout.SAMPLE_RATE_HZ).astype(np.int64)
        delays[decoded] = self._delay + lags[decoded % len(lags)]

    def take(self, rows: Receiver, port: int, num: int, *, is_live: bool) -> None:
        """Take datagrams of one local port.

        Args:
            rows: where they are.
            port: to which they came.
            num: how many.
            is_live: they came over the network just now; else they are decoded before this returns.
        """
        tables, exclusive = self._legs.tables, self._legs.exclusive.get(port, -1)
        self._receive(tables, rows.arrived, num, port, exclusive, self._max_ahead, False)
        if not tables.plane[layout.NUM_SIDE]:
            return
        side = tables.side[: tables.plane[layout.NUM_SIDE]].copy()
        is_sealed = side[:, layout.SIDE_CODEC] == layout.CODEC_SEALED
        if is_sealed.any():
            num = self._open(rows, side[is_sealed])
            self._receive(tables, self._opened.arrived, num, port, exclusive, self._max_ahead, True)
            self._decode(tables.side[: tables.plane[layout.NUM_SIDE]].copy(), self._opened, is_live=is_live)
        self._decode(side[~is_sealed], rows, is_live=is_live)

    def _open(self, rows: Receiver, side: Int64s) -> int:
        """Put what verifies into the rows for opened packets; returns how many."""
        arrived, opened, num = rows.arrived, self._opened.arrived, 0
        for row, slot, end in side[:, [layout.SIDE_ROW, layout.SIDE_SLOT, layout.SIDE_END]].tolist():
            packet = self._sessions[slot].open(arrived.rows[row, :end].tobytes())
            if packet is None:
                self._legs.tables.state[slot, layout.UNVERIFIED] += 1
                self._legs.tables.plane[layout.UNVERIFIED_EVER] += 1
                continue
            opened.rows[num, : len(packet)] = np.frombuffer(packet, np.uint8)
            opened.lengths[num] = len(packet)
            opened.sources[num] = arrived.sources[row]
            opened.arrivals[num] = arrived.arrivals[row]
            num += 1
        return num

    def _decode(self, side: Int64s, rows: Receiver, *, is_live: bool) -> None:
        if not len(side):
            return
        now = int(side[:, layout.SIDE_ARRIVAL].max())
        if is_live and self._num_processes:
            refused = self._make_pool().send(side, rows.arrived.rows, now)
            np.add.at(self._legs.tables.state[:, layout.UNDECODED], refused[:, layout.SIDE_SLOT], 1)
            return
        from inference.rtp.codecs.decoding import Decoding
        from inference.rtp.codecs.messages import pack

        self._decoding = self._decoding or Decoding()
        self.store(self._decoding.take(*pack(side, rows.arrived.rows), now))

    def finish(self, now: int) -> None:
        """What is decoded here, not by a process, waits for no more packets than had come by position ``now``."""
        if self._decoding is not None:
            nothing = np.zeros((0, layout.NUM_SIDE_COLUMNS), np.int64)
            self.store(self._decoding.take(nothing, np.zeros(0, np.uint8), now))

    def store(self, decoded: "Decoded") -> None:
        """Put what was decoded into the rings."""
        streamed.settle(self._legs.tables, decoded.pieces, decoded.samples, decoded.failed)

    def _make_pool(self) -> "DecoderPool":
        if self._pool is None:
            from inference.rtp.codecs.pool import DecoderPool

            self._pool = DecoderPool(self._num_processes, self._settle)
        return self._pool
