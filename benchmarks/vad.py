"""Which voice activity detector? Speech missed, speech invented, and what it costs.

    python benchmarks/vad.py [--json] [--audio DIR] [--fetch] [--calls DIR]

Every sound passes a telephone band (300-3400 Hz) and a µ-law round trip, then the very segmenter that live calls use.
Speech and noise are read from ``--audio`` (default ../shared/audio, folders speech/ noise/ line/ music/), where it is
there; tones, noises and made-up music are generated, so it runs anywhere. ``--fetch`` downloads Debian's music on hold
and voice prompts (asterisk-moh-opsound-wav, asterisk-core-sounds-en-wav) into a temporary folder and adds them.

``--calls`` (default datasets/tiny) holds recorded calls with the times of their turns (name.wav stereo, name.json).

Reported per detector: ``miss_%`` of speech (10 ms frames within 30 dB of the clean recording's loud ones) outside all
segments, by level and by signal-to-noise ratio; ``false_s_per_min`` of segments on sounds without speech; on the
calls, what of the turns lies outside all segments, and segments that touch no turn; CPU per second of audio and leg,
200 legs in common ticks of 60 ms, while all talk and while all are quiet. What many legs cost a worker is in
benchmarks/segmenter.py.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import soundfile
import soxr
from vad_peers import GatedVad

from inference.audio import LEGS, SAMPLE_RATE_HZ
from inference.audio.segmenter import Segmenter, SegmenterBank, SegmenterConfig, push_rows
from inference.audio.vad import NeuralVad, Vad
from inference.audio.webrtc import WebrtcVad
from inference.rtp.g711 import decode_ulaw, encode_ulaw

Wave = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parent.parent
TICK_SAMPLES = 60 * SAMPLE_RATE_HZ // 1000
RNG = np.random.default_rng(7)


def telephone(wave: Wave, level_dbfs: float | None = None) -> npt.NDArray[np.int16]:
    """Band-limit, set the level (of the loud half of its 20 ms frames) and pass through µ-law."""
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE_HZ)
    spectrum *= np.clip((hz - 200) / 100, 0, 1) * np.clip((3600 - hz) / 200, 0, 1)
    wave = np.fft.irfft(spectrum, len(wave))
    if level_dbfs is not None:
        wave = wave * 10 ** ((level_dbfs - active_db(wave)) / 20)
    return decode_ulaw(encode_ulaw(np.clip(wave * 32768, -32768, 32767).astype(np.int16)))


def active_db(wave: Wave) -> float:
    """Level in dBFS of the louder half of the frames that are not silent."""
    power = np.square(wave[: len(wave) // 160 * 160].reshape(-1, 160)).mean(1)
    power = power[power > power.max() * 1e-4]
    return float(10 * np.log10(power[power >= np.median(power)].mean() + 1e-20))


def load(path: Path) -> Wave:
    """Read a file as mono at 8 kHz."""
    wave, rate = soundfile.read(path, dtype="float64", always_2d=True)
    return soxr.resample(wave.mean(1), rate, SAMPLE_RATE_HZ)


def active_frames(wave: Wave) -> npt.NDArray[np.bool_]:
    """Where the clean recording has speech: bool per 10 ms."""
    power = np.square(wave[: len(wave) // 80 * 80].reshape(-1, 80)).mean(1)
    return power > np.quantile(power, 0.95) * 1e-3


def tones(*hz: float, on: tuple[float, ...] = (1,), seconds: float = 30) -> Wave:
    """Sum of sines, keyed on and off for the given seconds in turn."""
    t = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    key = (np.searchsorted(np.cumsum(on), t % sum(on), side="right") % 2 == 0) if len(on) > 1 else np.ones(len(t))
    return sum(np.sin(2 * np.pi * f * t) for f in hz) * key * 0.1


def made_music(seconds: float = 30) -> Wave:
    """Chords and a melody of decaying harmonics with vibrato: the part of music that fools detectors."""
    t = np.arange(int(0.5 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    bars = []
    for _ in range(int(seconds / 0.5)):
        notes = 220 * 2 ** (RNG.choice([0, 2, 4, 7, 9, 12, 16], 4) / 12)
        vibrato = 1 + 0.004 * np.sin(2 * np.pi * 5.5 * t)
        harmonics = [(note * k, k) for note in notes for k in range(1, 7)]
        bars.append(sum(np.sin(2 * np.pi * hz * t * vibrato) * np.exp(-2 * k * t) / k for hz, k in harmonics))
    return np.concatenate(bars) * 0.1


def pink(seconds: float = 30) -> Wave:
    """1/f noise."""
    spectrum = np.fft.rfft(RNG.standard_normal(int(seconds * SAMPLE_RATE_HZ)))
    return np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 1)) * 3


def negatives(folders: list[Path]) -> dict[str, list[Wave]]:
    """Sounds without speech, by kind."""
    clicks = np.zeros(30 * SAMPLE_RATE_HZ)
    clicks[RNG.integers(0, len(clicks), 60)] = 0.8
    dtmf = np.concatenate([tones(697, 1209, on=(0.1, 0.1), seconds=5), tones(852, 1477, on=(0.2, 0.8), seconds=10)])
    out: dict[str, list[Wave]] = {
        "noise": [RNG.standard_normal(30 * SAMPLE_RATE_HZ) * 0.05, pink(), clicks],
        "tones": [tones(440, 480, on=(2, 4)), tones(400, 450, on=(0.4, 0.2, 0.4, 2)), tones(425, on=(1, 4)),
                  tones(480, 620, on=(0.5, 0.5)), tones(350, 440), dtmf],
        "music": [made_music()],
    }  # fmt: skip
    for folder in folders:
        for kind, name in (("noise", "noise"), ("tones", "line"), ("music", "music")):
            out[kind] += [load(path)[: 30 * SAMPLE_RATE_HZ] for path in sorted((folder / name).glob("**/*.wav"))]
    return out


def fetch(target: Path) -> Path:
    """Download Debian's hold music and prompts and lay them out as --audio wants them."""
    for package, folder in (("asterisk-moh-opsound-wav", "music"), ("asterisk-core-sounds-en-wav", "speech")):
        subprocess.run(["apt-get", "download", "-q", package], cwd=target, check=True, stdout=subprocess.DEVNULL)
        archive = next(target.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(archive), str(target / "unpacked")], check=True)
        wavs = sorted((target / "unpacked").glob("**/*.wav"), key=lambda path: -path.stat().st_size)
        (target / folder).mkdir()
        for path in wavs[:8]:  # the longest
            path.rename(target / folder / path.name)
        subprocess.run(["rm", "-r", str(target / "unpacked")], check=True)
    return target


def network() -> NeuralVad:
    """Load models/vad directly: one thread, no spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(ROOT / "models/vad/1/model.onnx", options, ["CPUExecutionProvider"])
    return NeuralVad(lambda frames, state: tuple(session.run(None, {"frames": frames, "state": state})))


def detectors() -> dict[str, tuple[Vad, SegmenterConfig]]:
    """Name -> detector and the segmenter settings that suit it."""
    half = SegmenterConfig(threshold=0.5, exit_threshold=0.3)
    out: dict[str, tuple[Vad, SegmenterConfig]] = {
        "neural": (network(), SegmenterConfig()),
        "neural, threshold .5": (network(), half),
    }
    for mode in range(4):
        out[f"webrtc mode {mode}"] = (WebrtcVad(mode), SegmenterConfig())
    out["gated, mode 0"] = (GatedVad(WebrtcVad(0), network()), SegmenterConfig())
    return out


def covered(vad: Vad, config: SegmenterConfig, pcm: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    """Bool per 10 ms: inside some segment."""
    segmenter = Segmenter("far", SegmenterBank(config, vad))
    out = np.zeros(len(pcm) // 80, np.bool_)
    for segment in segmenter.push(pcm, 0) + segmenter.flush():
        out[round(segment.start_s * 100) : round(segment.end_s * 100)] = True
    return out


def join(speech: list[Wave]) -> tuple[Wave, npt.NDArray[np.bool_]]:
    """All recordings at one level, 1.5 s of silence before each, and where there is speech (bool per 10 ms)."""
    stream, truth = [], []
    for recording in speech:
        wave = recording[: len(recording) // 80 * 80]
        stream += [np.zeros(SAMPLE_RATE_HZ * 3 // 2), wave * 10 ** ((-26 - active_db(wave)) / 20)]
        truth += [np.zeros(150, np.bool_), active_frames(wave)]
    return np.concatenate(stream), np.concatenate(truth)


def measure(
    vad: Vad, config: SegmenterConfig, speech: list[Wave], other: dict[str, list[Wave]], calls: Path
) -> dict[str, object]:
    """All numbers of one detector."""
    row: dict[str, object] = {}
    if speech:
        stream, truth = join(speech)
        for level in (-5, -15, -25, -35, -42):
            inside = covered(vad, config, telephone(stream, level))
            row[f"miss_%, {level} dBFS"] = round(100 * float((truth & ~inside).sum() / truth.sum()), 2)
        row["kept s per speech s"] = round(float(inside.sum() / truth.sum()), 2)
        white = np.random.default_rng(3).standard_normal(len(stream))
        for name, noise in (("white", white), ("street", np.resize(other["noise"][-1], len(stream)))):
            for snr in (20, 10, 5):
                scale = 10 ** ((active_db(stream) - snr - active_db(noise)) / 20)
                inside = covered(vad, config, telephone(stream + noise * scale, -20))
                row[f"miss_%, {name} {snr} dB"] = round(100 * float((truth & ~inside).sum() / truth.sum()), 2)
    for kind, waves in other.items():
        for level in (-18, -35):
            heard = [covered(vad, config, telephone(wave, level)) for wave in waves]
            row[f"false_s/min, {kind} {level} dBFS"] = round(60 * sum(map(sum, heard)) / sum(map(len, heard)), 2)
    talk = telephone(np.resize(np.concatenate(speech) if speech else made_music(), 10 * SAMPLE_RATE_HZ), -20)
    row |= on_calls(vad, config, calls)
    row["cpu µs/s, talking"] = cpu(vad, config, talk)
    row["cpu µs/s, quiet line"] = cpu(vad, config, telephone(RNG.standard_normal(10 * SAMPLE_RATE_HZ), -50))
    row["cpu µs/s, digital silence"] = cpu(vad, config, np.zeros(10 * SAMPLE_RATE_HZ, np.int16))
    return row


def on_calls(vad: Vad, config: SegmenterConfig, folder: Path) -> dict[str, object]:
    """What is made of recorded calls, whose legs hear pauses, noise and the other party's turns."""
    turns_s = missed_s = legs_s = 0.0
    num = num_false = 0
    for path in sorted(folder.glob("*.wav")):
        samples, rate_hz = soundfile.read(path, dtype="int16", always_2d=True)
        if rate_hz != SAMPLE_RATE_HZ or samples.shape[1] != len(LEGS) or not path.with_suffix(".json").is_file():
            continue
        every = json.loads(path.with_suffix(".json").read_text())["turns"]
        for channel, leg in enumerate(LEGS):
            turns = [(turn["start_s"], turn["end_s"]) for turn in every if turn["leg"] == leg]
            segmenter = Segmenter(leg, SegmenterBank(config, vad))
            found = segmenter.push(np.ascontiguousarray(samples[:, channel]), 0) + segmenter.flush()
            heard = [(segment.start_s, segment.end_s) for segment in found]
            legs_s += len(samples) / SAMPLE_RATE_HZ
            turns_s += sum(end - start for start, end in turns)
            missed_s += sum(end - start - sum(overlap((start, end), other) for other in heard) for start, end in turns)
            num += len(heard)
            num_false += sum(not any(overlap(one, turn) for turn in turns) for one in heard)
    return {
        "calls: miss_%": round(100 * missed_s / max(1e-9, turns_s), 2),
        "calls: segments": num,
        "calls: of no turn": num_false,
        "calls: of no turn, per min": round(60 * num_false / max(1e-9, legs_s), 2),
    }


def overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Seconds that two stretches share."""
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def cpu(vad: Vad, config: SegmenterConfig, pcm: npt.NDArray[np.int16], legs: int = 200) -> int:
    """CPU microseconds per second of audio and leg, segmenter included."""
    bank = SegmenterBank(config, vad)
    segmenters = [Segmenter("far", bank) for _ in range(legs)]
    nums, present = np.full(legs, TICK_SAMPLES), np.ones((legs, TICK_SAMPLES), np.bool_)
    began = time.process_time()
    for start in range(0, len(pcm) - TICK_SAMPLES + 1, TICK_SAMPLES):
        samples = np.tile(pcm[start : start + TICK_SAMPLES], (legs, 1))
        push_rows(segmenters, samples, np.full(legs, start), nums, present)
    return round((time.process_time() - began) / legs / (len(pcm) / SAMPLE_RATE_HZ) * 1e6)


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--audio", type=Path, default=ROOT.parent / "shared" / "audio")
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--calls", type=Path, default=ROOT / "datasets" / "tiny")
    parser.add_argument("--only", default="", help="detectors whose name holds this")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folders = [args.audio] + ([fetch(Path(folder))] if args.fetch else [])
        speech = [load(path) for base in folders for path in sorted((base / "speech").glob("**/*.wav"))]
        speech = [wave[: 16 * SAMPLE_RATE_HZ] for wave in speech]
        other = negatives(folders)
    table = {}
    for name, (vad, config) in detectors().items():
        if args.only in name:
            table[name] = measure(vad, config, speech, other, args.calls)
    inputs = {"speech_s": round(sum(map(len, speech)) / SAMPLE_RATE_HZ)} | {
        f"{kind}_s": round(sum(map(len, waves)) / SAMPLE_RATE_HZ) for kind, waves in other.items()
    }
    if args.json:
        print(json.dumps({"inputs": inputs, "detectors": table}, ensure_ascii=False))
        return
    print(inputs)
    print(f"{'':32}" + " ".join(f"{name[-14:]:>14}" for name in table))
    for key in next(iter(table.values())):
        print(f"{key:32}" + " ".join(f"{row[key]!s:>14}" for row in table.values()))


if __name__ == "__main__":
    main()
