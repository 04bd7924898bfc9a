"""The speech graphs against the same network in NumPy, in every precision."""

import math

import numpy as np
import pytest

from inference.errors import WeightsError
from inference.speech.graph import PHASE_FIRST, PHASE_LANGUAGE, PHASE_TEXT, build_speech, fingerprint
from inference.speech.mel import mel_filters
from inference.speech.memory import MEMORY_MAX

TOLERANCE = {"fp32": 1e-5, "fp16": 1e-2, "int8": 5e-2}
AUDIO = (np.random.default_rng(1).normal(size=(2, 8000)) * [[3000], [300]]).astype(np.int16)

# transformers.WhisperFeatureExtractor().mel_filters.T
MEL_VALUES = [
    (0, 1, 0.024862593984176087),
    (10, 10, 0.019908218880980738),
    (25, 24, 0.020874010059259842),
    (45, 52, 0.011507895445653197),
    (60, 93, 0.006591092774765085),
    (30, 60, 0.0),
]


def error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def memory(tiny, precision, encoded):
    """Decoder inputs besides tokens and phase: nothing decoded yet."""
    kept = {name: tensor for name, tensor in encoded.items() if name.startswith("cross_")}
    kept["heard"] = np.ones((len(AUDIO), encoded["states"].shape[1]), np.int32)
    for spec in tiny.engine(precision).spec("speech_decoder").inputs:
        if spec.name.startswith("past_"):
            kept[spec.name] = np.zeros((len(AUDIO), *[size or 0 for size in spec.shape[1:]]), spec.dtype)
    return kept


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_encoder_states(tiny, precision):
    out = tiny.engine(precision).infer("speech", {"audio": AUDIO})
    assert out["states"].shape == (2, 50, 64)
    assert out["states"].dtype == np.float32
    for row, audio in enumerate(AUDIO):
        assert error(out["states"][row], tiny.reference.encode(audio)) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_cross_attention_keys_and_values(tiny, precision):
    out = tiny.engine(precision).infer("speech", {"audio": AUDIO})
    states = tiny.reference.encode(AUDIO[0])
    for i in range(2):
        for kind, projection in (("key", "k_proj"), ("value", "v_proj")):
            wanted = tiny.reference.linear(states, f"model.decoder.layers.{i}.encoder_attn.{projection}")
            found = out[f"cross_{kind}_{i}"]
            if precision == "int8":
                assert found.dtype == np.int8
                assert np.abs(found).max() == MEMORY_MAX
                found = found * out[f"cross_{kind}_scale_{i}"]
                found = found.swapaxes(2, 3) * math.sqrt(tiny.head_width) if kind == "key" else found
            found = found[0].swapaxes(0, 1).reshape(50, 64)
            assert error(found, wanted) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_steps_with_memory_equal_the_whole_sequence_at_once(tiny, precision):
    engine, words = tiny.engine(precision), tiny.vocabulary
    encoded = engine.infer("speech", {"audio": AUDIO})
    kept = memory(tiny, precision, encoded)
    prompt = [words.start, *words.prompt("en")]
    said = [[*prompt], [*prompt]]
    tokens, phase = np.array(said), PHASE_FIRST
    states = [tiny.reference.encode(audio) for audio in AUDIO]
    for _ in range(6):
        out = engine.infer("speech_decoder", {"tokens": tokens, "phase": np.full(2, phase), **kept})
        forbidden = {*words.suppressed, *range(words.end + 1, words.size)}
        forbidden |= set(words.suppressed_first) if phase == PHASE_FIRST else set()
        for row in range(2):
            logits = tiny.reference.logits(said[row], states[row])[-1]
            logits[list(forbidden)] = -np.inf
            assert logits[out["next"][row]] > logits.max() - 0.02  # the best, or tied with it in this precision
            chance = 1 / np.exp(logits - logits[out["next"][row]]).sum()
            assert out["probability"][row] == pytest.approx(chance, abs=2e-2 if precision == "fp16" else 1e-4)
            said[row].append(int(out["next"][row]))
        kept |= {name.replace("present", "past"): tensor for name, tensor in out.items() if "present" in name}
        tokens, phase = out["next"][:, None], PHASE_TEXT


def test_language_and_silence_after_the_start_token(tiny):
    engine, words = tiny.engine("fp32"), tiny.vocabulary
    kept = memory(tiny, "fp32", engine.infer("speech", {"audio": AUDIO}))
    batch = {"tokens": np.full((2, 1), words.start), "phase": np.full(2, PHASE_LANGUAGE), **kept}
    out = engine.infer("speech_decoder", batch)
    for row, audio in enumerate(AUDIO):
        logits = tiny.reference.logits([words.start], tiny.reference.encode(audio))[0]
        assert out["next"][row] == max((words.languages[code] for code in ("en", "zh")), key=logits.__getitem__)
        chances = np.exp(logits[[*words.languages.values(), words.no_speech]])
        assert out["no_speech"][row] == pytest.approx(chances[-1] / chances.sum(), rel=1e-3)


@pytest.mark.parametrize(("mel", "bin_", "value"), MEL_VALUES)
def test_mel_filters_are_those_whisper_was_trained_with(mel, bin_, value):
    assert mel_filters().shape == (80, 101)
    assert mel_filters()[mel, bin_] == pytest.approx(value, rel=1e-9)


def test_metadata_names_the_weights(tiny):
    spec = tiny.engine("int8").spec("speech")
    assert spec.metadata["precision"] == "int8"
    assert spec.metadata["weights_sha256"] == fingerprint(tiny.tensors)
    changed = tiny.tensors | {"model.encoder.conv1.bias": tiny.tensors["model.encoder.conv1.bias"] + 1}
    assert fingerprint(changed) != fingerprint(tiny.tensors)


def test_weights_of_something_else_are_refused(tiny):
    def build(changes, *, without=()):
        tensors = {name: tensor for name, tensor in (tiny.tensors | changes).items() if name not in without}
        build_speech(tensors, tiny.vocabulary, "int8", head_width=tiny.head_width)

    with pytest.raises(WeightsError, match=r"lack model.decoder.layers.1.fc2.bias"):
        build({}, without=["model.decoder.layers.1.fc2.bias"])
    with pytest.raises(WeightsError, match="not a pair"):
        build({"model.decoder.embed_tokens.weight": np.zeros((7, 64), np.float16)})
    with pytest.raises(WeightsError, match="expect 128 mels"):
        build({"model.encoder.conv1.weight": np.zeros((64, 128, 3), np.float16)})
