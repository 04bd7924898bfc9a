"""Whisper as two models of the repository, written from its weights.

``speech``: int16 ``audio [batch, samples]`` at 8 kHz -> encoder ``states [batch, time, width]`` (50 a second) and, per
decoder layer, the cross-attention keys and values. No padding to 30 s: a window is as long as its audio.

``speech_decoder``: one step of greedy decoding. ``tokens [batch, steps]``, what it kept of earlier steps (``past_*``)
and of the audio (``cross_*``) -> ``next [batch]``, the best permitted token, its ``probability [batch]`` among them,
and ``present_*``, the next ``past_*``. ``no_speech [batch]`` is, on the step that starts with the start token, the
probability that nobody speaks.
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
from inference.speech.vocabulary import Vocabulary

ENCODER = "speech"
DECODER = "speech_decoder"
PHASE_LANGUAGE, PHASE_FIRST, PHASE_TEXT = range(3)
HEAD_WIDTH = 64  # of every Whisper size
END = np.iinfo(np.int64).max  # of a slice
DETECTABLE = ("en", "zh")  # what ScamTap scores
FORBIDDEN = -60000.0  # added to a logit: out of reach, and still a number in fp16

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
    weights = _Weights(tensors)
    rows, num_mels = len(weights["model.decoder.embed_tokens.weight"]), weights["model.encoder.conv1.weight"].shape[1]
    if rows != vocabulary.size:
        raise WeightsError(f"Whisper weights have {rows} tokens, their tokenizer {vocabulary.size}: not a pair")
    if num_mels != NUM_MELS:
        raise WeightsError(f"Whisper weights expect {num_mels} mels, ScamTap computes {NUM_MELS}: use tiny to medium")
    metadata = {
        "weights_sha256": fingerprint(tensors),
        "precision": precision,
        "languages": json.dumps(list(vocabulary.languages)),
        "detectable": json.dumps(list(detectable)),
    }
    return {
        ENCODER: _build_encoder(weights, precision, head_width, metadata),
        DECODER: _build_decoder(weights, vocabulary, detectable, precision, head_width, metadata),
    }


class _Weights:
    """Tensors by name with an error that says what is missing, and the small groupings both graphs need."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        try:
            return np.asarray(self._tensors[name], np.float32)
        except KeyError:
            raise WeightsError(f"Whisper weights lack {name}; run: scamtap models pull") from None

    def num_layers(self, side: str) -> int:
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


def _build_encoder(weights: _Weights, precision: Precision, head_width: int, metadata: Mapping[str, str]) -> ModelProto:
    graph = GraphBuilder(precision)
    audio = graph.input("audio", np.int16, ["batch", "samples"])
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
    graph.output("states", x, np.float32, ["batch", "time", width])

    decoder = [f"model.decoder.layers.{i}.encoder_attn" for i in range(weights.num_layers("decoder"))]
    for kind, projection in (("key", "k_proj"), ("value", "v_proj")):
        # All layers' projections in one product, then one piece per layer: the decoder uses them where they lie.
        stacked = graph.linear(x, *weights.stacked([f"{name}.{projection}" for name in decoder]))
        heads = graph.op("Transpose", graph.reshape(stacked, 0, 0, -1, head_width), perm=[0, 2, 1, 3])
        for i, piece in enumerate(graph.split(heads, len(decoder), axis=1)):
            graph.output(f"cross_{kind}_{i}", piece, graph.dtype, ["batch", num_heads, "time", head_width])
    return graph.build(metadata, ENCODER)


def _convolution(graph: GraphBuilder, x: str, weight: Array, bias: Array, stride: int) -> str:
    """GELU of a 3-tap convolution over ``[batch, time, channels]``, written as a product so that int8 serves it too."""
    padded = graph.op("Pad", x, graph.ints(0, 1, 0, 0, 1, 0))
    taps = [graph.slice(padded, k, k - 2 if k < 2 else END, axis=1, step=stride) for k in range(3)]
    flat = np.asarray(weight).transpose(0, 2, 1).reshape(len(weight), -1)  # [out, tap * in]
    return graph.gelu(graph.linear(graph.op("Concat", *taps, axis=-1), flat, bias))


def _add_projected(
    graph: GraphBuilder, weights: _Weights, projection: str, x: str, trunk: str, norm: str
) -> tuple[str, str]:
    """Project ``x``, add it to the trunk and normalise: ``(normed, trunk)``."""
    weight, bias = weights.pair(projection)
    return graph.add_norm(graph.linear(x, weight), trunk, *weights.pair(norm), bias)


def _feed_forward(
    graph: GraphBuilder, weights: _Weights, layer: str, x: str, trunk: str, next_norm: str
) -> tuple[str, str]:
    hidden = graph.gelu(graph.linear(x, *weights.pair(f"{layer}.fc1")))
    return _add_projected(graph, weights, f"{layer}.fc2", hidden, trunk, next_norm)


def _build_decoder(
    weights: _Weights,
    vocabulary: Vocabulary,
    detectable: Sequence[str],
    precision: Precision,
    head_width: int,
    metadata: Mapping[str, str],
) -> ModelProto:
    graph = GraphBuilder(precision, is_few_rows=True)
    embedding = weights["model.decoder.embed_tokens.weight"]
    width = embedding.shape[1]
    num_heads = width // head_width
    num_layers = weights.num_layers("decoder")

    tokens = graph.input("tokens", np.int64, ["batch", "steps"])
    phase = graph.input("phase", np.int64, ["batch"])
    shapes = {"past": ["batch", num_heads, "past", head_width], "cross": ["batch", num_heads, "time", head_width]}
    kept = {
        (origin, kind, i): graph.input(f"{origin}_{kind}_{i}", graph.dtype, shape)
        for origin, shape in shapes.items()
        for i in range(num_layers)
        for kind in ("key", "value")
    }

    start = graph.size(kept["past", "key", 0], 2)
    stop = graph.op("Add", start, graph.size(tokens, 1))
    positions = graph.floats(weights["model.decoder.embed_positions.weight"])
    embedded = graph.op("Add", graph.embedding(tokens, embedding), graph.slice(positions, start, stop, axis=0))
    rows = _EvenRows(graph, tokens, width)
    trunk = rows.pack(embedded)

    names = [f"model.decoder.layers.{i}" for i in range(num_layers)]
    norms = [f"{name}.self_attn_layer_norm" for name in names[1:]] + ["model.decoder.layer_norm"]
    x = graph.layer_norm(trunk, *weights.pair(f"{names[0]}.self_attn_layer_norm"))
    for i, (name, next_norm) in enumerate(zip(names, norms, strict=True)):
        past = kept["past", "key", i], kept["past", "value", i]
        projected = rows.unpack(graph.linear(x, *weights.stacked([f"{name}.self_attn.{p}_proj" for p in "qkv"])))
        query, key, value = graph.split(projected, 3, axis=-1)
        mixed, key, value = graph.attention(query, key, value, num_heads, past=past, is_causal=True)
        for kind, present in (("key", key), ("value", value)):
            graph.output(f"present_{kind}_{i}", present, graph.dtype, ["batch", num_heads, "present", head_width])
        attended = f"{name}.encoder_attn"
        x, trunk = _add_projected(
            graph, weights, f"{name}.self_attn.out_proj", rows.pack(mixed), trunk, f"{attended}_layer_norm"
        )
        query = rows.unpack(graph.linear(x, *weights.pair(f"{attended}.q_proj")))
        mixed, _, _ = graph.attention(query, kept["cross", "key", i], kept["cross", "value", i], num_heads)
        x, trunk = _add_projected(
            graph, weights, f"{attended}.out_proj", rows.pack(mixed), trunk, f"{name}.final_layer_norm"
        )
        x, trunk = _feed_forward(graph, weights, name, x, trunk, next_norm)

    candidates, forbidden = _candidates(vocabulary, detectable)
    last = _EvenRows(graph, phase, width)  # one row a batch item: that of its newest token
    states = rows.unpack(x)
    specials = [*vocabulary.languages.values(), vocabulary.no_speech]
    oldest = graph.op("Squeeze", graph.slice(states, 0, 1, axis=1), graph.ints(1))
    chances = graph.op("Softmax", last.unpack(graph.linear(last.pack(oldest), embedding[specials])), axis=-1)
    graph.output("no_speech", graph.reshape(graph.slice(chances, -1, END, axis=1), -1), np.float32, ["batch"])
    newest = graph.slice(states, -1, END, axis=1)
    logits = last.unpack(graph.linear(last.pack(newest), embedding[candidates]))
    logits = graph.op("Add", logits, graph.op("Gather", graph.floats(forbidden), phase))
    chances = graph.op("Softmax", logits, axis=-1)
    graph.output("probability", graph.op("ReduceMax", chances, graph.ints(-1), keepdims=0), np.float32, ["batch"])
    best = graph.op("ArgMax", chances, axis=-1, keepdims=0)
    graph.output("next", graph.op("Gather", graph.constant(candidates), best), np.int64, ["batch"])
    return graph.build(metadata, DECODER)


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
        odd = graph.op("Mod", self._num_rows, graph.ints(2))
        self._padding = graph.op("Concat", graph.ints(0, 0), odd, graph.ints(0), axis=0)

    def pack(self, x: str) -> str:
        """``[..., width]`` -> ``[even rows, width]``."""
        return self._graph.op("Pad", self._graph.reshape(x, -1, self._width), self._padding)

    def unpack(self, x: str) -> str:
        """``[even rows, any]`` -> ``[..., any]``."""
        return self._graph.op("Reshape", self._graph.slice(x, 0, self._num_rows, axis=0), self._shape)


def _candidates(
    vocabulary: Vocabulary, detectable: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Token ids that are ever chosen, and what each phase adds to their logits ``[phases, candidates]``."""
    never = set(vocabulary.suppressed)
    text = [token for token in range(vocabulary.end + 1) if token not in never]
    languages = [vocabulary.languages[code] for code in detectable]
    ids = np.array(text + languages, np.int64)
    is_language = np.arange(len(ids)) >= len(text)
    forbidden = np.zeros((3, len(ids)), np.float32)
    forbidden[PHASE_LANGUAGE, ~is_language] = FORBIDDEN
    forbidden[PHASE_FIRST, is_language | np.isin(ids, vocabulary.suppressed_first)] = FORBIDDEN
    forbidden[PHASE_TEXT, is_language] = FORBIDDEN
    return ids, forbidden
