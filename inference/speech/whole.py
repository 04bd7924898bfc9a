"""Whisper as one model: audio in, the whole greedy transcript out.

A step of the decoder needs the keys and values of all the audio, 300 kB a second: in process they lie where they are,
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
from typing import TypeAlias

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
from inference.speech.memory import memory_types
from inference.speech.vocabulary import Vocabulary

WHOLE = "speech_text"
UNKNOWN = -1  # a language to be detected
MAX_GUARD = 64
"""Longest phrase that the loop can see repeated, tokens."""

PROMPT_LENGTH = 4  # start, language, task, no timestamps
NUM_FRAMES, HOLD, LLR = "num_frames", "hold", "llr"

Kind: TypeAlias = tuple[npt.DTypeLike, list[str | int]]
"""Type and shape of a value."""

SAID: dict[str, Kind] = {
    "tokens": (np.int64, ["batch", "steps"]),
    "probability": (np.float32, ["batch", "steps"]),
    "spoken": (np.int64, ["batch"]),
    "no_speech": (np.float32, ["batch"]),
}
"""What is said of every row."""


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
    loop = _Loop(graph, weights, vocabulary, step, head_width)
    if gate is None:
        said = loop.run(states, asked)
    else:
        metadata |= gate.metadata
        num_frames = graph.input(NUM_FRAMES, np.int64, ["batch"])
        hold = graph.input(HOLD, np.float32, ["batch"])
        llr = gate.add(graph, graph.cast(states, np.float32), num_frames)
        above = graph.op("Sub", llr, graph.constant(np.float32(gate.least_llr)))
        # Not "is it enough" but "is it too little": what is no number is decoded.
        said = loop.run_some(states, asked, graph.op("Not", graph.op("Less", above, hold)))
        graph.output(LLR, llr, np.float32, ["batch"])
    for name, (dtype, shape) in SAID.items():
        graph.output(name, said[name], dtype, shape)
    return graph.build(metadata, WHOLE)


class _Loop:
    """The decoder's steps. What goes from step to step: the newest token, past keys and values, and the guard's.

    No loop is within another: weights two scopes out are not laid out for their products, and a step took 80 ms.
    """

    def __init__(
        self,
        graph: GraphBuilder,
        weights: Weights,
        vocabulary: Vocabulary,
        make_step: Callable[[GraphBuilder], DecoderStep],
        head_width: int,
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._vocabulary = vocabulary
        self._make_step = make_step
        width = weights["model.decoder.embed_tokens.weight"].shape[1]
        self._num_layers, self._num_heads, self._head_width = (
            weights.num_layers("decoder"),
            width // head_width,
            head_width,
        )
        self._past = [f"past_{kind}_{i}" for i in range(self._num_layers) for kind in ("key", "value")]
        self._past_type: Kind = (graph.dtype, ["batch", self._num_heads, "past", head_width])
        self._room = len(weights["model.decoder.embed_positions.weight"]) - PROMPT_LENGTH

    def run_some(self, states: str, asked: _Asked, is_read: str) -> dict[str, str]:
        """As :meth:`run`, of the rows that ``is_read [batch]`` marks; of the others all tokens are the end."""
        graph = self._graph
        chosen = graph.reshape(graph.op("NonZero", is_read), -1)
        picked = [graph.op("Gather", x, chosen) for x in (states, asked.language, asked.max_tokens, asked.guard)]
        said = self.run(picked[0], _Asked(*picked[1:]), _any(graph, is_read))
        rows = graph.op("Shape", asked.language)
        wide = graph.op("Concat", rows, graph.size(said["tokens"], 1), axis=0)
        room = {
            "tokens": graph.op("Expand", graph.constant(np.int64(self._vocabulary.end)), wide),
            "probability": graph.op("Expand", graph.constant(np.float32(1)), wide),
            "spoken": asked.language,
            "no_speech": graph.op("Expand", graph.constant(np.float32(0)), rows),
        }
        places = graph.op("Unsqueeze", chosen, graph.ints(1))
        return {name: graph.op("ScatterND", room[name], places, said[name]) for name in SAID}

    def run(self, states: str, asked: _Asked, is_any: str = "") -> dict[str, str]:
        """Encoder states -> the values of :data:`SAID`; ``is_any`` says whether there are rows, ``""`` = there are."""
        graph, vocabulary = self._graph, self._vocabulary
        memory = {
            f"cross_{kind}_{i}": each
            for kind, each in memory_types(graph, self._num_heads, self._head_width).items()
            for i in range(self._num_layers)
        }

        def remember(body: GraphBuilder, _: Mapping[str, str]) -> dict[str, str]:
            body.is_few_rows = False
            return add_crossed(body, self._weights, states, self._head_width)

        crossed = self._once("memory", is_any, memory, remember)
        graph.is_few_rows = True
        rows = graph.op("Shape", asked.language)
        shape = graph.op("Concat", rows, graph.ints(self._num_heads, 0, self._head_width), axis=0)
        kept = {**crossed, **dict.fromkeys(self._past, graph.op("Expand", graph.floats(0), shape))}
        spoken = self._detect(asked.language, kept)

        def begin(body: GraphBuilder, _: Mapping[str, str]) -> dict[str, str]:
            step = self._make_step(body)
            column = body.op("Unsqueeze", spoken, body.ints(1))
            start = self._filled(body, rows, vocabulary.start)
            prompt = [start, column, self._filled(body, rows, vocabulary.transcribe, vocabulary.no_timestamps)]
            states, present = step.run(body.op("Concat", *prompt, axis=1), kept)
            no_speech = body.cast(step.no_speech(states, spoken), np.float32)
            token, probability = step.choose(states, self._phase(body, spoken, PHASE_FIRST))
            return {"token": token, "probability": probability, "no_speech": no_speech, **_as_past(present)}

        first: dict[str, Kind] = {
            "token": (np.int64, ["batch"]),
            **dict.fromkeys(("probability", "no_speech"), (np.float32, ["batch"])),
            **dict.fromkeys(self._past, self._past_type),
        }
        begun = self._once("begun", is_any, first, begin)
        tokens, probabilities = self._repeat(begun, crossed, asked)
        return {
            "tokens": tokens,
            "probability": probabilities,
            "spoken": spoken,
            "no_speech": begun["no_speech"],
        }

    def _once(
        self,
        name: str,
        is_needed: str,
        kinds: Mapping[str, Kind],
        work: Callable[[GraphBuilder, Mapping[str, str]], Mapping[str, str]],
        otherwise: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        """Add ``work`` in a loop of one trip, or of none; then ``otherwise`` holds, by default nothing of no row.

        Args:
            name: of the loop.
            is_needed: bool scalar; ``""``: always, and there is no loop.
            kinds: what ``work`` makes: type and shape by name.
            work: adds to a builder; given what holds otherwise.
            otherwise: values by name.
        """
        graph = self._graph
        if not is_needed:
            return dict(work(graph, otherwise or {}))
        if otherwise is None:
            sizes = {key: [dim if isinstance(dim, int) else 0 for dim in shape] for key, (_, shape) in kinds.items()}
            otherwise = {key: graph.constant(np.zeros(sizes[key], dtype)) for key, (dtype, _) in kinds.items()}
        body = graph.body()
        body.input(f"{name}_trip", np.int64, [])
        body.input(f"{name}_on", np.bool_, [])
        before = {key: body.input(f"{name}_of_{key}", *kind) for key, kind in kinds.items()}
        made = work(body, before)
        body.output(f"{name}_done", body.constant(np.False_), np.bool_, [])
        for key, (dtype, shape) in kinds.items():
            body.output(f"{name}_to_{key}", made[key], dtype, shape)
        once = graph.constant(np.int64(1))
        return dict(zip(kinds, graph.loop(once, is_needed, [otherwise[key] for key in kinds], body, 0), strict=True))

    def _detect(self, language: str, kept: Mapping[str, str]) -> str:
        """``language``, filled in where it is unknown; nothing is done where all are known."""
        graph = self._graph

        def detect(body: GraphBuilder, before: Mapping[str, str]) -> dict[str, str]:
            step, given = self._make_step(body), before["spoken"]
            states, _ = step.run(self._filled(body, body.op("Shape", given), self._vocabulary.start), kept)
            detected, _ = step.choose(states, self._phase(body, given, PHASE_LANGUAGE))
            is_given = body.op("GreaterOrEqual", given, body.constant(np.int64(0)))
            return {"spoken": body.op("Where", is_given, given, detected)}

        is_unknown = _any(graph, graph.op("Less", language, graph.constant(np.int64(0))))
        kinds: dict[str, Kind] = {"spoken": (np.int64, ["batch"])}
        return self._once("detect", is_unknown, kinds, detect, {"spoken": language})["spoken"]

    @staticmethod
    def _filled(graph: GraphBuilder, rows: str, *values: int) -> str:
        """``values`` in each of ``rows [1]`` rows."""
        return graph.op("Expand", graph.ints(*values), graph.op("Concat", rows, graph.ints(len(values)), axis=0))

    @staticmethod
    def _phase(graph: GraphBuilder, like: str, value: int) -> str:
        return graph.op("Expand", graph.constant(np.int64(value)), graph.op("Shape", like))

    def _repeat(self, begun: Mapping[str, str], crossed: Mapping[str, str], asked: _Asked) -> tuple[str, str]:
        graph, token = self._graph, begun["token"]
        shape = graph.op("Concat", graph.op("Shape", token), graph.ints(MAX_GUARD), axis=0)
        # No token is -1: nothing repeats what was before the first.
        guard = {
            "recent": graph.op("Expand", graph.ints(-1), shape),
            "runs": graph.op("Expand", graph.ints(0), shape),
            "count": graph.op("Mul", token, graph.constant(np.int64(0))),
            "alive": graph.op("Equal", token, token),
        }
        guard = self._account(graph, token, guard, asked)
        types: dict[str, Kind] = {
            "token": (np.int64, ["batch"]),
            **dict.fromkeys(self._past, self._past_type),
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
        accounted = self._account(body, chosen, values, asked)
        body.output("out_goes_on", _any(body, accounted["alive"]), np.bool_, [])
        carried = {"token": chosen, **_as_past(after), **accounted}
        for name, (dtype, shape_in) in types.items():
            body.output(f"out_{name}", carried[name], dtype, ["present" if dim == "past" else dim for dim in shape_in])
        body.output("kept_token", chosen, np.int64, ["batch"])
        body.output("kept_probability", chance, np.float32, ["batch"])
        initial = {**begun, **guard}
        trips = graph.constant(np.int64(self._room))  # each row's own bound is in its guard
        outputs = graph.loop(trips, _any(graph, guard["alive"]), [initial[name] for name in types], body, 2)
        rest = [graph.op("Transpose", kept, perm=[1, 0]) for kept in outputs[-2:]]
        tokens, chances = (
            graph.op("Concat", graph.op("Unsqueeze", head, graph.ints(1)), tail, axis=1)
            for head, tail in zip((token, begun["probability"]), rest, strict=True)
        )
        return tokens, chances

    def _account(self, graph: GraphBuilder, token: str, guard: Mapping[str, str], asked: _Asked) -> dict[str, str]:
        """What is known of every row once it has said ``token [batch]``.

        ``recent [batch, lags]`` are its last tokens, newest first; ``runs[lag]`` is for how many tokens each has been
        equal to the one ``lag + 1`` before it. A run as long as its lag is a phrase said twice.
        """
        column = graph.op("Unsqueeze", token, graph.ints(1))
        same = graph.cast(graph.op("Equal", guard["recent"], column), np.int64)
        runs = graph.op("Mul", graph.op("Add", guard["runs"], graph.ints(1)), same)
        recent = graph.op("Concat", column, graph.slice(guard["recent"], 0, MAX_GUARD - 1, axis=1), axis=1)
        lags = graph.ints(*range(1, MAX_GUARD + 1))
        shortest, longest = (graph.slice(asked.guard, i, i + 1, axis=1) for i in (0, 1))
        is_guarded = graph.op("And", graph.op("GreaterOrEqual", lags, shortest), graph.op("LessOrEqual", lags, longest))
        repeats = graph.op("And", graph.op("GreaterOrEqual", runs, lags), is_guarded)
        is_repeated = graph.op("ReduceMax", graph.cast(repeats, np.int32), graph.ints(1), keepdims=0)
        count = graph.op("Add", guard["count"], graph.constant(np.int64(1)))
        goes_on = [
            guard["alive"],
            graph.op("Less", token, graph.constant(np.int64(self._vocabulary.end))),
            graph.op("Not", graph.cast(is_repeated, np.bool_)),
            graph.op("Less", count, asked.max_tokens),
        ]
        alive = goes_on[0]
        for condition in goes_on[1:]:
            alive = graph.op("And", alive, condition)
        return {"recent": recent, "runs": runs, "count": count, "alive": alive}


def _as_past(present: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("present_", "past_"): value for name, value in present.items()}


def _any(graph: GraphBuilder, alive: str) -> str:
    # A sum, as there is no largest of none.
    return graph.cast(graph.op("ReduceSum", graph.cast(alive, np.int32), keepdims=0), np.bool_)
