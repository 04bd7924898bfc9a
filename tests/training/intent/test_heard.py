"""Recognised copies of scripts: joined to their turns, in their script's split."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.errors import ConfigError
from training.evaluation.sets import standing_sets
from training.intent.data import read_scripts
from training.intent.heard import HeardCall, heard_call, overlapping, read_heard, read_recognised, word_error_rates
from training.intent.recipe import TRAIN, draw
from training.intent.sources import Sources, read_sources
from training.scripts import Script, load_scripts
from training.voice.call import script_hash

SCRIPT = """\
- id: {id}
  label: scam
  family: parcel
  topic: parcel
  turns: |
    far [contact]: Good morning, is that the Alvarez household?
    near: It is.
    far [ask, lure]: Please read me the code that we sent.
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "parcel.yaml").write_text("".join(SCRIPT.format(id=f"en-parcel-{i}") for i in range(20)))
    return folder


def heard_of(script: Script, **more: object) -> HeardCall:
    row = {
        "id": script.id,
        "synthesiser": "espeak",
        "preset": "clean",
        "seed": 1,
        "key": "0" * 64,
        "script_sha256": script_hash(script),
        "num_errors": 3,
        "num_words": 12,
        "utterances": [
            {"leg": "far", "turns": [0], "text": "Good mourning is at the Alvarez house"},
            {"leg": "near", "turns": [1], "text": "It is"},
            {"leg": "far", "turns": [2, 0], "text": "Please read me the coat"},
            {"leg": "far", "turns": [], "text": "That we sent"},
        ],
    }
    return HeardCall.model_validate(row | more)


def write(folder: Path, calls: list[HeardCall]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "espeak.jsonl").write_text("".join(call.model_dump_json() + "\n" for call in calls))
    return folder


def test_a_recognised_copy_has_its_scripts_labels_and_the_marks_of_its_turns(scripts: Path) -> None:
    script = next(load_scripts(scripts))
    call = heard_call(heard_of(script), script)
    (written, *_) = read_scripts(scripts)
    assert (call.split, call.group, call.family, call.ask_turn) == (written.split, script.id, "parcel", 2)
    assert [(p.leg, p.turn, p.stages) for p in call.pieces] == [
        ("far", 0, ("contact",)),
        ("near", 1, ()),
        ("far", 2, ("ask", "contact", "lure")),
        ("far", 2, ()),
    ]


def test_a_copy_of_other_words_is_left_out(scripts: Path, tmp_path: Path) -> None:
    one, two, *_ = load_scripts(scripts)
    folder = write(tmp_path / "heard", [heard_of(one), heard_of(two, script_sha256="f" * 64), heard_of(one, id="en-x")])
    calls, num_left_out = read_recognised(folder, {script.id: script for script in (one, two)})
    assert ([call.group for call in calls], num_left_out) == ([one.id], 2)
    assert read_recognised(None, {}) == ([], 0)


def test_recognised_copies_train_calibrate_and_test_on_their_scripts_side(scripts: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "heard", [heard_of(script) for script in load_scripts(scripts)])
    sources = Sources(scripts, None, folder)
    calls = read_sources(sources)
    by_split = {split: draw(calls, TRAIN, split, 1) for split in ("train", "dev", "test")}
    splits = {script.id: script.split for script in load_scripts(scripts)}
    for split, drawn in by_split.items():
        recognised = {call.group for call in drawn if call.source == "recognised"}
        assert recognised == {name for name, of_script in splits.items() if of_script == split}
        assert recognised
    test = {of_name.name: of_name.calls for of_name in standing_sets(sources, 40)}
    assert {c.group for c in test["scripts-recognised"]} == {c.group for c in test["scripts"]}
    dev = {of_name.name: of_name.calls for of_name in standing_sets(sources, 40, "dev")}
    assert {c.split for c in dev["scripts-recognised"]} == {"dev"}


def test_word_errors_are_given_per_synthesiser_and_line(scripts: Path) -> None:
    script = next(load_scripts(scripts))
    calls = [heard_of(script), heard_of(script, num_errors=1), heard_of(script, synthesiser="kokoro", preset="bad")]
    assert word_error_rates(calls) == {"espeak clean": round(4 / 24, 4), "kokoro bad": 0.25}


def test_a_bad_file_is_named_with_line_and_field(scripts: Path, tmp_path: Path) -> None:
    path = tmp_path / "heard.jsonl"
    row = json.loads(heard_of(next(load_scripts(scripts))).model_dump_json())
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"num_words": -1}) + "\n")
    with pytest.raises(ConfigError, match=r"heard\.jsonl: line 2: num_words"):
        list(read_heard(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read as text"):
        list(read_heard(path))
    with pytest.raises(ConfigError, match=r"no \*\.jsonl there"):
        read_recognised(tmp_path / "nowhere", {})


def test_a_segment_is_of_the_turn_heard_longest_and_not_of_one_it_only_touches() -> None:
    turns = [(0.0, 2.0), (3.0, 7.0), (7.2, 7.6)]
    assert overlapping(0.1, 1.8, turns) == [0]
    assert overlapping(1.9, 7.1, turns) == [1]
    assert overlapping(2.8, 7.8, turns) == [1, 2]
    assert overlapping(2.1, 2.9, turns) == []


SPANS = st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 20)), max_size=8)


@given(st.floats(0, 50), st.floats(0.1, 8), SPANS)
@settings(deadline=None, max_examples=100)
def test_overlaps_are_real_and_each_turn_comes_once(
    start: float, length: float, spans: list[tuple[float, float]]
) -> None:
    turns = [(begin, begin + size) for begin, size in spans]
    found = overlapping(start, start + length, turns)
    assert len(found) == len(set(found))
    assert all(turns[i][0] < start + length and turns[i][1] > start for i in found)
