"""Call scripts: an act brings the stage that it is a kind of, but never the ask."""

from inference.intent.acts import ACTS
from inference.intent.scores import STAGES
from training.scripts import IMPLIED, parse_turns


def test_an_act_brings_its_stage_once() -> None:
    turns = parse_turns(
        "far [contact, threat, gain]: Pay today and win.\nfar [lure, threat]: Today!\nnear [doubts]: Who is that?"
    )
    assert [turn.all_stages for turn in turns] == [("contact", "lure"), ("lure",), ()]
    assert (turns[0].stages, turns[0].acts) == (("contact",), ("threat", "gain"))  # as it was marked


def test_only_what_is_marked_asks() -> None:
    assert "ask" not in parse_turns("far [credential, secrecy]: The code, and tell nobody.")[0].all_stages
    assert set(IMPLIED) <= set(ACTS)
    assert set(IMPLIED.values()) <= set(STAGES) - {"ask"}
