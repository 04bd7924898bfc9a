"""Known scripts with calls on every side, and new calls of a script that nobody knew."""

import pytest
import yaml

from training.scripts import Script, Turn

SCAM = (
    ("far", ["contact"], "hello it is the {} office"),
    ("near", [], "yes"),
    ("far", ["ask"], "danger send {} money"),
)
GENUINE = (
    ("far", ["contact"], "hello it is the {} shop"),
    ("near", [], "yes"),
    ("far", ["reassure"], "no hurry {} friend"),
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _id_on(split, prefix, taken):
    """An id that its hash puts on ``split``."""
    turns = (Turn(leg="far", text="x", stages=("ask",)), Turn(leg="near", text="y"))
    for number in range(10_000):
        name = f"en-{prefix}-{number}"
        if name not in taken and Script(id=name, label="genuine", topic="x", turns=turns).split == split:
            taken.add(name)
            return name
    raise AssertionError


@pytest.fixture
def known(tmp_path):
    """A folder of scripts: 4 scam and 4 genuine calls a side, with words of their own."""
    taken, calls = set(), []
    for split in ("train", "dev", "test"):
        for number in range(8):
            is_scam = number % 2 == 0
            own = [split + letter * 3 for letter in LETTERS[number : number + 2]]
            turns = "\n".join(
                f"{leg}{f' [{stages[0]}]' if stages else ''}: {text.format(*own)} {' '.join(own)}"
                for leg, stages, text in (SCAM if is_scam else GENUINE)
            )
            call = {"id": _id_on(split, "scam" if is_scam else "fine", taken), "topic": "bank", "turns": turns}
            calls.append(call | ({"label": "scam", "family": "refund"} if is_scam else {"label": "genuine"}))
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "known.yaml").write_text(yaml.safe_dump(calls))
    return folder


PROVENANCE = {"consent": "x", "legal_basis": "x", "source": "pilot", "licence": "x"}


@pytest.fixture
def delivery(write_calls):
    """``delivery(**changed)``: ten calls of a new scam and ten genuine ones, with provenance."""

    def make(name="new.jsonl", **changed):
        fields = PROVENANCE | changed
        scam = [
            (f"n{i}", "scam", [("far", f"buy {LETTERS[i] * 4} vouchers", ["ask"])], {"family": "gift_card", **fields})
            for i in range(10)
        ]
        genuine = [(f"h{i}", "genuine", [("far", f"nice {LETTERS[i] * 5} weather")], fields) for i in range(10)]
        return write_calls(name, [*scam, *genuine])

    return make
