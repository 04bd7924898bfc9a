"""The door of the cascade: what the recogniser asks of a gate, and what comes of the answer."""

import numpy as np
import pytest

from inference.speech.gate import CascadeConfig
from inference.speech.recogniser import Recogniser


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


def test_a_remote_engine_encodes_for_the_gate_alone_and_only_when_it_is_asked(tiny, engine, make_segment, monkeypatch):
    segments = [make_segment(1.0, seed=seed) for seed in range(2)]
    plain = Recogniser(engine, tiny.tokenizer_path, is_remote=True).transcribe(segments)
    recogniser = Recogniser(engine, tiny.tokenizer_path, gate=Says(0.0, 1.0), is_remote=True)
    assert not recogniser.is_gate_free
    asked = []
    infer = engine.infer
    monkeypatch.setattr(engine, "infer", lambda model, batch: asked.append(model) or infer(model, batch))
    assert recogniser.transcribe(segments) == plain
    assert asked == ["speech_text"]
    heard = recogniser.transcribe(segments, weigh=lambda _index, llr: llr > 0.5)
    assert asked[1:] == ["speech", "speech_text"]
    assert [utterance.is_held for utterance in heard] == [True, False]
    assert heard[1] == plain[1]


def test_without_a_gate_nothing_is_held_back(tiny, engine, make_segment):
    recogniser = Recogniser(engine, tiny.tokenizer_path)
    assert not recogniser.is_gate_free
    assert not recogniser.transcribe([make_segment(1.0)], ["en"], lambda _index, _llr: False)[0].is_held


def test_the_name_of_a_gate_stays_within_the_repository():
    with pytest.raises(ValueError, match="pattern"):
        CascadeConfig(gate="../elsewhere")
