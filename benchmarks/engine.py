"""How many calls a core carries: gate only, the cascade, full decoding; in process, through Triton, against peers.

    python -m inference.triton -- python benchmarks/engine.py      # with the server that make triton-install put here
    python benchmarks/engine.py [FOLDER] [--json] [--limit N] [--triton HOST:PORT [--triton-pid PID]] [--no-peers]
                                [--copies N] [--buckets] [--hop]

FOLDER is as for benchmarks/speech.py. All modes hear the same segments, those that the live segmenter cuts, in batches
as the live scheduler makes them of many calls (for a server, of windows of one length); in turn, so that all meet the
same load of the machine. --copies has as many legs say each of them, as of so many more calls. Peers hear them
one at a time: faster-whisper (CTranslate2, int8), whisper.cpp (Q8_0) and sherpa-onnx (int8), same weights, one thread,
greedy, English.
Cost is CPU time, for Triton with that of the server (--triton-pid, its process group). A call is two legs, each
speaking --speech of the time; a leg pays for its segmenter all the time. --buckets tells what padding costs, by window
step; --hop what the longer hop of overload saves, and costs in words.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from engine_modes import (
    TICK_S,
    Mode,
    PassesEvery,
    Work,
    as_heard,
    as_scheduled,
    group_cpu_s,
    in_turn,
    own_cpu_s,
    sibling_server,
)
from sherpa_peer import open_sherpa, write_sherpa_model
from speech import Heard, cut, neural_vad, open_peer, read_legs
from speech_peer import write_peer_model
from whisper_cpp_peer import open_whisper_cpp, write_whisper_cpp_model

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig, push_all
from inference.audio.vad import Vad
from inference.engine.base import Engine
from inference.engine.onnx import OnnxEngine
from inference.gate.gate import ScamGate, ScamGateWithin
from inference.gate.install import GATE_MODEL, gate_calibration_path
from inference.speech.install import tokenizer_path
from inference.speech.recogniser import Recogniser, RecogniserConfig
from inference.weights import file, open_tensors

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "whisper-base"
SEGMENTED_LEGS, SEGMENTED_TICKS = 100, 150
TARGETS = {"full": 0.045, "ratio": 1 / 3, "gate_legs": 110, "triton": 1.15}


def open_triton(address: str) -> Engine:
    """The Triton engine.

    Raises:
        ImportError: this installation has none.
    """
    from inference.engine.open import EngineConfig
    from inference.engine.triton import TritonEngine

    return TritonEngine(EngineConfig(url=f"triton://{address}"))


def peers_of(folder: Path) -> tuple[dict[str, Callable[[Any], str]], dict[str, str]]:
    """The peers that are here, and why others are not."""
    found: dict[str, Callable[[Any], str]] = {}
    missing: dict[str, str] = {}
    tensors, tokenizer = open_tensors(WEIGHTS), file(WEIGHTS, "tokenizer.json")
    try:
        write_peer_model(folder / "ct2", tensors, tokenizer)
        hear = open_peer(folder / "ct2")
        found["faster-whisper"] = lambda segment: hear(segment)  # type: ignore[arg-type]
    except ImportError:
        missing["faster-whisper"] = "not installed: pip install faster-whisper"
    try:
        from faster_whisper.feature_extractor import FeatureExtractor

        filters = np.asarray(FeatureExtractor().mel_filters)
        write_whisper_cpp_model(folder / "ggml.bin", tensors, tokenizer, filters)
        found["whisper.cpp"] = open_whisper_cpp(folder / "ggml.bin")
    except ImportError:
        missing["whisper.cpp"] = "not installed: pip install pywhispercpp faster-whisper (for its mel filters)"
    try:
        write_sherpa_model(folder / "sherpa", tensors, tokenizer)
        found["sherpa-onnx"] = open_sherpa(folder / "sherpa")
    except ImportError:
        missing["sherpa-onnx"] = "not installed: pip install sherpa-onnx"
    return found, missing


def hear_peers(
    work: Work, peers: dict[str, Callable[[Any], str]], single: Mode
) -> dict[str, tuple[Heard, list[float]]]:
    """Each segment by ours alone and by each peer, in turn."""
    import soxr

    out: dict[str, tuple[Heard, list[float]]] = {name: (Heard(), []) for name in peers}
    for hear in peers.values():
        hear(np.zeros(16_000, np.float32))
    for key, segment in work:
        single.run([(key, segment)], own_cpu_s)
        wave = soxr.resample(segment.samples.astype(np.float32) / 32768, SAMPLE_RATE_HZ, 16_000)
        for name, hear in peers.items():
            before, began_s = own_cpu_s(), time.perf_counter()
            text = hear(wave)
            heard, latencies_s = out[name]
            latencies_s.append(time.perf_counter() - began_s)
            heard.cpu_s += own_cpu_s() - before
            heard.texts[key].append(text)
    return out


def percentile_ms(latencies_s: Sequence[float], percent: float) -> float:
    return round(1000 * float(np.percentile(latencies_s, percent)), 1) if latencies_s else 0.0


def buckets(work: Work, engine: Engine, models: Path) -> list[dict[str, Any]]:
    """What padding and small batches cost, by the step that windows are a multiple of; in turn, as all else here."""
    speech = sum(len(segment.samples) for _, segment in work)
    silence = round(RecogniserConfig().silence_s * SAMPLE_RATE_HZ) * len(work)
    rows = []
    for step_s in (0.1, 0.25, 0.5, 1.0, 2.0):
        recogniser = Recogniser(engine, tokenizer_path(models), RecogniserConfig(window_step_s=step_s))
        windows = sum(recogniser.window_samples(len(segment.samples)) for _, segment in work)
        row: dict[str, Any] = {
            "window_step_s": step_s,
            "padding_share": round((windows - silence - speech) / windows, 4),
            "silence_share": round(silence / windows, 4),
        }
        for name, is_mixing in (("one_length", False), ("mixed", True)):
            batches, mode = as_scheduled(work, recogniser, is_mixing=is_mixing), Mode(recogniser)
            for batch in batches:
                mode.run(batch, own_cpu_s)
            row[f"rows_per_batch_{name}"] = round(len(work) / len(batches), 2)
            row[f"cpu_s_per_speech_s_{name}"] = round(mode.heard.cpu_s / speech * SAMPLE_RATE_HZ, 5)
        rows.append(row)
    return rows


def hopping(work: Work, recogniser: Recogniser, references: dict[str, str]) -> dict[str, Any]:
    """What the longer hop of overload saves and costs: the same speech as it comes, at once and joined, in turn."""
    speech = sum(len(segment.samples) for _, segment in work) / SAMPLE_RATE_HZ
    out: dict[str, Any] = {}
    plans = {
        name: as_heard(work, recogniser, is_hopping=is_hopping)
        for name, is_hopping in (("at_once", False), ("hop", True))
    }
    modes = {name: Mode(recogniser) for name in plans}
    for row in range(max(map(len, plans.values()))):
        for name, plan in plans.items():
            if row < len(plan):
                modes[name].run([plan[row]], own_cpu_s)
    for name, mode in modes.items():
        out[name] = {
            "windows": len(plans[name]),
            "cpu_s_per_speech_s": round(mode.heard.cpu_s / speech, 5),
            "wer": round(mode.heard.wer(references), 4),
        }
    out["cpu_ratio"] = round(out["hop"]["cpu_s_per_speech_s"] / out["at_once"]["cpu_s_per_speech_s"], 3)
    return out


def segmenter_cost(audio: list[Any], vad: Vad) -> float:
    """CPU seconds that a second of a leg costs the segmenter, with many legs a tick as a worker has them."""
    step = round(TICK_S * SAMPLE_RATE_HZ)
    legs = [np.roll(audio[i % len(audio)], -i * 3 * SAMPLE_RATE_HZ) for i in range(SEGMENTED_LEGS)]
    bank = SegmenterBank(SegmenterConfig(), vad)
    segmenters = [Segmenter("far", bank) for _ in legs]
    num_ticks = min(SEGMENTED_TICKS, min(map(len, legs)) // step)
    before = own_cpu_s()
    for start in range(0, num_ticks * step, step):
        push_all([(one, leg[start : start + step], start, None) for one, leg in zip(segmenters, legs, strict=True)])
    return (own_cpu_s() - before) / (num_ticks * TICK_S * SEGMENTED_LEGS)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    engine = OnnxEngine(options.models)
    tokenizer = tokenizer_path(options.models)
    vad = neural_vad(engine)
    references: dict[str, str] = {}
    work: Work = []
    audio: list[Any] = []
    for key, leg, samples, turns in read_legs(options.folder, options.limit):
        references[key] = " ".join(turn["text"] for turn in turns)
        work += [(key, segment) for segment in cut(leg, samples, turns, "vad", vad)]
        audio.append(samples)
    if not work:
        sys.exit(f"{options.folder}: no recordings with speech (<name>.wav beside <name>.json)")
    segmenter = segmenter_cost(audio, vad)
    work = [(f"{key}#{copy}", replace(segment)) for copy in range(options.copies) for key, segment in work]
    references = {f"{key}#{copy}": text for copy in range(options.copies) for key, text in references.items()}
    speech_s = sum(len(segment.samples) for _, segment in work) / SAMPLE_RATE_HZ

    full = Recogniser(engine, tokenizer)
    gate = ScamGate(engine, GATE_MODEL, gate_calibration_path(options.models, GATE_MODEL))
    with_gate = Recogniser(engine, tokenizer, gate=gate)
    modes = {
        "gate": Mode(with_gate, PassesEvery(0)),
        "cascade": Mode(with_gate, PassesEvery(options.every)),
        "full": Mode(full),
    }
    why_no_triton = "no --triton HOST:PORT was given" if options.triton is None else None
    cpu = dict.fromkeys(modes, own_cpu_s)
    if options.triton is not None:
        try:
            there = open_triton(options.triton)
            within = ScamGateWithin(there, gate_calibration_path(options.models, GATE_MODEL))
            remote = Recogniser(there, tokenizer, is_remote=True, gate_within=within)
            ways = {"gate": PassesEvery(0), "cascade": PassesEvery(options.every), "full": None}
            server = options.triton_pid
            counted = own_cpu_s if server is None else lambda: own_cpu_s() + group_cpu_s(server)
            for name, weigh in ways.items():
                modes[f"{name}, Triton"] = Mode(remote, weigh)
                cpu[f"{name}, Triton"] = counted
        except ImportError as error:
            why_no_triton = f"this installation has no Triton engine: {error}"
    plans = {}
    for name, mode in modes.items():
        plans[name] = as_scheduled(work, mode.recogniser, is_mixing=mode.recogniser.is_mixing)
    in_turn(modes, plans, cpu)

    single, peers, missing = Mode(full), {}, {}
    if not options.no_peers:
        with tempfile.TemporaryDirectory() as folder:
            found, missing = peers_of(Path(folder))
            peers = hear_peers(work, found, single)
    cost = {name: mode.heard.cpu_s / speech_s for name, mode in modes.items()}
    legs = {name: 1 / (options.speech * each + segmenter) for name, each in cost.items()}
    return {
        "benchmark": "engine",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 2),
        "folder": options.folder.name,
        "segments": len(work),
        "speech_s": round(speech_s, 1),
        "rows_per_batch": {name: round(len(work) / len(plan), 2) for name, plan in plans.items()},
        "speech_share": options.speech,
        "passed_by_cascade": round(1 / options.every, 3),
        "segmenter_cpu_s_per_audio_s": round(segmenter, 5),
        "cpu_s_per_speech_s": {name: round(each, 5) for name, each in cost.items()},
        "legs_per_core": {name: round(each) for name, each in legs.items()},
        "calls_per_core": {name: round(each / 2) for name, each in legs.items()},
        "batch_ms_p50": {name: percentile_ms(mode.latencies_s, 50) for name, mode in modes.items()},
        "batch_ms_p99": {name: percentile_ms(mode.latencies_s, 99) for name, mode in modes.items()},
        "wer": {
            name: round(modes[name].heard.wer(references), 4) for name in ("full", "full, Triton") if name in modes
        },
        "one_at_a_time": _beside(single, peers, references, speech_s),
        "triton_over_in_process": {
            name: {
                "cpu": round(cost[f"{name}, Triton"] / cost[name], 3),
                "wall": round(modes[f"{name}, Triton"].wall_s / modes[name].wall_s, 3),
            }
            for name in ("gate", "cascade", "full")
            if f"{name}, Triton" in modes
        },
        "triton_cpu_is_known": options.triton_pid is not None,
        "missing": missing | ({"triton": why_no_triton} if why_no_triton else {}),
        "buckets": buckets(work, engine, options.models) if options.buckets else None,
        "hop": hopping(work, full, references) if options.hop else None,
    }


def _beside(
    single: Mode, peers: dict[str, tuple[Heard, list[float]]], references: dict[str, str], speech_s: float
) -> dict[str, Any]:
    """Ours and the peers, a segment at a time."""
    if not peers:
        return {}
    rows = {"scamtap": (single.heard, single.latencies_s), **peers}
    return {
        name: {
            "cpu_s_per_speech_s": round(heard.cpu_s / speech_s, 5),
            "ours_over_it": round(single.heard.cpu_s / heard.cpu_s, 3),
            "wer": round(heard.wer(references), 4),
            "ms_p50": percentile_ms(latencies_s, 50),
            "ms_p99": percentile_ms(latencies_s, 99),
        }
        for name, (heard, latencies_s) in rows.items()
    }


def show(r: dict[str, Any]) -> None:
    print(f"{r['speech_s']} s of speech in {r['segments']} segments of {r['folder']}, {r['machine']}, ", end="")
    print(
        f"load {r['load_average']}; {r['rows_per_batch']['full']} rows a batch; "
        f"segmenter {r['segmenter_cpu_s_per_audio_s']} ",
        end="",
    )
    print("CPU s per s of audio")
    print(f"{'':16}{'CPU s / s of speech':>20}{'legs/core':>11}{'calls/core':>12}{'batch p50':>11}{'p99':>9}")
    for name, cost in r["cpu_s_per_speech_s"].items():
        print(
            f"{name:16}{cost:>20}{r['legs_per_core'][name]:>11}{r['calls_per_core'][name]:>12}"
            f"{r['batch_ms_p50'][name]:>8} ms{r['batch_ms_p99'][name]:>6} ms"
        )
    for name, row in r["one_at_a_time"].items():
        print(
            f"{name:16}{row['cpu_s_per_speech_s']:>20}  one at a time: ours / it {row['ours_over_it']}, "
            f"word error {row['wer']}, p50 {row['ms_p50']} ms, p99 {row['ms_p99']} ms"
        )
    print(f"word error {r['wer']}")
    for name, over in r["triton_over_in_process"].items():
        print(f"{name} through Triton over in process: {over}")
    for row in r["buckets"] or []:
        print(f"buckets: {row}")
    if r["hop"]:
        print(f"longer hop: {r['hop']}")
    for name, why in r["missing"].items():
        print(f"skipped {name}: {why}")
    for target, is_reached in reached(r).items():
        print(f"{'reached' if is_reached else 'MISSED '}  {target}")


def reached(r: dict[str, Any]) -> dict[str, bool]:
    cost, beside = r["cpu_s_per_speech_s"], r["one_at_a_time"]
    out = {
        f"full decode <= {TARGETS['full']} CPU s per s": cost["full"] <= TARGETS["full"],
        f"gate only >= {TARGETS['gate_legs']} legs per core": r["legs_per_core"]["gate"] >= TARGETS["gate_legs"],
    }
    if "faster-whisper" in beside:
        ratio = beside["faster-whisper"]["ours_over_it"]
        out[f"full decode <= {TARGETS['ratio']:.2f} of faster-whisper"] = ratio <= TARGETS["ratio"]
    if r["triton_over_in_process"]:
        # Wall time tells little where others share the machine: two processes then get more of it than one.
        over = r["triton_over_in_process"]["full"]["cpu" if r["triton_cpu_is_known"] else "wall"]
        out[f"through Triton <= {TARGETS['triton']} of in process, CPU time"] = over <= TARGETS["triton"]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "datasets" / "tiny")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="model repository")
    parser.add_argument("--limit", type=int, default=0, help="recordings to take at most; 0 = all")
    parser.add_argument("--copies", type=int, default=1, help="so many times as many legs say the same")
    parser.add_argument("--speech", type=float, default=0.4, help="share of time that a leg speaks")
    parser.add_argument("--every", type=int, default=10, help="the cascade decodes every so many segments")
    started = os.environ.get("SCAMTAP__ENGINE__URL", "").removeprefix("triton://") or None
    parser.add_argument("--triton", metavar="HOST:PORT", default=started, help="a Triton server of the same models")
    parser.add_argument(
        "--triton-pid", type=int, default=sibling_server(), help="its process, if here: its CPU time is then counted"
    )
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--buckets", action="store_true", help="also measure padding by window step")
    parser.add_argument("--hop", action="store_true", help="also measure the longer hop of overload")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    options = parser.parse_args()
    result = measure(options)
    show(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
