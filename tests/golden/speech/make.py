"""Make the golden of the speech model: a synthetic clip and what Whisper base in fp32 makes of it.

    python tests/golden/speech/make.py

clip.flac is synthetic speech (Kokoro-82M), one turn of datasets/tiny/demo-scam.wav, kept if it is there. golden.json
holds its text, the language it was detected to be, and a few encoder states. Needs pulled weights.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from inference.audio import LEGS, SAMPLE_RATE_HZ
from inference.audio.segment import SpeechSegment
from inference.engine.onnx import OnnxEngine
from inference.speech.graph import ENCODER
from inference.speech.install import install_speech, tokenizer_path
from inference.speech.recogniser import Recogniser
from inference.weights import file, open_tensors

FOLDER = Path(__file__).parent
TEXT = "What we do now is move your savings into a new safe account, in your name, before they try again."
NUM_STATES = 300


def make_clip(path: Path) -> None:
    """Cut the turn that says TEXT out of the demo call."""
    demo = Path(__file__).parents[3] / "datasets" / "tiny" / "demo-scam"
    turns = json.loads(demo.with_suffix(".json").read_text())["turns"]
    (turn,) = [turn for turn in turns if turn["text"] == TEXT]
    samples, rate_hz = soundfile.read(demo.with_suffix(".wav"), dtype="int16")
    start, stop = (round(turn[key] * rate_hz) for key in ("start_s", "end_s"))
    soundfile.write(path, samples[start:stop, LEGS.index(turn["leg"])], rate_hz, subtype="PCM_16")


def main() -> None:
    """Write clip.flac if it is missing, and golden.json."""
    if not (FOLDER / "clip.flac").is_file():
        make_clip(FOLDER / "clip.flac")
    samples, _ = soundfile.read(FOLDER / "clip.flac", dtype="int16")
    with tempfile.TemporaryDirectory() as folder:
        install_speech(Path(folder), open_tensors("whisper-base"), file("whisper-base", "tokenizer.json"), "fp32")
        engine = OnnxEngine(Path(folder))
        end_s = len(samples) / SAMPLE_RATE_HZ
        segment = SpeechSegment("far", 0.0, end_s, end_s, samples)
        (heard,) = Recogniser(engine, tokenizer_path(Path(folder))).transcribe([segment], [None])
        window = samples[: len(samples) // 160 * 160]
        states = engine.infer(ENCODER, {"audio": window[None]})["states"].reshape(-1)
        metadata = engine.spec(ENCODER).metadata
    picked = np.random.default_rng(0).choice(states.size, NUM_STATES, replace=False)
    golden = {
        "note": "synthetic speech (Kokoro-82M); made by make.py with Whisper base in fp32",
        "said": TEXT,
        "weights_sha256": metadata["weights_sha256"],
        "text": heard.text,
        "language": heard.language,
        "state_index": picked.tolist(),
        "state": [round(float(value), 5) for value in states[picked]],
    }
    (FOLDER / "golden.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
