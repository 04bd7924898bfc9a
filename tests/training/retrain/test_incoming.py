"""New calls: why they may be learnt from, what is a near copy, and which side each is on."""

import json

import pytest

from inference.errors import ConfigError
from training.evaluation.labelled import LabelledText
from training.retrain.incoming import (
    SOURCE,
    admit,
    as_known,
    gold_sha256,
    read_new,
    refuse_without_provenance,
    words_of,
)

PROVENANCE = {"consent": "x", "legal_basis": "x", "source": "pilot", "licence": "x"}
WORDS = tuple(f"word{letter}" for letter in "abcdefghijklmnopqr")


def call(number, label="scam", campaign=None, text=None):
    """Calls of different numbers share no run of four words."""
    words = [
        WORDS[(number * 5 + i * (number + 1)) % len(WORDS)] + "abcdefghijklmnopqrstuvwxyz"[number] for i in range(14)
    ]
    said = [{"leg": "far", "text": text or " ".join(words)}]
    family = {"family": "tax"} if label == "scam" else {}
    return LabelledText.model_validate(
        {"id": f"n{number}", "label": label, "campaign": campaign, "turns": said, **family, **PROVENANCE}
    )


def test_calls_are_dealt_by_label_so_that_each_side_has_something(tmp_path):
    calls = [call(i) for i in range(10)] + [call(10 + i, "genuine") for i in range(10)]
    incoming = admit(calls, {}, "0" * 64)
    sides = {split: incoming.of(split) for split in ("train", "test")}
    assert {split: len(its) for split, its in sides.items()} == {"train": 16, "test": 4}
    assert all({c.is_scam for c in its} == {True, False} for its in sides.values())
    assert {c.source for c in incoming.calls} == {SOURCE}
    assert admit(calls, {}, "0" * 64).calls == incoming.calls


def test_near_copies_of_what_is_known_and_of_one_another_are_left_out():
    new = [call(i) for i in range(8)]
    known = {"en-old": new[0].words + " now", "en-other": "nothing alike at all in this text of ours"}
    twin = call(20, text=new[1].words)
    incoming = admit([*new, twin], known, "0" * 64)
    assert set(incoming.left_out) == {"n0", "n20"}
    assert "en-old" in incoming.left_out["n0"]
    assert "which is known" in incoming.left_out["n0"]
    assert "the words of n1" in incoming.left_out["n20"]


def test_where_all_calls_stand_with_gold_scripts_nothing_is_left_to_learn():
    """Fitted on nothing the candidate would be the champion again, and this delivery would count as learnt."""
    calls = [call(i).model_copy(update={"pair": "en-gold"}) for i in range(8)]
    with pytest.raises(ConfigError, match="none of 8 new calls may be learnt from"):
        admit(calls, {}, "0" * 64, {"en-gold": "test"})
    incoming = admit([*calls, call(9)], {}, "0" * 64, {"en-gold": "test"})
    assert [c.id for c in incoming.of("train")] == ["n9"]


def test_copies_among_the_known_are_nobodys_fault():
    known = {"a": "one two three four five six seven", "b": "one two three four five six seven"}
    calls = [call(i) for i in range(7)] + [call(9, text="one two three four five six seven eight nine ten twelve")]
    assert len(admit(calls, known, "0" * 64).calls) >= 7


def test_a_delivery_of_one_robocall_is_one_call():
    """Two hundred and fifty times: beyond any number of copies that are counted one by one."""
    robocall = [call(1).model_copy(update={"id": f"r{i}"}) for i in range(250)]
    with pytest.raises(ConfigError, match="1 of 250 new calls are left, 6 with a scam call"):
        admit(robocall, {}, "0" * 64)
    incoming = admit([*robocall, *(call(i) for i in range(2, 12))], {}, "0" * 64)
    assert (len(incoming.calls), len(incoming.left_out)) == (11, 249)


def test_an_earlier_delivery_is_dealt_as_when_it_was_new():
    labelled = [call(i, campaign="june") for i in range(10)] + [call(10 + i, "genuine") for i in range(10)]
    then = {c.id: c.split for c in admit(labelled, {}, "0" * 64).calls}
    known = {"gold": labelled[4].words}  # has come to be gold since
    now = {c.id: c.split for c in as_known(labelled, known, "june.jsonl")}
    assert now == {f"june.jsonl:{name}": side for name, side in then.items() if name != "n4"}


def test_calls_of_an_earlier_campaign_are_each_rehearsed():
    """Of a group few are drawn; a campaign is no group where its calls are dealt one by one."""
    calls = as_known([call(i, campaign="june") for i in range(10)], {}, "june.jsonl")
    assert len({c.group for c in calls}) == 10
    assert {c.source for c in calls} == {"scripts"}


def test_too_few_calls_are_refused():
    with pytest.raises(ConfigError, match="5 of 5 new calls are left"):
        admit([call(i) for i in range(5)], {}, "0" * 64)
    with pytest.raises(ConfigError, match="with a scam call among them"):
        admit([call(i, "genuine") for i in range(8)], {}, "0" * 64)


def test_a_call_without_provenance_is_refused_and_named(tmp_path):
    lacking = call(3).model_copy(update={"consent": None, "licence": " "})
    with pytest.raises(ConfigError, match=r"n3: provenance is missing \(consent, licence\), in 1 calls"):
        refuse_without_provenance(tmp_path / "new.jsonl", [call(1), lacking])


def test_a_manifest_of_transcribed_recordings_is_read_too(tmp_path):
    said = [{"start": 0, "duration": 2, "leg": "far", "text": "good morning"}]
    fields = {"audio_filepath": "r1.wav", "lang": "en", "channels": {"far": 0}, "label": "genuine", "topic": "bank"}
    line = json.dumps({"id": "r1", "segments": said, **fields, **PROVENANCE}) + "\n"
    (tmp_path / "m.jsonl").write_text(line)
    (read,) = read_new(tmp_path / "m.jsonl")
    assert (read.id, read.words, read.real, read.lacks) == ("r1", "good morning", True, [])
    (tmp_path / "m.jsonl").write_text(line.replace('"text": "good morning"', '"text": ""'))
    with pytest.raises(ConfigError, match="r1: has no transcript"):
        read_new(tmp_path / "m.jsonl")


def test_gold_calls_have_one_digest_in_any_order():
    calls = [call(i).to_call("test") for i in range(3)]
    assert gold_sha256(calls) == gold_sha256(calls[::-1])
    assert gold_sha256(calls) != gold_sha256(calls[:2])
    assert words_of(calls)["n1"] == call(1).words
