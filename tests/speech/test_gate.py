"""The cascade's gate: what it takes for one, which states it refuses, and what comes of its word."""

import numpy as np
import pytest

from inference.engine.graph import GraphBuilder
from inference.engine.onnx import OnnxEngine
from inference.engine.repository import write_model
from inference.errors import ConfigError, EngineError
from inference.speech.gate import CascadeConfig, ModelGate
from inference.speech.graph import build_speech
from inference.speech.recogniser import Recogniser

WIDTH = 64  # of the tiny Whisper


def gate_graph(metadata, width=WIDTH, output="probability"):
    """Passes windows whose first state begins above zero."""
    graph = GraphBuilder("fp32")
    states = graph.input("states", np.float32, ["batch", "time", width])
    first = graph.slice(graph.slice(states, 0, 1, axis=1), 0, 1, axis=2)
    graph.output(output, graph.op("Sigmoid", graph.reshape(first, -1)), np.float32, ["batch"])
    return graph.build(metadata)


@pytest.fixture
def engine(tiny):
    """The tiny Whisper's."""
    return tiny.engine("fp32")


@pytest.fixture
def born_with(engine):
    metadata = engine.spec("speech").metadata
    return {f"states_{what}": metadata[what] for what in ("weights_sha256", "precision")}


@pytest.fixture
def with_gate(tiny, tmp_path):
    """An engine that has the tiny Whisper and a gate."""

    def make(graph):
        for name, model in build_speech(tiny.tensors, tiny.vocabulary, "fp32", head_width=tiny.head_width).items():
            write_model(tmp_path, name, model)
        write_model(tmp_path, "scam_gate", graph)
        return OnnxEngine(tmp_path)

    return make


def test_a_gate_of_the_repository_decides_by_its_threshold(with_gate, born_with):
    engine = with_gate(gate_graph(born_with))
    states = np.zeros((3, 5, WIDTH), np.float32)
    states[:, 0, 0] = (-2, 2, np.nan)
    passes = ModelGate(engine, CascadeConfig(gate="scam_gate", threshold=0.5)).passes(states)
    assert passes.tolist() == [False, True, True]  # what cannot be judged is heard
    assert ModelGate(engine, CascadeConfig(gate="scam_gate", threshold=0.1)).passes(states).all()


def test_states_of_another_precision_or_other_weights_are_refused(with_gate, born_with):
    for what in born_with:
        engine = with_gate(gate_graph(born_with | {what: "other"}))
        with pytest.raises(EngineError, match=rf"states of {what.removeprefix('states_')} other"):
            ModelGate(engine, CascadeConfig(gate="scam_gate"))


@pytest.mark.parametrize("shape", [{"width": 8}, {"output": "chance"}])
def test_what_is_no_gate_is_refused(with_gate, born_with, shape):
    with pytest.raises(EngineError, match="is no gate"):
        ModelGate(with_gate(gate_graph(born_with, **shape)), CascadeConfig(gate="scam_gate"))


def test_a_gate_must_be_named_and_be_there(engine):
    with pytest.raises(ConfigError, match="names no model"):
        ModelGate(engine, CascadeConfig())
    with pytest.raises(EngineError, match="no_such_gate"):
        ModelGate(engine, CascadeConfig(gate="no_such_gate"))
    with pytest.raises(ValueError, match="pattern"):
        CascadeConfig(gate="../elsewhere")


class PassesByTurn:
    """A gate that is scripted; records how many windows it saw."""

    def __init__(self, *passes):
        self.passes_, self.seen = list(passes), []

    def passes(self, states):
        self.seen.append(len(states))
        return np.array([self.passes_.pop(0) for _ in states])


def test_what_the_gate_holds_back_is_not_decoded_and_the_rest_is_as_without_it(tiny, engine, make_segment):
    segments = [make_segment(1.0, seed=seed) for seed in range(4)]
    plain = Recogniser(engine, tiny.tokenizer_path).transcribe(segments)
    assert any(utterance.text for utterance in plain)
    gate = PassesByTurn(True, False, False, True)
    recogniser = Recogniser(engine, tiny.tokenizer_path, gate=gate)
    heard = recogniser.transcribe(segments, gated=[True, True, False, False])
    assert [utterance.is_held for utterance in heard] == [False, True, False, False]
    assert heard[1].text == ""
    assert [heard[i].text for i in (0, 2, 3)] == [plain[i].text for i in (0, 2, 3)]
    assert gate.seen == [4]


def test_all_held_back_costs_no_decoder_step_and_none_gated_no_gate(tiny, engine, make_segment, monkeypatch):
    gate = PassesByTurn(False, False)
    recogniser = Recogniser(engine, tiny.tokenizer_path, gate=gate)
    recogniser.transcribe([make_segment(1.0)], ["en"])
    assert gate.seen == []
    asked = []
    infer = engine.infer
    monkeypatch.setattr(engine, "infer", lambda model, batch: asked.append(model) or infer(model, batch))
    heard = recogniser.transcribe([make_segment(1.0), make_segment(1.0)], ["en", None], gated=[True, True])
    assert [utterance.is_held for utterance in heard] == [True, True]
    assert asked == ["speech", "speech"]


def test_without_a_gate_nothing_is_held_back(tiny, engine, make_segment):
    recogniser = Recogniser(engine, tiny.tokenizer_path)
    assert not recogniser.has_gate
    assert not recogniser.transcribe([make_segment(1.0)], ["en"], [True])[0].is_held
