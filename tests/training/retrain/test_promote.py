"""``scamtap-train promote`` and ``rollback`` as their user meets them."""

import numpy as np
import pytest

from inference.engine.graph import GraphBuilder
from inference.engine.repository import write_model
from inference.intent.versions import read_record

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


@pytest.fixture
def candidate(versions, tmp_path):
    """``candidate(parent, name)``: one that passed its gates."""

    def make(parent=1, name="scam_intent", **record):
        folder = tmp_path / "run" / "models" / name / "1"
        return versions.make(folder, {"vouchers": 3.5}, gates=GATES, parent=parent, **record)

    return make


def names(models_dir):
    return sorted(path.name for path in (models_dir / "scam_intent").iterdir())


def test_there_and_back(train_command, candidate, models_dir):
    code, said, _ = train_command("promote", candidate(), "--models", models_dir)
    assert (code, "version 2 of scam_intent serves" in said, names(models_dir)) == (0, True, ["1", "2"])
    code, said, _ = train_command("rollback", "--models", models_dir)
    assert (code, said.strip(), names(models_dir)) == (
        0,
        "version 1 of scam_intent serves; 2 is kept as 2.retired",
        ["1", "2.retired"],
    )


def test_of_two_candidates_of_one_version_the_second_is_refused(train_command, candidate, models_dir):
    """It would drop what the first one learnt, and its gates were passed against a version that serves no longer."""
    assert train_command("promote", candidate(), "--models", models_dir)[0] == 0
    code, _, error = train_command("promote", candidate(), "--models", models_dir)
    assert (code, names(models_dir)) == (1, ["1", "2"])
    assert "was made from version 1, and version 2 of scam_intent serves now: retrain from that" in error
    train_command("rollback", "--models", models_dir)
    code, _, error = train_command("promote", candidate(parent=2), "--models", models_dir)
    assert (code, "was made from version 2, and version 1" in error) == (1, True)
    code, said, _ = train_command("promote", candidate(), "--models", models_dir)
    assert (code, "version 3 of scam_intent serves" in said) == (0, True)


def test_a_number_given_again_is_another_version(train_command, versions, candidate, models_dir):
    """Version 1 was taken away, and another, trained anew, stands in its place: it learnt from no delivery either."""
    made = candidate(parent_sha256=read_record(models_dir / "scam_intent" / "1").head_sha256)
    versions.make("1", {"danger": 3.5, "patience": -1.0})
    code, _, error = train_command("promote", made, "--models", models_dir)
    assert (code, names(models_dir)) == (1, ["1"])
    assert "was made from another, and version 1 of scam_intent serves now" in error
    versions.make("1", {"danger": 3.5})
    assert train_command("promote", made, "--models", models_dir)[0] == 0


@pytest.mark.parametrize("parent", [1, None])
def test_a_candidate_of_another_repository_is_refused(train_command, versions, candidate, models_dir, parent):
    """Its number 1 is not this one's, which learnt something else."""
    versions.make("1", {"danger": 3.5}, data_sha256={"new-11111111": "1" * 64})
    made = candidate(parent, data_sha256={"new-22222222": "2" * 64})
    code, _, error = train_command("promote", made, "--models", models_dir)
    assert (code, names(models_dir)) == (1, ["1"])
    assert "was made from another, and version 1 of scam_intent serves now" in error


def test_a_candidate_measured_on_another_recogniser_is_refused(train_command, candidate, models_dir):
    speech_model(models_dir, "b" * 64)
    code, _, error = train_command("promote", candidate(), "--models", models_dir)
    assert (code, names(models_dir)) == (1, ["1"])
    assert "evaluated on the words of speech model aaaaaaaaaaaa int8, here is bbbbbbbbbbbb int8" in error


def test_without_gates_or_with_a_flipped_bit_nothing_changes(train_command, versions, candidate, models_dir, tmp_path):
    ungated = versions.make(tmp_path / "run" / "ungated", {"vouchers": 3.5})
    _, _, error = train_command("promote", ungated, "--models", models_dir)
    assert "passed no gates" in error
    damaged = candidate()
    content = bytearray((damaged / "head.safetensors").read_bytes())
    content[0] ^= 1
    (damaged / "head.safetensors").write_bytes(content)
    _, _, error = train_command("promote", damaged, "--models", models_dir)
    assert "head.safetensors: is not what SHA256SUMS says" in error
    assert names(models_dir) == ["1"]


def test_a_language_of_its_own_goes_forth_and_back_by_itself(train_command, versions, candidate, models_dir):
    versions.make(models_dir / "scam_intent_en" / "1", {"danger": 3.5})
    code, said, _ = train_command("promote", candidate(name="scam_intent_en"), "--models", models_dir)
    assert (code, "version 2 of scam_intent_en serves" in said, names(models_dir)) == (0, True, ["1"])
    _, said, _ = train_command("rollback", "--models", models_dir, "--model", "scam_intent_en")
    assert said.strip() == "version 1 of scam_intent_en serves; 2 is kept as 2.retired"
    code, _, error = train_command("rollback", "--models", models_dir, "--model", "scam_intent_fr")
    assert (code, "there are scam_intent, scam_intent_en" in error) == (1, True)
