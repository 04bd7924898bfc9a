"""Scripts and recordings as labelled calls: their marks, and what belongs together."""

import pytest
from pydantic import ValidationError

from training.evaluation.labelled import LabelledTurn, from_recording, from_scripts
from training.intent.data import script_call
from training.manifest import RecordedCall
from training.scripts import Script, parse_turns

TURNS = """
far [contact, claims_authority]: good morning it is the tax office
near [doubts]: who is that
far [ask, odd_payment, threat]: pay in vouchers today or you go to jail
"""
PROVENANCE = {"consent": "x", "legal_basis": "x", "source": "pilot", "licence": "x"}


def script(name="en-tax-a", turns=TURNS, **more):
    return Script(id=name, label="scam", family="tax", topic="tax", turns=parse_turns(turns), **more)


@pytest.mark.parametrize("turns", [TURNS, "far [contact]: hello\nfar [ask]: pay now"], ids=["acts", "stages alone"])
def test_a_new_script_teaches_what_a_known_one_does(turns):
    (labelled,) = from_scripts([script(turns=turns)], "new.yaml")
    known = script_call(script(turns=turns))
    assert labelled.to_call().pieces == known.pieces
    assert labelled.to_call().ask_turn == known.ask_turn


def test_what_scripts_belong_with_is_kept():
    scripts = [script(pair="en-tax-pair"), script("en-tax-a-rewritten-politely", of="en-tax-a"), script("en-tax-b")]
    assert [labelled.pair for labelled in from_scripts(scripts, "new.yaml")] == ["en-tax-pair", "en-tax-a", None]


def test_caller_and_script_of_a_recording_are_kept():
    said = [{"start": 0, "duration": 2, "leg": "far", "text": "good morning"}]
    fields = {"audio_filepath": "r.wav", "lang": "en", "channels": {"far": 0}, "label": "genuine", "topic": "bank"}
    more = {"caller_hash": "a" * 16, "script": "s1", "segments": said}
    labelled = from_recording(RecordedCall.model_validate({"id": "r", **fields, **PROVENANCE, **more}))
    assert (labelled.caller_hash, labelled.pair) == ("a" * 16, "s1")


def test_an_act_of_the_other_leg_is_refused():
    assert LabelledTurn(leg="near", text="no", acts=("refuses",)).acts == ("refuses",)
    with pytest.raises(ValidationError, match="acts: hold what is none of doubts, refuses"):
        LabelledTurn(leg="near", text="no", acts=("threat",))
