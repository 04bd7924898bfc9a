"""What a packet costs: the plane against a careful C receiver doing the same work, in the same run.

    python benchmarks/rtp.py [--json] [--legs 2000] [--rate 100000] [--seconds 2] [--repeats 5]

A C sender (sendmmsg, one core) plays that many G.711 legs to one UDP port. In turn the C receiver and the plane, with
its compiled and its NumPy kernel, take them on another core: recvmmsg every 5 ms, checks, leg lookup, decoding into
rings; and every 20 ms a reader takes the audio of all legs. Ratios are taken within a repetition; medians are shown.
"Receive" is CPU time of the receiving thread, system calls included; "read" that of the reader.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

C_SOURCES = Path(__file__).parent / "rtp_c"
READ_EVERY_S = 0.02
TARGET_RATIO = 1.15
TARGET_CALL_BYTES = 512_000

Result = dict[str, Any]


def source_of(leg: int, port: int) -> tuple[str, int]:
    """Where the sender's leg comes from, as in sender.c."""
    return f"127.1.{leg // 250}.{leg % 250 + 1}", port


def receive(backend: str, port: int, src_port: int, num_legs: int) -> None:
    """Be the receiver: print "ready", run until half a second after the last packet, print one JSON object."""
    import numpy as np

    from inference.rtp.plane import PacketPlane, PlaneConfig

    plane = PacketPlane(PlaneConfig(ports=(port,), max_legs=num_legs), backend=backend)  # type: ignore[arg-type]
    idle_bytes = resident_bytes()
    with plane:
        now_s = time.monotonic()
        legs = np.array([plane.register(port, source_of(i, src_port), now_s=now_s) for i in range(num_legs)])
        assert plane._listener.thread is not None
        assert plane._listener.thread.ident is not None
        clock = time.pthread_getcpuclockid(plane._listener.thread.ident)
        print("ready", flush=True)
        receive_start, read_cpu_s, seen, last_s, next_s = time.clock_gettime(clock), 0.0, 0, 0.0, 0.0
        while True:
            now_s = time.monotonic()
            datagrams = plane.plane_counters().datagrams
            if datagrams != seen:
                seen, last_s = datagrams, now_s
            if not seen:
                time.sleep(0.005)
                continue
            if now_s - last_s > 0.5:
                break
            begin = time.thread_time()
            plane.read(legs, now_s=now_s)
            read_cpu_s += time.thread_time() - begin
            next_s = max(next_s + READ_EVERY_S, now_s)
            time.sleep(max(0.0, next_s + READ_EVERY_S - time.monotonic()))
        receive_cpu_s = time.clock_gettime(clock) - receive_start
        counters = [plane.counters(int(leg)) for leg in legs]
        totals = plane.plane_counters()
    print(
        json.dumps(
            {
                "received": sum(c.received for c in counters),
                "not_used": totals.unregistered
                + totals.malformed
                + totals.oversized
                + sum(c.late + c.duplicate + c.stray + c.unknown_payload + c.overrun for c in counters),
                "queue_drops": totals.queue_drops,
                "reanchors": sum(c.reanchors for c in counters),
                "receive_cpu_s": receive_cpu_s,
                "read_cpu_s": read_cpu_s,
                "call_bytes": 2 * plane.memory_bytes / num_legs,
                "call_bytes_resident": 2 * (resident_bytes() - idle_bytes) / num_legs,
            }
        )
    )


def resident_bytes() -> int:
    """Memory of this process that is really there; 0 where the system does not tell."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def pinned(command: list[str], core: int | None) -> list[str]:
    return command if core is None else ["taskset", "-c", str(core), *command]


def one_run(receiver: list[str], sender: str, args: argparse.Namespace, cores: tuple[int | None, int | None]) -> Result:
    """Run one receiver against the sender."""
    port, src_port = free_port(), free_port()
    command = [part.format(port=port, src_port=src_port) for part in receiver]
    with subprocess.Popen(pinned(command, cores[0]), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise SystemExit(f"receiver {receiver[0]} did not start")
        numbers = [str(n) for n in (port, src_port, args.legs, args.rate, args.seconds)]
        sent = subprocess.run(
            pinned([sender, *numbers], cores[1]), stdout=subprocess.PIPE, text=True, check=True, timeout=60
        )
        result: Result = json.loads(process.stdout.read().strip().splitlines()[-1])
    result |= json.loads(sent.stdout)
    result["receive_us"] = result["receive_cpu_s"] / result["received"] * 1e6
    result["read_us"] = result["read_cpu_s"] / result["received"] * 1e6
    result["loss"] = 1 - result["received"] / result["sent"]
    return result


def compile_c(folder: Path) -> tuple[str, str]:
    """Build sender and receiver; returns their paths."""
    built = []
    for name, flags in (("sender", ["-O2"]), ("receiver", ["-O3", "-march=native"])):
        target = folder / name
        subprocess.run(["cc", *flags, "-o", str(target), str(C_SOURCES / f"{name}.c")], check=True)
        built.append(str(target))
    return built[0], built[1]


def skip_reason() -> str | None:
    if sys.platform != "linux":
        return "recvmmsg, sendmmsg and the whole of 127/8 are Linux's"
    if shutil.which("cc") is None:
        return "no C compiler: install cc to build the sender and the yardstick"
    return None


def paired(results: list[Result], yardstick: list[Result]) -> list[tuple[Result, Result]]:
    """Results beside those of C in the same repetition; some receivers sit repetitions out."""
    by_turn = {result["turn"]: result for result in yardstick}
    return [(result, by_turn[result["turn"]]) for result in results]


def summarise(runs: dict[str, list[Result]], args: argparse.Namespace, cores: tuple[int | None, int | None]) -> Result:
    """Medians over the repetitions, ratios within each."""
    middle = statistics.median
    report: Result = {
        "benchmark": "rtp",
        "legs": args.legs,
        "packets_per_s": args.rate,
        "seconds": args.seconds,
        "repeats": args.repeats,
        "receiver_core": cores[0],
        "load_average": os.getloadavg()[0],
    }
    for name, results in runs.items():
        report[name] = {
            "receive_us_per_packet": middle(r["receive_us"] for r in results),
            "read_us_per_packet": middle(r["read_us"] for r in results),
            "core_percent_per_1000_legs": middle(r["receive_us"] + r["read_us"] for r in results) * 50 * 1000 * 1e-4,
            "loss": max(r["loss"] for r in results),
            "not_used": sum(r["not_used"] for r in results),
            "reanchors": sum(r["reanchors"] for r in results),
            "ratio_to_c": middle(r["receive_us"] / c["receive_us"] for r, c in paired(results, runs["c"])),
            "ratio_to_c_with_read": middle(
                (r["receive_us"] + r["read_us"]) / (c["receive_us"] + c["read_us"])
                for r, c in paired(results, runs["c"])
            ),
        }
    report["bytes_per_call"] = runs["numba"][0]["call_bytes"]
    report["bytes_per_call_resident"] = middle(r["call_bytes_resident"] for r in runs["numba"])
    numba = report["numba"]
    report["reached"] = {
        f"ratio_to_c <= {TARGET_RATIO}": numba["ratio_to_c"] <= TARGET_RATIO,
        "zero loss": numba["loss"] == 0,
        f"bytes_per_call <= {TARGET_CALL_BYTES}": report["bytes_per_call"] <= TARGET_CALL_BYTES,
    }
    return report


def show(report: Result) -> None:
    print(f"{report['legs']} legs, {report['packets_per_s']} packets/s, median of {report['repeats']} repetitions")
    print(
        f"{'':8s}{'receive':>14s}{'read':>14s}{'core/1000 legs':>16s}{'worst loss':>12s}{'/C':>7s}{'/C with read':>14s}"
    )
    for name in ("c", "numba", "numpy"):
        if name in report:
            r = report[name]
            print(
                f"{name:8s}{r['receive_us_per_packet']:8.3f} µs/pk{r['read_us_per_packet']:8.3f} µs/pk"
                f"{r['core_percent_per_1000_legs']:14.1f} %{r['loss']:12.2%}{r['ratio_to_c']:7.2f}"
                f"{r['ratio_to_c_with_read']:14.2f}"
            )
    print(f"memory per call (2 legs): {report['bytes_per_call'] / 1e3:.0f} kB reserved", end="")
    print(f", {report['bytes_per_call_resident'] / 1e3:.0f} kB resident while it runs")
    if report["c"]["loss"] > 0:
        print("this machine is busy: the C receiver itself lost packets; repeat when it is quiet")
    for target, is_reached in report["reached"].items():
        print(f"{'reached' if is_reached else 'MISSED '}  {target}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--legs", type=int, default=2000)
    parser.add_argument("--rate", type=int, default=100_000, help="packets per second, all legs together")
    parser.add_argument("--seconds", type=float, default=2.0, help="of sending, per run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--receive", nargs=4, metavar=("BACKEND", "PORT", "SRC_PORT", "LEGS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.receive:
        backend, *numbers = args.receive
        receive(backend, *(int(number) for number in numbers))
        return
    reason = skip_reason()
    if reason is not None:
        print(f"skipped: {reason}")
        if args.json:
            print(json.dumps({"benchmark": "rtp", "skipped": reason}))
        return
    allowed = sorted(os.sched_getaffinity(0))
    can_pin = len(allowed) >= 2 and shutil.which("taskset") is not None
    cores = (allowed[0], allowed[1]) if can_pin else (None, None)
    with tempfile.TemporaryDirectory() as folder:
        sender, yardstick = compile_c(Path(folder))
        ours = [sys.executable, __file__, "--receive"]
        commands = {
            "c": [yardstick, "{port}", "{src_port}", str(args.legs), "5"],
            "numba": [*ours, "numba", "{port}", "{src_port}", str(args.legs)],
            "numpy": [*ours, "numpy", "{port}", "{src_port}", str(args.legs)],
        }
        runs: dict[str, list[Result]] = {name: [] for name in commands}
        for turn in range(args.repeats):
            for name, command in commands.items():
                if name != "numpy" or turn % 2 == 0:  # no target hangs on the fallback: it takes every other turn
                    runs[name].append(one_run(command, sender, args, cores) | {"turn": turn})
    report = summarise(runs, args, cores)
    show(report)
    if args.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
