"""Whisper base itself: a committed golden wherever the weights are, and transformers where torch is."""

import functools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from inference.audio.segment import SpeechSegment
from inference.engine.onnx import OnnxEngine
from inference.errors import WeightsError
from inference.speech.install import install_speech, tokenizer_path
from inference.speech.recogniser import Recogniser, RecogniserConfig
from inference.weights import file, open_tensors

FOLDER = Path(__file__).parents[1] / "golden" / "speech"
GOLDEN = json.loads((FOLDER / "golden.json").read_text())


def error(found, wanted):
    return np.linalg.norm(np.asarray(found) - wanted) / np.linalg.norm(wanted)


def words(text):
    return re.sub(r"[^a-z ]", "", text.lower()).split()


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """Whisper base: ``tensors``, ``tokenizer_file`` and ``engine(precision)``; skips where it was not pulled."""
    try:
        tensors, tokenizer_file = open_tensors("whisper-base"), file("whisper-base", "tokenizer.json")
    except WeightsError as error:
        pytest.skip(f"Whisper's weights are not here: {error}")

    @functools.cache
    def engine(precision):
        models_dir = tmp_path_factory.mktemp(precision)
        install_speech(models_dir, tensors, tokenizer_file, precision)
        return OnnxEngine(models_dir), tokenizer_path(models_dir)

    return SimpleNamespace(tensors=tensors, tokenizer_file=tokenizer_file, engine=engine)


@pytest.fixture(scope="module")
def clip():
    samples, rate_hz = soundfile.read(FOLDER / "clip.flac", dtype="int16")
    assert rate_hz == 8000
    return SpeechSegment("far", 0.0, len(samples) / 8000, len(samples) / 8000, samples)


def whole_frames(clip):
    return clip.samples[: len(clip.samples) // 160 * 160][None]


def test_int8_hears_the_golden(whisper, clip):
    engine, tokenizer = whisper.engine("int8")
    assert engine.spec("speech").metadata["weights_sha256"] == GOLDEN["weights_sha256"]
    states = engine.infer("speech", {"audio": whole_frames(clip)})["states"].reshape(-1)
    assert error(states[GOLDEN["state_index"]], GOLDEN["state"]) < 0.12  # int8 against the golden's fp32
    (heard,) = Recogniser(engine, tokenizer).transcribe([clip], [None])
    assert (words(heard.text), heard.language) == (words(GOLDEN["text"]), GOLDEN["language"])


def test_int8_hears_nothing_in_noise(whisper):
    engine, tokenizer = whisper.engine("int8")
    rng = np.random.default_rng(0)
    noises = [(rng.normal(size=12000) * level).astype(np.int16) for level in (3, 40)]
    heard = Recogniser(engine, tokenizer).transcribe([SpeechSegment("far", 0, 1.5, 1.5, noise) for noise in noises])
    assert [utterance.text for utterance in heard] == ["", ""]


@pytest.mark.slow
def test_fp32_equals_transformers(whisper, clip):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    peer = transformers_whisper(transformers, torch, whisper.tensors)
    engine, tokenizer = whisper.engine("fp32")

    audio = np.zeros((1, 8000 * (len(clip.samples) // 8000 + 2)), np.int16)
    audio[0, : len(clip.samples)] = clip.samples
    ours = engine.infer("speech", {"audio": audio})["states"]
    with torch.no_grad():
        states = encode_unpadded(torch, peer, log_mel(audio[0]))
        assert error(ours, states.numpy()) < 1e-4
        # The golden too, whose window is the clip alone.
        golden = encode_unpadded(torch, peer, log_mel(whole_frames(clip)[0])).numpy().reshape(-1)
        assert error(GOLDEN["state"], golden[GOLDEN["state_index"]]) < 1e-4
        said = greedy(torch, peer, states, whisper.tokenizer_file)
    config = RecogniserConfig(silence_s=(audio.shape[1] - len(clip.samples)) / 8000 - 1e-6, window_step_s=1.0)
    (heard,) = Recogniser(engine, tokenizer, config).transcribe([clip])
    assert heard.text == said


def log_mel(samples):
    """Whisper's features in NumPy from 8 kHz samples (see conftest): compared with the 16 kHz ones elsewhere."""
    from inference.speech.mel import DFT, HOP, mel_filters

    wave = np.pad(samples / 32768, DFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(DFT) / DFT)
    frames = np.stack([wave[i * HOP : i * HOP + DFT] for i in range(len(samples) // HOP)])
    logs = np.log10(np.maximum(np.abs(np.fft.rfft(frames * window)) ** 2 @ mel_filters().T * 4, 1e-10))
    return ((np.maximum(logs, logs.max() - 8) + 4) / 4).T.astype(np.float32)


def transformers_whisper(transformers, torch, tensors):
    config = transformers.WhisperConfig(
        vocab_size=51865, d_model=512, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8,
        decoder_attention_heads=8, encoder_ffn_dim=2048, decoder_ffn_dim=2048,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    state = {name: torch.from_numpy(np.array(tensors[name], np.float32)) for name in tensors}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"proj_out.weight"}
    assert not unexpected
    model.tie_weights()
    return model


def encode_unpadded(torch, model, mel):
    """Its encoder on a window shorter than 30 s: the same modules, positions cut to the window."""
    encoder = model.model.encoder
    x = torch.nn.functional.gelu(encoder.conv1(torch.from_numpy(mel)[None]))
    x = torch.nn.functional.gelu(encoder.conv2(x)).permute(0, 2, 1)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    for layer in encoder.layers:
        out = layer(x, attention_mask=None)
        x = out[0] if isinstance(out, tuple) else out
    return encoder.layer_norm(x)


def greedy(torch, model, states, tokenizer_file):
    from tokenizers import Tokenizer

    from inference.speech.vocabulary import Vocabulary

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    words = Vocabulary.from_tokenizer(tokenizer)
    tokens = [words.start, *words.prompt("en")]
    prompt = len(tokens)
    while len(tokens) < 60:
        ids = torch.tensor([tokens])
        hidden = model.model.decoder(input_ids=ids, encoder_hidden_states=states, use_cache=False).last_hidden_state
        logits = model.proj_out(hidden[0, -1])
        logits[[*words.suppressed, *range(words.end + 1, words.size)]] = -torch.inf
        if len(tokens) == prompt:
            logits[list(words.suppressed_first)] = -torch.inf
        best = int(logits.argmax())
        if best == words.end:
            break
        tokens.append(best)
    return tokenizer.decode(tokens[prompt:]).strip()
