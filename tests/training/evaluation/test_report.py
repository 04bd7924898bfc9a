"""Figures of sets, the page and the pictures: bounds beside numbers, N beside shares, nothing unescaped."""

import json
from html.parser import HTMLParser

import pytest

from training.evaluation.drift import Heard, drift, read_reference, reference_of, write_reference
from training.evaluation.figures import by_slice, figures, line, of_set, rewriting_loss, topic_pairs, worst_calls
from training.evaluation.outcome import Alarm, Outcome
from training.evaluation.page import page
from training.evaluation.plots import plots

PRIOR = 0.05


def outcome(name, is_scam, risk, far_s=None, topic="bank", **more):
    alarms = {} if far_s is None else {"suspect": Alarm(2 * far_s, far_s)}
    fields = {"lang": "en", "source": "x", "what": "written text", "far_s": 60.0, "talk_s": 120.0} | more
    return Outcome(name, is_scam, "tax" if is_scam else None, topic, risk=risk, alarms=alarms, **fields)


@pytest.fixture
def calls():
    """12 scam calls, 9 warned of; 30 genuine ones, one alarmed of."""
    scam = [outcome(f"s{i}", True, 0.9 - i / 100, far_s=10.0 + i, ask_s=30.0) for i in range(9)]
    scam += [outcome(f"m{i}", True, 0.1, ask_s=30.0) for i in range(3)]
    genuine = [outcome(f"g{i}", False, 0.02 + i / 1000) for i in range(29)]
    return [*scam, *genuine, outcome("wrong", False, 0.7, far_s=5.0, topic="tax")]


def test_every_share_has_its_counts_and_every_rate_its_bound(calls):
    found = figures(calls, PRIOR)
    assert (found["recall_suspect"]["hits"], found["recall_suspect"]["n"]) == (9, 12)
    false = found["false_alarms_suspect"]
    assert (false["hits"], false["n"], false["per_1000_calls"]["events"]) == (1, 30, 1)
    assert false["per_1000_calls"]["upper95"] > false["per_1000_calls"]["per_1000"] == pytest.approx(33.333)
    assert false["per_talk_hour"]["hours"] == pytest.approx(1.0)
    assert false["per_talk_hour"]["upper95"] == pytest.approx(4.744, abs=1e-3)
    assert found["recall_danger"]["hits"] == 0


def test_a_missed_call_counts_as_late_in_every_figure_of_earliness(calls):
    early = figures(calls, PRIOR)["earliness"]["suspect"]
    assert early["median_far_s"] == 14.0
    assert early["recall_by_far_s"]["10"]["hits"] == 1
    assert early["recall_by_far_s"]["60"] == {
        "share": 0.75,
        "hits": 9,
        "n": 12,
        "ci95": early["recall_by_far_s"]["60"]["ci95"],
    }
    assert early["kaplan_meier"]["censored"] == 3
    assert early["kaplan_meier"]["median_far_s"] == 15.0
    assert (early["before_ask"]["hits"], early["before_ask"]["n"]) == (
        5,
        12,
    )  # warned at twice the far speech; ask at 30
    assert early["5_s_before_ask"]["hits"] == 3
    assert 0 < early["latency_f1"] < early["f1"]


def test_the_worst_topic_is_named(calls):
    pairs = topic_pairs([*calls, *(outcome(f"t{i}", True, 0.5, topic="tax") for i in range(5))] + [
        outcome(f"u{i}", False, 0.6, topic="tax") for i in range(5)
    ])  # fmt: skip
    assert list(pairs) == ["tax", "bank"]
    assert pairs["tax"]["auc"] < 0.5 < pairs["bank"]["auc"]


def test_slices_are_by_all_that_calls_differ_in(calls):
    loud = [outcome("l", True, 0.9, far_s=9.0, lang="zh", slices={"codec": "alaw"}, num_errors=1, num_words=4)]
    found = by_slice([*calls, *loud], PRIOR)
    assert set(found["language"]) == {"en", "zh"}
    assert found["codec"]["alaw"]["recall_suspect"]["hits"] == 1
    assert found["codec"]["alaw"]["word_error_rate"] == 0.25
    assert "what" not in found  # the same for all


def test_points_lost_by_rewriting_are_of_the_same_calls():
    pairs = [outcome(f"s{i}", True, 0.9, far_s=5.0) for i in range(4)]
    told_anew = [
        outcome(f"s{i}-rewritten-{way}", True, 0.9, far_s=None if i else 5.0, slices={"rewritten": way})
        for i, way in enumerate(("polite", "polite", "reordered", "reordered"))
    ]
    lost = rewriting_loss(
        [*pairs, *told_anew, outcome("t-rewritten-polite", True, 0.9, slices={"rewritten": "polite"})]
    )
    assert (lost["pairs"], lost["warned"], lost["warned_rewritten"], lost["points_lost"]) == (4, 4, 1, 75.0)
    assert {way: (its["pairs"], its["points_lost"]) for way, its in lost["ways"].items()} == {
        "polite": (2, 50.0),
        "reordered": (2, 100.0),
    }
    assert "points lost by rewriting +75 of 4 pairs" in line("told", of_set([*pairs, *told_anew], PRIOR))
    assert rewriting_loss(pairs) is None


def test_what_went_wrong_is_named_worst_first(calls):
    assert [wrong["id"] for wrong in worst_calls(calls)] == ["wrong", "m0", "m1", "m2"]


def test_a_set_of_one_kind_has_figures_too(calls):
    for kind in (True, False):
        found = of_set([c for c in calls if c.is_scam == kind], PRIOR)
        assert found["auc"] is None
        json.dumps(found)
        assert line("one kind", found).startswith("one kind (written text): ")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.sources = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_fetches_nothing_and_runs_nothing(calls):
    hostile = outcome("<script>alert(1)</script>", False, 0.9, far_s=1.0, topic="<b>'\"&")
    sets = {"a set": of_set([*calls, hostile], PRIOR)}
    pictures = plots(sets)
    text = page({"models": [{"name": "scam_intent/1"}], "sets": sets}, pictures)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not tags.seen & {"script", "link", "iframe", "b"}
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in tags.sources)
    assert "&lt;script&gt;" in text
    assert "written text" in text


def test_pictures_are_drawn_where_figures_suffice_and_the_same_twice(calls):
    sets = {"a set": of_set(calls, PRIOR)}
    pictures = plots(sets)
    assert set(pictures) == {"det.png", "reliability.png", "earliness.png"}
    assert all(png.startswith(b"\x89PNG") for png in pictures.values())
    assert plots(sets) == pictures
    assert plots({"genuine": of_set([c for c in calls if not c.is_scam], PRIOR)}) == {}


def test_traffic_like_that_which_was_measured_holds_and_other_traffic_does_not(calls, tmp_path):
    write_reference(tmp_path, reference_of(calls, PRIOR))
    reference = read_reference(tmp_path)
    same = drift(reference, [Heard(0.02 + (i % 29) / 1000, is_alarmed=False) for i in range(60)])
    assert same.holds
    assert same.line().startswith("calibration holds: PSI")
    louder = drift(reference, [Heard(0.3 + (i % 29) / 1000, is_alarmed=i % 3 == 0) for i in range(60)])
    assert not louder.holds
    assert louder.line().startswith("calibration no longer holds: PSI")
    assert louder.to_json()["alarms"]["per_1000"] > 300 > louder.to_json()["expected_alarms_per_1000"]


def test_a_handful_of_calls_is_no_traffic(calls):
    with pytest.raises(Exception, match="29 calls tell nothing of drift"):
        drift(reference_of(calls, PRIOR), [Heard(0.1, is_alarmed=False)] * 29)


def test_without_both_kinds_there_is_no_reference(calls):
    assert reference_of([c for c in calls if c.is_scam], PRIOR) is None
