"""Plays recordings as the RTP of many calls, in real time: one socket, sendmmsg, a source address for each leg.

Leg i comes from 127.1.(i / 250).(i % 250 + 1): Linux answers for all of 127/8, so one socket can speak for them all.
Legs are spread over the 20 ms of a packet. In a thread: the system call gives the others the GIL.
"""

import ctypes
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

PACKET_SAMPLES = 160  # 20 ms of G.711
PACKET_S = 0.02
SLOTS = 10  # per packet: every 2 ms a tenth of the legs
HEADER = 12  # RFC 3550, 5.1
CMSG_SPACE, CMSG_LEN = 32, 28  # a header of 16 bytes and struct in_pktinfo, 12, padded to 8
MESSAGE = np.dtype(
    [
        ("name", "u8"), ("namelen", "u4"), ("pad1", "u4"), ("iov", "u8"), ("iovlen", "u8"), ("control", "u8"),
        ("controllen", "u8"), ("flags", "i4"), ("pad2", "u4"), ("sent", "u4"), ("pad3", "u4"),
    ]
)  # fmt: skip
CONTROL = np.dtype([("len", "u8"), ("level", "i4"), ("type", "i4"), ("index", "i4"), ("source", "u4"), ("dst", "u4"),
                    ("pad", "u4")])  # fmt: skip
IP_PKTINFO = 8  # of Linux; the socket module does not name it
_libc = ctypes.CDLL(None, use_errno=True)


def source_of(leg: int) -> str:
    return f"127.1.{leg // 250}.{leg % 250 + 1}"


class Sender:
    """Sends from :meth:`start` to :meth:`stop`.

    Args:
        audio: µ-law ``[num_samples]`` of each leg, played in a loop.
        port: where to, on this host.
    """

    def __init__(self, audio: Sequence[npt.NDArray[np.uint8]], port: int) -> None:
        self._audio = [one[: len(one) // PACKET_SAMPLES * PACKET_SAMPLES].reshape(-1, PACKET_SAMPLES) for one in audio]
        self.num_legs = len(audio)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        self._socket.bind(("0.0.0.0", 0))
        self.port = self._socket.getsockname()[1]
        self._packets = np.zeros((self.num_legs, HEADER + PACKET_SAMPLES), np.uint8)
        self._packets[:, 0] = 0x80
        ssrcs = (0x1000000 + np.arange(self.num_legs, dtype=np.uint64) * 2654435761) & 0xFFFFFFFF
        self._packets[:, 8:12] = ssrcs.astype(">u4").view(np.uint8).reshape(-1, 4)
        self._messages = self._describe(port)
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        self.num_playing = 0  # legs; the first so many play
        self.num_sent = 0
        self.worst_lag_s = 0.0

    def _describe(self, port: int) -> npt.NDArray[Any]:
        """The system's own description of every packet: where it lies, whence and where it goes."""
        self._to = np.frombuffer(
            socket.AF_INET.to_bytes(2, "little") + port.to_bytes(2, "big") + socket.inet_aton("127.0.0.1") + bytes(8),
            np.uint8,
        ).copy()
        self._iov = np.zeros((self.num_legs, 2), np.uint64)
        self._iov[:, 0] = self._packets.ctypes.data + np.arange(self.num_legs) * self._packets.shape[1]
        self._iov[:, 1] = self._packets.shape[1]
        self._controls = np.zeros(self.num_legs, CONTROL)
        self._controls["len"], self._controls["type"] = CMSG_LEN, IP_PKTINFO
        sources = [int.from_bytes(socket.inet_aton(source_of(leg)), "little") for leg in range(self.num_legs)]
        self._controls["source"] = sources
        messages = np.zeros(self.num_legs, MESSAGE)
        messages["name"], messages["namelen"] = self._to.ctypes.data, len(self._to)
        messages["iov"], messages["iovlen"] = self._iov.ctypes.data + np.arange(self.num_legs) * 16, 1
        messages["control"] = self._controls.ctypes.data + np.arange(self.num_legs) * CMSG_SPACE
        messages["controllen"] = CMSG_SPACE
        return messages

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        number, began_s = 0, time.monotonic()
        slots = [np.arange(slot, self.num_legs, SLOTS) for slot in range(SLOTS)]
        while not self._is_over.is_set():
            due_s = began_s + number * PACKET_S / SLOTS
            late_s = time.monotonic() - due_s
            if late_s < 0:
                time.sleep(-late_s)
            self.worst_lag_s = max(self.worst_lag_s, late_s)
            legs = slots[number % SLOTS]
            self._send(legs[: np.searchsorted(legs, self.num_playing)], number // SLOTS)
            number += 1

    def _send(self, legs: npt.NDArray[np.int64], packet: int) -> None:
        if not len(legs):
            return
        self._packets[legs, 2:4] = np.frombuffer((packet & 0xFFFF).to_bytes(2, "big"), np.uint8)
        timestamp = packet * PACKET_SAMPLES & 0xFFFFFFFF
        self._packets[legs, 4:8] = np.frombuffer(timestamp.to_bytes(4, "big"), np.uint8)
        self._packets[legs, HEADER:] = [self._audio[leg][packet % len(self._audio[leg])] for leg in legs.tolist()]
        messages = self._messages[legs]  # a copy, whose pointers lead to the packets themselves
        done = 0
        while done < len(legs):
            at = messages.ctypes.data + done * MESSAGE.itemsize
            sent = _libc.sendmmsg(self._socket.fileno(), ctypes.c_void_p(at), len(legs) - done, 0)
            if sent <= 0:
                raise OSError(ctypes.get_errno(), "sendmmsg failed")
            done += sent
        self.num_sent += done
