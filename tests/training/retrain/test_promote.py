"""``scamtap-train promote`` and ``rollback`` as their user meets them."""

import numpy as np
import pytest

from inference.engine.graph import GraphBuilder
from inference.engine.repository import write_model

GATES = {"old scams": "200/200 against 199/200 warned of"}


def speech_model(models_dir, weights="a" * 64):
    """A graph that says which weights it was built from, as the recogniser's does."""
    graph = GraphBuilder("fp32")
    graph.input("x", np.float32, ["batch"])
    graph.output("y", graph.op("Neg", "x"), np.float32, ["batch"])
    write_model(models_dir, "speech", graph.build({"weights_sha256": weights, "precision": "int8"}))


@pytest.fixture
def models_dir(versions):
    champion = versions.make("1", {"danger": 3.5})
    speech_model(champion.parents[1])
    return champion.parents[1]


def names(models_dir):
    return sorted(path.name for path in (models_dir / "scam_intent").iterdir())


def test_there_and_back(train_command, versions, models_dir, tmp_path):
    candidate = versions.make(tmp_path / "run" / "candidate", {"vouchers": 3.5}, gates=GATES, parent=1)
    code, said, _ = train_command("promote", candidate, "--models", models_dir)
    assert (code, "version 2 of scam_intent serves" in said, names(models_dir)) == (0, True, ["1", "2"])
    code, said, _ = train_command("rollback", "--models", models_dir)
    assert (code, said.strip(), names(models_dir)) == (
        0,
        "version 1 of scam_intent serves; 2 is kept as 2.retired",
        ["1", "2.retired"],
    )


def test_a_candidate_measured_on_another_recogniser_is_refused(train_command, versions, models_dir, tmp_path):
    candidate = versions.make(tmp_path / "run" / "candidate", {"vouchers": 3.5}, gates=GATES)
    speech_model(models_dir, "b" * 64)
    code, _, error = train_command("promote", candidate, "--models", models_dir)
    assert (code, names(models_dir)) == (1, ["1"])
    assert "evaluated on the words of speech model aaaaaaaaaaaa int8, here is bbbbbbbbbbbb int8" in error


def test_without_gates_or_with_a_flipped_bit_nothing_changes(train_command, versions, models_dir, tmp_path):
    ungated = versions.make(tmp_path / "run" / "ungated", {"vouchers": 3.5})
    _, _, error = train_command("promote", ungated, "--models", models_dir)
    assert "passed no gates" in error
    candidate = versions.make(tmp_path / "run" / "candidate", {"vouchers": 3.5}, gates=GATES)
    content = bytearray((candidate / "head.safetensors").read_bytes())
    content[0] ^= 1
    (candidate / "head.safetensors").write_bytes(content)
    _, _, error = train_command("promote", candidate, "--models", models_dir)
    assert "head.safetensors: is not what SHA256SUMS says" in error
    assert names(models_dir) == ["1"]


def test_a_language_of_its_own_goes_forth_and_back_by_itself(train_command, versions, models_dir, tmp_path):
    versions.make(models_dir / "scam_intent_en" / "1", {"danger": 3.5})
    candidate = versions.make(tmp_path / "run" / "models" / "scam_intent_en" / "1", {"vouchers": 3.5}, gates=GATES)
    code, said, _ = train_command("promote", candidate, "--models", models_dir)
    assert (code, "version 2 of scam_intent_en serves" in said, names(models_dir)) == (0, True, ["1"])
    _, said, _ = train_command("rollback", "--models", models_dir, "--model", "scam_intent_en")
    assert said.strip() == "version 1 of scam_intent_en serves; 2 is kept as 2.retired"
    code, _, error = train_command("rollback", "--models", models_dir, "--model", "scam_intent_fr")
    assert (code, "there are scam_intent, scam_intent_en" in error) == (1, True)
