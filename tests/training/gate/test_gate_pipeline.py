"""The gate trained end to end on a few made calls: an encoder that hears pitch, and phrases that are tones."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import soxr
from rich.console import Console

from inference.audio import SAMPLE_RATE_HZ
from inference.engine.base import ModelSpec, TensorSpec
from inference.engine.onnx import OnnxEngine
from inference.errors import ConfigError, EngineError
from inference.gate.calibration import load_gate_calibration
from inference.gate.evidence import GateEvidence
from inference.gate.gate import ScamGate
from inference.gate.install import GATE_MODEL, gate_calibration_path
from inference.service.stages import Stages
from training.scripts import Script, parse_turns
from training.voice.call import save_call, voice_call
from training.voice.recipe import draw_recipe
from training.voice.speaker import SPEECH_RATE_HZ

torch = pytest.importorskip("torch", reason="needs torch: make install-train")

WIDTH = 16
FRAME = 160
TRAIN, DEV, TEST = (0, 1, 3, 5), (8, 32), (2, 4)
GENUINE_TRAIN, GENUINE_DEV, GENUINE_TEST = (0, 1, 2, 3), (9, 10), (7, 22)


class Bands:
    """A speech model whose states are how loud 16 bands are; and the gate of a repository."""

    def __init__(self, models_dir, precision="int8"):
        self.onnx, self.precision, self.num_encoded = OnnxEngine(models_dir), precision, 0

    def spec(self, model):
        if model != "speech":
            return self.onnx.spec(model)
        metadata = {"precision": self.precision, "weights_sha256": "1" * 64}
        return ModelSpec("speech", 1, (), (TensorSpec("states", "float32", (None, None, WIDTH)),), metadata)

    def infer(self, model, batch):
        if model != "speech":
            return self.onnx.infer(model, batch)
        self.num_encoded += 1
        frames = batch["audio"].reshape(len(batch["audio"]), -1, FRAME) / 32768
        power = np.abs(np.fft.rfft(frames * np.hanning(FRAME)))[:, :, 1 : 1 + 2 * WIDTH].reshape(
            *frames.shape[:2], -1, 2
        )
        return {"states": np.log1p(power.sum(-1)).astype(np.float32)}

    def close(self):
        self.onnx.close()


def window_samples(num_samples):
    return math.ceil(num_samples / 4000 + 2) * 4000


@pytest.fixture(autouse=True)
def one_thread():
    """More only get into each other's way on so little."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recordings(doubles, tmp_path_factory):
    """Scam calls threaten, genuine ones reassure; both begin with hello."""

    class Tones:
        fingerprint, source = "tones-1", "synthetic: tones"

        def speak(self, text, voice, speed):
            sound = doubles.tone(doubles.BY_TEXT[text].hz, doubles.SPOKEN_S).astype(float)
            return soxr.resample(sound, SAMPLE_RATE_HZ, SPEECH_RATE_HZ).astype(np.int16)

    hello, fine, threat, ask = (p.text for p in (doubles.HELLO, doubles.FINE, doubles.THREAT, doubles.ASK))
    kinds = {
        "scam": [f"far [contact]: {hello}", f"near: {fine}", f"far [lure]: {threat}", f"far [ask]: {ask}"],
        "genuine": [f"far [contact]: {hello}", f"near: {fine}", f"far [reassure]: {fine}", f"far: {fine}"],
    }
    out = tmp_path_factory.mktemp("recordings")
    numbers = {"scam": {"fit": TRAIN + DEV, "test": TEST}, "genuine": {"fit": GENUINE_TRAIN + GENUINE_DEV}}
    numbers["genuine"]["test"] = GENUINE_TEST
    for label, lines in kinds.items():
        for folder, chosen in numbers[label].items():
            for number in chosen:
                name, family = f"en-{label}-{number}", "card_otp" if label == "scam" else None
                script = Script(id=name, label=label, family=family, topic="bank", turns=parse_turns("\n".join(lines)))
                save_call(voice_call(script, draw_recipe(script, 1, "clean"), Tones()), out / folder, name)
    return out


@pytest.fixture
def voiced(recordings, tmp_path):
    """A copy of the recordings, beside which a test may train."""
    shutil.copytree(recordings, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def hear(doubles, tmp_path):
    """``hear(**changes)``: how live calls hear, with the made encoder."""
    from training.gate.pipeline import Hearing

    def make(**more):
        engine = Bands(tmp_path / "models", **more)
        return Hearing(engine, doubles.parts(), window_samples, doubles.SEGMENTS.lead_in_s, "made")

    return make


QUIET = Console(quiet=True)


def trained(voiced, hearing, name="models", **config):
    from training.gate.fit import GateFitConfig
    from training.gate.pipeline import read_states, train

    calls = read_states([voiced / "fit"], voiced / "cache", hearing, QUIET)
    recipe = GateFitConfig(epochs=30, learning_rate=5e-3, **config)
    return train(calls, voiced / name / GATE_MODEL / "1", recipe, hearing, QUIET), calls, recipe


def test_from_recordings_to_a_gate_that_tells_calls_apart_by_what_is_said(voiced, hear, doubles):
    from training.gate.evaluate import cascade_all, figures, lines
    from training.gate.pipeline import ablations, crossed

    hearing = hear()
    report, calls, recipe = trained(voiced, hearing)
    calibration = load_gate_calibration(gate_calibration_path(voiced / "models"))
    assert report["head_sha256"] == calibration.head_sha256
    assert calibration.born_with == {"states_precision": "int8", "states_weights_sha256": "1" * 64}
    assert report["dev"]["auc_at_ask"] == 1.0
    assert report["calls"]["dev kokoro scam"] == len(DEV)
    assert (calibration.operating_point.pass_share, calibration.operating_point.num_scam) == (1.0, len(DEV))
    assert calibration.operating_point.pass_share_low == pytest.approx(0.05 ** (1 / len(DEV)), abs=1e-3)
    assert calibration.operating_point.pass_llr > 0
    told = ablations(calls, recipe, hearing, QUIET)
    assert told["auc_first_half_second"] == pytest.approx(0.5, abs=0.5)  # of four calls: any value, but one
    assert crossed(calls, recipe, QUIET)["num_scam"] == len(TRAIN)
    json.dumps(report)

    gate = ScamGate(hearing.engine, GATE_MODEL, gate_calibration_path(voiced / "models"))
    stages = Stages(Gated(doubles.Recogniser(), hearing.engine, gate), doubles.Scorer(), hearing.engine)
    parts = dataclasses.replace(doubles.parts(), gate=lambda: GateEvidence(gate.calibration))
    cascaded = cascade_all([voiced / "test"], parts, stages)
    values = figures(cascaded)
    assert values["scam_passed"] == values["scam_calls"] == len(TEST)
    assert values["warned"] == values["warned_with_everything_decoded"] == len(TEST)
    assert values["genuine"]["never_decoded"] == values["genuine"]["calls"] == len(GENUINE_TEST)
    assert values["genuine"]["speech_saved_share"] == 1.0
    printed = list(lines(values))
    assert "synthetic" in printed[0]
    assert "2 of 2" in printed[1]


class Gated:
    """The doubles' recogniser behind the real gate."""

    def __init__(self, recogniser, engine, gate):
        self.recogniser, self.engine, self.gate = recogniser, engine, gate

    def transcribe(self, segments, languages, weigh, _needed=None):
        out = []
        for index, (segment, heard) in enumerate(
            zip(segments, self.recogniser.transcribe(segments, languages), strict=True)
        ):
            audio = np.zeros((1, window_samples(len(segment.samples))), np.int16)
            audio[0, : len(segment.samples)] = segment.samples
            states = self.engine.infer("speech", {"audio": audio})["states"]
            is_read = weigh(index, self.gate.llr(states, [len(segment.samples)])[0])
            out.append(heard if is_read else dataclasses.replace(heard, text="", is_held=True))
        return out


def test_states_are_kept_and_the_same_seed_gives_the_same_gate(voiced, hear):
    first = hear()
    one, calls, _ = trained(voiced, first)
    assert first.engine.num_encoded == sum(len(call.states) for call in calls) > 0
    second = hear()
    again, _, _ = trained(voiced, second, seed=1)
    assert second.engine.num_encoded == 0
    assert again["head_sha256"] == one["head_sha256"]
    assert trained(voiced, second, seed=2)[0]["head_sha256"] != one["head_sha256"]


def test_a_gate_of_int8_states_is_refused_where_another_precision_is_served(voiced, hear):
    trained(voiced, hear())
    with pytest.raises(EngineError, match="trained on states of precision int8, model speech gives fp16"):
        ScamGate(hear(precision="fp16").engine, GATE_MODEL, gate_calibration_path(voiced / "models"))


def test_states_of_another_precision_are_not_taken_from_the_cache(voiced, hear):
    from training.gate.pipeline import read_states

    read_states([voiced / "fit"], voiced / "cache", hear(), QUIET)
    other = hear(precision="fp32")
    read_states([voiced / "fit"], voiced / "cache", other, QUIET)
    assert other.engine.num_encoded > 0


def test_recordings_of_one_split_alone_are_refused_with_the_remedy(voiced, hear):
    from training.gate.fit import GateFitConfig
    from training.gate.pipeline import read_states, train

    hearing = hear()
    calls = read_states([voiced / "test"], voiced / "cache", hearing, QUIET)
    out = voiced / "models" / GATE_MODEL / "1"
    with pytest.raises(ConfigError, match="no training recordings of both labels; voice more"):
        train(calls, out, GateFitConfig(), hearing, QUIET)
    with pytest.raises(ConfigError, match=r"ends in scam_gate/1"):
        train(calls, voiced / "elsewhere", GateFitConfig(), hearing, QUIET)


def test_test_figures_are_of_test_scripts_alone(voiced):
    from training.gate.command import gate

    with pytest.raises(ConfigError, match="--evaluate is for test scripts"):
        gate([voiced / "fit"], out=voiced / "models" / GATE_MODEL / "1", evaluate=True)
