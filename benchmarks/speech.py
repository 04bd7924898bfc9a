"""What hearing costs and how well it hears: our recogniser against faster-whisper base int8, in the same run.

    python benchmarks/speech.py [FOLDER] [--json] [--models DIR] [--cut vad|turns] [--limit N]

FOLDER (default datasets/tiny) holds <name>.wav (8 kHz stereo, channel 0 the far leg, 1 the near) and <name>.json with
{"turns": [{"leg", "start_s", "end_s", "text"}]}. Both recognisers hear the same segments: those that the live segmenter
cuts, or with --cut turns the turns themselves. Same weights, one thread, greedy, English, no timestamps; segment by
segment in turn, so that both meet the same load of the machine. Cost is CPU time of the process per second of segment.
Shipped recordings are synthetic speech: errors on real telephone speech are several times higher.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from speech_peer import write_peer_model

from inference.audio import LEGS, SAMPLE_RATE_HZ
from inference.audio.segment import SpeechSegment
from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig
from inference.audio.vad import VAD_MODEL, NeuralVad, Vad
from inference.engine.onnx import OnnxEngine
from inference.speech.gate import STATES
from inference.speech.graph import DECODER, ENCODER
from inference.speech.install import tokenizer_path
from inference.speech.recogniser import Recogniser
from inference.weights import file, open_tensors
from training.wer import word_errors

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = "whisper-base"
TARGET_COST, TARGET_RATIO, TARGET_WER_POINTS = 0.05, 1 / 3, 1.5


@dataclass
class Heard:
    """What one recogniser made of one leg, and the CPU time it took."""

    cpu_s: float = 0.0
    texts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def wer(self, references: dict[str, str]) -> float:
        """Word error rate over all legs."""
        pairs = [word_errors(text, " ".join(self.texts[key])) for key, text in references.items()]
        return sum(errors for errors, _ in pairs) / max(1, sum(count for _, count in pairs))


def neural_vad(engine: OnnxEngine) -> Vad:
    def network(frames: Any, state: Any) -> tuple[Any, Any]:
        out = engine.infer(VAD_MODEL, {"frames": frames, "state": state})
        return out["speech"].astype(np.float32, copy=False), out["next_state"]

    return NeuralVad(network)


def read_legs(folder: Path, limit: int) -> Iterator[tuple[str, str, np.ndarray, list[dict[str, Any]]]]:
    """Yield key, leg, samples and the leg's turns."""
    recordings = [path for path in sorted(folder.glob("*.wav")) if path.with_suffix(".json").is_file()]
    for path in recordings[: limit or None]:
        samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
        if rate_hz != SAMPLE_RATE_HZ or samples.shape[1] != len(LEGS):
            sys.exit(f"{path}: {rate_hz} Hz, {samples.shape[1]} channels; expected 8000 Hz stereo")
        turns = json.loads(path.with_suffix(".json").read_text())["turns"]
        for channel, leg in enumerate(LEGS):
            spoken = [turn for turn in turns if turn["leg"] == leg]
            if spoken:
                yield f"{path.stem}/{leg}", leg, np.ascontiguousarray(samples[:, channel]), spoken


def cut(leg: Any, samples: np.ndarray, turns: list[dict[str, Any]], how: str, vad: Vad) -> list[SpeechSegment]:
    if how == "vad":
        segmenter = Segmenter(leg, SegmenterBank(SegmenterConfig(), vad))
        return segmenter.push(samples, 0) + segmenter.flush()
    out = []
    for turn in turns:
        start, stop = (round(turn[key] * SAMPLE_RATE_HZ) for key in ("start_s", "end_s"))
        for piece in np.array_split(samples[start:stop], 1 + (stop - start) // (28 * SAMPLE_RATE_HZ)):
            end_s = (start + len(piece)) / SAMPLE_RATE_HZ
            out.append(SpeechSegment(leg, start / SAMPLE_RATE_HZ, end_s, end_s, piece))
            start += len(piece)
    return out


def open_peer(folder: Path) -> Callable[[SpeechSegment], str]:
    """faster-whisper set to do the same job: greedy, no timestamps, no fallback, no memory of earlier text."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)

    def hear(wave: Any) -> str:
        segments, _ = model.transcribe(
            wave, language="en", beam_size=1, temperature=0.0, without_timestamps=True, condition_on_previous_text=False
        )
        return " ".join(segment.text.strip() for segment in segments)

    return hear


def timed(heard: Heard, key: str, run: Callable[[], str]) -> None:
    start_s = time.process_time()
    text = run()
    heard.cpu_s += time.process_time() - start_s
    heard.texts[key].append(text)


def parts(engine: OnnxEngine, segments: list[SpeechSegment]) -> dict[str, float]:
    """CPU milliseconds of the parts on a 5 s window: the encoder, and decoder steps by number of rows."""
    samples = np.concatenate([s.samples for s in segments] + [np.zeros(40_000, np.int16)])[:40_000]

    def best_ms(run: Callable[[], Any], repeats: int = 12) -> float:
        times = []
        for _ in range(repeats):
            start_s = time.process_time()
            run()
            times.append(time.process_time() - start_s)
        return round(1000 * min(times), 2)

    out = {"encoder_5s_ms": best_ms(lambda: engine.infer(ENCODER, {"audio": samples[None]}))}
    encoded = engine.infer(ENCODER, {"audio": samples[None]})
    cross = {name: tensor for name, tensor in encoded.items() if name.startswith("cross_")}
    past = [spec for spec in engine.spec(DECODER).inputs if spec.name.startswith("past_")]
    for rows in (1, 2, 4, 8, 16):
        batch = {name: np.repeat(tensor, rows, axis=0) for name, tensor in cross.items()}
        batch |= {one.name: np.zeros((rows, one.shape[1], 20, one.shape[3]), one.dtype) for one in past}
        batch |= {"tokens": np.full((rows, 1), 440), "phase": np.full(rows, 2)}
        batch["heard"] = np.ones((rows, encoded[STATES].shape[1]), np.int32)
        out[f"decoder_step_{rows}_rows_ms"] = best_ms(lambda batch=batch: engine.infer(DECODER, batch))
    return out


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import soxr

    engine = OnnxEngine(options.models)
    recogniser = Recogniser(engine, tokenizer_path(options.models))
    vad = neural_vad(engine) if options.cut == "vad" else None
    ours, batched, peer = Heard(), Heard(), Heard()
    references: dict[str, str] = {}
    work: list[tuple[str, SpeechSegment]] = []
    start_s = time.process_time()
    for key, leg, samples, turns in read_legs(options.folder, options.limit):
        references[key] = " ".join(turn["text"] for turn in turns)
        work += [(key, segment) for segment in cut(leg, samples, turns, options.cut, vad)]  # type: ignore[arg-type]
    cut_cpu_s = time.process_time() - start_s
    if not work:
        sys.exit(f"{options.folder}: no recordings with speech (<name>.wav beside <name>.json)")
    speech_s = sum(len(segment.samples) for _, segment in work) / SAMPLE_RATE_HZ

    with tempfile.TemporaryDirectory() as folder:
        write_peer_model(Path(folder), open_tensors(WEIGHTS), file(WEIGHTS, "tokenizer.json"))
        hear = open_peer(Path(folder))
        recogniser.transcribe([work[0][1]])  # both load what they load lazily
        hear(np.zeros(16_000, np.float32))
        for key, segment in work:
            wave = soxr.resample(segment.samples.astype(np.float32) / 32768, SAMPLE_RATE_HZ, 16_000)
            timed(ours, key, lambda segment=segment: recogniser.transcribe([segment])[0].text)  # type: ignore[misc]
            timed(peer, key, lambda wave=wave: hear(wave))  # type: ignore[misc]
    start_s = time.process_time()
    for (key, _), utterance in zip(work, recogniser.transcribe([segment for _, segment in work]), strict=True):
        batched.texts[key].append(utterance.text)
    batched.cpu_s = time.process_time() - start_s

    cost, peer_cost = ours.cpu_s / speech_s, peer.cpu_s / speech_s
    return {
        "benchmark": "speech",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "precision": engine.spec(ENCODER).metadata.get("precision", "?"),
        "folder": options.folder.name,
        "cut": options.cut,
        "segments": len(work),
        "speech_s": round(speech_s, 2),
        "words": sum(word_errors(text, "")[1] for text in references.values()),
        "cpu_s_per_speech_s": round(cost, 4),
        "cpu_s_per_speech_s_batched": round(batched.cpu_s / speech_s, 4),
        "segmenter_cpu_s_per_speech_s": round(cut_cpu_s / speech_s, 4),
        "peer_cpu_s_per_speech_s": round(peer_cost, 4),
        "ratio_to_peer": round(cost / peer_cost, 3),
        "ratio_to_peer_batched": round(batched.cpu_s / peer.cpu_s, 3),
        "wer": round(ours.wer(references), 4),
        "peer_wer": round(peer.wer(references), 4),
        "wer_points_above_peer": round(100 * (ours.wer(references) - peer.wer(references)), 2),
        "batch_changes_text": ours.texts != batched.texts,
        "parts": parts(engine, [segment for _, segment in work]),
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "datasets" / "tiny")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="model repository")
    parser.add_argument("--cut", choices=("vad", "turns"), default="vad")
    parser.add_argument("--limit", type=int, default=0, help="recordings to take at most; 0 = all")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    result = measure(options := parser.parse_args())
    heading = f"{result['speech_s']} s of speech in {result['segments']} segments of {result['folder']}"
    cost = [result[f"{who}cpu_s_per_speech_s{how}"] for who, how in (("", ""), ("", "_batched"), ("peer_", ""))]
    print(f"{heading}, {result['machine']}, load {result['load_average']:.1f}")
    print(f"{'':22}{'ours':>8}{'batched':>9}{'faster-whisper':>16}{'ratio':>8}  target")
    print(
        f"{'CPU s per s of speech':22}{cost[0]:>8}{cost[1]:>9}{cost[2]:>16}{result['ratio_to_peer']:>8}"
        f"  <= {TARGET_COST}, ratio <= {TARGET_RATIO:.3f}"
    )
    print(
        f"{'word error rate':22}{result['wer']:>8}{'':>9}{result['peer_wer']:>16}{'':>8}"
        f"  <= peer + {TARGET_WER_POINTS} points"
    )
    print(f"parts: {result['parts']}; segmenter {result['segmenter_cpu_s_per_speech_s']} s per s of speech")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
