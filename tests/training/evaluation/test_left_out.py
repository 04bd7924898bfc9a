"""A family left out is trained without, measured on all of its calls, and not trained twice."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from inference.errors import ConfigError
from inference.intent.text import normalise
from training.evaluation.left_out import (
    RESULT_FILE,
    Alarmed,
    LeftOut,
    _read,
    families_of,
    grouped,
    leave_out,
    total,
)
from training.intent.data import read_scripts
from training.intent.sources import Sources

SCRIPTS = Path(__file__).parents[3] / "datasets" / "scripts" / "en"
FEW = ("scam/tax*", "scam/*job*", "scam/*romance*", "scam/parcel*", "genuine/tax*", "genuine/job*", "genuine/bank*")
QUIET = Console(quiet=True)


@pytest.fixture
def sources(tmp_path):
    """Some hundred of the scripts: of the families left out, of others, and genuine calls on either."""
    few = tmp_path / "scripts" / "en"
    for path in (path for pattern in FEW for path in SCRIPTS.glob(f"{pattern}.yaml")):
        (few / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, few / path.parent.name)
    return Sources(few, None, languages=("en",))


def test_each_family_gets_a_model_that_never_read_it(versions, sources, tmp_path, monkeypatch):
    monkeypatch.setattr("training.evaluation.left_out.seal_intent", versions.seal)
    trained = []

    def train(without, out):
        trained.append(without.without)
        versions.make(out, {"tax": 3.5})
        return {}

    said = []
    groups = [("tax",), ("romance", "job")]
    results = leave_out(groups, sources, tmp_path / "work", train, "one", QUIET, said.append)
    assert trained == groups
    assert said == results
    calls = read_scripts(sources.scripts, ("en",))
    of_tax = [c for c in calls if c.family == "tax"]
    (tax,) = results[0].unseen
    assert (tax.kind, tax.language, tax.num_calls) == ("tax", "en", len(of_tax))
    assert tax.hits == sum(any("tax" in normalise(p.text).split() for p in c.pieces) for c in of_tax) > 0
    # Genuine calls on the subject were not trained on either, so those of all sides are judged.
    judged = [c for c in calls if not c.is_scam and (c.split == "test" or c.topic == "tax")]
    assert results[0].genuine[0].num_calls == len(judged) > sum(c.split == "test" for c in judged)
    assert {a.kind for a in results[1].unseen} == {"romance", "job"}
    assert "unseen" in results[0].lines()[0]
    assert leave_out(groups, sources, tmp_path / "work", None, "one", QUIET, said.append) == results
    assert trained == groups
    leave_out(groups[:1], sources, tmp_path / "work", train, "another recipe", QUIET, said.append)
    assert trained == [*groups, groups[0]]
    assert total(results, "en")["recall"]["n"] == sum(a.num_calls for r in results for a in r.unseen)


def test_unseen_scams_are_ranked_against_genuine_calls():
    genuine = tuple(i / 1000 for i in range(100))
    one = LeftOut(("a",), (Alarmed("a", "en", 2, (0.9, 0.0965, 0.05)),), (Alarmed("genuine", "en", 0, genuine),))
    two = LeftOut(("b",), (Alarmed("b", "en", 1, (0.9,)),), (Alarmed("genuine", "en", 0, genuine),))
    ranking = one.ranking("en")
    assert (ranking.at_1_percent, ranking.at_3_percent) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert ranking.auc == pytest.approx((1 + 0.97 + 0.505) / 3)
    assert "3 unseen scams against 100 genuine calls: AUC 0.825, 67 % at 3 %" in one.lines()[-1]
    both = total([one, two], "en")["ranking"]
    assert (both.num_unseen, both.num_genuine, both.at_1_percent) == (4, 200, pytest.approx(0.5))
    assert one.ranking("zh") is None
    assert total([one], "zh")["ranking"] is None


def test_what_an_earlier_release_put_down_is_measured_again(tmp_path):
    old = {"families": ["tax"], "unseen": [{"kind": "tax", "language": "en", "hits": 1, "num_calls": 2}], "genuine": []}
    path = tmp_path / RESULT_FILE
    path.write_text(json.dumps(old), encoding="utf-8")
    assert _read(path, ["tax"], "one") is None


def test_families_are_dealt_into_groups():
    assert grouped(["a", "b", "c", "d", "e"], 2) == [("a", "d"), ("b", "e"), ("c",)]
    assert grouped(["a", "b"], 1) == [("a",), ("b",)]


def test_a_family_without_scripts_is_named(sources):
    assert {"tax", "parcel"} <= set(families_of(sources, []))
    with pytest.raises(ConfigError, match="--family moon: no script is of it"):
        families_of(sources, ["moon"])
