"""Greedy decoding: prompts, limits and guards with a scripted model, batching with the tiny one."""

import numpy as np
import pytest

from inference.engine.base import ModelSpec, TensorSpec
from inference.errors import WeightsError
from inference.speech.graph import PHASE_FIRST, PHASE_LANGUAGE, PHASE_TEXT
from inference.speech.memory import MEMORY_MAX
from inference.speech.recogniser import TIME_STEP, Recogniser, RecogniserConfig
from inference.speech.repeats import repeated_tail, without_echo


class ScriptedEngine:
    """Says what the first sample of a window stands for; records what it was asked."""

    def __init__(self, vocabulary, tokenizer_text, scripts, language="zh", no_speech=0.0, probability=0.9):
        self.vocabulary, self.language = vocabulary, language
        self.no_speech, self.probability = no_speech, probability
        self.scripts = {key: [*map(tokenizer_text, text)] for key, text in scripts.items()}
        self.audio, self.steps = [], []

    def spec(self, model):
        inputs = [TensorSpec(f"{kind}_key_0", "float32", (None, 1, None, 1)) for kind in ("past", "cross")]
        return ModelSpec(model, 1, tuple(inputs) if model == "speech_decoder" else (), (), {})

    def infer(self, model, batch):
        if model == "speech":
            self.audio.append(batch["audio"])
            return {
                "cross_key_0": batch["audio"][:, None, :1, None].astype(np.float32),
                "states": np.zeros((len(batch["audio"]), 1)),
            }
        phase = int(batch["phase"][0])
        past = batch["past_key_0"]
        self.steps.append((phase, batch["tokens"].tolist()))
        length = past.shape[2] + (phase != PHASE_LANGUAGE)
        present = np.zeros((len(past), 1, length, 1), np.float32)
        chosen = [self._token(int(key), phase, past.shape[2]) for key in batch["cross_key_0"][:, 0, 0, 0]]
        rows = len(chosen)
        return {
            "next": np.array(chosen),
            "probability": np.full(rows, self.probability, np.float32),
            "no_speech": np.full(rows, self.no_speech, np.float32),
            "present_key_0": present,
        }

    def _token(self, key, phase, said):
        if phase == PHASE_LANGUAGE:
            return self.vocabulary.languages[self.language]
        return self.scripts[key][said] if said < len(self.scripts[key]) else self.vocabulary.end

    def close(self):
        pass


@pytest.fixture
def scripted(tiny):
    """Build a recogniser over scripts ``{first sample: text}``."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tiny.tokenizer_path))

    def make(scripts, config=None, **options):
        engine = ScriptedEngine(tiny.vocabulary, lambda char: tokenizer.encode(char).ids[0], scripts, **options)
        return Recogniser(engine, tiny.tokenizer_path, config or RecogniserConfig(max_tokens_per_s=1000)), engine

    return make


def keyed(make_segment, key, seconds=0.5):
    segment = make_segment(seconds)
    segment.samples[0] = key
    return segment


def test_an_utterance_keeps_its_segments_place(scripted, make_segment):
    recogniser, _ = scripted({1: " Good day"})
    segment = make_segment(0.5, leg="near")
    segment.samples[0] = 1
    (utterance,) = recogniser.transcribe([segment])
    assert (utterance.text, utterance.language, utterance.leg) == ("Good day", "en", "near")
    assert (utterance.start_s, utterance.end_s, utterance.known_s) == (segment.start_s, segment.end_s, segment.known_s)


def test_the_prompt_asks_for_a_plain_transcript(scripted, make_segment, tiny):
    words = tiny.vocabulary
    recogniser, engine = scripted({1: "a"})
    recogniser.transcribe([keyed(make_segment, 1)], ["zh"])
    assert engine.steps[0] == (
        PHASE_FIRST,
        [[words.start, words.languages["zh"], words.transcribe, words.no_timestamps]],
    )
    assert [phase for phase, _ in engine.steps[1:]] == [PHASE_TEXT]


def test_language_is_detected_where_it_is_not_given(scripted, make_segment, tiny):
    words = tiny.vocabulary
    recogniser, engine = scripted({1: "a", 2: "b"}, language="zh")
    heard = recogniser.transcribe([keyed(make_segment, 1), keyed(make_segment, 2)], [None, "en"])
    assert [utterance.language for utterance in heard] == ["zh", "en"]
    detecting = [step for step in engine.steps if step[0] == PHASE_LANGUAGE]
    assert detecting == [(PHASE_LANGUAGE, [[words.start]])]
    auto, engine = scripted({1: "a"}, RecogniserConfig(language="auto"), language="zh")
    assert auto.transcribe([keyed(make_segment, 1)])[0].language == "zh"


def test_windows_are_speech_plus_silence_in_whole_steps(scripted, make_segment):
    config = RecogniserConfig(silence_s=1.0, window_step_s=0.5)
    recogniser, engine = scripted({1: "a"}, config)
    for seconds in (0.1, 0.5, 0.51, 8.0):
        recogniser.transcribe([keyed(make_segment, 1, seconds)])
    assert [audio.shape for audio in engine.audio] == [(1, 12000), (1, 12000), (1, 16000), (1, 72000)]
    assert not engine.audio[0][0, 800:].any()


def test_a_repeated_phrase_ends_the_transcript_after_its_first_saying(scripted, make_segment):
    recogniser, _ = scripted({1: "so thank you. thank you. thank you. thank you."})
    assert recogniser.transcribe([keyed(make_segment, 1)])[0].text == "so thank you."


def test_short_repetitions_are_speech(scripted, make_segment):
    recogniser, _ = scripted({1: "noooo 1111 hm"}, RecogniserConfig(max_tokens_per_s=1000, guard_min_tokens=5))
    assert recogniser.transcribe([keyed(make_segment, 1)])[0].text == "noooo 1111 hm"


def test_tokens_are_capped_by_the_length_of_the_speech(scripted, make_segment):
    text = "abcdefghijklmnopqrstuvwxyz"
    recogniser, _ = scripted({1: text}, RecogniserConfig(max_tokens_per_s=10, min_tokens=4))
    assert recogniser.transcribe([keyed(make_segment, 1, 0.5)])[0].text == text[:9]
    assert recogniser.transcribe([keyed(make_segment, 1, 1.1)])[0].text == text[:15]


def test_half_a_character_at_the_cap_is_not_text(scripted, make_segment):
    recogniser, engine = scripted({1: "ok"}, RecogniserConfig(max_tokens_per_s=1000))
    engine.scripts[1] += [recogniser._tokenizer.encode("钱").ids[0]]
    assert recogniser.transcribe([keyed(make_segment, 1)])[0].text == "ok"


@pytest.mark.parametrize(
    ("no_speech", "probability", "text"),
    [(0.9, 0.1, ""), (0.9, 0.8, "So"), (0.1, 0.1, "So"), (0.9, 0.0, "")],
)
def test_words_for_noise_are_dropped_only_on_both_signs(scripted, make_segment, no_speech, probability, text):
    recogniser, _ = scripted({1: "So"}, no_speech=no_speech, probability=probability)
    assert recogniser.transcribe([keyed(make_segment, 1)])[0].text == text


def test_finished_rows_leave_the_batch(scripted, make_segment):
    recogniser, engine = scripted({1: "a", 2: "ab", 3: "abc", 4: "abcdefgh"})
    heard = recogniser.transcribe([keyed(make_segment, key) for key in (4, 1, 2, 3)])
    assert [utterance.text for utterance in heard] == ["abcdefgh", "a", "ab", "abc"]
    sizes = [len(tokens) for _, tokens in engine.steps]
    assert sizes[0] == 4
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)


def test_batches_are_bounded(scripted, make_segment):
    recogniser, engine = scripted({1: "a"}, RecogniserConfig(max_rows=2))
    recogniser.transcribe([keyed(make_segment, 1)] * 5)
    assert [len(audio) for audio in engine.audio] == [2, 2, 1]


def test_nothing_in_nothing_out(scripted):
    recogniser, engine = scripted({})
    assert recogniser.transcribe([]) == []
    assert engine.steps == []


def test_impossible_requests_are_refused(scripted, make_segment, tmp_path, tiny):
    recogniser, engine = scripted({1: "a"})
    with pytest.raises(ValueError, match=r"29.5 s does not fit"):
        recogniser.transcribe([keyed(make_segment, 1, 29.5)])
    with pytest.raises(ValueError, match="'xx' is not one"):
        recogniser.transcribe([keyed(make_segment, 1)], ["xx"])
    with pytest.raises(WeightsError, match="run: scamtap models pull"):
        Recogniser(engine, tmp_path / "tokenizer.json")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("languages", ["en", None])
def test_a_transcript_does_not_depend_on_its_batch(tiny, make_segment, precision, languages):
    config = RecogniserConfig(silence_s=0.3, window_step_s=0.2, max_rows=5, max_tokens_per_s=30, no_speech=1)
    recogniser = Recogniser(tiny.engine(precision), tiny.tokenizer_path, config)
    segments = [make_segment(0.3 + 0.1 * (seed % 3), seed) for seed in range(9)]
    together = recogniser.transcribe(segments, [languages] * 9)
    alone = [recogniser.transcribe([segment], [languages])[0] for segment in segments]
    assert together == alone
    assert len({utterance.text for utterance in alone}) > 2  # the tiny model does tell them apart


def test_int8_decoding_is_the_same_bit_for_bit_in_any_batch(tiny):
    engine, words = tiny.engine("int8"), tiny.vocabulary
    audio = (np.random.default_rng(5).normal(size=(5, 4000)) * 2000).astype(np.int16)

    def step(rows):
        encoded = engine.infer("speech", {"audio": audio[rows]})
        batch = {name: tensor for name, tensor in encoded.items() if name.startswith("cross_")}
        for spec in engine.spec("speech_decoder").inputs:
            if spec.name.startswith("past_"):
                batch[spec.name] = np.zeros((len(rows), *[size or 0 for size in spec.shape[1:]]), spec.dtype)
        batch["heard"] = np.ones((len(rows), encoded["states"].shape[1]), np.int32)
        tokens = np.tile([words.start, *words.prompt("en"), 40], (len(rows), 1))  # five: an odd number of rows alone
        return engine.infer("speech_decoder", {"tokens": tokens, "phase": np.full(len(rows), 2), **batch})

    together = step([0, 1, 2, 3, 4])
    for row in range(5):
        for name, tensor in step([row]).items():
            np.testing.assert_array_equal(together[name][row], tensor[0], err_msg=name)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("length", [25, 50, 64, 100, 175])
def test_what_a_row_did_not_hear_changes_no_bit_of_it(tiny, precision, length):
    """Rows of different windows share a batch: the shorter is padded, with whatever stands in memory."""
    engine, words = tiny.engine(precision), tiny.vocabulary
    rng = np.random.default_rng(length)
    specs = {spec.name: spec for spec in engine.spec("speech_decoder").inputs}

    def noise(spec, time):
        shape = [1, *[time if size is None else size for size in spec.shape[1:]]]
        values = rng.normal(size=shape) if spec.dtype == "float32" else rng.integers(-MEMORY_MAX, MEMORY_MAX + 1, shape)
        return np.abs(values).astype(spec.dtype) if "scale" in spec.name else values.astype(spec.dtype)

    cross = {name: noise(spec, length) for name, spec in specs.items() if name.startswith("cross_")}

    def step(time):
        batch = {"tokens": np.array([[words.start, *words.prompt("en"), 40]]), "phase": np.array([2])}
        for name, spec in specs.items():
            if name.startswith("past_"):
                batch[name] = noise(spec, 0)
            elif name.startswith("cross_"):
                batch[name] = noise(spec, time)
                batch[name][tuple(map(slice, cross[name].shape))] = cross[name]
        batch["heard"] = (np.arange(time) < length).astype(np.int32)[None]
        return engine.infer("speech_decoder", batch)

    least = -(-length // TIME_STEP) * TIME_STEP
    alone = step(least)
    for time in (least + TIME_STEP, least + 3 * TIME_STEP):
        for name, tensor in step(time).items():
            np.testing.assert_array_equal(tensor, alone[name], err_msg=name)


def test_rows_of_all_lengths_share_decoder_steps(scripted, make_segment):
    recogniser, engine = scripted({1: "abc", 2: "xyz"})
    heard = recogniser.transcribe([keyed(make_segment, 1, 1.0), keyed(make_segment, 2, 6.0)])
    assert [utterance.text for utterance in heard] == ["abc", "xyz"]
    assert [audio.shape for audio in engine.audio] == [(1, 16000), (1, 56000)]  # each encoded at its own
    assert {len(tokens) for _, tokens in engine.steps} == {2}


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ([], 0),
        ([1, 2, 3], 0),
        ([1, 2, 3, 1, 2, 3], 3),
        ([9, 1, 2, 3, 4, 1, 2, 3, 4], 4),
        ([7] * 6, 3),
        ([1, 2, 1, 2], 0),
    ],
)
def test_repeated_tail(tokens, length):
    assert repeated_tail(tokens, range(3, 25)) == length


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("if we can't agree something it's the warrant If we can't agree something, it's the warrant.", 8),
        ("the driver's ready to leave with the car The driver's ready to leave with the car", 8),
        ("no no no no no no no no no no no no", 6),
        ("move the money move the money", 6),
        ("", 0),
    ],
)
def test_an_echoed_last_phrase_is_dropped_and_short_repetition_stays(text, kept):
    assert without_echo(text) == " ".join(text.split()[:kept])
