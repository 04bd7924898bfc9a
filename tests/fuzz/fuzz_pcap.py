"""Fuzz capture reading with atheris: any bytes give calls or a MediaError, in bounded time.

    pip install -e '.[fuzz]' && python tests/fuzz/fuzz_pcap.py -max_total_time=30

Starts from two small valid captures (pcap and pcapng) made here, besides any corpus folder given.
"""

import struct
import sys
import tempfile
from pathlib import Path

import atheris

import inference.rtp.plane  # noqa: F401 -- before the instrumentation: numba cannot compile what was instrumented

with atheris.instrument_imports(include=["inference.gateway"]):
    from inference.errors import MediaError
    from inference.gateway.capture import open_capture

from inference.gateway.pcap import is_capture
from inference.rtp.packet import RtpPacket

MIN_PACKET_BYTES = 16 + 20 + 8 + 12
"""Record, IPv4, UDP and RTP header."""

MAX_BLOCKS_PER_PACKET = 2 * 300
"""Both legs, 12 s: silence of more than 10 s is skipped, and a packet lies within 1.5 s of its arrival."""

MAGICS = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a")


def seeds() -> list[bytes]:
    """A call of 12 packets over raw IPv4, in both formats."""
    frames = []
    for i in range(12):
        rtp = bytes(RtpPacket(payload_type=0, sequence_number=i, timestamp=160 * i, ssrc=7, payload=bytes(160)))
        udp = struct.pack("!HHHH", 4000, 6000, 8 + len(rtp), 0) + rtp
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 9, 17, 0, bytes(4), bytes([10, 0, 0, 1]))
        frames.append(ip + udp)
    pcap = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    pcapng = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    pcapng += struct.pack("<IIHHII", 1, 20, 101, 0, 65535, 20)
    for i, frame in enumerate(frames):
        pcap += struct.pack("<IIII", 1000, 20_000 * i, len(frame), len(frame)) + frame
        size = 32 + len(frame)
        pcapng += struct.pack("<IIIIIII", 6, size, 0, 0, 20_000 * i, len(frame), len(frame)) + frame
        pcapng += struct.pack("<I", size)
    return [pcap, pcapng]


def one_input(data: bytes) -> None:
    """Read ``data`` as a capture, to the last block."""
    if not is_capture(data[:4]):  # mutations of the magic are wasted: take one of the real ones instead
        data = MAGICS[len(data) % len(MAGICS)] + data[4:]
    path = Path(tempfile.gettempdir()) / "scamtap-fuzz.pcap"
    path.write_bytes(data)
    try:
        calls = open_capture(path)
    except MediaError as error:
        if "\n" in str(error):
            raise RuntimeError("an error message of two lines") from error
        return
    for call in calls:
        if sum(1 for _ in call.blocks()) > MAX_BLOCKS_PER_PACKET * (len(data) // MIN_PACKET_BYTES + 1):
            raise RuntimeError("more blocks than the input can hold")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, folder, "-max_len=65536"], one_input)
        atheris.Fuzz()
