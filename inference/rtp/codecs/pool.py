"""Decoder processes, as the plane sees them: batches go out without waiting, samples come back to a thread.

A leg always goes to the same process. What a process cannot take in time is dropped and counted; one that dies is
started anew, and its legs' decoders begin anew with it.
"""

import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.rtp import layout
from inference.rtp.codecs.messages import MAX_MESSAGE_BYTES, Decoded, batch_bytes, pack, parse_answer, split
from inference.rtp.layout import Int64s

MAX_BATCH_PACKETS = 64  # of a message: it and its answer fit a socket's buffer whatever the packets hold
MAX_LAG_S = 3.0  # readers wait for a process that is late, but not for ever
MAX_BACKLOG_BYTES = 8 << 20  # that wait for a process whose socket is full: seconds of its legs' packets
_BUFFER_BYTES = 1 << 20
_FLUSH_S = 0.02
_FLUSH_FOR_S = 0.2  # after the last packets: longer than any of them is held
_RESTART_S = 0.5  # a process that dies at once is not started at once again
_ROOT = Path(__file__).resolve().parents[3]


class _Process:
    """One decoder process and the socket to it; not locked."""

    def __init__(self) -> None:
        self.started_s = time.monotonic()
        self.unanswered: deque[float] = deque()
        self.backlog: deque[bytes] = deque()
        self.backlog_bytes = 0
        self.released: list[tuple[int, int]] = []
        self.sent_s = self.packets_s = 0.0
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in (self.sock, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            search = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
            fd = str(theirs.fileno())
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "inference.rtp.codecs.worker", fd],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
            )

    def send(self, side: Int64s, payloads: npt.NDArray[np.uint8], now: int) -> bool:
        """Send a batch without waiting, or have it wait; False if there is no room for it."""
        if self.backlog_bytes > MAX_BACKLOG_BYTES:
            return False
        over = np.zeros((len(self.released), layout.NUM_SIDE_COLUMNS), np.int64)
        over[:, [layout.SIDE_SLOT, layout.SIDE_GENERATION]] = np.array(self.released, np.int64).reshape(-1, 2)
        over[:, layout.SIDE_CODEC] = layout.CODEC_UNKNOWN
        message = batch_bytes(np.concatenate([over, side]), payloads, now)
        self.backlog.append(message)
        self.backlog_bytes += len(message)
        self.push()
        self.released.clear()
        self.sent_s = time.monotonic()
        if len(side):
            self.packets_s = self.sent_s
        self.unanswered.append(self.sent_s)
        return True

    def push(self) -> None:
        """Hand the backlog on as far as the socket takes it."""
        while self.backlog:
            try:
                self.sock.send(self.backlog[0], socket.MSG_DONTWAIT)
            except OSError:  # full; or nobody is there: the thread notices and starts another
                return
            self.backlog_bytes -= len(self.backlog.popleft())

    def close(self) -> None:
        """End it, if it has not ended."""
        self.sock.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class DecoderPool:
    """Decodes in ``num_processes`` processes, started with the first batch.

    Args:
        num_processes: how many.
        settle: gets what was decoded; called from the pool's own thread.
    """

    def __init__(self, num_processes: int, settle: Callable[[Decoded], None]) -> None:
        self.num_restarts = 0
        self._num_processes = num_processes
        self._settle = settle
        self._processes: list[_Process] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the processes if they are not running; they need a moment, and batches wait for them."""
        with self._lock:
            if self._processes:
                return
            self._processes = [_Process() for _ in range(self._num_processes)]
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="rtp-decoders", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let what is under way be, and end the processes."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        with self._lock:
            for process in self._processes:
                process.close()
            self._processes = []

    def send(self, side: Int64s, rows: npt.NDArray[np.uint8], now: int) -> Int64s:
        """Hand packets out.

        Args:
            side: int64 ``[K, NUM_SIDE_COLUMNS]``, in order of arrival; they point into ``rows``.
            rows: uint8 ``[B, W]``, the datagrams.
            now: position.

        Returns:
            The rows of ``side`` that no process could take.
        """
        self.start()
        refused = [side[:0]]
        with self._lock:
            for number, of_process in split(side, len(self._processes)):
                for at in range(0, len(of_process), MAX_BATCH_PACKETS):
                    part = of_process[at : at + MAX_BATCH_PACKETS]
                    if not self._processes[number].send(*pack(part, rows), now):
                        refused.append(part)
        return np.concatenate(refused)

    def release(self, slot: int, generation: int) -> None:
        """A leg is over: its decoder may go, with the next batch."""
        with self._lock:
            if self._processes:
                released = self._processes[slot % len(self._processes)].released
                released.append((slot, generation))
                del released[:-MAX_BATCH_PACKETS]  # a decoder forgotten here goes when its row is given out again

    def lags_s(self) -> list[float]:
        """How long each process, the owner of slot ``% len``, has owed its oldest answer; readers wait that longer."""
        now_s = time.monotonic()
        with self._lock:
            owed = (process.unanswered[0] if process.unanswered else now_s for process in self._processes)
            return [min(max(now_s - since_s, 0.0), MAX_LAG_S) for since_s in owed] or [0.0]

    def _run(self) -> None:
        """Take answers, wake decoders that wait for missing packets, start what died."""
        with selectors.DefaultSelector() as selector:
            for number, process in enumerate(self._processes):
                selector.register(process.sock, selectors.EVENT_READ, number)
            flush_s = time.monotonic() + _FLUSH_S
            while not self._stopping.is_set():
                for key, _ in selector.select(_FLUSH_S):
                    if not self._take(self._processes[key.data]):
                        selector.unregister(key.fileobj)
                        self._restart(key.data)
                        selector.register(self._processes[key.data].sock, selectors.EVENT_READ, key.data)
                now_s = time.monotonic()
                if now_s >= flush_s:
                    flush_s = now_s + _FLUSH_S
                    self._flush(now_s)

    def _take(self, process: _Process) -> bool:
        try:
            data = process.sock.recv(MAX_MESSAGE_BYTES)
        except OSError:
            return False
        if not data:
            return False
        with self._lock:
            process.unanswered.popleft()
            process.push()
        self._settle(parse_answer(bytearray(data)))
        return True

    def _flush(self, now_s: float) -> None:
        nothing, now = np.zeros((0, layout.NUM_SIDE_COLUMNS), np.int64), round(now_s * layout.SAMPLE_RATE_HZ)
        with self._lock:
            for process in self._processes:
                may_hold = now_s - process.packets_s < _FLUSH_FOR_S and not process.unanswered
                if may_hold and now_s - process.sent_s > _FLUSH_S:
                    process.send(nothing, np.zeros(0, np.uint8), now)

    def _restart(self, number: int) -> None:
        old = self._processes[number]
        self._stopping.wait(max(0.0, _RESTART_S - (time.monotonic() - old.started_s)))
        old.close()
        with self._lock:
            self._processes[number] = _Process()
            self.num_restarts += 1
