"""sherpa-onnx as a peer: our Whisper weights in the two graphs that its Whisper recogniser loads.

Its wheel carries no weights, and its exporter needs torch and openai-whisper. What the recogniser wants of the graphs
is little, so they are written here: plain operators, then int8 by ONNX Runtime's dynamic quantisation of products with
constant weights, which is what its exporter does. As there, the last product has its weights on the left and so stays
fp32, and the memory of earlier steps is handed around whole (448 positions). Windows are of any length here, so it is
spared the padding to 30 s: ``tail_paddings`` is our second of silence.
"""

import base64
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer

from inference.engine.graph import GraphBuilder
from inference.speech.graph import END, HEAD_WIDTH, Weights
from inference.speech.vocabulary import Vocabulary

TAIL_FRAMES = 100  # of 10 ms, behind the speech
POSITIONS = 448
FAR_BELOW = -1e9


def open_sherpa(folder: Path) -> Callable[[Any], str]:
    """sherpa-onnx on the files that :func:`write_sherpa_model` wrote; greedy, one thread.

    Raises:
        ImportError: it is not installed.
    """
    import sherpa_onnx

    encoder, decoder, tokens = (str(folder / name) for name in ("encoder.onnx", "decoder.onnx", "tokens.txt"))
    recogniser = sherpa_onnx.OfflineRecognizer.from_whisper(
        encoder, decoder, tokens, language="en", num_threads=1, tail_paddings=TAIL_FRAMES
    )

    def hear(wave: Any) -> str:
        stream = recogniser.create_stream()
        stream.accept_waveform(16_000, wave)
        recogniser.decode_stream(stream)
        return str(stream.result.text).strip()

    return hear


def write_sherpa_model(folder: Path, tensors: Mapping[str, Any], tokenizer_file: Path) -> None:
    """Write encoder.onnx, decoder.onnx and tokens.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    vocabulary = Vocabulary.from_tokenizer(tokenizer)
    weights = Weights(tensors)
    metadata = _metadata(weights, tokenizer, vocabulary)
    logging.disable(logging.WARNING)  # it recommends a step that changes nothing here
    for name, model in (("encoder", _encoder(weights, metadata)), ("decoder", _decoder(weights, metadata))):
        plain = folder / f"{name}.fp32.onnx"
        plain.write_bytes(model.SerializeToString())
        quantize_dynamic(plain, folder / f"{name}.onnx", op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
        plain.unlink()
    logging.disable(logging.NOTSET)
    (folder / "tokens.txt").write_text("".join(_tokens(tokenizer, vocabulary)), encoding="ascii")


def _metadata(weights: Weights, tokenizer: Tokenizer, vocabulary: Vocabulary) -> dict[str, str]:
    blank = tokenizer.encode(" ", add_special_tokens=False).ids[0]
    values = {
        "model_type": "whisper-base",
        "n_mels": 80,
        "n_audio_ctx": 1500,
        "n_text_layer": weights.num_layers("decoder"),
        "n_text_ctx": POSITIONS,
        "n_text_state": weights["model.decoder.embed_positions.weight"].shape[1],
        "n_vocab": vocabulary.size,
        "sot": vocabulary.start,
        "sot_sequence": ",".join(map(str, (vocabulary.start, *vocabulary.prompt("en")[:2]))),
        "eot": vocabulary.end,
        "blank_id": blank,
        "is_multilingual": 1,
        "translate": vocabulary.transcribe - 1,
        "transcribe": vocabulary.transcribe,
        "no_timestamps": vocabulary.no_timestamps,
        "no_speech": vocabulary.no_speech,
        "all_language_tokens": ",".join(map(str, vocabulary.languages.values())),
        "all_language_codes": ",".join(vocabulary.languages),
    }
    return {key: str(value) for key, value in values.items()}


def _tokens(tokenizer: Tokenizer, vocabulary: Vocabulary) -> list[str]:
    """Base64 of each text token's bytes, and its number."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    byte_of = {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(rest)}
    lines = []
    for number in range(vocabulary.end):
        raw = bytes(byte_of[char] for char in tokenizer.id_to_token(number))
        lines.append(f"{base64.b64encode(raw).decode()} {number}\n")
    return lines


def _encoder(weights: Weights, metadata: Mapping[str, str]) -> Any:
    graph = GraphBuilder("fp32")
    mel = graph.input("mel", np.float32, ["batch", 80, "frames"])
    x = mel
    for name, stride in (("conv1", 1), ("conv2", 2)):
        weight, bias = weights.pair(f"model.encoder.{name}")
        conv = graph.op("Conv", x, graph.floats(weight), graph.floats(bias), pads=[1, 1], strides=[stride])
        x = graph.gelu(conv)
    x = graph.op("Transpose", x, perm=[0, 2, 1])
    positions = graph.floats(weights["model.encoder.embed_positions.weight"])
    x = graph.op("Add", x, graph.slice(positions, 0, graph.size(x, 1), axis=0))
    for i in range(weights.num_layers("encoder")):
        name = f"model.encoder.layers.{i}"
        normed = graph.layer_norm(x, *weights.pair(f"{name}.self_attn_layer_norm"))
        query, key, value = (graph.linear(normed, *weights.pair(f"{name}.self_attn.{p}_proj")) for p in "qkv")
        x = graph.op("Add", x, _attend(graph, weights, f"{name}.self_attn", query, key, value))
        x = _feed_forward(graph, weights, name, x)
    x = graph.layer_norm(x, *weights.pair("model.encoder.layer_norm"))
    for kind in "kv":
        layers = [f"model.decoder.layers.{i}.encoder_attn.{kind}_proj" for i in range(weights.num_layers("decoder"))]
        pieces = [graph.op("Unsqueeze", graph.linear(x, *weights.pair(one)), graph.ints(0)) for one in layers]
        shape = [len(layers), "batch", "time", len(weights[f"{layers[0]}.weight"])]
        graph.output(f"n_layer_cross_{kind}", graph.op("Concat", *pieces, axis=0), np.float32, shape)
    return graph.build(metadata)


def _decoder(weights: Weights, metadata: Mapping[str, str]) -> Any:
    graph, num_layers = GraphBuilder("fp32"), weights.num_layers("decoder")
    embedding = weights["model.decoder.embed_tokens.weight"]
    width = embedding.shape[1]
    tokens = graph.input("tokens", np.int64, ["batch", "steps"])
    shape = [num_layers, "batch", POSITIONS, width]
    caches = {kind: graph.input(f"in_n_layer_self_{kind}_cache", np.float32, shape) for kind in "kv"}
    heard = [num_layers, "batch", "time", width]
    crossed = {kind: graph.input(f"n_layer_cross_{kind}", np.float32, heard) for kind in "kv"}
    offset = graph.input("offset", np.int64, [1])
    stop = graph.op("Add", offset, graph.size(tokens, 1))
    positions = graph.slice(graph.floats(weights["model.decoder.embed_positions.weight"]), offset, stop, axis=0)
    x = graph.op("Add", graph.op("Gather", graph.floats(embedding), tokens), positions)
    later = graph.floats(np.triu(np.full((POSITIONS, POSITIONS), FAR_BELOW), 1))
    mask = graph.slice(graph.slice(later, offset, stop, axis=0), 0, stop, axis=1)
    after: dict[str, list[str]] = {"k": [], "v": []}
    for i in range(num_layers):
        name, layer = f"model.decoder.layers.{i}", graph.constant(np.int64(i))
        normed = graph.layer_norm(x, *weights.pair(f"{name}.self_attn_layer_norm"))
        query = graph.linear(normed, *weights.pair(f"{name}.self_attn.q_proj"))
        said = {}
        for kind, cache in caches.items():
            whole = graph.op("Gather", cache, layer)
            new = graph.linear(normed, *weights.pair(f"{name}.self_attn.{kind}_proj"))
            said[kind] = graph.op("Concat", graph.slice(whole, 0, offset, axis=1), new, axis=1)
            rest = graph.op("Concat", said[kind], graph.slice(whole, stop, END, axis=1), axis=1)
            after[kind].append(graph.op("Unsqueeze", rest, graph.ints(0)))
        x = graph.op("Add", x, _attend(graph, weights, f"{name}.self_attn", query, said["k"], said["v"], mask))
        normed = graph.layer_norm(x, *weights.pair(f"{name}.encoder_attn_layer_norm"))
        query = graph.linear(normed, *weights.pair(f"{name}.encoder_attn.q_proj"))
        key, value = (graph.op("Gather", crossed[kind], layer) for kind in "kv")
        x = graph.op("Add", x, _attend(graph, weights, f"{name}.encoder_attn", query, key, value))
        x = _feed_forward(graph, weights, name, x)
    x = graph.layer_norm(x, *weights.pair("model.decoder.layer_norm"))
    logits = graph.op("MatMul", graph.floats(embedding), graph.op("Transpose", x, perm=[0, 2, 1]))
    logits = graph.op("Transpose", logits, perm=[0, 2, 1])
    graph.output("logits", logits, np.float32, ["batch", "steps", len(embedding)])
    for kind, layers in after.items():
        graph.output(f"out_n_layer_self_{kind}_cache", graph.op("Concat", *layers, axis=0), np.float32, shape)
    return graph.build(metadata)


def _attend(graph: GraphBuilder, weights: Weights, name: str, query: str, key: str, value: str, mask: str = "") -> str:
    """The projected attention of ``query`` to ``key`` and ``value``, ``[batch, any, width]`` each."""

    def heads(x: str, order: list[int]) -> str:
        return graph.op("Transpose", graph.reshape(x, 0, 0, -1, HEAD_WIDTH), perm=order)

    scaled = graph.op("Mul", heads(query, [0, 2, 1, 3]), graph.floats(HEAD_WIDTH**-0.5))
    scores = graph.op("MatMul", scaled, heads(key, [0, 2, 3, 1]))
    scores = graph.op("Add", scores, mask) if mask else scores
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), heads(value, [0, 2, 1, 3]))
    width = len(weights[f"{name}.out_proj.weight"])
    flat = graph.reshape(graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, width)
    return graph.linear(flat, *weights.pair(f"{name}.out_proj"))


def _feed_forward(graph: GraphBuilder, weights: Weights, name: str, x: str) -> str:
    normed = graph.layer_norm(x, *weights.pair(f"{name}.final_layer_norm"))
    hidden = graph.gelu(graph.linear(normed, *weights.pair(f"{name}.fc1")))
    return graph.op("Add", x, graph.linear(hidden, *weights.pair(f"{name}.fc2")))
