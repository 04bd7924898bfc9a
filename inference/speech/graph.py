"""Whisper as two models of the repository, written from its weights. Servers get a third, ``inference.speech.whole``.

``speech``: int16 ``audio [batch, samples]`` at 8 kHz -> encoder ``states [batch, time, width]`` (50 a second) and, per
decoder layer, the cross-attention keys and values (``cross_*``, :mod:`inference.speech.memory`). No padding to 30 s: a
window is as long as its audio.

``speech_decoder``: one step of greedy decoding. ``tokens [batch, steps]``, what it kept of earlier steps (``past_*``)
and of the audio (``cross_*``, of which a row heard what ``heard [batch, time]`` marks with 1) -> ``next [batch]``, the
best permitted token, its ``probability [batch]`` among them, and ``present_*``, the next ``past_*``.
``no_speech [batch]`` is, on the step that starts with the start token, the probability that nobody speaks.
Choosing inside the graph keeps 51,865 logits a row from ever leaving it, in process and over the network.

``phase [batch]`` says what may be chosen: :data:`PHASE_LANGUAGE` a language, :data:`PHASE_FIRST` the first word,
:data:`PHASE_TEXT` any word or the end.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from inference.engine.graph import Array, GraphBuilder, Precision
from inference.errors import WeightsError
from inference.speech.mel import NUM_MELS, add_log_mel
from inference.speech.memory import Attention, add_memory, memory_inputs, memory_types
from inference.speech.vocabulary import Vocabulary

ENCODER = "speech"
DECODER = "speech_decoder"
HEARD = "heard"
PHASE_LANGUAGE, PHASE_FIRST, PHASE_TEXT = range(3)
HEAD_WIDTH = 64  # of every Whisper size
END = np.iinfo(np.int64).max  # of a slice
DETECTABLE = ("en", "zh")  # what ScamTap scores
FORBIDDEN = -60000.0  # added to a logit: out of reach
WANTED = 1000.0  # added to a logit: out of reach of all others, and no digit of it that matters is lost in fp32

Tensors = Mapping[str, Array]


def fingerprint(tensors: Tensors) -> str:
    """sha256 over names, shapes and fp16 bytes in order of name: which weights a graph was made of."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        half = np.ascontiguousarray(tensors[name], np.float16)
        digest.update(f"{name}{list(half.shape)}".encode())
        digest.update(half.tobytes())
    return digest.hexdigest()


def build_speech(
    tensors: Tensors,
    vocabulary: Vocabulary,
    precision: Precision,
    *,
    detectable: Sequence[str] = DETECTABLE,
    head_width: int = HEAD_WIDTH,
) -> dict[str, ModelProto]:
    """Write both models.

    Args:
        tensors: weights under their Hugging Face names (``model.encoder.conv1.weight`` ...).
        vocabulary: of the same checkpoint.
        precision: ``int8`` for CPU, ``fp16`` for GPU, ``fp32`` to compare with.
        detectable: languages to choose from where the language is to be detected. Few on purpose: on a second of
            telephone speech a choice among Whisper's 99 picks neighbours (nn for no, cy for en) too often.
        head_width: channels per attention head.

    Returns:
        ``{"speech": ..., "speech_decoder": ...}``

    Raises:
        WeightsError: a tensor is missing, or they are not those of a multilingual 8 kHz-capable Whisper.
    """
    weights = checked(tensors, vocabulary)
    metadata = describe(tensors, vocabulary, detectable, precision)
    return {
        ENCODER: _build_encoder(weights, precision, head_width, metadata),
        DECODER: _build_decoder(weights, vocabulary, detectable, precision, head_width, metadata),
    }


def checked(tensors: Tensors, vocabulary: Vocabulary) -> "Weights":
    """The weights, once they are known to fit.

    Raises:
        WeightsError: they are not those of a multilingual 8 kHz-capable Whisper with this vocabulary.
    """
    weights = Weights(tensors)
    rows, num_mels = len(weights["model.decoder.embed_tokens.weight"]), weights["model.encoder.conv1.weight"].shape[1]
    if rows != vocabulary.size:
        raise WeightsError(f"Whisper weights have {rows} tokens, their tokenizer {vocabulary.size}: not a pair")
    if num_mels != NUM_MELS:
        raise WeightsError(f"Whisper weights expect {num_mels} mels, ScamTap computes {NUM_MELS}: use tiny to medium")
    return weights


def describe(
    tensors: Tensors, vocabulary: Vocabulary, detectable: Sequence[str], precision: Precision
) -> dict[str, str]:
    """What every graph of these weights says of itself."""
    return {
        "weights_sha256": fingerprint(tensors),
        "precision": precision,
        "languages": json.dumps(list(vocabulary.languages)),
        "detectable": json.dumps(list(detectable)),
    }


class Weights:
    """Tensors by name with an error that says what is missing, and the small groupings both graphs need."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        try:
            return np.asarray(self._tensors[name], np.float32)
        except KeyError:
            raise WeightsError(f"Whisper weights lack {name}; run: scamtap models pull") from None

    def num_layers(self, side: str) -> int:
        """Of the ``encoder`` or the ``decoder``."""
        found = (re.match(rf"model\.{side}\.layers\.(\d+)\.", name) for name in self._tensors)
        return 1 + max((int(m[1]) for m in found if m), default=-1)

    def pair(self, name: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Weight and bias; Whisper's key projections have no bias: zeros."""
        weight = self[f"{name}.weight"]
        bias = self[f"{name}.bias"] if not name.endswith(".k_proj") else np.zeros(len(weight), np.float32)
        return weight, bias

    def stacked(self, names: list[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Several projections of the same input as one."""
        pairs = [self.pair(name) for name in names]
        return np.concatenate([w for w, _ in pairs]), np.concatenate([b for _, b in pairs])


def _build_encoder(weights: Weights, precision: Precision, head_width: int, metadata: Mapping[str, str]) -> ModelProto:
    graph = GraphBuilder(precision)
    audio = graph.input("audio", np.int16, ["batch", "samples"])
    states = add_encoder(graph, weights, audio, head_width)
    crossed = add_crossed(graph, weights, states, head_width)
    width = weights["model.encoder.embed_positions.weight"].shape[1]
    graph.output("states", states, np.float32, ["batch", "time", width])
    for kind, (dtype, shape) in memory_types(graph, width // head_width, head_width).items():
        for name in (f"cross_{kind}_{i}" for i in range(weights.num_layers("decoder"))):
            graph.output(name, crossed[name], dtype, shape)
    return graph.build(metadata, ENCODER)


def add_encoder(graph: GraphBuilder, weights: Weights, audio: str, head_width: int) -> str:
    """int16 ``audio [batch, samples]`` -> states ``[batch, time, width]``."""
    positions = weights["model.encoder.embed_positions.weight"]
    width = positions.shape[1]
    num_heads = width // head_width

    x = graph.op("Transpose", graph.cast(add_log_mel(graph, audio), graph.dtype), perm=[0, 2, 1])
    x = _convolution(graph, x, *weights.pair("model.encoder.conv1"), stride=1)
    x = _convolution(graph, x, *weights.pair("model.encoder.conv2"), stride=2)
    trunk = graph.op("Add", x, graph.slice(graph.floats(positions), 0, graph.size(x, 1), axis=0))

    names = [f"model.encoder.layers.{i}" for i in range(weights.num_layers("encoder"))]
    norms = [f"{name}.self_attn_layer_norm" for name in names[1:]] + ["model.encoder.layer_norm"]
    x = graph.layer_norm(trunk, *weights.pair(f"{names[0]}.self_attn_layer_norm"))
    for name, next_norm in zip(names, norms, strict=True):
        projected = graph.linear(x, *weights.stacked([f"{name}.self_attn.{p}_proj" for p in "qkv"]))
        query, key, value = graph.split(projected, 3, axis=-1)
        mixed, _, _ = graph.attention(query, key, value, num_heads)
        x, trunk = _add_projected(
            graph, weights, f"{name}.self_attn.out_proj", mixed, trunk, f"{name}.final_layer_norm"
        )
        x, trunk = _feed_forward(graph, weights, name, x, trunk, next_norm)
    return x


def add_crossed(graph: GraphBuilder, weights: Weights, states: str, head_width: int) -> dict[str, str]:
    """``states`` -> ``cross_*``, what every decoder layer keeps of them."""
    decoder = [f"model.decoder.layers.{i}.encoder_attn" for i in range(weights.num_layers("decoder"))]
    keys, values = (weights.stacked([f"{name}.{kind}_proj" for name in decoder]) for kind in "kv")
    return add_memory(graph, states, keys, values, head_width)


def _convolution(graph: GraphBuilder, x: str, weight: Array, bias: Array, stride: int) -> str:
    """GELU of a 3-tap convolution over ``[batch, time, channels]``, written as a product so that int8 serves it too."""
    padded = graph.op("Pad", x, graph.ints(0, 1, 0, 0, 1, 0))
    taps = [graph.slice(padded, k, k - 2 if k < 2 else END, axis=1, step=stride) for k in range(3)]
    flat = np.asarray(weight).transpose(0, 2, 1).reshape(len(weight), -1)  # [out, tap * in]
    return graph.gelu(graph.linear(graph.op("Concat", *taps, axis=-1), flat, bias))


def _add_projected(
    graph: GraphBuilder, weights: Weights, projection: str, x: str, trunk: str, norm: str
) -> tuple[str, str]:
    """Project ``x``, add it to the trunk and normalise: ``(normed, trunk)``."""
    weight, bias = weights.pair(projection)
    return graph.add_norm(graph.linear(x, weight), trunk, *weights.pair(norm), bias)


def _feed_forward(
    graph: GraphBuilder, weights: Weights, layer: str, x: str, trunk: str, next_norm: str
) -> tuple[str, str]:
    hidden = graph.gelu(graph.linear(x, *weights.pair(f"{layer}.fc1")))
    return _add_projected(graph, weights, f"{layer}.fc2", hidden, trunk, next_norm)


def _build_decoder(
    weights: Weights,
    vocabulary: Vocabulary,
    detectable: Sequence[str],
    precision: Precision,
    head_width: int,
    metadata: Mapping[str, str],
) -> ModelProto:
    graph = GraphBuilder(precision, is_few_rows=True)
    width = weights["model.decoder.embed_tokens.weight"].shape[1]
    num_heads = width // head_width
    tokens = graph.input("tokens", np.int64, ["batch", "steps"])
    phase = graph.input("phase", np.int64, ["batch"])
    num_layers = weights.num_layers("decoder")
    kept = memory_inputs(graph, num_layers, num_heads, head_width)
    for name in (f"past_{kind}_{i}" for i in range(num_layers) for kind in ("key", "value")):
        kept[name] = graph.input(name, graph.dtype, ["batch", num_heads, "past", head_width])
    kept[HEARD] = graph.input(HEARD, np.int32, ["batch", "time"])
    step = DecoderStep(graph, weights, vocabulary, detectable, head_width)
    states, present = step.run(tokens, kept)
    for name, value in present.items():
        graph.output(name, value, graph.dtype, ["batch", num_heads, "present", head_width])
    graph.output("no_speech", step.no_speech(states, phase), np.float32, ["batch"])
    best, probability = step.choose(states, phase)
    graph.output("probability", probability, np.float32, ["batch"])
    graph.output("next", best, np.int64, ["batch"])
    return graph.build(metadata, DECODER)


class DecoderStep:
    """Adds one step of greedy decoding to a graph, as often as is wanted."""

    def __init__(
        self,
        graph: GraphBuilder,
        weights: Weights,
        vocabulary: Vocabulary,
        detectable: Sequence[str],
        head_width: int,
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._vocabulary = vocabulary
        self._detectable = detectable
        self._embedding = weights["model.decoder.embed_tokens.weight"]
        self._width = self._embedding.shape[1]
        self._num_heads, self._head_width = self._width // head_width, head_width

    def run(self, tokens: str, kept: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Put int64 ``tokens [batch, steps]`` through all layers.

        Args:
            tokens: new ones.
            kept: ``past_*`` and ``cross_*`` of every layer, and ``heard`` where not all of ``cross_*`` is of a row.

        Returns:
            States ``[batch, steps, width]`` and ``present_*``, the next step's ``past_*``.
        """
        graph, weights = self._graph, self._weights
        start = graph.size(kept["past_key_0"], 2)
        stop = graph.op("Add", start, graph.size(tokens, 1))
        positions = graph.floats(weights["model.decoder.embed_positions.weight"])
        embedded = graph.op(
            "Add", graph.embedding(tokens, self._embedding), graph.slice(positions, start, stop, axis=0)
        )
        rows = _EvenRows(graph, tokens, self._width)
        trunk = rows.pack(embedded)

        names = [f"model.decoder.layers.{i}" for i in range(weights.num_layers("decoder"))]
        norms = [f"{name}.self_attn_layer_norm" for name in names[1:]] + ["model.decoder.layer_norm"]
        present: dict[str, str] = {}
        attend = Attention(graph, kept, kept.get(HEARD, ""), self._num_heads, self._head_width)
        x = graph.layer_norm(trunk, *weights.pair(f"{names[0]}.self_attn_layer_norm"))
        for i, (name, next_norm) in enumerate(zip(names, norms, strict=True)):
            past = kept[f"past_key_{i}"], kept[f"past_value_{i}"]
            projected = rows.unpack(graph.linear(x, *weights.stacked([f"{name}.self_attn.{p}_proj" for p in "qkv"])))
            query, key, value = graph.split(projected, 3, axis=-1)
            mixed, key, value = graph.attention(query, key, value, self._num_heads, past=past, is_causal=True)
            present |= {f"present_key_{i}": key, f"present_value_{i}": value}
            attended = f"{name}.encoder_attn"
            x, trunk = _add_projected(
                graph, weights, f"{name}.self_attn.out_proj", rows.pack(mixed), trunk, f"{attended}_layer_norm"
            )
            query = rows.unpack(graph.linear(x, *weights.pair(f"{attended}.q_proj")))
            mixed = rows.pack(attend(query, i))
            x, trunk = _add_projected(graph, weights, f"{attended}.out_proj", mixed, trunk, f"{name}.final_layer_norm")
            x, trunk = _feed_forward(graph, weights, name, x, trunk, next_norm)
        return rows.unpack(x), present

    def no_speech(self, states: str, like: str) -> str:
        """Probability ``[batch]`` that nobody speaks, of the step that begins with the start token."""
        graph = self._graph
        specials = [*self._vocabulary.languages.values(), self._vocabulary.no_speech]
        oldest = graph.op("Squeeze", graph.slice(states, 0, 1, axis=1), graph.ints(1))
        rows = _EvenRows(graph, like, self._width)
        chances = graph.op("Softmax", rows.unpack(graph.linear(rows.pack(oldest), self._embedding[specials])), axis=-1)
        return graph.reshape(graph.slice(chances, -1, END, axis=1), -1)

    def choose(self, states: str, phase: str) -> tuple[str, str]:
        """The best permitted token ``[batch]`` after the newest, and its probability ``[batch]``."""
        graph = self._graph
        candidates, bonus = _candidates(self._vocabulary, self._detectable)
        newest = graph.slice(states, -1, END, axis=1)
        rows = _EvenRows(graph, phase, self._width)  # one row a batch item: that of its newest token
        logits = graph.cast(graph.linear(rows.pack(newest), self._embedding[candidates]), np.float32)
        # Few depend on the phase, and only those are touched: a pass over all of them costs as much as a layer.
        num_free = len(candidates) - bonus.shape[1]
        added = graph.op("Gather", graph.constant(bonus), rows.pad(phase))
        bound = graph.op("Add", graph.slice(logits, num_free, END, axis=-1), added)
        places = graph.op("Expand", graph.ints(*range(num_free, len(candidates))), graph.op("Shape", bound))
        logits = graph.op("ScatterElements", logits, places, bound, axis=-1)
        probability, best = graph.best(graph.op("Softmax", logits, axis=-1))
        return graph.op("Gather", graph.constant(candidates), rows.first(best)), rows.first(probability)


class _EvenRows:
    """Lays ``[..., width]`` out as an even number of rows for products, and back.

    ONNX Runtime's block product takes rows two at a time and a last odd one in another order of additions: a
    transcript could then depend, by the last bit, on how many others were decoded with it. An added row costs 4 %.
    """

    def __init__(self, graph: GraphBuilder, like: str, width: int) -> None:
        """Rows are the elements of ``like``, a graph input; ``width`` is what :meth:`pack` takes."""
        self._graph = graph
        self._width = width
        self._shape = graph.op("Concat", graph.op("Shape", like), graph.ints(-1), axis=0)
        self._num_rows = graph.op("ReduceProd", graph.op("Shape", like), keepdims=1)
        self._odd = graph.op("Mod", self._num_rows, graph.ints(2))
        self._padding = graph.op("Concat", graph.ints(0, 0), self._odd, graph.ints(0), axis=0)

    def pack(self, x: str) -> str:
        """``[..., width]`` -> ``[even rows, width]``."""
        return self._graph.op("Pad", self._graph.reshape(x, -1, self._width), self._padding)

    def unpack(self, x: str) -> str:
        """``[even rows, any]`` -> ``[..., any]``."""
        return self._graph.op("Reshape", self.first(x), self._shape)

    def pad(self, x: str) -> str:
        """``[rows]`` -> ``[even rows]``."""
        return self._graph.op("Pad", x, self._graph.op("Concat", self._graph.ints(0), self._odd, axis=0))

    def first(self, x: str) -> str:
        """``[even rows, ...]`` -> ``[rows, ...]``."""
        return self._graph.slice(x, 0, self._num_rows, axis=0)


def _candidates(
    vocabulary: Vocabulary, detectable: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Token ids that are ever chosen, and what a phase adds to logits of the last of them ``[phases, some]``."""
    never = {*vocabulary.suppressed, *vocabulary.suppressed_first}
    text = [token for token in range(vocabulary.end + 1) if token not in never]
    not_first = [token for token in vocabulary.suppressed_first if token not in vocabulary.suppressed]
    languages = [vocabulary.languages[code] for code in detectable]
    is_language = np.arange(len(not_first) + len(languages)) >= len(not_first)
    bonus = np.zeros((3, len(is_language)), np.float32)
    bonus[PHASE_FIRST] = FORBIDDEN
    bonus[PHASE_TEXT, is_language] = FORBIDDEN
    bonus[PHASE_LANGUAGE, ~is_language] = FORBIDDEN
    bonus[PHASE_LANGUAGE, is_language] = WANTED  # above all text
    return np.array([*text, *not_first, *languages], np.int64), bonus
