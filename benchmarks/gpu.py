"""What one GPU carries: Whisper on ScamTap's weights in PyTorch, against what the same chip multiplies at best.

    python benchmarks/gpu.py [--json] [--dtype bf16|fp16] [--compile] [--seconds 10] [--calls 500,1000,...]
    python benchmarks/gpu.py --tiny        # a made network on the CPU: proves that all of it runs, and nothing else

Prints, in order: the ceiling (a large matrix product, a large copy); parity with the ONNX graphs of these weights;
windows a second of the encoder by batch, with the share of the ceiling (MFU) and where the roofline bends; decoder
steps with batched keys and values; and, in real time, 500 to 10,000 calls of two legs, each speaking 40 % of the time.
Speech arrives as it would (lengths are those of the turns in FOLDER, µ-law, in host memory); every 10 ms all that is
due is uploaded in length buckets, encoded and gated (a stand-in: pooling and one product), and --decode of it decoded.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_tiny import tiny_tensors, tiny_vocabulary
from gpu_whisper import SAMPLES_PER_FRAME, Decoder, TorchWhisper, encoder_flops, step_cost

from inference.audio import SAMPLE_RATE_HZ
from inference.engine.base import Engine
from inference.rtp.g711 import decode_ulaw
from inference.speech.graph import DECODER, ENCODER, PHASE_TEXT, build_speech
from inference.speech.recogniser import RecogniserConfig
from inference.speech.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "whisper-base"
TOKENS_PER_S = 3.4  # of English speech in Whisper's tokens; silence has none
STEP = round(RecogniserConfig().window_step_s * SAMPLE_RATE_HZ)
SILENCE = round(RecogniserConfig().silence_s * SAMPLE_RATE_HZ)
MAX_WINDOW = math.ceil((8 * SAMPLE_RATE_HZ + SILENCE) / STEP) * STEP
TICK_S = 0.01
P99_S = 0.15
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

Result = dict[str, Any]


class Bench:
    """The model, the clock that waits for the device, and the audio that is uploaded."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.is_cuda = not options.tiny and torch.cuda.is_available()
        self.device = "cuda" if self.is_cuda else "cpu"
        self.dtype = DTYPES[options.dtype] if self.is_cuda else torch.float32
        if options.tiny:
            self.vocabulary = tiny_vocabulary()
            self.tensors, self.head_width = tiny_tensors(self.vocabulary.size, MAX_WINDOW // SAMPLES_PER_FRAME), 16
        else:
            from tokenizers import Tokenizer

            from inference.weights import file, open_tensors

            self.vocabulary = Vocabulary.from_tokenizer(Tokenizer.from_file(str(file(WEIGHTS, "tokenizer.json"))))
            self.tensors, self.head_width = open_tensors(WEIGHTS), 64  # type: ignore[assignment]
        self.model = TorchWhisper(self.tensors, device=self.device, dtype=self.dtype, head_width=self.head_width)
        self.encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]] = self.model.encode
        v = self.vocabulary
        self.prompt = [v.start, v.languages["en"], v.transcribe, v.no_timestamps]
        specials = range(v.end + 1, v.size)
        self.never = [*v.suppressed, *specials]
        self.gate = torch.randn(self.model.width, 1, device=self.device, dtype=self.dtype)
        rng = np.random.default_rng(0)
        self.audio = torch.from_numpy(rng.integers(0, 256, (64, MAX_WINDOW), np.uint8))

    def seconds(self, run: Callable[[], object], at_least_s: float = 0.5) -> float:
        """Seconds a run, the device's own work included."""
        run()
        self.wait()
        repeats, took_s = 1, 0.0
        while True:
            began_s = time.perf_counter()
            for _ in range(repeats):
                run()
            self.wait()
            took_s = time.perf_counter() - began_s
            if took_s >= (0.02 if self.options.tiny else at_least_s):
                return took_s / repeats
            repeats *= 2

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize()

    def windows(self, rows: int, num_samples: int) -> torch.Tensor:
        """µ-law windows on the device."""
        return self.audio[:, :num_samples].repeat(math.ceil(rows / len(self.audio)), 1)[:rows].to(self.device)

    def heard(self, ulaw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoder and gate: what the decoder attends to, and the gate's probabilities ``[rows]``."""
        states, crossed = self.encode(ulaw)
        return crossed, torch.sigmoid(states.mean(dim=1) @ self.gate)[:, 0]


def ceiling(b: Bench) -> Result:
    """Products a second of the device at its best, and bytes a second of its memory."""
    side = 128 if b.options.tiny else 8192
    left, right = (torch.randn(side, side, device=b.device, dtype=b.dtype) for _ in range(2))
    source = torch.empty((1 << 20) if b.options.tiny else (1 << 30), dtype=torch.uint8, device=b.device)
    target = torch.empty_like(source)
    flops = 2 * side**3 / b.seconds(lambda: left @ right)
    bandwidth = 2 * source.numel() / b.seconds(lambda: target.copy_(source))
    return {"tflops": flops / 1e12, "gb_per_s": bandwidth / 1e9, "ridge_flop_per_byte": flops / bandwidth}


def parity(b: Bench) -> Result:
    """Against the ONNX graphs of the same weights, fp32: the largest difference of states, and equal tokens."""
    import tempfile

    from inference.engine.onnx import OnnxEngine
    from inference.engine.repository import write_model

    num_samples, num_steps = 3 * STEP, 12
    ulaw = b.audio[:2, :num_samples]
    pcm = np.stack([decode_ulaw(row.numpy().tobytes()) for row in ulaw])
    with tempfile.TemporaryDirectory() as folder:
        for name, graph in build_speech(b.tensors, b.vocabulary, "fp32", head_width=b.head_width).items():
            write_model(Path(folder), name, graph)
        engine = OnnxEngine(Path(folder))
        states, tokens = _onnx(engine, pcm, b.prompt, num_steps)
        engine.close()
    ours, crossed = b.model.encode(ulaw.to(b.device))
    decoder = Decoder(b.model, 2, MAX_WINDOW // SAMPLES_PER_FRAME, num_steps + len(b.prompt), b.never)
    decoder.load(crossed, [crossed.shape[3]] * 2)
    found = decoder.run(b.prompt, num_steps, end=-1).cpu().numpy()
    return {
        "states_difference": float(np.abs(ours.float().cpu().numpy() - states).max()),
        "tokens_equal": float((found[:, : tokens.shape[1]] == tokens).mean()),
    }


def _onnx(engine: Engine, pcm: Any, prompt: list[int], num_steps: int) -> tuple[Any, Any]:
    """States and greedy tokens of the graphs; ``end`` may be chosen and is gone on from, as the benchmark does."""
    encoded = engine.infer(ENCODER, {"audio": pcm})
    kept = {name: tensor for name, tensor in encoded.items() if name.startswith("cross_")}
    kept["heard"] = np.ones((len(pcm), encoded["states"].shape[1]), np.int32)
    for spec in engine.spec(DECODER).inputs:
        if spec.name.startswith("past_"):
            kept[spec.name] = np.zeros([len(pcm), *(size or 0 for size in spec.shape[1:])], spec.dtype)
    tokens, out = np.array([prompt] * len(pcm), np.int64), []
    phase = np.full(len(pcm), PHASE_TEXT, np.int64)  # the benchmark's decoder has this one rule for every step
    for _ in range(num_steps):
        step = engine.infer(DECODER, {"tokens": tokens, "phase": phase, **kept})
        tokens = np.asarray(step["next"], np.int64)[:, None]
        out.append(tokens)
        kept |= {n.replace("present_", "past_"): t for n, t in step.items() if n.startswith("present_")}
    return np.asarray(encoded["states"], np.float32), np.concatenate(out, axis=1)


def encoder_rates(b: Bench, top: Result) -> Result:
    """Windows a second by batch, and the share of the ceiling that is."""
    num_samples = 10 * STEP  # 5 s: 4 s of speech and what follows
    frames, rows = num_samples // SAMPLES_PER_FRAME, []
    flops = encoder_flops(b.model, frames)
    for batch in (1, 4) if b.options.tiny else (1, 8, 16, 32, 64, 128, 256):
        ulaw = b.windows(batch, num_samples)
        took_s = b.seconds(lambda ulaw=ulaw: b.heard(ulaw))  # type: ignore[misc]
        mfu = flops * batch / took_s / (top["tflops"] * 1e12)
        rows.append({"batch": batch, "windows_per_s": batch / took_s, "ms": 1000 * took_s, "mfu": mfu})
    weights = sum(pair[0].numel() for layer in b.model.encoder for pair in layer.values())
    best = max(rows, key=lambda row: row["mfu"])
    size = torch.finfo(b.dtype).bits // 8
    intensity = flops * best["batch"] / (size * (weights + best["batch"] * frames * b.model.width * 16))
    return {"window_s": num_samples / SAMPLE_RATE_HZ, "batches": rows, "best": best, "flop_per_byte": intensity}


def decoder_rates(b: Bench, top: Result) -> Result:
    """Steps a second by rows, with the share of what memory can bring and of what can be multiplied."""
    frames, rows = 10 * STEP // SAMPLES_PER_FRAME, []
    num_tokens = min(64, b.model.positions["decoder"].shape[0])
    for batch in (1, 4) if b.options.tiny else (1, 8, 32, 64, 128, 256, 512):
        decoder = Decoder(b.model, batch, frames, num_tokens, b.never)
        steps = num_tokens - len(b.prompt) - 1
        took_s = b.seconds(lambda d=decoder, n=steps: d.run(b.prompt, n, end=-1, check_every=1 << 30)) / steps  # type: ignore[misc]
        flops, moved = step_cost(b.model, batch, frames, num_tokens)
        share = moved / took_s / (top["gb_per_s"] * 1e9)
        rows.append(
            {
                "rows": batch, "step_ms": 1000 * took_s, "tokens_per_s": batch / took_s, "flop_per_byte": flops / moved,
                "bandwidth_share": share, "mfu": flops / took_s / (top["tflops"] * 1e12),
            }
        )  # fmt: skip
    return {"rows": rows}


def spoken_lengths(folder: Path) -> list[int]:
    """Samples of every turn of the recordings there, cut at 8 s as live segments are."""
    lengths = []
    for path in sorted(folder.glob("*.json")):
        turns = json.loads(path.read_text()).get("turns", [])
        lengths += [min(8.0, max(0.5, turn["end_s"] - turn["start_s"])) * SAMPLE_RATE_HZ for turn in turns]
    return [round(length) for length in lengths] or [4 * SAMPLE_RATE_HZ]


def serve(b: Bench, calls: int, decode_share: float, decoder: Decoder) -> Result:
    """So many calls for --seconds, in real time."""
    lengths, rng = spoken_lengths(b.options.folder), np.random.default_rng(calls)
    per_s = calls * 2 * b.options.speech / (statistics.fmean(lengths) / SAMPLE_RATE_HZ)
    due_s = np.cumsum(rng.exponential(1 / per_s, size=max(1, round(per_s * b.options.seconds))))
    windows = [math.ceil((length + SILENCE) / STEP) * STEP for length in rng.choice(lengths, len(due_s)).tolist()]
    decodes = rng.random(len(due_s)) < decode_share
    latencies_s, busy_s, at, began_s = [], 0.0, 0, time.perf_counter()
    deadline_s = b.options.seconds + 5
    while at < len(due_s):
        now_s = time.perf_counter() - began_s
        if now_s > deadline_s:
            break
        stop = int(np.searchsorted(due_s, now_s))
        if stop == at:
            time.sleep(TICK_S - now_s % TICK_S)
            continue
        stop = min(stop, at + 2048)
        _hear(b, windows[at:stop], decodes[at:stop], decoder)
        b.wait()
        done_s = time.perf_counter() - began_s
        busy_s += done_s - now_s
        latencies_s += [done_s - due for due in due_s[at:stop].tolist()]
        at = stop
    unheard = len(due_s) - at
    latencies_s += [math.inf] * unheard
    p50, p99 = (float(np.percentile(latencies_s, p, method="higher")) for p in (50, 99))
    return {
        "calls": calls, "decoded": decode_share, "windows": len(due_s), "unheard": unheard,
        "busy": busy_s / (time.perf_counter() - began_s), "p50_ms": 1000 * p50, "p99_ms": 1000 * p99,
    }  # fmt: skip


def _hear(b: Bench, windows: list[int], decodes: Any, decoder: Decoder) -> None:
    """One tick: upload, encode and gate by length; decode what is to be, in common batches."""
    buckets: dict[int, list[bool]] = defaultdict(list)
    for window, is_decoded in zip(windows, decodes.tolist(), strict=True):
        buckets[window].append(is_decoded)
    waiting: list[tuple[torch.Tensor, int]] = []
    for window, of_bucket in buckets.items():
        for first in range(0, len(of_bucket), 256):
            part = of_bucket[first : first + 256]
            crossed, _ = b.heard(b.windows(len(part), window))
            rows = [row for row, is_decoded in enumerate(part) if is_decoded]
            waiting += [(crossed[:, row : row + 1], window) for row in rows]
    num_rows = decoder.token.shape[0]
    for first in range(0, len(waiting), num_rows):
        some = waiting[first : first + num_rows]
        frames = [window // SAMPLES_PER_FRAME for _, window in some]
        longest = max(frames)
        padded = [torch.nn.functional.pad(c, (0, 0, 0, longest - c.shape[3])) for c, _ in some]
        decoder.load(torch.cat(padded, dim=1), frames)
        steps = round(TOKENS_PER_S * (max(w for _, w in some) - SILENCE) / SAMPLE_RATE_HZ) + 1
        decoder.run(b.prompt, min(steps, decoder.past.shape[3] - len(b.prompt) - 1), end=-1, check_every=1 << 30)


def measure(options: argparse.Namespace) -> Result:
    torch.manual_seed(0)
    b = Bench(options)
    with torch.inference_mode():
        top = ceiling(b)
        result: Result = {
            "benchmark": "gpu",
            "device": torch.cuda.get_device_name() if b.is_cuda else f"CPU, {os.cpu_count()} cores",
            "is_tiny": options.tiny,
            "dtype": str(b.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "ceiling": top,
            "parity": parity(b),
            "encoder": encoder_rates(b, top),
        }
        if options.compile:
            plain = result["encoder"]["best"]["windows_per_s"]
            b.encode = torch.compile(b.model.encode, dynamic=False)
            result["encoder_compiled"] = encoder_rates(b, top)
            gain = result["encoder_compiled"]["best"]["windows_per_s"] / plain
            result["compile_gain"] = gain
            if gain < 1:
                b.encode = b.model.encode
        result["decoder"] = decoder_rates(b, top)
        rows = 4 if options.tiny else 128
        num_tokens = min(64, b.model.positions["decoder"].shape[0])
        decoder = Decoder(b.model, rows, MAX_WINDOW // SAMPLES_PER_FRAME, num_tokens, b.never)
        _hear(b, [w * STEP for w in range(3, MAX_WINDOW // STEP + 1)], np.ones(MAX_WINDOW // STEP - 2, bool), decoder)
        result["calls"] = [
            serve(b, calls, share, decoder) for share in (0.0, options.decode) for calls in options.calls
        ]
        if b.is_cuda:
            result["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    result["reached"] = reached(result, options.decode) if b.is_cuda else {}
    return result


def reached(result: Result, share: float) -> dict[str, bool]:
    def most(decoded: float) -> int:
        held = [r["calls"] for r in result["calls"] if r["decoded"] == decoded and r["p99_ms"] <= 1000 * P99_S]
        return max(held, default=0)

    return {
        "gate only: 5,000 calls at p99 <= 150 ms": most(0.0) >= 5000,
        f"{share:.0%} decoded: 2,000 calls at p99 <= 150 ms": most(share) >= 2000,
        "encoder MFU >= 30 %": result["encoder"]["best"]["mfu"] >= 0.3,
    }


def show(r: Result) -> None:
    top, encoder = r["ceiling"], r["encoder"]
    if r["is_tiny"]:
        print("tiny: a made network on the CPU; these numbers prove that it runs and mean nothing else")
    print(f"{r['device']}, {r['dtype']}, torch {r['torch']}: measured ceiling {top['tflops']:.3g} TFLOP/s, ", end="")
    print(f"{top['gb_per_s']:.4g} GB/s, ridge at {top['ridge_flop_per_byte']:.0f} FLOP/byte")
    same = r["parity"]
    print(f"parity: states differ by {same['states_difference']:.2g}, tokens equal {same['tokens_equal']:.0%}")
    for name in ("encoder", "encoder_compiled"):
        for row in r.get(name, {}).get("batches", []):
            print(
                f"{name}: batch {row['batch']:>4}: {row['windows_per_s']:>10.1f} windows of {encoder['window_s']:g} s ",
                end="",
            )
            print(f"a second, {row['ms']:.2f} ms, MFU {row['mfu']:.1%}")
    bound = "computing" if encoder["flop_per_byte"] > top["ridge_flop_per_byte"] else "memory"
    print(f"roofline: encoder about {encoder['flop_per_byte']:.0f} FLOP/byte at best: bound by {bound}")
    for row in r["decoder"]["rows"]:
        bound = "computing" if row["flop_per_byte"] > top["ridge_flop_per_byte"] else "memory"
        print(
            f"decoder: {row['rows']:>4} rows: step {row['step_ms']:.3f} ms, {row['tokens_per_s']:.0f} tokens/s, "
            f"{row['flop_per_byte']:.1f} FLOP/byte: bound by {bound}; {row['bandwidth_share']:.1%} of the bandwidth, "
            f"MFU {row['mfu']:.1%}"
        )
    for row in r["calls"]:
        print(
            f"{row['calls']:>6} calls, {row['decoded']:.0%} decoded: p50 {row['p50_ms']:.1f} ms, "
            f"p99 {row['p99_ms']:.1f} ms, busy {row['busy']:.0%}, {row['unheard']} of {row['windows']} windows unheard"
        )
    if "peak_memory_gb" in r:
        print(f"peak memory {r['peak_memory_gb']:.2f} GB")
    for target, is_reached in r["reached"].items():
        print(f"{'reached' if is_reached else 'MISSED '}  {target}")


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=ROOT / "datasets" / "tiny", help="for lengths of speech"
    )
    parser.add_argument("--tiny", action="store_true", help="a made network on the CPU")
    parser.add_argument("--dtype", choices=("bf16", "fp16"), default="bf16")
    parser.add_argument("--compile", action="store_true", help="also the encoder through torch.compile, kept if faster")
    parser.add_argument("--seconds", type=float, default=10.0, help="per number of calls")
    parser.add_argument("--calls", type=numbers, default=[500, 1000, 2000, 5000, 10_000])
    parser.add_argument("--speech", type=float, default=0.4, help="share of time that a leg speaks")
    parser.add_argument("--decode", type=float, default=0.1, help="share of windows that is decoded")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    options = parser.parse_args()
    if options.tiny:
        options.calls, options.seconds = [20], min(options.seconds, 1.0)
        torch.set_num_threads(1)
    elif not torch.cuda.is_available():
        print("not measured: no CUDA device here; --tiny proves that the benchmark runs")
        if options.json:
            print(json.dumps({"benchmark": "gpu", "skipped": "no CUDA device"}))
        sys.exit(0)
    result = measure(options)
    show(result)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
