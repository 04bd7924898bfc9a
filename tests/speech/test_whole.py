"""The transcript in one graph: the same tokens as step by step, stopped by the same rules."""

import numpy as np
import pytest

from inference.errors import WeightsError
from inference.speech.recogniser import Recogniser, RecogniserConfig
from inference.speech.repeats import repeated_tail
from inference.speech.whole import MAX_GUARD, UNKNOWN, WHOLE, build_whole

NO_GUARD = [MAX_GUARD, MAX_GUARD]


def batch_of(tiny, segments, *, max_tokens=20, guard=NO_GUARD, language=None):
    num_samples = max(len(segment.samples) for segment in segments)
    audio = np.zeros((len(segments), num_samples), np.int16)
    for row, segment in enumerate(segments):
        audio[row, : len(segment.samples)] = segment.samples
    rows = len(segments)
    token = UNKNOWN if language is None else tiny.vocabulary.languages[language]
    return {
        "audio": audio,
        "language": np.full(rows, token),
        "max_tokens": np.full(rows, max_tokens),
        "guard": np.array([guard] * rows),
    }


def greedy(tiny, audio, language, num_tokens):
    """The reference's tokens, plainly: all of them again for every new one."""
    reference, vocabulary = tiny.reference, tiny.vocabulary
    states = reference.encode(audio)
    text = [token for token in range(vocabulary.end + 1) if token not in vocabulary.suppressed]
    tokens = [vocabulary.start, *vocabulary.prompt(language)]
    said = []
    while len(said) < num_tokens:
        allowed = text if said else [token for token in text if token not in vocabulary.suppressed_first]
        logits = reference.logits([*tokens, *said], states)[-1]
        said.append(max(allowed, key=lambda token: logits[token]))
        if said[-1] == vocabulary.end:
            break
    return said


def test_it_says_what_the_reference_says(tiny, make_segment):
    segments = [make_segment(0.6, seed) for seed in range(4)]
    out = tiny.engine("fp32").infer(WHOLE, batch_of(tiny, segments, language="en", max_tokens=12))
    for row, segment in enumerate(segments):
        wanted = greedy(tiny, segment.samples.astype(np.float64), "en", 12)
        assert out["tokens"][row, : len(wanted)].tolist() == wanted
        assert (out["tokens"][row, len(wanted) :] == tiny.vocabulary.end).all()
    assert ((out["probability"] > 0) & (out["probability"] <= 1)).all()
    assert (out["spoken"] == tiny.vocabulary.languages["en"]).all()


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
@pytest.mark.parametrize("language", ["en", "auto"])
@pytest.mark.parametrize("guard", [{}, {"guard_min_tokens": 1, "guard_max_tokens": 8}])
def test_the_recogniser_gives_the_same_in_one_request_as_in_steps(tiny, make_segment, precision, language, guard):
    segments = [make_segment(seconds, seed) for seed, seconds in enumerate((0.3, 0.6, 0.6, 0.9, 0.5, 0.6))]
    config = RecogniserConfig(language=language, silence_s=0.1, window_step_s=0.1, no_speech=1.0, **guard)
    steps, whole = (
        Recogniser(tiny.engine(precision), tiny.tokenizer_path, config, is_remote=is_remote)
        for is_remote in (False, True)
    )
    said = steps.transcribe(segments)
    assert any(utterance.text for utterance in said)
    assert whole.transcribe(segments) == said


def test_a_row_does_not_depend_on_the_others(tiny, make_segment):
    segments = [make_segment(0.6, seed) for seed in range(5)]
    together = tiny.engine("int8").infer(WHOLE, batch_of(tiny, segments))
    for row, segment in enumerate(segments):
        alone = tiny.engine("int8").infer(WHOLE, batch_of(tiny, [segment]))
        length = alone["tokens"].shape[1]
        np.testing.assert_array_equal(together["tokens"][row, :length], alone["tokens"][0])
        assert (together["tokens"][row, length:] == tiny.vocabulary.end).all()


def test_languages_given_and_to_be_found_share_a_batch(tiny, make_segment):
    segment = make_segment(0.6)
    values = batch_of(tiny, [segment, segment])
    values["language"] = np.array([tiny.vocabulary.languages["zh"], UNKNOWN])
    mixed = tiny.engine("fp32").infer(WHOLE, values)
    alone = tiny.engine("fp32").infer(WHOLE, batch_of(tiny, [segment]))
    assert mixed["spoken"].tolist() == [tiny.vocabulary.languages["zh"], alone["spoken"][0]]


def test_rows_stop_at_their_own_bound(tiny, make_segment):
    values = batch_of(tiny, [make_segment(0.6, 1)] * 3)
    free = tiny.engine("fp32").infer(WHOLE, values)["tokens"][0]
    length = int(np.argmax(free == tiny.vocabulary.end)) if tiny.vocabulary.end in free else len(free)
    assert length > 4, "this network falls silent at once: choose another seed"
    values["max_tokens"] = np.array([1, 3, length])
    tokens = tiny.engine("fp32").infer(WHOLE, values)["tokens"]
    assert [int((row != tiny.vocabulary.end).sum()) for row in tokens] == [1, 3, length]


def test_a_repeated_phrase_ends_a_row_where_the_recogniser_would_end_it(tiny, make_segment):
    """Over many windows: what is said, cut by the recogniser's own rule, is what the graph says."""
    ended = 0
    for seed in range(12):
        segment = [make_segment(0.6, seed)]
        free = tiny.engine("fp32").infer(WHOLE, batch_of(tiny, segment, max_tokens=40))["tokens"][0].tolist()
        guarded = tiny.engine("fp32").infer(WHOLE, batch_of(tiny, segment, max_tokens=40, guard=[1, 8]))["tokens"][0]
        stops = (n for n in range(1, len(free) + 1) if repeated_tail(free[:n], range(1, 9)))
        wanted = free[: next(stops, len(free))]
        ended += len(wanted) < len(free)
        assert guarded.tolist() == wanted
    assert ended, "no window repeats itself: the guard was not put to the test"


def test_a_guard_that_the_graph_cannot_keep_is_refused():
    with pytest.raises(ValueError, match="guard_max_tokens"):
        RecogniserConfig(guard_max_tokens=MAX_GUARD + 1)


def test_weights_of_another_network_are_refused(tiny):
    broken = {name: tensor for name, tensor in tiny.tensors.items() if name != "model.decoder.layer_norm.weight"}
    with pytest.raises(WeightsError, match=r"lack model\.decoder\.layer_norm\.weight"):
        build_whole(broken, tiny.vocabulary, "fp32", head_width=tiny.head_width)
