"""A two-layer Whisper with random weights, and the same network written down again in NumPy."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from inference.audio.segment import SpeechSegment
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_model
from inference.speech.graph import build_speech
from inference.speech.mel import BINS, DFT, HOP, mel_filters
from inference.speech.vocabulary import Vocabulary
from inference.speech.whole import WHOLE, build_whole

WIDTH, HEADS, HEAD_WIDTH, INNER, LAYERS = 64, 4, 16, 128, 2
SPECIALS = (
    *("endoftext", "startoftranscript", "en", "zh", "de", "translate", "transcribe", "startoflm", "startofprev"),
    *("nospeech", "notimestamps", "0.00", "0.02"),
)


def tiny_tokenizer():
    """Every byte is a token; the specials stand where Whisper has them."""
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([f"<|{name}|>" for name in SPECIALS])
    return tokenizer


def tiny_tensors(vocab_size, seed=3):
    rng = np.random.default_rng(seed)

    def normal(*shape, scale=None):
        return (rng.normal(size=shape) * (scale or 1.2 / math.sqrt(math.prod(shape[1:]) or 1))).astype(np.float16)

    out = {
        "model.encoder.conv1.weight": normal(WIDTH, 80, 3),
        "model.encoder.conv2.weight": normal(WIDTH, WIDTH, 3),
        "model.encoder.embed_positions.weight": normal(150, WIDTH, scale=0.3),
        "model.decoder.embed_positions.weight": normal(64, WIDTH, scale=0.3),
        "model.decoder.embed_tokens.weight": normal(vocab_size, WIDTH, scale=1),
    }
    linears = {}
    for side in ("encoder", "decoder"):
        for i in range(LAYERS):
            layer = f"model.{side}.layers.{i}"
            for block in ("self_attn", "encoder_attn") if side == "decoder" else ("self_attn",):
                linears |= {f"{layer}.{block}.{p}": (WIDTH, WIDTH) for p in ("q_proj", "k_proj", "v_proj", "out_proj")}
            linears |= {f"{layer}.fc1": (INNER, WIDTH), f"{layer}.fc2": (WIDTH, INNER)}
            norms = ["self_attn_layer_norm", "final_layer_norm"] + ["encoder_attn_layer_norm"] * (side == "decoder")
            for norm in norms:
                out[f"{layer}.{norm}.weight"] = 1 + normal(WIDTH, scale=0.1)
                out[f"{layer}.{norm}.bias"] = normal(WIDTH, scale=0.1)
        out[f"model.{side}.layer_norm.weight"] = 1 + normal(WIDTH, scale=0.1)
        out[f"model.{side}.layer_norm.bias"] = normal(WIDTH, scale=0.1)
    for name, shape in linears.items():
        out[f"{name}.weight"] = normal(*shape)
        if not name.endswith("k_proj"):
            out[f"{name}.bias"] = normal(shape[0], scale=0.1)
    for i in (1, 2):
        out[f"model.encoder.conv{i}.bias"] = normal(WIDTH, scale=0.1)
    # Tied embeddings make a random network say its last token again: mix the signs. And let it listen.
    out["model.decoder.layer_norm.weight"] = normal(WIDTH, scale=1)
    for i in range(LAYERS):
        out[f"model.decoder.layers.{i}.encoder_attn.out_proj.weight"] *= 4
    return out


class NumpyWhisper:
    """Whisper's forward pass, plainly: no cache, no batch, float64."""

    def __init__(self, tensors):
        self.w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    @staticmethod
    def log_mel(audio):
        wave = np.pad(audio / 32768, DFT // 2, mode="reflect")
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(DFT) / DFT)
        frames = np.stack([wave[i * HOP : i * HOP + DFT] for i in range(len(audio) // HOP)])
        power = np.abs(np.fft.rfft(frames * window)) ** 2
        assert power.shape[1] == BINS
        logs = np.log10(np.maximum(power @ mel_filters().T * 4, 1e-10))
        return (np.maximum(logs, logs.max() - 8) + 4) / 4

    def linear(self, x, name):
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0)

    def norm(self, x, name):
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return unit * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    @staticmethod
    def gelu(x):
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    def attention(self, x, source, name, *, is_causal=False):
        def split(y):
            return y.reshape(len(y), HEADS, HEAD_WIDTH).swapaxes(0, 1)

        query, key, value = (
            split(self.linear(y, f"{name}.{p}_proj")) for y, p in ((x, "q"), (source, "k"), (source, "v"))
        )
        scores = query @ key.swapaxes(1, 2) / math.sqrt(HEAD_WIDTH)
        if is_causal:
            scores = np.where(np.tril(np.ones(scores.shape[1:], bool)), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ value
        return self.linear(mixed.swapaxes(0, 1).reshape(len(x), WIDTH), f"{name}.out_proj")

    def layer(self, x, name, states=None):
        normed = self.norm(x, f"{name}.self_attn_layer_norm")
        x = x + self.attention(normed, normed, f"{name}.self_attn", is_causal=states is not None)
        if states is not None:
            normed = self.norm(x, f"{name}.encoder_attn_layer_norm")
            x = x + self.attention(normed, states, f"{name}.encoder_attn")
        inner = self.gelu(self.linear(self.norm(x, f"{name}.final_layer_norm"), f"{name}.fc1"))
        return x + self.linear(inner, f"{name}.fc2")

    def convolution(self, x, name, stride):
        x = np.pad(x, ((1, 1), (0, 0)))
        taps = self.w[f"{name}.weight"]  # [out, in, 3]
        out = [np.einsum("kc,ock->o", x[i : i + 3], taps) for i in range(0, len(x) - 2, stride)]
        return self.gelu(np.array(out) + self.w[f"{name}.bias"])

    def encode(self, audio):
        x = self.convolution(self.log_mel(audio), "model.encoder.conv1", 1)
        x = self.convolution(x, "model.encoder.conv2", 2)
        x = x + self.w["model.encoder.embed_positions.weight"][: len(x)]
        for i in range(LAYERS):
            x = self.layer(x, f"model.encoder.layers.{i}")
        return self.norm(x, "model.encoder.layer_norm")

    def logits(self, tokens, states):
        """Logits after each of ``tokens``: ``[tokens, vocabulary]``."""
        embedding = self.w["model.decoder.embed_tokens.weight"]
        x = embedding[tokens] + self.w["model.decoder.embed_positions.weight"][: len(tokens)]
        for i in range(LAYERS):
            x = self.layer(x, f"model.decoder.layers.{i}", states)
        return self.norm(x, "model.decoder.layer_norm") @ embedding.T


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """``tensors``, ``vocabulary``, ``tokenizer_path``, ``reference`` and ``engine(precision)`` of the tiny Whisper."""
    tokenizer = tiny_tokenizer()
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    tensors = tiny_tensors(vocabulary.size)
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer.save(str(folder / "tokenizer.json"))
    engines = {}

    def engine(precision):
        if precision not in engines:
            models_dir = folder / precision
            models = build_speech(tensors, vocabulary, precision, head_width=HEAD_WIDTH)
            models[WHOLE] = build_whole(tensors, vocabulary, precision, head_width=HEAD_WIDTH)
            for name, model in models.items():
                write_model(models_dir, name, model)
            engines[precision] = OnnxEngine(models_dir)
        return engines[precision]

    return SimpleNamespace(
        tensors=tensors,
        vocabulary=vocabulary,
        tokenizer_path=folder / "tokenizer.json",
        reference=NumpyWhisper(tensors),
        engine=engine,
        head_width=HEAD_WIDTH,
    )


@pytest.fixture
def make_segment():
    """Tones and noise of a given length as a segment."""

    def make(seconds=0.5, seed=0, **changes):
        rng = np.random.default_rng(seed)
        times_s = np.arange(round(seconds * 8000)) / 8000
        waves = np.sin(2 * np.pi * rng.uniform(100, 3500, size=(3, 1)) * times_s) * rng.uniform(100, 5000, size=(3, 1))
        samples = (waves.sum(axis=0) + rng.normal(size=len(times_s)) * 100).astype(np.int16)
        fields = {"leg": "far", "start_s": 1.0, "end_s": 1.0 + seconds, "known_s": 1.7 + seconds, "samples": samples}
        return SpeechSegment(**(fields | changes))

    return make
