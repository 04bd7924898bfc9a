"""What decoding costs, encoder apart, with the graphs of two model repositories: before and after a change to them.

    python benchmarks/engine_decoder.py --before FOLDER [--models FOLDER] [--json]

FOLDER is a model repository built by an earlier version (its speech and speech_decoder). Both hear datasets/tiny, in
turn: a window a batch, as a worker with few calls does, and in the batches that the live scheduler makes under load.
Says too of how many segments the words are the same.
"""

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from engine_modes import Mode, Work, as_scheduled, in_turn, own_cpu_s
from speech import cut, neural_vad, read_legs

from inference.audio import SAMPLE_RATE_HZ
from inference.engine.base import Batch, ModelSpec, Tensor
from inference.engine.onnx import OnnxEngine
from inference.speech.graph import ENCODER
from inference.speech.install import tokenizer_path
from inference.speech.recogniser import Recogniser

ROOT = Path(__file__).resolve().parents[1]


class Counted:
    """An engine that counts the CPU time of each model."""

    def __init__(self, models: Path) -> None:
        self._engine = OnnxEngine(models)
        self.cpu_s: Counter[str] = Counter()

    def spec(self, model: str) -> ModelSpec:
        return self._engine.spec(model)

    def infer(self, model: str, batch: Batch) -> dict[str, Tensor]:
        before_s = time.process_time()
        try:
            return self._engine.infer(model, batch)
        finally:
            self.cpu_s[model] += time.process_time() - before_s

    def close(self) -> None:
        self._engine.close()


def measure(before: Path, after: Path) -> dict[str, Any]:
    vad, work, references = neural_vad(OnnxEngine(after)), Work(), dict[str, str]()
    for key, leg, samples, turns in read_legs(ROOT / "datasets" / "tiny", 0):
        references[key] = " ".join(turn["text"] for turn in turns)
        work += [(key, segment) for segment in cut(leg, samples, turns, "vad", vad)]
    speech_s = sum(len(segment.samples) for _, segment in work) / SAMPLE_RATE_HZ
    modes, plans, engines = {}, {}, {}
    for when, folder in (("before", before), ("after", after)):
        for how in ("a window a batch", "as scheduled"):
            name = f"{when}, {how}"
            engines[name] = Counted(folder)
            modes[name] = Mode(Recogniser(engines[name], tokenizer_path(after)))
            scheduled = as_scheduled(work, modes[name].recogniser, is_mixing=True)
            plans[name] = scheduled if how == "as scheduled" else [[one] for batch in scheduled for one in batch]
    in_turn(
        modes, plans, dict.fromkeys(modes, own_cpu_s), on_warm=lambda: [one.cpu_s.clear() for one in engines.values()]
    )
    first = next(iter(modes))
    decoder = {name: mode.heard.cpu_s - engines[name].cpu_s[ENCODER] for name, mode in modes.items()}
    texts = {
        name: Counter(text for spoken in mode.heard.texts.values() for text in spoken) for name, mode in modes.items()
    }
    return {
        "benchmark": "engine_decoder",
        "load_average": round(os.getloadavg()[0], 2),
        "segments": len(work),
        **{
            name: {
                "rows_per_batch": round(len(work) / len(plans[name]), 2),
                "encoder": round(engines[name].cpu_s[ENCODER] / speech_s, 5),
                "decoder": round(decoder[name] / speech_s, 5),
                "over_first": round(decoder[name] / decoder[first], 3),
                "wer": round(mode.heard.wer(references), 4),
                "same_words": (texts[name] & texts[first]).total(),
            }
            for name, mode in modes.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="model repository to compare with")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="model repository")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    options = parser.parse_args()
    result = measure(options.before, options.models)
    print(f"{result['segments']} segments of tiny, load {result['load_average']}; CPU s per s of speech")
    for name, row in result.items():
        if isinstance(row, dict):
            print(f"{name:26} {row}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
