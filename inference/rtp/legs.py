"""The table of legs: fixed size, filled by signalling or the operator, never from the wire."""

import ipaddress
import socket
import struct
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from inference.errors import CapacityError, ConfigError
from inference.rtp.g711 import ALAW_TO_PCM, ULAW_TO_PCM
from inference.rtp.layout import (
    BAD_SEQ,
    BLOCKED_SSRC,
    BLOCKED_UNTIL,
    EVENT_CODE,
    EXT_SEQ,
    FIRST_POS,
    GENERATION,
    HASH_WORDS,
    NUM_PLANE,
    NUM_SIDE_COLUMNS,
    NUM_STATE,
    READ,
    SSRC,
    Int64s,
    Tables,
)
from inference.rtp.packet import PT_TELEPHONE_EVENT
from inference.rtp.red import MAX_BLOCKS

Words: TypeAlias = tuple[int, int, int]
"""A socket address as the kernels compare it."""
Key: TypeAlias = tuple[int, int, int, int]

DEFAULT_PAYLOAD_TYPES: Mapping[int, str] = {PT_TELEPHONE_EVENT: "telephone-event"}
NUM_EVENTS = 1024  # telephone events kept until they are fetched

_SLOT_BITS = 24
_SLOT_MASK = (1 << _SLOT_BITS) - 1
_MASK_64 = (1 << 64) - 1
_MAPPED = b"\0" * 10 + b"\xff\xff"  # ::ffff:0:0/96, how an IPv6 socket shows IPv4 peers


@lru_cache(maxsize=4096)
def source_words(host: str, port: int, family: int) -> Words:
    """Lay out a source address as the operating system hands it over with a datagram.

    Args:
        host: numeric IPv4 or IPv6 address; an IPv4-mapped one counts as IPv4.
        port: UDP port.
        family: of the socket it arrives at. On an IPv6 socket, IPv4 peers appear as ``::ffff:a.b.c.d``.

    Raises:
        ConfigError: not a numeric address, no valid port, or IPv6 at an IPv4 socket.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError("leg source is not a numeric IP address: resolve names before registering") from None
    if not 0 < port < 65536:
        raise ConfigError(f"leg source port {port} is not within 1-65535")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    # On a little-endian Linux (x86-64, arm64) this is the system's own layout; elsewhere only we use it, both ways.
    if family == socket.AF_INET:
        if isinstance(address, ipaddress.IPv6Address):
            raise ConfigError("leg source is IPv6 but the local port is bound to an IPv4 address: bind it to '::'")
        return int.from_bytes(struct.pack("<H", 2) + struct.pack("!H", port) + address.packed, "little"), 0, 0
    packed = address.packed if isinstance(address, ipaddress.IPv6Address) else _MAPPED + address.packed
    first = int.from_bytes(struct.pack("<H", 10) + struct.pack("!H", port), "little")
    return first, int.from_bytes(packed[:8], "little"), int.from_bytes(packed[8:], "little")


class LegTable:
    """Rows for legs, and the index that finds them by source.

    Not locked: the plane holds its lock around every call.
    """

    def __init__(self, max_legs: int, ring_samples: int, batch_packets: int) -> None:
        num_places = 1 << (4 * max_legs - 1).bit_length()  # at most a quarter full: probes stay short
        self.tables = Tables(
            places=np.full(num_places, -1, np.int32),
            keys=np.zeros((max_legs, 4), np.uint64),
            state=np.zeros((max_legs, NUM_STATE), np.int64),
            payload_types=np.zeros((max_legs, 128), np.uint8),
            ring=np.zeros((max_legs, ring_samples), np.int16),
            bitmap=np.zeros((max_legs, ring_samples // 64), np.uint64),
            decode=np.stack([ULAW_TO_PCM, ALAW_TO_PCM]),
            events=np.zeros((NUM_EVENTS, 6), np.int64),
            plane=np.zeros(NUM_PLANE, np.int64),
            side=np.zeros((batch_packets * (1 + MAX_BLOCKS), NUM_SIDE_COLUMNS), np.int64),  # never full
        )
        self.max_legs = max_legs
        self.exclusive: dict[int, int] = {}  # local port -> row of the leg that has it to itself
        self._free = list(range(max_legs - 1, -1, -1))
        self._keys: dict[int, Key | int] = {}  # row -> key, or local port of an exclusive leg
        self._rows: dict[Key, int] = {}
        self._ports: dict[int, int] = {}  # local port -> number of legs
        self._recent: OrderedDict[Key, tuple[int, int]] = OrderedDict()  # released key -> SSRC, guard position

    def __len__(self) -> int:
        return self.max_legs - len(self._free)

    @property
    def memory_bytes(self) -> int:
        """Bytes of all tables."""
        return sum(table.nbytes for table in self.tables)

    def add(self, local_port: int, source: Words | None, codecs: npt.NDArray[np.uint8], position: int) -> int:
        """Give out a row and return its handle.

        Args:
            local_port: port it arrives at.
            source: where it comes from; None for a leg that has the port to itself.
            codecs: uint8 ``[128]``, codec per payload type.
            position: at which its audio begins.

        Raises:
            CapacityError: every row is taken.
            ConfigError: the source, or the port, is another leg's.
        """
        if source is None and self._ports.get(local_port):
            raise ConfigError(f"UDP port {local_port} has legs already: a leg of unknown source needs a port to itself")
        if local_port in self.exclusive:
            raise ConfigError(f"UDP port {local_port} belongs to one leg alone: release that leg or use another port")
        key = None if source is None else (*source, local_port)
        if key in self._rows:
            raise ConfigError(
                f"a leg with this source is registered on UDP port {local_port} already: release it first"
            )
        slot = self._give_row(position)
        tables, state = self.tables, self.tables.state[slot]
        tables.payload_types[slot] = codecs
        if key is None:
            tables.keys[slot] = (0, 0, 0, local_port)
            self.exclusive[local_port] = slot
            self._keys[slot] = local_port
        else:
            tables.keys[slot] = key
            self._insert(key, slot)
            self._rows[key] = slot
            self._keys[slot] = key
            # The gateway gives a port to a new call while packets of the old one are still under way.
            state[BLOCKED_SSRC], state[BLOCKED_UNTIL] = self._recent.pop(key, (-1, 0))
        self._ports[local_port] = self._ports.get(local_port, 0) + 1
        return self.handle(slot, int(state[GENERATION]))

    def add_streamed(self, position: int) -> int:
        """Give out a row that no packet finds, for audio that is written, and return its handle.

        Raises:
            CapacityError: every row is taken.
        """
        slot = self._give_row(position)
        return self.handle(slot, int(self.tables.state[slot, GENERATION]))

    def _give_row(self, position: int) -> int:
        if not self._free:
            raise CapacityError(f"all {self.max_legs} legs are in use: raise media.max_legs or add a worker")
        slot = self._free.pop()
        state = self.tables.state[slot]
        generation = int(state[GENERATION]) + 1
        state[:] = 0
        state[GENERATION] = generation
        state[READ] = position
        state[[SSRC, EXT_SEQ, BAD_SEQ, FIRST_POS, EVENT_CODE, BLOCKED_SSRC]] = -1
        self.tables.bitmap[slot] = 0
        return slot

    def remove(self, handle: int, guard_until: int) -> None:
        """Take a row back; its last SSRC stays unwelcome from this source until position ``guard_until``.

        Raises:
            KeyError: the handle was released before.
        """
        slot = self.slot(handle)
        key = self._keys.pop(slot, None)  # none: streamed
        if isinstance(key, int):
            del self.exclusive[key]
            self._leave_port(key)
        elif key is not None:
            self._delete(key)
            del self._rows[key]
            self._leave_port(key[3])
            self._recent[key] = (int(self.tables.state[slot, SSRC]), guard_until)
            while len(self._recent) > self.max_legs:
                self._recent.popitem(last=False)
        self.tables.state[slot, GENERATION] += 1  # no handle of a free row is valid
        self._free.append(slot)

    def _leave_port(self, local_port: int) -> None:
        self._ports[local_port] -= 1
        if not self._ports[local_port]:
            del self._ports[local_port]

    def slot(self, handle: int) -> int:
        """Row of a leg in use.

        Raises:
            KeyError: the handle was released before.
        """
        slot = handle & _SLOT_MASK
        if slot >= self.max_legs or int(self.tables.state[slot, GENERATION]) != handle >> _SLOT_BITS:
            raise KeyError("this leg was released")
        return slot

    def slots(self, handles: Int64s) -> Int64s:
        """Rows of many legs, -1 for those released; ``[K]`` -> ``[K]``."""
        slots = handles & _SLOT_MASK
        in_range = slots < self.max_legs
        generations = self.tables.state[np.where(in_range, slots, 0), GENERATION]
        return np.where(in_range & (generations == handles >> _SLOT_BITS), slots, -1)

    def handle(self, slot: int, generation: int) -> int:
        """Handle of a row as it was in a generation."""
        return generation << _SLOT_BITS | slot

    def _place(self, key: Key) -> int:
        mixed = (key[0] ^ key[1] * HASH_WORDS[1] ^ key[2] * HASH_WORDS[2] ^ key[3] << 48) * HASH_WORDS[0] & _MASK_64
        return (mixed >> 40) * len(self.tables.places) >> 24

    def _insert(self, key: Key, slot: int) -> None:
        places, place = self.tables.places, self._place(key)
        while places[place] >= 0:
            place = (place + 1) & (len(places) - 1)
        places[place] = slot

    def _delete(self, key: Key) -> None:
        """Empty a place and close up the chain behind it, so that the table never fills with tombstones."""
        places, size = self.tables.places, len(self.tables.places)
        place, slot = self._place(key), self._rows[key]
        while places[place] != slot:
            place = (place + 1) & (size - 1)
        hole = place
        while True:
            place = (place + 1) & (size - 1)
            if places[place] < 0:
                break
            moved = self._keys[int(places[place])]
            home = self._place(moved) if not isinstance(moved, int) else place
            if (place - home) & (size - 1) >= (place - hole) & (size - 1):
                places[hole] = places[place]
                hole = place
        places[hole] = -1
