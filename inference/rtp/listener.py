"""The plane's sockets and the thread that empties them."""

import selectors
import socket
import sys
import threading
from collections.abc import Callable
from typing import TypeAlias

from inference.errors import ConfigError
from inference.rtp.settings import PlaneConfig
from inference.rtp.sockets import Receiver, make_receiver, open_socket, queue_drops

Take: TypeAlias = Callable[[Receiver, int, int], None]
"""Takes ``num`` datagrams that came to a local port: ``take(rows, port, num)``; called by the media thread."""

_POLL_S = 0.05  # how long stop() may take to be noticed
_MAX_BATCHES_PER_TICK = 64  # a flood on one socket must not starve the others
_EXCLUSIVE_BUFFER_BYTES = 1 << 18  # one leg's packets for seconds; thousands of sockets must not hold more


class Listener:
    """Receives from a few shared ports and, where configured, from a range of ports for one leg each.

    Args:
        config: which ports, how large their buffers, how long datagrams gather.
        take: gets every batch.
    """

    def __init__(self, config: PlaneConfig, take: Take) -> None:
        self.receiver = make_receiver(config.batch_packets)
        self.num_errors = 0
        self._config = config
        self._take = take
        self._shared: dict[int, socket.socket] = {}
        self._exclusive: dict[int, socket.socket] = {}
        self._drops_of_closed = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bind the sockets and start receiving.

        Raises:
            ConfigError: it runs already, a port is in use, or the address is not of this machine.
        """
        if self._thread is not None:
            raise ConfigError("the packet plane is running already: stop it first")
        config = self._config
        try:
            for port in config.ports:
                sock = open_socket(config.host, port, config.receive_buffer_bytes)
                self._shared[int(sock.getsockname()[1])] = sock
            if config.exclusive_ports is not None:
                buffer_bytes = min(config.receive_buffer_bytes, _EXCLUSIVE_BUFFER_BYTES)
                for port in range(config.exclusive_ports[0], config.exclusive_ports[1] + 1):
                    self._exclusive[port] = open_socket(config.host, port, buffer_bytes)
        except ConfigError:
            self._close()
            raise
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="rtp-plane", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop receiving, join the thread and close the sockets; what was counted stays."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._close()

    @property
    def thread(self) -> threading.Thread | None:
        """The media thread; None while stopped."""
        return self._thread

    @property
    def ports(self) -> tuple[int, ...]:
        """The shared ports bound, in the order of the configuration; empty while stopped."""
        return tuple(self._shared)

    @property
    def granted_buffer_bytes(self) -> int:
        """The smallest receive buffer that the system gave to a shared socket, bytes; 0 while stopped."""
        # Linux doubles what it is asked for, to allow for its own book-keeping.
        got = (sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) for sock in self._shared.values())
        return min(got, default=0) // (2 if sys.platform == "linux" else 1)

    def family(self, port: int) -> int:
        """Address family at which datagrams of a port arrive.

        Raises:
            ConfigError: it runs, and the port is not one of its own.
        """
        sock = self._shared.get(port) or self._exclusive.get(port)
        if sock is not None:
            return int(sock.family)
        if self._shared:
            raise ConfigError(f"UDP port {port} is not one of the plane's: add it to media.ports")
        return socket.AF_INET6 if ":" in self._config.host else socket.AF_INET

    def queue_drops(self) -> int:
        """Datagrams the system dropped since socket buffers were full, over the listener's life."""
        return self._drops_of_closed + sum(map(queue_drops, self._sockets()))

    def _sockets(self) -> list[socket.socket]:
        return [*self._shared.values(), *self._exclusive.values()]

    def _run(self) -> None:
        """The media thread."""
        tick_s, sockets = self._config.tick_ms / 1000, {**self._shared, **self._exclusive}
        with selectors.DefaultSelector() as selector:
            for port, sock in sockets.items():
                selector.register(sock, selectors.EVENT_READ, port)
            while not self._stopping.is_set():
                if not selector.select(_POLL_S):
                    continue
                self._stopping.wait(tick_s)  # packets gather: one batch costs little more than one packet
                for key, _ in selector.select(0):  # thousands of ports may be open, few of them have something
                    self._empty(key.data, sockets[key.data])

    def _empty(self, port: int, sock: socket.socket) -> None:
        receiver = self.receiver
        for _ in range(_MAX_BATCHES_PER_TICK):
            try:
                num = receiver.receive(sock)
            except OSError:
                self.num_errors += 1
                break
            if num:
                self._take(receiver, port, num)
            if num < receiver.capacity:
                break

    def _close(self) -> None:
        for sock in self._sockets():
            self._drops_of_closed += queue_drops(sock)
            sock.close()
        self._shared.clear()
        self._exclusive.clear()
