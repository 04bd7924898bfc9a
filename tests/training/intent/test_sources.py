"""What a training read is put down file by file, also where two languages have a file of the same name."""

import hashlib

from training.intent.sources import Sources, provenance


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
