"""What the segmenter costs a worker: CPU per second of a call, both legs, by how many calls it decides on together.

    python benchmarks/segmenter.py [FOLDER] [--calls 1,16,100,500,1000] [--against CHECKOUT] [--json]

FOLDER (default datasets/tiny) holds 8 kHz stereo recordings; a call plays one from a place of its own, and all are
pushed in ticks of 60 ms as a worker pushes them. --against names a checkout of an earlier version of this repository:
it runs on the same audio in turns with this one, each turn a process of its own, and the least of the turns counts:
whatever else the machine does only adds. The network (models/vad) runs in ONNX Runtime, one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
RATE_HZ = 8000
TICK_SAMPLES = 60 * RATE_HZ // 1000
SETTLE_TICKS = 10

PCM = npt.NDArray[np.int16]


def legs_of(folder: Path, num_calls: int, num_samples: int) -> PCM:
    """Audio of far and near of every call, int16 ``[2 * num_calls, num_samples]``."""
    import soundfile

    recordings = [soundfile.read(path, dtype="int16", always_2d=True) for path in sorted(folder.glob("*.wav"))]
    stereo = [samples.T for samples, rate_hz in recordings if rate_hz == RATE_HZ and samples.shape[1] == 2]
    if not stereo:
        sys.exit(f"{folder}: no 8 kHz stereo recordings")
    rng = np.random.default_rng(1)
    legs = []
    for call in range(num_calls):
        both = stereo[call % len(stereo)]
        shift = int(rng.integers(both.shape[1]))
        legs += [np.resize(np.roll(leg, -shift), num_samples) for leg in both]
    return np.stack(legs)


def open_pusher(root: Path, num_legs: int) -> Callable[[PCM, npt.NDArray[np.int64]], int]:
    """Segmenters of the checkout that is being measured; what comes back takes a tick and counts segments."""
    import onnxruntime

    from inference.audio import segmenter as room
    from inference.audio import vad

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(root / "models/vad/1/model.onnx", options, ["CPUExecutionProvider"])

    def network(frames: Any, state: Any) -> Any:
        return tuple(session.run(None, {"frames": frames, "state": state}))

    nums, present = np.full(num_legs, TICK_SAMPLES), np.ones((num_legs, TICK_SAMPLES), np.bool_)
    if hasattr(room, "SegmenterBank"):
        bank = room.SegmenterBank(room.SegmenterConfig(), vad.NeuralVad(network))
        segmenters = [room.Segmenter("far", bank) for _ in range(num_legs)]
        return lambda samples, starts: len(room.push_rows(segmenters, samples, starts, nums, present))
    # Before 2026-11-26 segmenters had no bank, and WebRTC's detector stood before the network.
    shared = vad.default_vad(network)  # type: ignore[attr-defined]
    each = [room.Segmenter("far", room.SegmenterConfig(), shared) for _ in range(num_legs)]  # type: ignore

    def push(samples: PCM, starts: npt.NDArray[np.int64]) -> int:
        pushes = zip(each, samples, starts.tolist(), present, strict=True)
        return sum(map(len, room.push_all(list(pushes))))  # type: ignore[arg-type]

    return push


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """CPU milliseconds per second of a call, and segments found, by number of calls."""
    out = {}
    for num_calls in options.calls:
        seconds = max(3.0, min(30.0, options.leg_seconds / (2 * num_calls)))
        num_ticks = round(seconds * RATE_HZ / TICK_SAMPLES)
        legs = legs_of(options.folder, num_calls, (num_ticks + SETTLE_TICKS + 1) * TICK_SAMPLES)
        offsets = np.random.default_rng(2).integers(0, TICK_SAMPLES, len(legs))  # calls begin whenever they begin
        push = open_pusher(options.measure, len(legs))
        at = offsets[:, None] + np.arange(TICK_SAMPLES)
        cpu_s, found = 0.0, 0
        for tick in range(num_ticks + SETTLE_TICKS):
            samples = np.take_along_axis(legs, at + tick * TICK_SAMPLES, axis=1)
            began_s = time.process_time()
            found += push(samples, np.full(len(legs), tick * TICK_SAMPLES))
            cpu_s += time.process_time() - began_s if tick >= SETTLE_TICKS else 0.0
        call_s = num_calls * num_ticks * TICK_SAMPLES / RATE_HZ
        out[str(num_calls)] = {"cpu_ms_per_call_s": 1000 * cpu_s / call_s, "segments": found}
    return out


def run(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One turn of one checkout."""
    calls = ",".join(map(str, options.calls))
    command = [sys.executable, __file__, str(options.folder), "--measure", str(root), "--calls", calls]
    command += ["--leg-seconds", str(options.leg_seconds)]
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "datasets" / "tiny")
    parser.add_argument("--calls", type=lambda text: [int(n) for n in text.split(",")], default=[1, 16, 100, 500, 1000])
    parser.add_argument("--leg-seconds", type=float, default=6000.0, help="audio a measurement hears")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--against", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    if options.measure is not None:
        print(json.dumps(measure(options)))
        return
    trees = {"now": ROOT} | ({"before": options.against.resolve()} if options.against else {})
    turns = [{name: run(root, options) for name, root in trees.items()} for _ in range(options.turns)]
    rows = []
    for calls in map(str, options.calls):
        row: dict[str, Any] = {"calls": int(calls)}
        for name in trees:
            row[name] = round(min(turn[name][calls]["cpu_ms_per_call_s"] for turn in turns), 3)
            row[f"{name}_segments"] = turns[0][name][calls]["segments"]
        if options.against:
            row["ratio"] = round(row["now"] / row["before"], 3)
        rows.append(row)
        line = f"{calls:>5} calls: {row['now']} CPU ms per second of a call, {row['now_segments']} segments"
        if options.against:
            line += f"; before {row['before']} ({row['before_segments']}): {row['ratio']} of it"
        print(line, flush=True)
    print(f"load {os.getloadavg()[0]:.2f}; a core's segmenter alone: {1000 / rows[-1]['now']:.0f} calls")
    if options.json:
        print(json.dumps({"benchmark": "segmenter", "load_average": os.getloadavg()[0], "rows": rows}))


if __name__ == "__main__":
    main()
