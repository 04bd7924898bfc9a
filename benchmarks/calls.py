"""How many calls one worker carries: recordings sent as RTP in real time, from packets to verdicts.

    python benchmarks/calls.py [FOLDER] [--json] [--calls 8,16,24] [--seconds 30]     # a ladder of loads
    python benchmarks/calls.py --stub 0.0005 --calls 1000                             # models of that speed

FOLDER (default datasets/tiny) holds 8 kHz stereo recordings, far and near; call i plays one of them from a place of its
own, in a loop. A worker process of its own (packets, segmenter, scheduler, models, alerts, API) gets that many calls;
after --settle seconds it is measured for --seconds. The ladder ends where p99 of "end of speech to verdict" passes 1 s:
from the last sample of a segment that ended in a pause until it was judged, the pause that ends it (0.5 s of it)
included. With --stub S the models take S seconds for a second of window and say nothing: what is left is the plane,
the segmenter and the scheduler. CPU is the worker's, by thread; that of the sender, which runs beside it in this
process on the same machine, is told apart. Where its packets go late, it and not the worker may be what is too slow.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 1.0
GROWTH = 1.25

Result = dict[str, Any]


# --- the worker ------------------------------------------------------------------------------------------------------


class StubModels:
    """Recogniser and scorer of a given speed: they take their time without the GIL, and hear no words."""

    is_mixing = True

    def __init__(self, seconds_per_window_s: float, window_samples: Any) -> None:
        self._cost, self.window_samples = seconds_per_window_s, window_samples

    def transcribe(self, segments: Any, _languages: Any = None, _gated: Any = None) -> Any:
        from inference.speech.utterance import Utterance

        time.sleep(self._cost * sum(self.window_samples(len(s.samples)) for s in segments) / 8000)
        return [Utterance(s.leg, s.start_s, s.end_s, s.known_s, "", "en") for s in segments]


async def be_worker(options: argparse.Namespace) -> None:
    """Serve until standard input ends; a line on it asks for a report since the last one."""
    import asyncio

    from inference.config import LogConfig, PrivacyConfig, Settings
    from inference.rtp.plane import PlaneConfig
    from inference.service import worker as worker_room
    from inference.service.api import ApiConfig
    from inference.service.logs import set_up_logs
    from inference.service.watch import WatchConfig

    set_up_logs(LogConfig(level="error"))
    build, delays_s, waits_s = worker_room.build_stages, [], []

    def observed(settings: Any) -> Any:
        stages = build(settings)
        if options.stub is not None:
            stages.recogniser = StubModels(options.stub, stages.recogniser.window_samples)
        understand = stages.understand

        def timed(batch: Any) -> Any:
            came = understand(batch)
            now_s = stages.clock()
            for due in batch:
                waits_s.append(now_s - due.due_s)
                if not due.segment.is_cut:
                    delays_s.append(now_s - due.due_s + due.segment.known_s - due.segment.end_s)
            return came

        stages.understand = timed
        return stages

    worker_room.build_stages = observed
    most = max(options.calls) + 1
    settings = Settings(
        privacy=PrivacyConfig(legal_basis="a benchmark of recordings of our own"),
        media=PlaneConfig(ports=(0,), max_legs=2 * most),
        api=ApiConfig(port=0),
        watch=WatchConfig(max_calls=most),
        models_dir=options.models,
    )
    async with worker_room.Worker(settings) as worker:
        watch = worker.watch
        print(json.dumps({"api": worker.api_address, "port": watch.media_ports[0]}), flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            legs = watch.leg_counters().values()
            report = {
                "cpu_s": time.process_time(),
                "cpu_of_s": cpu_by_thread(),
                "rss_bytes": resident_bytes(),
                "load": watch.load(),
                "received": sum(leg.received for leg in legs),
                "lost": sum(leg.lost for leg in legs),
                "late": sum(leg.late + leg.overrun for leg in legs),
                "queue_drops": watch.media_counters()["queue_drops"],
                "delays_s": delays_s[:],
                "waits_s": waits_s[:],
            }
            delays_s.clear()
            waits_s.clear()
            print(json.dumps(report), flush=True)


def cpu_by_thread() -> dict[str, float]:
    """CPU seconds so far: of the loop (segmenter, scheduler, API), the media thread (packets), models and the rest."""
    clock_hz, out = os.sysconf("SC_CLK_TCK"), {"loop": 0.0, "media": 0.0, "models": 0.0}
    for thread in threading.enumerate():
        fields = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()
        of = {"MainThread": "loop", "rtp-plane": "media"}.get(thread.name, "models")
        out[of] += (int(fields[11]) + int(fields[12])) / clock_hz  # utime, stime
    return out


def resident_bytes() -> int:
    path = Path("/proc/self/statm")
    if path.exists():
        return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- the load --------------------------------------------------------------------------------------------------------


def legs_of(folder: Path, num_calls: int) -> list[Any]:
    """µ-law audio of far and near of every call."""
    import soundfile

    from inference.rtp.g711 import encode_ulaw

    recordings = []
    for path in sorted(folder.glob("*.wav")):
        samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
        if rate_hz == 8000 and samples.shape[1] == 2:
            recordings.append([np.frombuffer(encode_ulaw(samples[:, leg]), np.uint8) for leg in range(2)])
    if not recordings:
        sys.exit(f"{folder}: no 8 kHz stereo recordings")
    rng = np.random.default_rng(1)
    legs = []
    for call in range(num_calls):
        both = recordings[call % len(recordings)]
        shift = int(rng.integers(len(both[0])))
        legs += [np.roll(leg, -shift) for leg in both]
    return legs


class WorkerProcess:
    """The worker, from outside."""

    def __init__(self, options: argparse.Namespace) -> None:
        calls = ",".join(map(str, options.calls))
        command = [sys.executable, __file__, "--worker", "--calls", calls, "--models", str(options.models)]
        if options.stub is not None:
            command += ["--stub", str(options.stub)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        hello = self._read()
        self.api, self.port = "http://{}:{}".format(*hello["api"]), hello["port"]

    def _read(self) -> Result:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the worker ended; are the models there? scamtap models pull")
        result: Result = json.loads(line)
        return result

    def report(self) -> Result:
        assert self._process.stdin is not None
        self._process.stdin.write("report\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()


def ladder(options: argparse.Namespace) -> Iterator[Result]:
    """Measure each load in turn, ending after the first that is too much."""
    import httpx
    from rtp_sender import Sender, source_of

    sender_legs = legs_of(options.folder, max(options.calls))
    worker = WorkerProcess(options)
    sender = Sender(sender_legs, worker.port)
    try:
        with httpx.Client(base_url=worker.api, trust_env=False, timeout=30) as api:
            first: Result | None = None
            sender.start()
            begun = refused = over = 0
            for calls in options.calls:
                for call in range(begun, calls):
                    legs = {
                        leg: {"local_port": worker.port, "source": f"{source_of(2 * call + i)}:{sender.port}"}
                        for i, leg in enumerate(("far", "near"))
                    }
                    answer = api.post("/v1/calls", json={"id": f"call-{call}", **legs})
                    refused += answer.status_code == 503
                begun = calls
                sender.num_playing = 2 * calls
                time.sleep(options.settle)
                sender.worst_lag_s = 0.0
                before, began_s = worker.report(), time.monotonic()
                sent, sender_s = sender.num_sent, time.process_time()
                time.sleep(options.seconds)
                after, seconds = worker.report(), time.monotonic() - began_s
                result = summarise(before, after, seconds, calls)
                first = first or {"calls": calls, "rss_bytes": after["rss_bytes"]}
                more = calls - first["calls"]  # a worker with few calls has its models' memory already
                result["kb_per_call"] = round((after["rss_bytes"] - first["rss_bytes"]) / more / 1000) if more else None
                result["sent"] = sender.num_sent - sent
                result["sender_cores"] = round((time.process_time() - sender_s) / seconds, 3)
                result["sender_worst_lag_ms"] = round(1000 * sender.worst_lag_s, 1)
                result["refused_calls"] = refused
                yield result
                is_too_much = result["speech_to_verdict_s"]["p99"] > LIMIT_S or result["shed_s"] or refused
                over = over + 1 if is_too_much else 0
                if over == options.over:
                    return
    finally:
        sender.stop()
        worker.close()


def summarise(before: Result, after: Result, seconds: float, calls: int) -> Result:
    def grown(name: str) -> float:
        return float(after["load"][name] - before["load"][name])

    def percentiles(values: list[float]) -> dict[str, float]:
        return {f"p{p}": round(float(np.percentile(values, p)), 3) if values else 0.0 for p in (50, 99)}

    speech_s, cpu_s = grown("offered_s"), after["cpu_s"] - before["cpu_s"]
    return {
        "calls": calls,
        "seconds": round(seconds, 1),
        "speech_to_verdict_s": percentiles(after["delays_s"]),
        "due_to_verdict_s": percentiles(after["waits_s"]),
        "segments": len(after["waits_s"]),
        "speech_share_of_a_leg": round(speech_s / (2 * calls * seconds), 3),
        "rows_per_batch": round(grown("num_rows") / max(1.0, grown("num_batches")), 2),
        "joined": round(grown("num_joined")),
        "padding_share": round(1 - (grown("understood_s") + grown("held_s")) / max(1e-9, grown("windows_s")), 3),
        "shed_s": round(grown("shed_late_s") + grown("shed_full_s"), 2),
        "step_s": {k: round(v - before["load"]["step_s"][k], 1) for k, v in after["load"]["step_s"].items()},
        "packets": {k: after[k] - before[k] for k in ("received", "lost", "late", "queue_drops")},
        "cores": round(cpu_s / seconds, 3),
        "cores_of": {of: round((s - before["cpu_of_s"][of]) / seconds, 3) for of, s in after["cpu_of_s"].items()},
        "cpu_ms_per_call_s": round(1000 * cpu_s / seconds / calls, 2),
        "rss_mb": round(after["rss_bytes"] / 1e6),
        "load_average": round(os.getloadavg()[0], 2),
    }


def show(r: Result) -> None:
    verdict, due, packets = r["speech_to_verdict_s"], r["due_to_verdict_s"], r["packets"]
    print(
        f"{r['calls']:>5} calls: speech to verdict p50 {verdict['p50']} s, p99 {verdict['p99']} s "
        f"(due to verdict {due['p50']}, {due['p99']}); {r['cores']} cores (loop {r['cores_of']['loop']}, media "
        f"{r['cores_of']['media']}, models {r['cores_of']['models']}), {r['cpu_ms_per_call_s']} ms/s a call, "
        f"{r['rss_mb']} MB, {r['kb_per_call']} kB a further call; shed {r['shed_s']} s, refused {r['refused_calls']}; "
        f"packets sent {r['sent']} by {r['sender_cores']} cores, at most {r['sender_worst_lag_ms']} ms late, "
        f"received {packets['received']}, lost {packets['lost']}, late {packets['late']}, dropped "
        f"{packets['queue_drops']}; {r['rows_per_batch']} rows a batch, {r['joined']} joined, padding "
        f"{r['padding_share']:.0%}; speech {r['speech_share_of_a_leg']:.0%} of a leg; load {r['load_average']}",
        flush=True,
    )


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def rising(first: int, last: int) -> list[int]:
    out = [first]
    while out[-1] < last:
        out.append(max(out[-1] + 1, round(out[-1] * GROWTH)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "datasets" / "tiny")
    parser.add_argument("--calls", type=numbers, default=rising(8, 400), help="loads, ascending, e.g. 10,20,40")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured, per load")
    parser.add_argument("--over", type=int, default=2, help="loads in a row over the limit that end it")
    parser.add_argument("--settle", type=float, default=12.0, help="before that: every call has said something")
    parser.add_argument("--stub", type=float, help="seconds that models take for a second of window")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="model repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        import asyncio

        asyncio.run(be_worker(options))
        return
    if sys.platform != "linux":
        print("skipped: sendmmsg and the whole of 127/8 are Linux's")
        if options.json:
            print(json.dumps({"benchmark": "calls", "skipped": "not Linux"}))
        return
    loads = []
    for result in ladder(options):
        show(result)
        loads.append(result)
    held = [r["calls"] for r in loads if r["speech_to_verdict_s"]["p99"] <= LIMIT_S and not r["shed_s"]]
    last = loads[-1]["calls"]
    carried = max(held, default=0)
    print(f"p99 of speech to verdict stays within {LIMIT_S:g} s up to {carried} calls, of the loads tried to {last}")
    if options.json:
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        print(
            json.dumps(
                {"benchmark": "calls", "machine": machine, "stub": options.stub, "carried": carried, "loads": loads}
            )
        )


if __name__ == "__main__":
    main()
