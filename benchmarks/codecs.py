"""What a compressed or encrypted leg costs: from the datagram to samples in its ring, all processes together.

    python benchmarks/codecs.py [--json] [--legs 50] [--seconds 2] [--repeats 3]

The golden payloads of each codec go through the plane (kernel, decoder process, narrowing, ring) as they would in a
call, every leg a packet every 20 or 30 ms. CPU time is that of this process and of the decoder process, without the
sockets. Two yardsticks in the same repetition: the same number of legs of PCMU, and a bare PyAV loop that decodes the
very same payloads one after the other and does nothing with them. SRTP: the same for PCMU under encryption, beside a
bare pylibsrtp loop. Ratios are taken within a repetition; medians are shown.
"""

import argparse
import base64
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import numpy as np
import pylibsrtp
from pydantic import SecretStr

from inference.gateway.spec import SrtpKey
from inference.rtp.codecs.amr import AmrPayload
from inference.rtp.legs import source_words
from inference.rtp.packet import RtpPacket
from inference.rtp.plane import PacketPlane, PlaneConfig
from tests.rtp.voices import PAYLOAD_TYPE, VOICES, payloads

PORT = 40000
DECODERS = {
    "G722": "g722",
    "GSM": "gsm",
    "G729": "g729",
    "opus": "libopus",
    "AMR": "libopencore_amrnb",
    "AMR-WB": "libopencore_amrwb",
}
KEYS = {
    "G722": "G722",
    "GSM": "GSM",
    "G729": "G729",
    "iLBC": "iLBC 30",
    "opus": "opus",
    "AMR": "AMR",
    "AMR-WB": "AMR-WB",
}
KEY = SrtpKey(suite="AES_CM_128_HMAC_SHA1_80", key=SecretStr(base64.b64encode(random.Random(1).randbytes(30)).decode()))

Result = dict[str, Any]
Spoken = list[tuple[int, bytes]]
"""``(tick of 10 ms, packet)``."""


def source_of(leg: int) -> tuple[str, int]:
    return f"127.1.{leg // 250}.{leg % 250 + 1}", 30000


def packets(key: str, seconds: float) -> Spoken:
    """One leg's packets: talk without pauses, as the beginning of the golden voice is."""
    clock = VOICES[key].clock
    out: Spoken = []
    for number, (timestamp, payload) in enumerate(payloads(key)):
        at_s = timestamp / clock / 8000
        if at_s >= min(seconds, 2.4):
            break
        fields = {"payload_type": PAYLOAD_TYPE, "sequence_number": number, "timestamp": timestamp, "ssrc": 1}
        out.append((round(at_s * 100), bytes(RtpPacket(**fields, payload=payload))))
    return out


def pcmu(seconds: float) -> Spoken:
    """The same of G.711."""
    spoken = bytes(range(160))
    numbers = range(round(min(seconds, 2.4) * 50))
    made = (RtpPacket(payload_type=0, sequence_number=i, timestamp=160 * i, ssrc=1, payload=spoken) for i in numbers)
    return [(2 * i, bytes(packet)) for i, packet in enumerate(made)]


def process_cpu_s(pid: int) -> float:
    """User and system time of another process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def through_plane(
    spoken: Spoken, legs: int, *, name: str = "PCMU", parameters: str = "", key: SrtpKey | None = None
) -> float:
    """CPU seconds for all legs."""
    plane = PacketPlane(
        PlaneConfig(max_legs=legs, ring_samples=65536, batch_packets=max(legs, 64), max_ahead_ms=900, codec_processes=1)
    )
    handles = [
        plane.register(
            PORT, source_of(i), {PAYLOAD_TYPE: name}, formats={PAYLOAD_TYPE: parameters}, srtp=key, now_s=1.0
        )
        for i in range(legs)
    ]
    reception, fed = plane._reception, plane._fed
    words = [source_words(*source_of(i), 2) for i in range(legs)]
    senders = [seal(key) for _ in range(legs)] if key is not None else None
    pid, spent_s, pool = 0, 0.0, None
    is_compressed = name != "PCMU"
    if is_compressed:
        reception.prepare()
        pool = reception._pool
        pid = pool._processes[0].process.pid
        # The first batch finds the process still importing: that is not counted.
        pool._processes[0].send(plane._legs.tables.side[:0], np.zeros(0, np.uint8), 0)
        while pool._processes[0].unanswered:
            time.sleep(0.01)
    before_s = process_cpu_s(pid) if pid else 0.0
    for tick, packet in spoken:
        for i in range(legs):
            fed.put(i, packet if senders is None else senders[i].protect(packet), words[i])
        fed.arrived.arrivals[:legs] = 8160 + 80 * tick
        begin_s = time.process_time()
        reception.take(fed, PORT, legs, is_live=True)
        spent_s += time.process_time() - begin_s
        if pool is not None:
            begin_s = time.process_time()
            while pool._processes[0].unanswered:
                time.sleep(0.001)
            spent_s += time.process_time() - begin_s
    num_received = sum(plane.counters(leg).received for leg in handles)
    undecoded = sum(plane.counters(leg).undecoded + plane.counters(leg).unverified for leg in handles)
    if num_received != legs * len(spoken) or undecoded:
        raise SystemExit(f"{name}: {num_received} received, {undecoded} not decoded")
    if pid:
        spent_s += process_cpu_s(pid) - before_s
    plane.stop()
    return spent_s


def seal(key: SrtpKey) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(
        key=base64.b64decode(key.key.get_secret_value()), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND
    )
    return pylibsrtp.Session(policy)


def bare_decoding(name: str, spoken: Spoken, legs: int) -> float | None:
    """CPU seconds of PyAV alone; None where it makes no decoder without a container."""
    if name not in DECODERS:
        return None
    frames = []
    for _, packet in spoken:
        payload = RtpPacket.parse(packet).payload
        if name.startswith("AMR"):
            parsed = AmrPayload.parse(payload, is_wide=name == "AMR-WB", is_aligned=False)
            frames += [bytes(frame) for frame in parsed.frames]
        elif name == "G729":
            frames += [payload[at : at + 10] for at in range(0, len(payload) - 9, 10)]
        else:
            frames.append(payload)
    begin_s = time.process_time()
    for _ in range(legs):
        context = av.CodecContext.create(DECODERS[name], "r")
        context.sample_rate, context.layout = (48000 if name == "opus" else 8000), "mono"
        for frame in frames:
            context.decode(av.Packet(frame))
    return time.process_time() - begin_s


def bare_opening(spoken: Spoken, legs: int) -> float:
    """CPU seconds of pylibsrtp alone."""
    sealed = [[sender.protect(packet) for _, packet in spoken] for sender in (seal(KEY) for _ in range(legs))]
    spent_s = 0.0
    for of_leg in sealed:
        policy = pylibsrtp.Policy(
            key=base64.b64decode(KEY.key.get_secret_value()), ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND
        )
        session = pylibsrtp.Session(policy)
        begin_s = time.process_time()
        for packet in of_leg:
            session.unprotect(packet)
        spent_s += time.process_time() - begin_s
    return spent_s


def one_turn(args: argparse.Namespace) -> dict[str, Result]:
    """Every codec once, and PCMU before them."""
    turn: dict[str, Result] = {}

    def note(name: str, spent_s: float, spoken: Spoken, bare_s: float | None) -> None:
        seconds = (spoken[-1][0] - spoken[0][0]) / 100 + (spoken[1][0] - spoken[0][0]) / 100
        percent = spent_s / (args.legs * seconds) * 1000 * 100
        turn[name] = {
            "core_percent_per_1000_legs": percent,
            "ratio_to_pcmu": percent / turn["PCMU"]["core_percent_per_1000_legs"] if "PCMU" in turn else 1.0,
            "ratio_to_bare": None if bare_s is None else spent_s / bare_s,
        }

    plain = pcmu(args.seconds)
    note("PCMU", through_plane(plain, args.legs), plain, None)
    note("PCMU, SRTP", through_plane(plain, args.legs, key=KEY), plain, bare_opening(plain, args.legs))
    for name, key in KEYS.items():
        spoken = packets(key, args.seconds)
        spent_s = through_plane(spoken, args.legs, name=name, parameters=VOICES[key].parameters)
        note(name, spent_s, spoken, bare_decoding(name, spoken, args.legs))
    return turn


def middle(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def show(report: Result) -> None:
    print(f"{report['legs']} legs, {report['seconds']} s of talk each, median of {report['repeats']} repetitions")
    print(f"{'':12s}{'core/1000 legs':>16s}{'/PCMU':>9s}{'/bare loop':>12s}")
    for name, r in report["codecs"].items():
        bare = "" if r["ratio_to_bare"] is None else f"{r['ratio_to_bare']:12.2f}"
        print(f"{name:12s}{r['core_percent_per_1000_legs']:14.0f} %{r['ratio_to_pcmu']:9.0f}{bare}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--legs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=2.0, help="of talk, at most 2.4")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    if sys.platform != "linux":
        print("skipped: decoder processes and their CPU time are read as Linux has them")
        if args.json:
            print(json.dumps({"benchmark": "codecs", "skipped": "not Linux"}))
        return
    turns = [one_turn(args) for _ in range(args.repeats)]
    report: Result = {
        "benchmark": "codecs",
        "legs": args.legs,
        "seconds": args.seconds,
        "repeats": args.repeats,
        "load_average": os.getloadavg()[0],
        "codecs": {
            name: {field: middle([turn[name][field] for turn in turns]) for field in turns[0][name]}
            for name in turns[0]
        },
    }
    show(report)
    if args.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
