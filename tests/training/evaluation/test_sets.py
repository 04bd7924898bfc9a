"""The standing sets: rewritten calls stand beside the calls that they tell anew."""

import pytest

from inference.errors import ConfigError
from training.evaluation.sets import read_set, standing_sets
from training.intent.sources import Sources
from training.scripts import load_scripts

CALL = """
- id: {id}
  label: scam
  family: tax
  topic: tax
  {more}
  turns: |
    far [ask, move_money]: {words}
    near: Who is this?
"""


@pytest.fixture
def folder(tmp_path):
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    names = [f"en-tax-{number}" for number in range(60)]
    calls = [CALL.format(id=name, words="Pay it today.", more="manner: curt") for name in names]
    (scripts / "tax.yaml").write_text("".join(calls))
    return scripts


def rewrite(scripts, name, how="polite", call_id=None):
    path = scripts.parent / "rewritten" / f"{how}.yaml"
    path.parent.mkdir(exist_ok=True)
    call_id = call_id or f"{name}-rewritten-{how}"
    text = CALL.format(id=call_id, words="Might you settle it now?", more=f"of: {name}")
    path.write_text((path.read_text() if path.exists() else "") + text)


def test_calls_told_anew_are_measured_beside_their_originals(folder):
    names = {split: [s.id for s in load_scripts(folder) if s.split == split] for split in ("train", "test")}
    for name in (names["test"][0], names["test"][1], names["train"][0]):
        rewrite(folder, name)
    sets = {found.name: found.calls for found in standing_sets(Sources(folder, None, languages=("en",)), 10)}
    first, second = names["test"][:2]
    told = [f"{first}-rewritten-polite", f"{second}-rewritten-polite"]
    assert [call.id for call in sets["scripts-rewritten"]] == [first, second, *told]
    assert {call.split for call in sets["scripts-rewritten"]} == {"test"}
    assert {call.id for call in sets["scripts"]} == set(names["test"])


def test_without_any_there_is_no_such_set(folder):
    assert "scripts-rewritten" not in {s.name for s in standing_sets(Sources(folder, None, languages=("en",)), 10)}


def test_a_rewritten_call_is_named_after_its_original(folder):
    rewrite(folder, "en-tax-1", call_id="en-tax-1-in-other-words")
    with pytest.raises(ConfigError, match="has the id en-tax-1-rewritten-<how>, not en-tax-1-in-other-words"):
        list(load_scripts(folder.parent / "rewritten"))


def test_a_file_of_scripts_is_measured_whole(folder):
    assert len(read_set(folder / "tax.yaml").calls) == 60
    with pytest.raises(ConfigError, match=r"none\.yaml: is not there"):
        read_set(folder / "none.yaml")
    (folder / "empty.yaml").write_text("[]")
    with pytest.raises(ConfigError, match=r"empty\.yaml: no call in it"):
        read_set(folder / "empty.yaml")
    (folder / "bare.yaml").write_text("- {id: en-x, label: scam}")
    with pytest.raises(ConfigError, match=r"bare\.yaml:1: topic: is missing"):
        read_set(folder / "bare.yaml")
