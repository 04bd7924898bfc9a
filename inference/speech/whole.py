"""Whisper as one model: audio in, the whole greedy transcript out.

A step of the decoder needs the keys and values of all the audio, 460 kB a second: in process they lie where they are,
over a network they would cross it with every token. So a server gets this graph, in which the steps are a loop. It
chooses as ``speech_decoder`` does, token by token, and stops a row where the recogniser would: at the end token, at
``max_tokens``, or when a phrase immediately repeats. What a row holds after that is the end token.

Inputs: int16 ``audio [batch, samples]`` at 8 kHz; int64 ``language [batch]``, a token or -1 to detect it; int64
``max_tokens [batch]``; int64 ``guard [batch, 2]``, shortest and longest phrase whose repetition ends a row.
Outputs: int64 ``tokens [batch, steps]``, their ``probability [batch, steps]``, int64 ``spoken [batch]``, the language's
token, and ``no_speech [batch]``.

With a gate drawn into it the cascade needs no second request and no second encoding: two more inputs, int64
``num_frames [batch]`` and float32 ``hold [batch]``, and the output ``llr [batch]``. A row of which the gate says less
than ``hold`` above its least is not decoded: all its tokens are the end. A hold of 0 decodes whatever the gate says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
    add_crossed,
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
NUM_FRAMES, HOLD, LLR = "num_frames", "hold", "llr"

SAID: dict[str, tuple[npt.DTypeLike, list[str | int]]] = {
    "tokens": (np.int64, ["batch", "steps"]),
    "probability": (np.float32, ["batch", "steps"]),
    "spoken": (np.int64, ["batch"]),
    "no_speech": (np.float32, ["batch"]),
}
"""Outputs, and the values of the loop in which a gate's rows are decoded."""


@dataclass(frozen=True, slots=True)
class DrawnGate:
    """A gate to be drawn into the graph.

    Attributes:
        add: draws it: builder, float32 states ``[batch, time, width]``, int64 ``num_frames [batch]`` -> float32
            ``llr [batch]``, nats before calibration.
        least_llr: the least that it says.
        metadata: what the graph shall say of it.
    """

    add: Callable[[GraphBuilder, str, str], str]
    least_llr: float
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is asked of every row, ``[batch]`` and ``[batch, 2]``."""

    language: str
    max_tokens: str
    guard: str


def build_whole(
    tensors: Tensors,
    vocabulary: Vocabulary,
    precision: Precision,
    *,
    detectable: Sequence[str] = DETECTABLE,
    head_width: int = HEAD_WIDTH,
    gate: DrawnGate | None = None,
) -> ModelProto:
    """Write the model; arguments and errors as :func:`inference.speech.graph.build_speech` has them.

    ``gate`` decides which rows are decoded; None: all are.
    """
    weights = checked(tensors, vocabulary)
    graph = GraphBuilder(precision)
    audio = graph.input("audio", np.int16, ["batch", "samples"])
    asked = _Asked(
        graph.input("language", np.int64, ["batch"]),
        graph.input("max_tokens", np.int64, ["batch"]),
        graph.input("guard", np.int64, ["batch", 2]),
    )
    states = add_encoder(graph, weights, audio, head_width)
    metadata = describe(tensors, vocabulary, detectable, precision)
    step = partial(DecoderStep, weights=weights, vocabulary=vocabulary, detectable=detectable, head_width=head_width)
    if gate is None:
        said = _Loop(graph, weights, vocabulary, step, head_width, asked).run(states)
    else:
        metadata |= gate.metadata
        num_frames = graph.input(NUM_FRAMES, np.int64, ["batch"])
        hold = graph.input(HOLD, np.float32, ["batch"])
        llr = gate.add(graph, graph.cast(states, np.float32), num_frames)
        above = graph.op("Sub", llr, graph.constant(np.float32(gate.least_llr)))
        # Not "is it enough" but "is it too little": what is no number is decoded.
        is_read = graph.op("Not", graph.op("Less", above, hold))
        said = _read_some(graph, states, asked, is_read, weights, vocabulary, step, head_width)
        graph.output(LLR, llr, np.float32, ["batch"])
    for name, (dtype, shape) in SAID.items():
        graph.output(name, said[name], dtype, shape)
    return graph.build(metadata, WHOLE)


def _read_some(
    graph: GraphBuilder,
    states: str,
    asked: _Asked,
    is_read: str,
    weights: Weights,
    vocabulary: Vocabulary,
    make_step: Callable[[GraphBuilder], DecoderStep],
    head_width: int,
) -> dict[str, str]:
    """Decode the rows that ``is_read [batch]`` marks; a loop of one trip, or of none where it marks none."""
    rows = graph.op("Shape", asked.language)

    def filled(of: GraphBuilder, value: float, dtype: npt.DTypeLike, length: str) -> str:
        return of.op("Expand", of.constant(np.array(value, dtype)), of.op("Concat", rows, length, axis=0))

    zeros = graph.op("Expand", graph.constant(np.float32(0)), rows)
    one = graph.ints(1)
    unread = [filled(graph, vocabulary.end, np.int64, one), filled(graph, 1, np.float32, one), asked.language, zeros]
    body = graph.body()
    body.input("read_trip", np.int64, [])
    body.input("read_on", np.bool_, [])
    before = {name: body.input(f"unread_{name}", *kind) for name, kind in SAID.items()}
    chosen = body.reshape(body.op("NonZero", is_read), -1)
    picked = [body.op("Gather", x, chosen) for x in (states, asked.language, asked.max_tokens, asked.guard)]
    said = _Loop(body, weights, vocabulary, make_step, head_width, _Asked(*picked[1:])).run(picked[0])
    steps = body.size(said["tokens"], 1)
    room = {
        "tokens": filled(body, vocabulary.end, np.int64, steps),
        "probability": filled(body, 1, np.float32, steps),
        "spoken": before["spoken"],
        "no_speech": before["no_speech"],
    }
    places = body.op("Unsqueeze", chosen, body.ints(1))
    body.output("read_done", body.constant(np.False_), np.bool_, [])
    for name, (dtype, shape) in SAID.items():
        body.output(f"read_{name}", body.op("ScatterND", room[name], places, said[name]), dtype, shape)
    return dict(zip(SAID, graph.loop(graph.constant(np.int64(1)), _any(graph, is_read), unread, body, 0), strict=True))


class _Loop:
    """The decoder's steps. What goes from step to step: the newest token, past keys and values, and :class:`_Guard`."""

    def __init__(
        self,
        graph: GraphBuilder,
        weights: Weights,
        vocabulary: Vocabulary,
        make_step: Callable[[GraphBuilder], DecoderStep],
        head_width: int,
        asked: _Asked,
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._vocabulary = vocabulary
        self._make_step = make_step
        self._language, self._max_tokens, self._guard = asked.language, asked.max_tokens, asked.guard
        width = weights["model.decoder.embed_tokens.weight"].shape[1]
        self._num_heads, self._head_width = width // head_width, head_width
        self._past = [f"past_{kind}_{i}" for i in range(weights.num_layers("decoder")) for kind in ("key", "value")]
        self._room = len(weights["model.decoder.embed_positions.weight"]) - PROMPT_LENGTH

    def run(self, states: str) -> dict[str, str]:
        """Encoder states -> the values of :data:`SAID`."""
        graph, vocabulary, language = self._graph, self._vocabulary, self._language
        crossed = add_crossed(graph, self._weights, states, self._head_width)
        graph.is_few_rows = True
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
        decoded, present = step.run(prompt, {**crossed, **dict.fromkeys(self._past, empty)})
        no_speech = step.no_speech(decoded, language)
        token, probability = step.choose(decoded, self._phase(graph, language, PHASE_FIRST))
        tokens, probabilities = self._repeat(token, probability, present, crossed)
        no_speech = graph.cast(no_speech, np.float32)
        return {"tokens": tokens, "probability": probabilities, "spoken": spoken, "no_speech": no_speech}

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
        (spoken,) = graph.loop(graph.constant(np.int64(1)), _any(graph, is_unknown), [language], body, 0)
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
        body.output("out_goes_on", _any(body, accounted["alive"]), np.bool_, [])
        carried = {"token": chosen, **self._kept(after), **accounted}
        for name, (dtype, shape_in) in types.items():
            body.output(f"out_{name}", carried[name], dtype, ["present" if dim == "past" else dim for dim in shape_in])
        body.output("kept_token", chosen, np.int64, ["batch"])
        body.output("kept_probability", chance, np.float32, ["batch"])
        trips = graph.op("ReduceMax", self._max_tokens, keepdims=0)
        trips = graph.op("Min", trips, graph.constant(np.int64(self._room)))
        initial = {"token": token, **self._kept(present), **guard}
        outputs = graph.loop(trips, _any(graph, guard["alive"]), [initial[name] for name in types], body, 2)
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


def _any(graph: GraphBuilder, alive: str) -> str:
    return graph.cast(graph.op("ReduceMax", graph.cast(alive, np.int32), keepdims=0), np.bool_)
