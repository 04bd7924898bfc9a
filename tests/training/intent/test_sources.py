"""What a training read is put down file by file, also where two languages have a file of the same name."""

import hashlib
from dataclasses import replace

import pytest

from inference.errors import ConfigError
from training.intent.sources import Sources, digests, provenance, read_sources


def test_every_file_that_was_read_is_put_down_by_its_path(tmp_path):
    words = {"scripts/en/scam/a.yaml": "1", "scripts/zh/scam/a.yaml": "2", "rewritten/en/a.yaml": "3"}
    words |= {"heard/en/a.jsonl": "4", "data/en_scam_robocalls_ftc.jsonl": "5", "data/other.jsonl": "6"}
    for name, text in words.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = provenance(Sources(tmp_path / "scripts", tmp_path / "data", tmp_path / "heard"))
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in words.items()}
    assert found["scripts"] == {name: digests[name] for name in words if name.startswith(("scripts", "rewritten"))}
    assert found["recognised"] == {"heard/en/a.jsonl": digests["heard/en/a.jsonl"]}
    assert found["outside"] == {name: digests[name] for name in words if name.endswith("ftc.jsonl")}


def test_without_outside_texts_there_is_nothing_to_put_down(tmp_path):
    (tmp_path / "scripts").mkdir()
    assert provenance(Sources(tmp_path / "scripts", None)) == {"scripts": {}, "recognised": {}, "outside": {}}


SCRIPT = """
- id: en-genuine-branch
  label: genuine
  topic: bank
  turns: |
    far: Hello, this is your branch.
    near: Good morning.
"""


@pytest.fixture
def scripts(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "branch.yaml").write_text(SCRIPT)
    return tmp_path / "scripts"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"without": ("bnak",)}, "nothing can be left out as 'bnak'; there are bank"),
        ({"languages": ("fr",)}, "no call scripts in fr"),
    ],
)
def test_what_is_not_there_can_neither_be_read_nor_left_out(scripts, changes, says):
    with pytest.raises(ConfigError, match=says):
        read_sources(replace(Sources(scripts, None), **changes))


def test_what_was_measured_on_is_put_down_in_a_line_a_part(scripts, tmp_path):
    before = digests(Sources(scripts, tmp_path))
    (tmp_path / "en_benign_switchboard.jsonl").write_text("real chats")
    after = digests(Sources(scripts, tmp_path))
    assert before["scripts"] == after["scripts"]
    assert (before["scripts"]["files"], before["outside"]["files"], after["outside"]["files"]) == (1, 0, 1)
