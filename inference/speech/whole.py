"""Whisper as one model: audio in, the whole greedy transcript out.

A step of the decoder needs the keys and values of all the audio, 460 kB a second: in process they lie where they are,
over a network they would cross it with every token. So a server gets this graph, in which the steps are a loop. It
chooses as ``speech_decoder`` does, token by token, and stops a row where the recogniser would: at the end token, at
``max_tokens``, or when a phrase immediately repeats. What a row holds after that is the end token.

Inputs: int16 ``audio [batch, samples]`` at 8 kHz; int64 ``language [batch]``, a token or -1 to detect it; int64
``max_tokens [batch]``; int64 ``guard [batch, 2]``, shortest and longest phrase whose repetition ends a row.
Outputs: int64 ``tokens [batch, steps]``, their ``probability [batch, steps]``, int64 ``spoken [batch]``, the language's
token, and ``no_speech [batch]``.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from inference.engine.graph import GraphBuilder, Precision
from inference.speech.graph import (
    DETECTABLE,
    HEAD_WIDTH,
    PHASE_FIRST,
    PHASE_LANGUAGE,
    PHASE_TEXT,
    DecoderStep,
    Tensors,
    Weights,
    add_encoder,
    checked,
    describe,
)
from inference.speech.vocabulary import Vocabulary

WHOLE = "speech_text"
UNKNOWN = -1  # a language to be detected
MAX_GUARD = 64
"""Longest phrase that the loop can see repeated, tokens."""

PROMPT_LENGTH = 4  # start, language, task, no timestamps


def build_whole(
    tensors: Tensors,
    vocabulary: Vocabulary,
    precision: Precision,
    *,
    detectable: Sequence[str] = DETECTABLE,
    head_width: int = HEAD_WIDTH,
) -> ModelProto:
    """Write the model; arguments and errors as :func:`inference.speech.graph.build_speech` has them."""
    weights = checked(tensors, vocabulary)
    graph = GraphBuilder(precision)
    audio = graph.input("audio", np.int16, ["batch", "samples"])
    language = graph.input("language", np.int64, ["batch"])
    max_tokens = graph.input("max_tokens", np.int64, ["batch"])
    guard = graph.input("guard", np.int64, ["batch", 2])
    _, crossed = add_encoder(graph, weights, audio, head_width)
    graph.is_few_rows = True
    loop = _Loop(graph, weights, vocabulary, detectable, head_width, (max_tokens, guard))
    tokens, probability, spoken, no_speech = loop.run(language, crossed)
    graph.output("tokens", tokens, np.int64, ["batch", "steps"])
    graph.output("probability", probability, np.float32, ["batch", "steps"])
    graph.output("spoken", spoken, np.int64, ["batch"])
    graph.output("no_speech", no_speech, np.float32, ["batch"])
    return graph.build(describe(tensors, vocabulary, detectable, precision), WHOLE)


class _Loop:
    """The decoder's steps. What goes from step to step: the newest token, past keys and values, and :class:`_Guard`."""

    def __init__(
        self,
        graph: GraphBuilder,
        weights: Weights,
        vocabulary: Vocabulary,
        detectable: Sequence[str],
        head_width: int,
        bounds: tuple[str, str],
    ) -> None:
        self._graph = graph
        self._vocabulary = vocabulary
        self._make_step = partial(
            DecoderStep, weights=weights, vocabulary=vocabulary, detectable=detectable, head_width=head_width
        )
        self._max_tokens, self._guard = bounds
        width = weights["model.decoder.embed_tokens.weight"].shape[1]
        self._num_heads, self._head_width = width // head_width, head_width
        self._past = [f"past_{kind}_{i}" for i in range(weights.num_layers("decoder")) for kind in ("key", "value")]
        self._room = len(weights["model.decoder.embed_positions.weight"]) - PROMPT_LENGTH

    def run(self, language: str, crossed: Mapping[str, str]) -> tuple[str, str, str, str]:
        """``tokens``, ``probability``, ``spoken``, ``no_speech``."""
        graph, vocabulary = self._graph, self._vocabulary
        step = self._make_step(graph)
        shape = graph.op(
            "Concat", graph.op("Shape", language), graph.ints(self._num_heads, 0, self._head_width), axis=0
        )
        empty = graph.op("Expand", graph.floats(0), shape)

        def filled(*values: int) -> str:
            rows = graph.op("Concat", graph.op("Shape", language), graph.ints(len(values)), axis=0)
            return graph.op("Expand", graph.ints(*values), rows)

        spoken = self._detect(language, filled(vocabulary.start), empty, crossed)
        column = graph.op("Reshape", spoken, graph.op("Concat", graph.op("Shape", spoken), graph.ints(1), axis=0))
        start, task = filled(vocabulary.start), filled(vocabulary.transcribe, vocabulary.no_timestamps)
        prompt = graph.op("Concat", start, column, task, axis=1)
        states, present = step.run(prompt, {**crossed, **dict.fromkeys(self._past, empty)})
        no_speech = step.no_speech(states, language)
        token, probability = step.choose(states, self._phase(graph, language, PHASE_FIRST))
        tokens, probabilities = self._repeat(token, probability, present, crossed)
        return tokens, probabilities, spoken, no_speech

    def _detect(self, language: str, start: str, empty: str, crossed: Mapping[str, str]) -> str:
        """``language``, filled in where it is unknown; a loop of one trip, or of none where all are known."""
        graph = self._graph
        body = graph.body()
        body.input("detect_trip", np.int64, [])
        body.input("detect_on", np.bool_, [])
        given = body.input("detect_given", np.int64, ["batch"])
        step = self._make_step(body)
        states, _ = step.run(start, {**crossed, **dict.fromkeys(self._past, empty)})
        detected, _ = step.choose(states, self._phase(body, given, PHASE_LANGUAGE))
        is_given = body.op("GreaterOrEqual", given, body.constant(np.int64(0)))
        body.output("detect_done", body.constant(np.False_), np.bool_, [])
        body.output("detect_spoken", body.op("Where", is_given, given, detected), np.int64, ["batch"])
        is_unknown = graph.op("Less", language, graph.constant(np.int64(0)))
        (spoken,) = graph.loop(graph.constant(np.int64(1)), self._any(graph, is_unknown), [language], body, 0)
        return spoken

    @staticmethod
    def _phase(graph: GraphBuilder, like: str, value: int) -> str:
        return graph.op("Expand", graph.constant(np.int64(value)), graph.op("Shape", like))

    def _kept(self, present: Mapping[str, str]) -> dict[str, str]:
        return {name.replace("present_", "past_"): value for name, value in present.items()}

    def _repeat(
        self, token: str, probability: str, present: Mapping[str, str], crossed: Mapping[str, str]
    ) -> tuple[str, str]:
        graph = self._graph
        first = graph.cast(probability, np.float32)
        shape = graph.op("Concat", graph.op("Shape", token), graph.ints(MAX_GUARD), axis=0)
        # No token is -1: nothing repeats what was before the first.
        guard = {
            "recent": graph.op("Expand", graph.ints(-1), shape),
            "runs": graph.op("Expand", graph.ints(0), shape),
            "count": graph.op("Mul", token, graph.constant(np.int64(0))),
            "alive": graph.op("Equal", token, token),
        }
        guard = self._account(graph, token, guard)
        types: dict[str, tuple[npt.DTypeLike, list[str | int]]] = {
            "token": (np.int64, ["batch"]),
            **dict.fromkeys(self._past, (graph.dtype, ["batch", self._num_heads, "past", self._head_width])),
            "recent": (np.int64, ["batch", MAX_GUARD]),
            "runs": (np.int64, ["batch", MAX_GUARD]),
            "count": (np.int64, ["batch"]),
            "alive": (np.bool_, ["batch"]),
        }
        body = graph.body()
        body.input("trip", np.int64, [])
        body.input("goes_on", np.bool_, [])
        # The body's names must differ from those around it.
        values = {name: body.input(f"in_{name}", *kind) for name, kind in types.items()}
        step = self._make_step(body)
        column = body.op("Unsqueeze", values["token"], body.ints(1))
        states, after = step.run(column, {**crossed, **{name: values[name] for name in self._past}})
        chosen, chance = step.choose(states, self._phase(body, values["token"], PHASE_TEXT))
        chosen = body.op("Where", values["alive"], chosen, body.constant(np.int64(self._vocabulary.end)))
        accounted = self._account(body, chosen, values)
        body.output("out_goes_on", self._any(body, accounted["alive"]), np.bool_, [])
        carried = {"token": chosen, **self._kept(after), **accounted}
        for name, (dtype, shape_in) in types.items():
            body.output(f"out_{name}", carried[name], dtype, ["present" if dim == "past" else dim for dim in shape_in])
        body.output("kept_token", chosen, np.int64, ["batch"])
        body.output("kept_probability", chance, np.float32, ["batch"])
        trips = graph.op("ReduceMax", self._max_tokens, keepdims=0)
        trips = graph.op("Min", trips, graph.constant(np.int64(self._room)))
        initial = {"token": token, **self._kept(present), **guard}
        outputs = graph.loop(trips, self._any(graph, guard["alive"]), [initial[name] for name in types], body, 2)
        rest = [graph.op("Transpose", kept, perm=[1, 0]) for kept in outputs[-2:]]
        tokens, chances = (
            graph.op("Concat", graph.op("Unsqueeze", head, graph.ints(1)), tail, axis=1)
            for head, tail in zip((token, first), rest, strict=True)
        )
        return tokens, chances

    def _account(self, graph: GraphBuilder, token: str, guard: Mapping[str, str]) -> dict[str, str]:
        """What is known of every row once it has said ``token [batch]``.

        ``recent [batch, lags]`` are its last tokens, newest first; ``runs[lag]`` is for how many tokens each has been
        equal to the one ``lag + 1`` before it. A run as long as its lag is a phrase said twice.
        """
        column = graph.op("Unsqueeze", token, graph.ints(1))
        same = graph.cast(graph.op("Equal", guard["recent"], column), np.int64)
        runs = graph.op("Mul", graph.op("Add", guard["runs"], graph.ints(1)), same)
        recent = graph.op("Concat", column, graph.slice(guard["recent"], 0, MAX_GUARD - 1, axis=1), axis=1)
        lags = graph.ints(*range(1, MAX_GUARD + 1))
        shortest, longest = (graph.slice(self._guard, i, i + 1, axis=1) for i in (0, 1))
        is_guarded = graph.op("And", graph.op("GreaterOrEqual", lags, shortest), graph.op("LessOrEqual", lags, longest))
        repeats = graph.op("And", graph.op("GreaterOrEqual", runs, lags), is_guarded)
        is_repeated = graph.op("ReduceMax", graph.cast(repeats, np.int32), graph.ints(1), keepdims=0)
        count = graph.op("Add", guard["count"], graph.constant(np.int64(1)))
        goes_on = [
            guard["alive"],
            graph.op("Less", token, graph.constant(np.int64(self._vocabulary.end))),
            graph.op("Not", graph.cast(is_repeated, np.bool_)),
            graph.op("Less", count, self._max_tokens),
        ]
        alive = goes_on[0]
        for condition in goes_on[1:]:
            alive = graph.op("And", alive, condition)
        return {"recent": recent, "runs": runs, "count": count, "alive": alive}

    @staticmethod
    def _any(graph: GraphBuilder, alive: str) -> str:
        return graph.cast(graph.op("ReduceMax", graph.cast(alive, np.int32), keepdims=0), np.bool_)
