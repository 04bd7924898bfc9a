"""Settings of the packet plane."""

from pydantic import BaseModel, ConfigDict, Field, field_validator


class PlaneConfig(BaseModel):
    """Sockets, timing and memory of the packet plane.

    Attributes:
        host: numeric address to bind; ``::`` takes IPv4 and IPv6.
        ports: UDP ports; few, shared by all legs. 0 lets the system choose.
        exclusive_ports: UDP ports for one leg at a time each, for senders whose address is not known beforehand (NAT):
            the first and last of a range, or None. Each is a socket (a file descriptor) of its own.
        max_legs: rows reserved; a call has two legs. Memory is touched only as legs use it.
        ring_samples: audio kept per leg until it is read, 8 kHz; a power of two.
        tick_ms: how long datagrams gather before they are taken.
        playout_delay_ms: how long a reader waits for reordered packets.
        max_ahead_ms: audio further ahead of its arrival than this is anchored anew.
        reuse_guard_s: how long a released leg's SSRC is refused when its source is registered again.
        receive_buffer_bytes: socket buffer wanted; the system holds memory only for what waits in it.
        batch_packets: rows per ``recvmmsg``.
        codec_processes: processes that decode compressed speech, started when the first leg needs them; 0 decodes in
            the media thread. Legs of G.711 have no use for them.
        codec_delay_ms: how much longer the reader of such a leg waits: packets wait for those before them, then for
            their turn. Where the processes are later than that, readers wait for them, up to 3 s.
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
    codec_processes: int = Field(default=1, ge=0, le=64)
    codec_delay_ms: float = Field(default=100.0, ge=50, le=1000)

    @field_validator("ring_samples")
    @classmethod
    def _power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two")
        return value

    @field_validator("exclusive_ports")
    @classmethod
    def _is_range(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 1 <= value[0] <= value[1] <= 65535:
            raise ValueError("must be the first and last UDP port of a range, e.g. [41000, 41999]")
        return value
