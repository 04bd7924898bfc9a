"""Speech segments to words, for many calls at once.

Windows are as long as their speech plus a second of silence, not 30 s: a fifth of the work. The silence matters:
without it Whisper tends to cut the last word. What padding also gave, a habit of stopping, the repeated-phrase guard
replaces.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer

from inference.audio import SAMPLE_RATE_HZ
from inference.audio.segment import SpeechSegment
from inference.engine.base import Engine, Tensor
from inference.errors import WeightsError
from inference.speech.gate import STATES, Gate, GateWithin, Weigh
from inference.speech.graph import DECODER, ENCODER, HEARD, PHASE_FIRST, PHASE_LANGUAGE, PHASE_TEXT
from inference.speech.repeats import repeated_tail, without_echo
from inference.speech.utterance import Utterance
from inference.speech.vocabulary import Vocabulary
from inference.speech.whole import HOLD, LLR, MAX_GUARD, NUM_FRAMES, UNKNOWN, WHOLE

MAX_WINDOW_S = 30.0  # positions that Whisper has
TINY = 1e-9  # below any probability worth telling apart; its logarithm is finite
TIME_STEP = 64  # states; vectors of any length that divides it add up alike
LEAVE_FRACTION = 0.25  # finished rows leave once they are this much of a batch: leaving copies the others' tensors


class RecogniserConfig(BaseModel):
    """How segments become text."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: Literal["en", "zh", "auto"] = Field(default="en", description="of all calls; auto detects it per segment")
    silence_s: float = Field(default=1.0, ge=0, le=5, description="silence after the speech")
    window_step_s: float = Field(
        default=0.5, ge=0.02, le=10, description="windows are a multiple of this, to batch equal ones"
    )
    max_tokens_per_s: float = Field(
        default=10.0, gt=0, description="more than anyone says; beyond it the model is inventing"
    )
    min_tokens: int = Field(default=8, ge=1, description="allowed however short the segment")
    guard_min_tokens: int = Field(
        default=3, ge=1, description="shortest phrase whose immediate repetition ends a transcript"
    )
    guard_max_tokens: int = Field(default=40, ge=1, le=MAX_GUARD, description="longest such phrase")
    no_speech: float = Field(default=0.6, ge=0, le=1, description="probability of no speech from which text is doubted")
    min_log_prob: float = Field(default=-1.0, le=0, description="doubted text stays if its tokens' mean is above this")
    max_rows: int = Field(
        default=16, ge=1, description="segments decoded together; bounds memory (8 MB per row and 6 s)"
    )


@dataclass(slots=True)
class _Row:
    """One segment on its way through a batch."""

    index: int
    num_samples: int  # of its window
    max_tokens: int
    language: str | None
    is_held: bool = False  # behind the gate
    tokens: list[int] = field(default_factory=list)
    no_speech: float = 0.0
    log_probs: list[float] = field(default_factory=list)  # of all tokens chosen, the end too


@dataclass(frozen=True, slots=True)
class _Step:
    """What one decoder step said, a value per row; ``no_speech`` means something on the first step only."""

    tokens: list[int]
    log_probs: list[float]
    no_speech: list[float]


class Recogniser:
    """Greedy Whisper over an engine; stateless between calls of :meth:`transcribe` and thread-safe."""

    def __init__(
        self,
        engine: Engine,
        tokenizer_path: Path,
        config: RecogniserConfig | None = None,
        gate: Gate | None = None,
        *,
        is_remote: bool = False,
        gate_within: GateWithin | None = None,
    ) -> None:
        """Decode with the models ``speech`` and ``speech_decoder`` of ``engine``, or with ``speech_text``.

        Args:
            engine: runs the models.
            tokenizer_path: ``tokenizer.json`` of the same Whisper.
            config: how.
            gate: what it hears decides about segments that need not be decoded; None: all are decoded.
            is_remote: the engine is a network away, so the decoder's steps are left to it: the model ``speech_text``.
            gate_within: the gate of a remote engine, part of that model.

        Raises:
            WeightsError: the tokenizer is missing or not Whisper's.
            EngineError: the models are missing or cannot be loaded.
        """
        if not tokenizer_path.is_file():
            raise WeightsError(f"{tokenizer_path} is missing; run: scamtap models pull")
        self._tokenizer = Tokenizer.from_file(str(tokenizer_path))
        self._vocabulary = Vocabulary.from_tokenizer(self._tokenizer)
        self._engine = engine
        self._gate, self._gate_within = gate, gate_within
        self._config = config or RecogniserConfig()
        self._is_remote = is_remote
        inputs = engine.spec(WHOLE if is_remote else DECODER).inputs
        self._is_gate_drawn = any(spec.name == HOLD for spec in inputs)
        # Empty memory of earlier steps: the decoder's past inputs, [0, heads, 0, head width].
        self._past = {
            spec.name: np.zeros([size or 0 for size in spec.shape], spec.dtype)
            for spec in inputs
            if spec.name.startswith("past_")
        }
        # Of what it heard, which axis is time; some of it is of all time.
        self._time_axes = {
            spec.name: spec.shape.index(None, 1) if None in spec.shape[1:] else None
            for spec in inputs
            if spec.name.startswith("cross_")
        }

    @property
    def is_mixing(self) -> bool:
        """Whether a batch may hold windows of any length at no cost; else of one length each."""
        return not self._is_remote

    def transcribe(
        self,
        segments: Sequence[SpeechSegment],
        languages: Sequence[str | None] | None = None,
        weigh: Weigh | None = None,
        needed: Sequence[float] | None = None,
    ) -> list[Utterance]:
        """Recognise ``segments``, which may be of any calls and legs.

        Args:
            segments: int16 at 8 kHz, each below ``MAX_WINDOW_S - silence_s``.
            languages: per segment, None where it should be detected; default: the configured language for all.
            weigh: told what the gate makes of each segment, in the order given as far as they share a batch; says
                which are decoded. Default: all are, and the gate is not asked.
            needed: per segment, nats from which ``weigh`` will say so, as far as can be known before: below them a
                remote engine does not decode. Where it knew too little, it is asked again. Default: it decodes all.

        Returns:
            One utterance per segment, in order, the same whatever else was in the batch; ``known_s`` is the segment's.
            Those held back have no text and ``is_held``.

        Raises:
            EngineError: the engine failed.
            ValueError: a segment is too long, or a language is not one of Whisper's.
        """
        if languages is None:
            default = None if self._config.language == "auto" else self._config.language
            languages = [default] * len(segments)
        rows = [self._row(index, segment, languages[index]) for index, segment in enumerate(segments)]
        for some in self._batches(rows):
            if self._is_remote:
                self._decode_whole(some, segments, weigh, needed)
            else:
                self._decode(*self._encode(some, segments, weigh))
        return [self._utterance(segment, row) for segment, row in zip(segments, rows, strict=True)]

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        """Rows that go through the models together, those of one window next to each other."""

        def kind(row: _Row) -> tuple[bool, int]:
            return row.language is None, row.num_samples if self._is_remote else 0

        for _, alike in groupby(sorted(rows, key=lambda row: (*kind(row), row.num_samples)), kind):
            some = list(alike)
            for first in range(0, len(some), self._config.max_rows):
                yield some[first : first + self._config.max_rows]

    def _row(self, index: int, segment: SpeechSegment, language: str | None) -> _Row:
        if language is not None and language not in self._vocabulary.languages:
            raise ValueError(f"language {language!r} is not one that Whisper knows")
        duration_s = len(segment.samples) / SAMPLE_RATE_HZ
        max_tokens = self._config.min_tokens + math.ceil(duration_s * self._config.max_tokens_per_s)
        return _Row(index, self.window_samples(len(segment.samples)), max_tokens, language)

    def window_samples(self, num_samples: int) -> int:
        """Samples that are encoded for a segment of ``num_samples``; segments of one length share a batch.

        Raises:
            ValueError: the segment is too long.
        """
        step = 2 * round(self._config.window_step_s * SAMPLE_RATE_HZ / 160) * 80  # the encoder halves 10 ms frames
        wanted = num_samples + round(self._config.silence_s * SAMPLE_RATE_HZ)
        window = max(1, math.ceil(wanted / step)) * step
        if window > MAX_WINDOW_S * SAMPLE_RATE_HZ:
            seconds = num_samples / SAMPLE_RATE_HZ
            raise ValueError(f"speech segment of {seconds:.1f} s does not fit Whisper's {MAX_WINDOW_S:.0f} s; cap it")
        return window

    @staticmethod
    def _audio(rows: Sequence[_Row], segments: Sequence[SpeechSegment]) -> Tensor:
        """``[rows, samples]`` of windows of one length."""
        audio = np.zeros((len(rows), rows[0].num_samples), np.int16)
        for line, row in enumerate(rows):
            samples = segments[row.index].samples
            audio[line, : len(samples)] = samples
        return audio

    def _encode(
        self, rows: list[_Row], segments: Sequence[SpeechSegment], weigh: Weigh | None
    ) -> tuple[list[_Row], dict[str, Tensor]]:
        """Each window at its own length; then the rows that are to be decoded and what they heard, in common tensors.

        A decoder step mostly reads weights, so rows of all lengths share it. Their time is padded to a multiple of
        :data:`TIME_STEP`: then the sums over it are formed in the same order in any batch, to the last bit.
        """
        parts = []
        for _, alike in groupby(rows, lambda row: row.num_samples):
            some = list(alike)
            parts.append((some, self._engine.infer(ENCODER, {"audio": self._audio(some, segments)})))
        if weigh is not None:
            self._weigh([(some, encoded[STATES]) for some, encoded in parts], segments, weigh)
            parts = [_decodable(some, encoded) for some, encoded in parts]
        parts = [(some, encoded) for some, encoded in parts if some]
        if not parts:
            return [], {}
        stay = [row for some, _ in parts for row in some]
        lengths = [self._num_states(encoded) for _, encoded in parts]
        time = math.ceil(max(lengths) / TIME_STEP) * TIME_STEP
        kept: dict[str, Tensor] = {HEARD: np.zeros((len(stay), time), np.int32)}
        for name, axis in self._time_axes.items():
            like = parts[0][1][name]
            shape = [time if i == axis else size for i, size in enumerate(like.shape[1:], 1)]
            kept[name] = np.zeros((len(stay), *shape), like.dtype)
        first = 0
        for (some, encoded), length in zip(parts, lengths, strict=True):
            last = first + len(some)
            kept[HEARD][first:last, :length] = 1
            for name in self._time_axes:
                part = encoded[name]
                kept[name][(slice(first, last), *map(slice, part.shape[1:]))] = part
            first = last
        return stay, kept

    def _num_states(self, encoded: Mapping[str, Tensor]) -> int:
        name, axis = next((name, axis) for name, axis in self._time_axes.items() if axis is not None)
        return int(encoded[name].shape[axis])

    def _decode(self, rows: list[_Row], kept: dict[str, Tensor]) -> None:
        """Fill ``tokens`` and ``language`` of ``rows``, of which ``kept`` is what they heard."""
        if not rows:
            return
        kept |= {name: np.zeros((len(rows), *empty.shape[1:]), empty.dtype) for name, empty in self._past.items()}
        if rows[0].language is None:
            # The prompt is then put anew, start token and all: so `speech_text` does, and so both say the same.
            start = np.full((len(rows), 1), self._vocabulary.start, np.int64)
            for row, token in zip(rows, self._step(start, PHASE_LANGUAGE, kept)[0].tokens, strict=True):
                row.language = self._vocabulary.language_of[token]
        prompts = [[self._vocabulary.start, *self._vocabulary.prompt(str(row.language))] for row in rows]
        step, kept = self._step(np.array(prompts, np.int64), PHASE_FIRST, kept)
        for row, no_speech in zip(rows, step.no_speech, strict=True):
            row.no_speech = no_speech
        alive: list[_Row | None] = list(rows)
        while True:
            for line, (row_alive, token, log_prob) in enumerate(zip(alive, step.tokens, step.log_probs, strict=True)):
                if row_alive is not None and self._is_over(row_alive, token, log_prob):
                    alive[line] = None
            stay = [line for line, row_alive in enumerate(alive) if row_alive is not None]
            if not stay:
                return
            tokens = np.array(step.tokens, np.int64)[:, None]
            if len(stay) <= (1 - LEAVE_FRACTION) * len(alive):
                alive, tokens = [alive[line] for line in stay], tokens[stay]
                kept = {name: tensor[stay] for name, tensor in kept.items()}
            step, kept = self._step(tokens, PHASE_TEXT, kept)

    def _weigh(
        self, parts: Sequence[tuple[list[_Row], Tensor]], segments: Sequence[SpeechSegment], weigh: Weigh
    ) -> None:
        """Ask the gate about rows and their states, and mark those that are not to be decoded."""
        if self._gate is None:
            return
        said: list[tuple[_Row, float]] = []
        for rows, states in parts:
            heard = self._gate.llr(states, [len(segments[row.index].samples) for row in rows])
            said += zip(rows, heard, strict=True)
        self._mark(said, weigh)

    @staticmethod
    def _mark(said: Iterable[tuple[_Row, float]], weigh: Weigh) -> None:
        """Mark the rows that are not to be decoded; they are weighed in the order given."""
        for row, llr in sorted(said, key=lambda one: one[0].index):
            row.is_held = not weigh(row.index, llr)

    def _decode_whole(
        self,
        rows: list[_Row],
        segments: Sequence[SpeechSegment],
        weigh: Weigh | None = None,
        needed: Sequence[float] | None = None,
    ) -> None:
        """All steps in one request, and the gate's word; what ends a row there ends it here too, by the same rule."""
        guard = [self._config.guard_min_tokens, self._config.guard_max_tokens]
        languages = [UNKNOWN if row.language is None else self._vocabulary.languages[row.language] for row in rows]
        batch = {
            "audio": self._audio(rows, segments),
            "language": np.array(languages, np.int64),
            "max_tokens": np.array([row.max_tokens for row in rows], np.int64),
            "guard": np.array([guard] * len(rows), np.int64),
        }
        if weigh is not None and self._gate_within is not None:
            least = [-math.inf if needed is None else needed[row.index] for row in rows]
            batch |= self._gate_within.ask([len(segments[row.index].samples) for row in rows], least)
        elif self._is_gate_drawn:
            batch |= {NUM_FRAMES: np.zeros(len(rows), np.int64), HOLD: np.zeros(len(rows), np.float32)}
        outputs = self._engine.infer(WHOLE, batch)
        if weigh is not None and self._gate_within is not None:
            self._mark(zip(rows, self._gate_within.heard(outputs[LLR]), strict=True), weigh)
        log_probs = np.log(np.maximum(outputs["probability"].astype(np.float64), TINY))
        unread = []
        for line, row in enumerate(rows):
            if row.is_held:
                continue
            tokens = outputs["tokens"][line].tolist()
            if tokens[0] == self._vocabulary.end:  # never a transcript's first: it was not decoded
                unread.append(row)
                continue
            row.no_speech = float(outputs["no_speech"][line])
            row.language = self._vocabulary.language_of[int(outputs["spoken"][line])]
            for token, log_prob in zip(tokens, log_probs[line].tolist(), strict=True):
                if self._is_over(row, token, log_prob):
                    break
        if unread:
            self._decode_whole(unread, segments)

    def _step(self, tokens: Tensor, phase: int, kept: Mapping[str, Tensor]) -> tuple[_Step, dict[str, Tensor]]:
        """One decoder step: what it chose, and what the step after it needs."""
        phases = np.full(len(tokens), phase, np.int64)
        outputs = self._engine.infer(DECODER, {"tokens": tokens, "phase": phases, **kept})
        chosen, probability, no_speech = (outputs.pop(name) for name in ("next", "probability", "no_speech"))
        log_probs = np.log(np.maximum(probability.astype(np.float64), TINY))
        step = _Step(list(map(int, chosen)), log_probs.tolist(), list(map(float, no_speech)))
        present = {name.replace("present_", "past_"): tensor for name, tensor in outputs.items()}
        return step, {**kept, **present}

    def _is_over(self, row: _Row, token: int, log_prob: float) -> bool:
        """Take the row's next token; true where the transcript ends with or before it."""
        row.log_probs.append(log_prob)
        if token >= self._vocabulary.end:
            return True
        row.tokens.append(token)
        lengths = range(self._config.guard_min_tokens, self._config.guard_max_tokens + 1)
        repeated = repeated_tail(row.tokens, lengths)
        if repeated:
            del row.tokens[-repeated:]
        return bool(repeated) or len(row.tokens) >= row.max_tokens

    def _utterance(self, segment: SpeechSegment, row: _Row) -> Utterance:
        # Whisper's own rule against inventing words for noise: both signs must hold, either alone is often wrong.
        if (
            row.log_probs
            and row.no_speech > self._config.no_speech
            and np.mean(row.log_probs) < self._config.min_log_prob
        ):
            row.tokens.clear()
        # A cap may cut a character of several tokens in half: what is left of it is not text.
        text = without_echo(self._tokenizer.decode(row.tokens).strip().strip("\N{REPLACEMENT CHARACTER}").strip())
        return Utterance(
            leg=segment.leg,
            start_s=segment.start_s,
            end_s=segment.end_s,
            known_s=segment.known_s,
            text=text,
            language=row.language or "en",
            is_held=row.is_held,
        )


def _decodable(rows: list[_Row], encoded: dict[str, Tensor]) -> tuple[list[_Row], dict[str, Tensor]]:
    """The rows that are not held back, and what was encoded of them."""
    stay = [line for line, row in enumerate(rows) if not row.is_held]
    if len(stay) == len(rows):
        return rows, encoded
    return [rows[line] for line in stay], {name: tensor[stay] for name, tensor in encoded.items()}
