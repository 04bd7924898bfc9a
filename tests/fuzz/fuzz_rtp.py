"""Feed the packet parsers and both kernels with what coverage-guided fuzzing comes up with.

    python tests/fuzz/fuzz_rtp.py [-max_total_time=60] [corpus folder]

Needs atheris (``pip install 'scamtap[fuzz]'``). The golden packets are the seeds. Stops at the first finding: a parser
that raises anything but PacketError, bytes that do not survive parsing, or kernels that disagree.
"""

import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["inference.rtp.packet", "inference.rtp.rtcp"]):
    from inference.rtp.packet import ComfortNoise, EventPayload, RtpPacket
    from inference.rtp.rtcp import RtcpPacket

# Compiled and vectorised code is not instrumented: it is compared.
from inference.errors import PacketError
from inference.rtp.plane import Datagram, PacketPlane, PlaneConfig

SEEDS = Path(__file__).parents[1] / "golden" / "rtp"
PORT = 40000
SOURCE = ("192.0.2.7", 30000)
TYPES = {101: "telephone-event", 121: "red", 3: "GSM", 9: "G722", 18: "G729", 96: "opus", 97: "AMR", 98: "AMR-WB"}
CONFIG = PlaneConfig(max_legs=1, ring_samples=8192, batch_packets=4)
PLANES = [PacketPlane(CONFIG, backend="numba"), PacketPlane(CONFIG, backend="numpy")]


def check_parsers(data: bytes) -> None:
    """Whatever a parser takes, it writes again byte for byte."""
    for parse in (
        lambda: bytes(RtpPacket.parse(data)),
        lambda: b"".join(bytes(packet) for packet in RtcpPacket.parse_compound(data)),
        lambda: bytes(ComfortNoise.parse(data)),
    ):
        try:
            again = parse()
        except PacketError:
            continue
        if again != data:
            raise AssertionError("bytes did not survive")
    try:
        EventPayload.parse(data)
    except PacketError:
        if len(data) >= 4:
            raise


def check_kernels(data: bytes) -> None:
    """Both kernels make the same of a handful of datagrams cut out of the input."""
    provider = atheris.FuzzedDataProvider(data)
    legs = [plane.register(PORT, SOURCE, TYPES, now_s=1) for plane in PLANES]
    now_s = 1.0
    while provider.remaining_bytes() > 4:
        now_s += provider.ConsumeIntInRange(0, 100) / 1000
        datagrams = [Datagram(provider.ConsumeBytes(provider.ConsumeIntInRange(0, 200)), SOURCE, PORT, now_s)]
        for plane in PLANES:
            plane.feed(datagrams)
        if provider.ConsumeBool():
            compare(legs, now_s)
    compare(legs, now_s + 1)
    for plane, leg in zip(PLANES, legs, strict=True):
        plane.telephone_events()
        plane.release(leg, now_s=-100)


def compare(legs: list[int], now_s: float) -> None:
    """Read both planes and compare all that can be seen."""
    ours, theirs = (plane.read([leg], now_s=now_s) for plane, leg in zip(PLANES, legs, strict=True))
    if not (np.array_equal(ours.samples, theirs.samples) and np.array_equal(ours.present, theirs.present)):
        raise AssertionError("the kernels hear different things")
    first, second = (plane.counters(leg) for plane, leg in zip(PLANES, legs, strict=True))
    if first != second or PLANES[0].plane_counters() != PLANES[1].plane_counters():
        raise AssertionError("the kernels count different things")


def fuzz_one(data: bytes) -> None:
    """Entry point of the fuzzer."""
    check_parsers(data)
    check_kernels(data)


def main() -> None:
    """Run until stopped, or as long as the options say."""
    with tempfile.TemporaryDirectory() as found:
        arguments = sys.argv if any(not arg.startswith("-") for arg in sys.argv[1:]) else [*sys.argv, found]
        atheris.Setup([*arguments, str(SEEDS)], fuzz_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
