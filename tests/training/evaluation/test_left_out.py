"""A family left out is trained without, measured on all of its calls, and not trained twice."""

from pathlib import Path

import pytest
from rich.console import Console

from inference.errors import ConfigError
from inference.intent.text import normalise
from training.evaluation.left_out import families_of, grouped, leave_out, total
from training.intent.data import read_scripts
from training.intent.sources import Sources

SCRIPTS = Path(__file__).parents[3] / "datasets" / "scripts"
QUIET = Console(quiet=True)


@pytest.fixture
def sources():
    return Sources(SCRIPTS / "en", None, languages=("en",))


def test_each_family_gets_a_model_that_never_read_it(versions, sources, tmp_path, monkeypatch):
    monkeypatch.setattr("training.evaluation.left_out.seal_intent", versions.seal)
    trained = []

    def train(without, out):
        trained.append(without.without)
        versions.make(out, {"tax": 3.5})
        return {}

    said = []
    groups = [("tax",), ("romance", "job")]
    results = leave_out(groups, sources, tmp_path / "work", train, QUIET, said.append)
    assert trained == groups
    assert said == results
    calls = read_scripts(sources.scripts, ("en",))
    of_tax = [c for c in calls if c.family == "tax"]
    (tax,) = results[0].unseen
    assert (tax.kind, tax.language, tax.num_calls) == ("tax", "en", len(of_tax))
    assert tax.hits == sum(any("tax" in normalise(p.text).split() for p in c.pieces) for c in of_tax) > 0
    assert results[0].genuine[0].num_calls == sum(not c.is_scam and c.split == "test" for c in calls)
    assert {a.kind for a in results[1].unseen} == {"romance", "job"}
    assert "unseen" in results[0].lines()[0]
    assert leave_out(groups, sources, tmp_path / "work", None, QUIET, said.append) == results
    assert total(results, "en")["recall"]["n"] == sum(a.num_calls for r in results for a in r.unseen)


def test_families_are_dealt_into_groups():
    assert grouped(["a", "b", "c", "d", "e"], 2) == [("a", "d"), ("b", "e"), ("c",)]
    assert grouped(["a", "b"], 1) == [("a",), ("b",)]


def test_a_family_without_scripts_is_named(sources):
    assert {"tax", "parcel"} <= set(families_of(sources, []))
    with pytest.raises(ConfigError, match="--family moon: no script is of it"):
        families_of(sources, ["moon"])
