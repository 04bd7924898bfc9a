"""Datagrams out of the operating system, many per call (Linux ``recvmmsg``), into preallocated rows."""

import contextlib
import ctypes
import errno
import socket
import struct
import sys
from typing import Protocol

import numpy as np

from inference.errors import ConfigError
from inference.rtp.layout import Arrived
from inference.rtp.legs import Words, source_words

ROW_BYTES = 1600
"""Longest datagram looked at: above any Ethernet frame, and no power of two, so rows spread over the cache sets."""

_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO_DROPS = 8
_MSG_TRUNC = 0x20
_MSG_DONTWAIT = 0x40


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_IoVec)),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("length", ctypes.c_uint32))


class Receiver(Protocol):
    """Fills rows from a socket."""

    arrived: Arrived
    capacity: int

    def receive(self, sock: socket.socket) -> int:
        """Take what waits at ``sock``, at most ``capacity`` datagrams, without waiting; returns how many.

        Raises:
            OSError: the socket failed.
        """
        ...


class PlainReceiver:
    """One ``recvfrom`` per datagram, for systems without ``recvmmsg``; also the rows that replay fills by hand."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.arrived = Arrived(
            rows=np.zeros((capacity, ROW_BYTES), np.uint8),
            lengths=np.zeros(capacity, np.uint32),
            sources=np.zeros((capacity, 4), np.uint64),
            arrivals=np.zeros(capacity, np.int64),
        )

    def put(self, row: int, data: bytes, source: Words) -> None:
        """Fill one row."""
        kept = data[:ROW_BYTES]
        self.arrived.rows[row, : len(kept)] = np.frombuffer(kept, np.uint8)
        self.arrived.lengths[row] = len(data)
        self.arrived.sources[row, :3] = source

    def receive(self, sock: socket.socket) -> int:
        """See :class:`Receiver`."""
        for row in range(self.capacity):
            try:
                data, address = sock.recvfrom(65535)
            except BlockingIOError:
                return row
            self.put(row, data, source_words(address[0].partition("%")[0], address[1], sock.family))
        return self.capacity


class MmsgReceiver:
    """One ``recvmmsg`` for a whole batch, straight into the rows; the GIL is released meanwhile."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        rows = np.zeros((capacity, ROW_BYTES), np.uint8)
        sources = np.zeros((capacity, 4), np.uint64)
        self._iovs = (_IoVec * capacity)()
        self._messages = (_MMsgHdr * capacity)()
        for i in range(capacity):
            self._iovs[i] = _IoVec(rows.ctypes.data + i * rows.strides[0], ROW_BYTES)
            header = self._messages[i].header
            header.name = sources.ctypes.data + i * sources.strides[0]
            header.iov, header.iov_count = ctypes.pointer(self._iovs[i]), 1
        fields = np.frombuffer(memoryview(self._messages), np.uint32).reshape(capacity, -1)
        self._name_sizes = fields[:, _MsgHdr.name_size.offset // 4]
        self._name_sizes[:] = sources.strides[0]
        lengths = fields[:, _MMsgHdr.length.offset // 4]
        self.arrived = Arrived(rows, lengths, sources, np.zeros(capacity, np.int64))
        libc = ctypes.CDLL(None, use_errno=True)
        self._recvmmsg = libc.recvmmsg
        self._recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        self._address = ctypes.addressof(self._messages)

    def receive(self, sock: socket.socket) -> int:
        """See :class:`Receiver`."""
        # MSG_TRUNC: lengths are those of the datagrams, so that one longer than its row is noticed.
        num = int(self._recvmmsg(sock.fileno(), self._address, self.capacity, _MSG_DONTWAIT | _MSG_TRUNC, None))
        if num < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return 0
            raise OSError(code, "recvmmsg failed")
        self._name_sizes[:num] = 32  # the system wrote the sizes of these addresses there; IPv6 needs more than IPv4
        return num


def make_receiver(capacity: int) -> Receiver:
    """The best receiver this system has."""
    return MmsgReceiver(capacity) if sys.platform == "linux" else PlainReceiver(capacity)


def open_socket(host: str, port: int, buffer_bytes: int) -> socket.socket:
    """Bind a UDP socket that does not wait.

    Args:
        host: numeric address to bind; ``::`` takes IPv4 too, as IPv4-mapped addresses.
        port: 0 lets the system choose.
        buffer_bytes: receive buffer wanted. The default of most systems holds 3 ms at 100,000 packets/s.

    Raises:
        ConfigError: the address or the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise ConfigError(
            f"no socket for UDP port {port}: {error.strerror}; raise the limit of open files (ulimit -n) "
            "or narrow media.exclusive_ports"
        ) from None
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Beyond the system's limit with CAP_NET_ADMIN, up to the limit without.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, buffer_bytes)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"UDP port {port} on {host} is in use: stop the program that has it or change media.ports"
            ) from None
        raise ConfigError(f"cannot bind UDP {host} port {port}: {error.strerror}; check plane host and ports") from None
    return sock


def queue_drops(sock: socket.socket) -> int:
    """Datagrams the system dropped because the receive buffer was full.

    This is the counter that ``SO_RXQ_OVFL`` attaches to datagrams, asked for directly: no cost per packet, and no
    need of a later datagram to carry the news. 0 where the system does not tell.
    """
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError):
        info = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
        if len(info) > 4 * _MEMINFO_DROPS:
            return int(struct.unpack_from("=I", info, 4 * _MEMINFO_DROPS)[0])
    return 0
