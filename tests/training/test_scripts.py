"""Call scripts: an act brings the stage that it is a kind of, but never the ask; what is wrong has its line."""

import pytest

from inference.errors import ConfigError
from inference.intent.acts import ACTS
from inference.intent.scores import STAGES
from training.scripts import IMPLIED, load_scripts, parse_turns


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


@pytest.mark.parametrize(
    ("turns", "line", "said"),
    [
        ("", 4, "turns: is empty: want a block (|) of lines"),
        (" |\n    ", 4, "turns: is empty: want a block (|) of lines"),
        ("\n    - far: hello", 4, "turns: is no block of text: want a block (|) of lines"),
        (" |\n    far: hello\n\n    they: hello", 6, "turns: turn 2: want 'far [stage, ...]: text'"),
        (" |\n\n    far: hello\n    they: hello", 7, "turns: turn 2: want 'far [stage, ...]: text'"),
        (" |\n    far: hello\n    near [ask, hums]: hello", 6, "turns: turn 2: unknown mark 'hums'; the near leg has "),
        (" far hello", 4, "turns: turn 1: want 'far [stage, ...]: text'"),
    ],
)
def test_turns_that_are_none_are_said_with_their_line(tmp_path, turns, line, said):
    path = tmp_path / "calls.yaml"
    path.write_text(f"- id: en-a\n  label: genuine\n  topic: bank\n  turns:{turns}\n")
    with pytest.raises(ConfigError) as error:
        list(load_scripts(tmp_path))
    assert str(error.value).startswith(f"{path}:{line}: {said}")


@pytest.mark.parametrize(
    ("content", "where", "said"),
    [
        (b"- id: en-a\n  label: [\n", ":3", "not valid YAML"),
        (b"- id: en-a\n  topic: \xff\n", ":2", "not valid YAML"),
        (b"- topic: 2024-13-45\n", "", "not valid YAML"),
        (b"id: en-a\n", ":1", "want a YAML list of calls"),
        (b"- en-a\n", ":1", "is no call: want the fields id, label, topic and turns"),
    ],
)
def test_a_file_that_is_no_list_of_calls_is_said_in_a_line(tmp_path, content, where, said):
    path = tmp_path / "calls.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        list(load_scripts(tmp_path))
    assert str(error.value).startswith(f"{path}{where}: {said}")
    assert "\n" not in str(error.value)
