"""The golden payloads of each codec as RTP, and how much of the voice is in what was heard."""

import importlib.util
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from inference.rtp.codecs.amr import AmrFrame, AmrPayload
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import Datagram

GOLDEN = Path(__file__).parents[1] / "golden" / "codecs"
PORT = 40000
SOURCE = ("192.0.2.7", 30000)
PAYLOAD_TYPE = 97


@dataclass(frozen=True)
class Voice:
    """A codec's golden and what it is called in SDP.

    ``clock`` is ticks per sample at 8 kHz, ``lag`` the samples by which coding and decoding may delay the voice.
    """

    file: str
    name: str
    parameters: str = ""
    clock: int = 1
    lag: range = range(64)
    fidelity: float = 0.9
    has_dtx: bool = False


VOICES = {
    "G722": Voice("g722", "G722", lag=range(24), fidelity=0.99),
    "GSM": Voice("gsm", "GSM", lag=range(2), fidelity=0.9),
    "G729": Voice("g729", "G729", "annexb=yes", lag=range(30, 56), fidelity=0.87, has_dtx=True),
    "opus": Voice("opus", "opus", "useinbandfec=1", clock=6, lag=range(40, 72), fidelity=0.85, has_dtx=True),
    "AMR": Voice("amr", "AMR", lag=range(30, 56), has_dtx=True),
    "AMR aligned": Voice("amr", "AMR", "octet-align=1; mode-set=7", lag=range(30, 56), has_dtx=True),
    "AMR-WB": Voice("amr_wb", "AMR-WB", clock=2, lag=range(64), has_dtx=True),
    "AMR-WB aligned": Voice("amr_wb", "AMR-WB", "mode-change-period=2;octet-align=1", 2, range(64), 0.9, True),
    "iLBC 20": Voice("ilbc20", "iLBC", "mode=20", lag=range(8), fidelity=0.85),
    "iLBC 30": Voice("ilbc30", "iLBC", "mode=30", lag=range(8), fidelity=0.85),
}


@cache
def voice() -> np.ndarray:
    spec = importlib.util.spec_from_file_location("golden_codecs_make", GOLDEN / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.voice()


@cache
def payloads(key: str) -> list[tuple[int, bytes]]:
    """``(timestamp, payload)`` of each packet, packed as the codec's parameters say."""
    spoken = VOICES[key]
    data, at, found = (GOLDEN / f"{spoken.file}.bin").read_bytes(), 0, []
    while at < len(data):
        timestamp, size = struct.unpack_from("!IH", data, at)
        payload, at = data[at + 6 : at + 6 + size], at + 6 + size
        if spoken.name.startswith("AMR"):
            frame = AmrFrame(payload[0] >> 3 & 15, bool(payload[0] & 4), payload[1:])
            payload = AmrPayload(15, (frame,)).to_bytes(
                is_aligned="octet-align=1" in spoken.parameters, is_wide=spoken.name == "AMR-WB"
            )
        found.append((timestamp, payload))
    return found


def packets(key: str, *, begin_s: float = 1.0, ssrc: int = 9) -> list[tuple[float, bytes]]:
    """``(arrival, packet)``: each as soon as it was spoken."""
    clock, out = VOICES[key].clock, []
    for number, (timestamp, payload) in enumerate(payloads(key)):
        packet = RtpPacket(
            payload_type=PAYLOAD_TYPE,
            sequence_number=(65500 + number) % 65536,
            timestamp=(timestamp + 2**32 - 20000) % 2**32,
            ssrc=ssrc,
            payload=payload,
        )
        out.append((begin_s + 0.02 + timestamp / clock / 8000, bytes(packet)))
    return out


def as_datagrams(items: list[tuple[float, bytes]]) -> list[Datagram]:
    return [Datagram(data, SOURCE, PORT, at_s) for at_s, data in items]


def likeness(heard: np.ndarray, present: np.ndarray, original: np.ndarray, lags: range) -> tuple[float, int]:
    """Correlation of what was heard with the original where a packet brought it, and the lag at which it is best."""
    best = (-1.0, 0)
    for lag in lags:
        num = min(len(heard) - lag, len(original))
        a, b, there = heard[lag : lag + num].astype(float), original[:num].astype(float), present[lag : lag + num]
        a, b = a[there], b[there]
        best = max(best, (float(a @ b / np.sqrt((a @ a) * (b @ b) + 1)), lag))
    return best
