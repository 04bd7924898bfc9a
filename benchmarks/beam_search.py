"""ONNX Runtime's WhisperBeamSearch with one beam against the loop of ``speech_text``: same tokens, and what each costs.

    python benchmarks/beam_search.py [FOLDER] [--models FOLDER] [--rows N] [--ngram N]

Both decode the segments of FOLDER (default datasets/tiny) in English, --rows windows of one length a batch, in turn;
the guard against repetition is off (--ngram sets the operator's own). The operator is made of our own graphs: an
encoder with the prompt's step, and a step. It takes floats between them only, so the memory of the audio is fp32 there;
loops with both kinds of memory stand beside it. It has no bound per row, detects no language, gives no probability of a
token and forbids every repetition of an n-gram instead of ending at an immediate one.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper
from speech import cut, neural_vad, read_legs
from tokenizers import Tokenizer

from inference.engine.graph import CONTRIB, IR_VERSION, OPSET, GraphBuilder
from inference.engine.onnx import OnnxEngine
from inference.speech import graph as graphs
from inference.speech import memory, whole
from inference.speech.graph import DETECTABLE, HEAD_WIDTH, DecoderStep, Tensors, Weights, add_crossed, add_encoder
from inference.speech.install import tokenizer_path
from inference.speech.recogniser import Recogniser
from inference.speech.vocabulary import Vocabulary
from inference.speech.whole import MAX_GUARD, build_whole
from inference.weights import file, open_tensors

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("key", "value")
PROMPT = 4


class FloatMemory:
    """Keeps keys and values in fp32 in int8 graphs, as before they were quantised and as the operator needs them."""

    def __enter__(self) -> None:
        self._exits = ExitStack()
        for place, name, value in (
            (graphs, "add_memory", self._add),
            (graphs, "Attention", self._Attention),
            *((place, "memory_types", self._types) for place in (graphs, memory, whole)),
        ):
            self._exits.enter_context(mock.patch.object(place, name, value))

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @staticmethod
    def _types(_graph: GraphBuilder, num_heads: int, head_width: int) -> dict[str, Any]:
        return dict.fromkeys(KINDS, (np.float32, ["batch", num_heads, "time", head_width]))

    @staticmethod
    def _add(graph: GraphBuilder, states: str, keys: Any, values: Any, head_width: int) -> dict[str, str]:
        out = {}
        for kind, pair in zip(KINDS, (keys, values), strict=True):
            heads = graph.reshape(graph.linear(states, *pair), 0, 0, -1, head_width)
            pieces = graph.split(
                graph.op("Transpose", heads, perm=[0, 2, 1, 3]), len(pair[0]) // pair[0].shape[1], axis=1
            )
            out |= {f"cross_{kind}_{i}": piece for i, piece in enumerate(pieces)}
        return out

    class _Attention:
        def __init__(self, graph: GraphBuilder, kept: Mapping[str, str], heard: str, num_heads: int, _: int) -> None:
            self._graph, self._kept, self._heard, self._num_heads = graph, kept, heard, num_heads

        def __call__(self, query: str, layer: int) -> str:
            pair = (self._kept[f"cross_{kind}_{layer}"] for kind in KINDS)
            return self._graph.attention(query, *pair, self._num_heads, padding_mask=self._heard)[0]


class BeamSearch:
    """The model around the operator."""

    def __init__(self, tensors: Tensors, vocabulary: Vocabulary, ngram: int) -> None:
        self._weights, self._vocabulary = Weights(tensors), vocabulary
        self._embedding = self._weights["model.decoder.embed_tokens.weight"]
        self._width = self._embedding.shape[1]
        self._layers = range(self._weights.num_layers("decoder"))
        self._num_heads = self._width // HEAD_WIDTH
        mask = np.ones(vocabulary.size, np.int32)
        mask[[*vocabulary.suppressed, *range(vocabulary.end + 1, vocabulary.size)]] = 0
        first = mask.copy()
        first[list(vocabulary.suppressed_first)] = 0
        self._masks = mask, first
        with FloatMemory():
            self._session = _session(self._model(ngram))

    def __call__(self, audio: Any, max_tokens: int) -> list[list[int]]:
        rows, (mask, first) = len(audio), self._masks
        whole_numbers = {"max_length": PROMPT + max_tokens, "min_length": 0, "num_beams": 1, "num_return_sequences": 1}
        prompt = np.array([[self._vocabulary.start, *self._vocabulary.prompt("en")]] * rows, np.int32)
        feed = {
            "audio": audio.astype(np.float32)[:, None],
            **{name: np.array([value], np.int32) for name, value in whole_numbers.items()},
            **{name: np.ones(1, np.float32) for name in ("length_penalty", "repetition_penalty")},
            "vocab_mask": mask,
            "prefix_vocab_mask": np.tile(first, (rows, 1)),
            "prompt": prompt,
        }
        (sequences,) = self._session.run(None, feed)
        return [_text(row[0, PROMPT:], self._vocabulary) for row in sequences]

    def _model(self, ngram: int) -> ModelProto:
        words, size = self._vocabulary, self._vocabulary.size
        node = helper.make_node(
            "WhisperBeamSearch",
            [*INPUTS, "", "prompt"],
            ["sequences"],
            domain=CONTRIB,
            eos_token_id=words.end,
            pad_token_id=words.end,
            decoder_start_token_id=words.start,
            translate_token_id=words.transcribe - 1,
            transcribe_token_id=words.transcribe,
            start_of_lm_token_id=words.transcribe + 1,
            no_timestamps_token_id=words.no_timestamps,
            beginning_timestamp_token_id=words.no_timestamps + 1,
            no_repeat_ngram_size=ngram,
            early_stopping=1,
            model_type=2,  # Whisper
            vocab_size=size,
            encoder=self._encoder(),
            decoder=self._decoder(),
        )
        shapes = {"audio": ["b", 1, "n"], "vocab_mask": [size], "prefix_vocab_mask": ["b", size], "prompt": ["b", "p"]}
        floats = ("audio", "length_penalty", "repetition_penalty")
        inputs = [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT if name in floats else TensorProto.INT32, shapes.get(name, [1])
            )
            for name in (*INPUTS, "prompt")
        ]
        output = helper.make_tensor_value_info("sequences", TensorProto.INT32, ["b", 1, "l"])
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        graph = helper.make_graph([node], "beam_search", inputs, [output])
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def _logits(self, graph: GraphBuilder, states: str) -> str:
        return graph.reshape(
            graph.linear(graph.reshape(states, -1, self._width), self._embedding), 0, 1, len(self._embedding)
        )

    def _encoder(self) -> Any:
        graph = GraphBuilder("int8")
        wave = graph.input("encoder_input_ids", np.float32, ["batch", 1, "samples"])
        tokens = graph.cast(graph.input("decoder_input_ids", np.int32, ["batch", "steps"]), np.int64)
        audio = graph.cast(graph.op("Squeeze", wave, graph.ints(1)), np.int16)
        states = add_encoder(graph, self._weights, audio, HEAD_WIDTH)
        crossed = add_crossed(graph, self._weights, states, HEAD_WIDTH)
        graph.is_few_rows = True
        rows = graph.op("Shape", tokens, start=0, end=1)
        shape = graph.op("Concat", rows, graph.ints(self._num_heads, 0, HEAD_WIDTH), axis=0)
        empty = graph.op("Expand", graph.floats(0), shape)
        past = {f"past_{kind}_{i}": empty for i in self._layers for kind in KINDS}
        decoded, present = self._step(graph).run(tokens, {**crossed, **past})
        newest = graph.slice(decoded, -1, graphs.END, axis=1)
        graph.output("logits", self._logits(graph, newest), np.float32, ["batch", 1, len(self._embedding)])
        graph.output("encoder_hidden_states", states, np.float32, ["batch", "time", self._width])
        self._give(graph, "self", present, "present", "steps")
        self._give(graph, "cross", crossed, "cross", "time")
        return graph._proto("encoder", list(graph._constants.values()))

    def _decoder(self) -> Any:
        graph = GraphBuilder("int8", is_few_rows=True)
        tokens = graph.cast(graph.input("input_ids", np.int32, ["batch", 1]), np.int64)
        kept = {}
        for origin, name, length in (("self", "past", "past"), ("cross", "cross", "time")):
            for i in self._layers:
                for kind in KINDS:
                    shape = ["batch", self._num_heads, length, HEAD_WIDTH]
                    kept[f"{name}_{kind}_{i}"] = graph.input(f"past_{kind}_{origin}_{i}", np.float32, shape)
        decoded, present = self._step(graph).run(tokens, kept)
        graph.output("logits", self._logits(graph, decoded), np.float32, ["batch", 1, len(self._embedding)])
        self._give(graph, "self", present, "present", "present")
        return graph._proto("decoder", list(graph._constants.values()))

    def _step(self, graph: GraphBuilder) -> DecoderStep:
        return DecoderStep(graph, self._weights, self._vocabulary, DETECTABLE, HEAD_WIDTH)

    def _give(self, graph: GraphBuilder, origin: str, values: Mapping[str, str], name: str, length: str) -> None:
        for i in self._layers:
            for kind in KINDS:
                shape = ["batch", self._num_heads, length, HEAD_WIDTH]
                graph.output(f"present_{kind}_{origin}_{i}", values[f"{name}_{kind}_{i}"], np.float32, shape)


INPUTS = (
    *("audio", "max_length", "min_length", "num_beams", "num_return_sequences", "length_penalty"),
    *("repetition_penalty", "vocab_mask", "prefix_vocab_mask"),
)


class Loop:
    """``speech_text`` without a guard."""

    def __init__(self, model: ModelProto, vocabulary: Vocabulary) -> None:
        self._session, self._vocabulary = _session(model), vocabulary

    def __call__(self, audio: Any, max_tokens: int) -> list[list[int]]:
        rows = len(audio)
        feed = {
            "audio": audio,
            "language": np.full(rows, self._vocabulary.languages["en"]),
            "max_tokens": np.full(rows, max_tokens),
            "guard": np.full((rows, 2), MAX_GUARD),
        }
        (tokens,) = self._session.run(["tokens"], feed)
        return [_text(row, self._vocabulary) for row in tokens]


def _session(model: ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _text(tokens: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    return [int(token) for token in tokens if token < vocabulary.end]


def measure(options: argparse.Namespace) -> None:
    tensors, tokenizer_file = open_tensors("whisper-base"), file("whisper-base", "tokenizer.json")
    vocabulary = Vocabulary.from_tokenizer(Tokenizer.from_file(str(tokenizer_file)))
    with FloatMemory():
        wide = Loop(build_whole(tensors, vocabulary, "int8"), vocabulary)
    ways: dict[str, Callable[[Any, int], list[list[int]]]] = {
        "WhisperBeamSearch": BeamSearch(tensors, vocabulary, options.ngram),
        "loop, fp32 memory": wide,
        "loop, int8 memory": Loop(build_whole(tensors, vocabulary, "int8"), vocabulary),
    }
    engine = OnnxEngine(options.models)
    recogniser = Recogniser(engine, tokenizer_path(options.models))
    vad, by_window = neural_vad(engine), dict[int, list[Any]]()
    for _, leg, samples, turns in read_legs(options.folder, 0):
        for segment in cut(leg, samples, turns, "vad", vad):
            by_window.setdefault(recogniser.window_samples(len(segment.samples)), []).append(segment.samples)
    said: dict[str, list[list[int]]] = {name: [] for name in ways}
    cpu_s = dict.fromkeys(ways, 0.0)
    for window, segments in by_window.items():
        for start in range(0, len(segments), options.rows):
            some = segments[start : start + options.rows]
            audio = np.stack([np.pad(samples, (0, window - len(samples))) for samples in some])
            for name, run in ways.items():
                before_s = time.process_time()
                said[name] += run(audio, 8 + math.ceil(window / 800))
                cpu_s[name] += time.process_time() - before_s
    for name, spent_s in cpu_s.items():
        same = sum(a == b for a, b in zip(said[name], said["loop, fp32 memory"], strict=True))
        ratio = spent_s / cpu_s["loop, fp32 memory"]
        print(f"{name:20} {spent_s:7.3f} CPU s, {ratio:.3f}; same tokens {same} of {len(said[name])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "datasets" / "tiny")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="model repository")
    parser.add_argument("--rows", type=int, default=4, help="windows a batch at most")
    parser.add_argument("--ngram", type=int, default=0, help="no_repeat_ngram_size of the operator")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
