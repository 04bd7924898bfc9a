"""The door of the cascade: what the recogniser asks of a gate, and what comes of the answer."""

import math

import numpy as np
import pytest

from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_model
from inference.speech.gate import CascadeConfig
from inference.speech.recogniser import Recogniser, RecogniserConfig
from inference.speech.whole import WHOLE, DrawnGate, build_whole


class Says:
    """A gate that says what it is told to, and remembers what it was asked."""

    def __init__(self, *said):
        self.said, self.asked = list(said), []

    def llr(self, states, num_samples):
        assert len(states) == len(num_samples)
        self.asked += num_samples
        return [self.said.pop(0) for _ in num_samples]


@pytest.fixture
def engine(tiny):
    """The tiny Whisper's."""
    return tiny.engine("fp32")


def test_what_is_held_back_is_not_decoded_and_the_rest_is_as_without_a_gate(tiny, engine, make_segment):
    segments = [make_segment(1.0, seed=seed) for seed in range(4)]
    plain = Recogniser(engine, tiny.tokenizer_path).transcribe(segments)
    assert any(utterance.text for utterance in plain)
    gate, weighed = Says(0.5, -0.5, 0.1, 0.2), []

    def weigh(index, llr):
        weighed.append((index, llr))
        return index != 1

    heard = Recogniser(engine, tiny.tokenizer_path, gate=gate).transcribe(segments, weigh=weigh)
    assert weighed == [(0, 0.5), (1, -0.5), (2, 0.1), (3, 0.2)]
    assert [utterance.is_held for utterance in heard] == [False, True, False, False]
    assert heard[1].text == ""
    assert [heard[i].text for i in (0, 2, 3)] == [plain[i].text for i in (0, 2, 3)]
    assert gate.asked == [8000] * 4


def test_a_batch_of_many_lengths_is_weighed_in_the_order_given(tiny, engine, make_segment):
    segments = [make_segment(seconds, seed=1) for seconds in (1.4, 0.3, 1.5, 0.9)]
    order = []
    Recogniser(engine, tiny.tokenizer_path, gate=Says(*np.zeros(4))).transcribe(
        segments, weigh=lambda index, _llr: bool(order.append(index))
    )
    assert order == [0, 1, 2, 3]


def test_all_held_back_costs_no_decoder_step_and_unweighed_no_gate(tiny, engine, make_segment, monkeypatch):
    gate = Says(-1.0, -1.0)
    recogniser = Recogniser(engine, tiny.tokenizer_path, gate=gate)
    recogniser.transcribe([make_segment(1.0)], ["en"])
    assert gate.asked == []
    asked = []
    infer = engine.infer
    monkeypatch.setattr(engine, "infer", lambda model, batch: asked.append(model) or infer(model, batch))
    heard = recogniser.transcribe([make_segment(1.0), make_segment(1.0)], ["en", None], lambda _index, _llr: False)
    assert [utterance.is_held for utterance in heard] == [True, True]
    assert asked == ["speech", "speech"]


class Within:
    """A gate in the graph that says the mean of a window's first states; remembers from when on rows are wanted."""

    LEAST = -5.0
    drawn = DrawnGate(
        lambda graph, states, frames: graph.op(
            "Add",
            graph.op("ReduceMean", states, graph.ints(1, 2), keepdims=0),
            graph.op("Mul", graph.cast(frames, np.float32), graph.constant(np.float32(0))),
        ),
        LEAST,
        {"gate_head_sha256": "0" * 64},
    )

    def __init__(self, wanted=None):
        self.wanted, self.asked = wanted, []

    def ask(self, num_samples, needed):
        self.asked.append((list(num_samples), list(needed)))
        hold = np.array([max(0.0, (self.wanted or least) - self.LEAST) for least in needed], np.float32)
        return {"num_frames": np.array(num_samples) // 160, "hold": hold}

    def heard(self, raw):
        return raw.tolist()


@pytest.fixture(scope="module")
def gated(tiny, tmp_path_factory):
    """The tiny Whisper's ``speech_text`` with a gate in it."""
    folder = tmp_path_factory.mktemp("gated")
    options = {"head_width": tiny.head_width, "gate": Within.drawn}
    write_model(folder, WHOLE, build_whole(tiny.tensors, tiny.vocabulary, "int8", **options))
    return OnnxEngine(folder)


@pytest.fixture
def asked(gated, monkeypatch):
    """The models that were asked, with the rows of each request."""
    requests, infer = [], gated.infer
    monkeypatch.setattr(
        gated, "infer", lambda model, batch: requests.append((model, len(batch["audio"]))) or infer(model, batch)
    )
    return requests


SEEDS = range(4)
LOUD = RecogniserConfig(silence_s=0.1, window_step_s=0.1, no_speech=1.0)  # the tiny network doubts itself


def test_a_gate_in_the_graph_costs_no_request_and_holds_what_it_is_told_to(tiny, gated, asked, make_segment):
    segments = [make_segment(0.6, seed=seed) for seed in SEEDS]
    plain = Recogniser(gated, tiny.tokenizer_path, LOUD, is_remote=True).transcribe(segments)  # nobody asks the gate
    assert any(utterance.text for utterance in plain)
    said = {}
    recogniser = Recogniser(gated, tiny.tokenizer_path, LOUD, is_remote=True, gate_within=Within())
    assert recogniser.transcribe(segments, weigh=lambda index, llr: said.setdefault(index, llr) == llr) == plain
    assert list(said) == list(SEEDS)
    least = sorted(said.values())[2]
    asked.clear()
    heard = recogniser.transcribe(segments, weigh=lambda _index, llr: llr >= least, needed=[least] * 4)
    assert asked == [("speech_text", 4)]
    assert sorted(utterance.is_held for utterance in heard) == [False, False, True, True]
    for index, utterance in enumerate(heard):
        assert utterance.is_held == (said[index] < least)
        assert utterance.text == ("" if utterance.is_held else plain[index].text)
        assert utterance.language == plain[index].language or utterance.is_held


def test_a_gate_in_the_graph_changes_no_transcript(tiny, tmp_path, make_segment):
    """In fp32: in int8 what is fused around the gate's output rounds otherwise on CPUs of some kinds, and the tiny
    network makes another letter of the last bit."""
    segments = [make_segment(0.6, seed=seed) for seed in SEEDS]
    plain = Recogniser(tiny.engine("fp32"), tiny.tokenizer_path, LOUD, is_remote=True).transcribe(segments)
    assert any(utterance.text for utterance in plain)
    options = {"head_width": tiny.head_width, "gate": Within.drawn}
    write_model(tmp_path, WHOLE, build_whole(tiny.tensors, tiny.vocabulary, "fp32", **options))
    with_gate = Recogniser(OnnxEngine(tmp_path), tiny.tokenizer_path, LOUD, is_remote=True)
    assert with_gate.transcribe(segments) == plain


@pytest.mark.parametrize("language", ["en", None])
def test_where_all_is_held_nothing_is_decoded(tiny, gated, asked, make_segment, language):
    recogniser = Recogniser(gated, tiny.tokenizer_path, LOUD, is_remote=True, gate_within=Within())
    segments = [make_segment(0.6, seed=seed) for seed in SEEDS]
    heard = recogniser.transcribe(segments, [language] * 4, lambda _index, _llr: False, [math.inf] * 4)
    assert [utterance.is_held for utterance in heard] == [True] * 4
    assert asked == [("speech_text", 4)]
    out = gated.infer(WHOLE, {**batch_for(tiny, segments), "hold": np.full(4, 9, np.float32)})
    assert out["tokens"].tolist() == [[tiny.vocabulary.end]] * 4


def batch_for(tiny, segments):
    audio = np.stack([segment.samples for segment in segments])
    rows = len(segments)
    return {
        "audio": audio,
        "language": np.full(rows, tiny.vocabulary.languages["en"]),
        "max_tokens": np.full(rows, 9),
        "guard": np.array([[3, 40]] * rows),
        "num_frames": np.full(rows, 30),
        "hold": np.zeros(rows, np.float32),
    }


def test_what_is_worth_reading_after_all_is_asked_for_again(tiny, gated, asked, make_segment):
    """Two segments of one call share a batch: what the second must say is known only when the first has spoken."""
    segments = [make_segment(0.6, seed=seed) for seed in SEEDS]
    plain = Recogniser(gated, tiny.tokenizer_path, LOUD, is_remote=True).transcribe(segments)
    asked.clear()
    recogniser = Recogniser(gated, tiny.tokenizer_path, LOUD, is_remote=True, gate_within=Within())
    needed = [-math.inf, math.inf, -math.inf, math.inf]
    heard = recogniser.transcribe(segments, None, lambda index, _llr: index != 2, needed)
    assert asked == [("speech_text", 4), ("speech_text", 2)]
    assert [utterance.is_held for utterance in heard] == [False, False, True, False]
    assert [heard[index] for index in (0, 1, 3)] == [plain[index] for index in (0, 1, 3)]
    assert heard[2].text == ""


def test_what_the_gate_says_of_a_row_does_not_depend_on_the_others(tiny, gated, make_segment):
    segments = [make_segment(0.6, seed=seed) for seed in SEEDS]
    together = gated.infer(WHOLE, {**batch_for(tiny, segments), "hold": np.array([0, 9, 0, 9], np.float32)})
    for row, segment in enumerate(segments):
        alone = gated.infer(WHOLE, batch_for(tiny, [segment]))
        assert together["llr"][row] == alone["llr"][0]
        length = alone["tokens"].shape[1]
        wanted = [tiny.vocabulary.end] * length if row % 2 else alone["tokens"][0].tolist()
        assert together["tokens"][row, :length].tolist() == wanted


def test_without_a_gate_nothing_is_held_back(tiny, engine, make_segment):
    recogniser = Recogniser(engine, tiny.tokenizer_path)
    assert not recogniser.transcribe([make_segment(1.0)], ["en"], lambda _index, _llr: False)[0].is_held


def test_the_name_of_a_gate_stays_within_the_repository():
    with pytest.raises(ValueError, match="pattern"):
        CascadeConfig(gate="../elsewhere")
