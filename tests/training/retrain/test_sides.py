"""Which side each new call is on."""

from collections import Counter

import pytest
import yaml

from training.evaluation.labelled import LabelledText
from training.intent.sources import Sources
from training.retrain.sides import deal, known_sides
from training.scripts import split_of_name


def call(name, label="scam", said=None, **more):
    """Calls of different names share no words."""
    turns = [{"leg": "far", "text": said or " ".join(f"{name}{letter}" for letter in "abcdefghijklmn")}]
    family = {"family": "tax"} if label == "scam" else {}
    return LabelledText.model_validate({"id": name, "label": label, "turns": turns, **family, **more})


def counted(dealt):
    return Counter(dealt.sides.values())


def test_one_campaign_is_dealt_by_its_calls():
    dealt = deal([call(f"n{i}", campaign="june") for i in range(50)])
    assert counted(dealt) == {"train": 40, "test": 10}
    assert dealt == deal([call(f"n{i}") for i in range(50)])


@pytest.mark.parametrize(("num", "is_whole"), [(2, False), (4, False), (5, True), (10, True)])
def test_a_campaign_that_fits_on_a_side_stays_there(num, is_whole):
    dealt = deal([call(f"n{i}", campaign=f"op-{i % num}") for i in range(40)])
    assert counted(dealt) == {"train": 32, "test": 8}
    sides = {(i % num, dealt.sides[f"n{i}"]) for i in range(40)}
    assert (len(sides) == num) is is_whole


def test_of_several_campaigns_one_that_is_most_of_the_delivery_is_dealt_by_its_calls():
    dealt = deal([call(f"n{i}", campaign=f"op-{max(0, i - 35)}") for i in range(40)])
    assert counted(dealt) == {"train": 32, "test": 8}


def test_a_caller_is_on_one_side():
    dealt = deal([call(f"n{i}", campaign="june", caller_hash=f"{i // 4:016x}") for i in range(40)])
    assert len({(i // 4, dealt.sides[f"n{i}"]) for i in range(40)}) == 10
    assert counted(dealt) == {"train": 32, "test": 8}


def test_a_large_group_is_learnt_from_and_the_rest_is_measured():
    dealt = deal([call(f"n{i}", caller_hash="a" * 16 if i < 20 else None) for i in range(30)])
    assert {dealt.sides[f"n{i}"] for i in range(20)} == {"train"}
    assert counted(dealt) == {"train": 24, "test": 6}


def test_a_pair_is_on_one_side():
    calls = [call(f"{label[0]}{i}", label, pair=f"p{i}") for i in range(10) for label in ("scam", "genuine")]
    dealt = deal(calls)
    assert all(dealt.sides[f"s{i}"] == dealt.sides[f"g{i}"] for i in range(10))
    assert counted(dealt) == {"train": 16, "test": 4}


def test_a_call_told_anew_is_on_the_side_of_the_one_that_it_tells():
    calls = [call(f"n{i}") for i in range(10)] + [call(f"n{i}-rewritten-politely", pair=f"n{i}") for i in range(10)]
    dealt = deal(calls)
    assert all(dealt.sides[f"n{i}"] == dealt.sides[f"n{i}-rewritten-politely"] for i in range(10))


def test_a_pair_with_known_scripts_is_on_their_side():
    known = {"en-gold": "test", "en-pair": "dev", "en-old": "train"}
    calls = [call(f"n{i}", pair=name) for i, name in enumerate(known)]
    calls += [call("en-old", said="the same call, corrected"), *(call(f"m{i}") for i in range(11))]
    dealt = deal(calls, known)
    assert [dealt.sides[name] for name in ("n0", "n1", "n2", "en-old")] == ["test", "dev", "train", "train"]
    assert counted(dealt) == {"train": 11, "dev": 1, "test": 3}
    assert dealt.left_out == {}


def test_a_copy_that_is_left_out_holds_what_it_copies_on_the_side_of_its_pair():
    """What is told after a gold call is not learnt because another line with its words does not say so."""
    one, copy = call("n0"), call("n1", said=f"{call('n0').words} now", pair="en-gold")
    dealt = deal([one, copy, *(call(f"m{i}") for i in range(9))], {"en-gold": "test"})
    assert dealt.left_out.keys() == {"n1"}
    assert dealt.sides["n0"] == "test"


def test_a_group_that_known_scripts_pull_to_two_sides_is_left_out():
    calls = [call(f"n{i}", pair=name, caller_hash="a" * 16) for i, name in enumerate(("en-gold", "en-old", None))]
    dealt = deal([*calls, *(call(f"m{i}") for i in range(10))], {"en-gold": "test", "en-old": "train"})
    assert dealt.left_out == dict.fromkeys(("n0", "n1", "n2"), "stands with known scripts of two sides")
    assert counted(dealt) == {"train": 8, "test": 2}


def test_scripts_are_known_by_id_and_pair_and_the_demo_is_held_out(tmp_path):
    turns = "far [contact]: hello\nnear: yes\n"
    made = {"en-one": {"pair": "en-both"}, "en-demo-bank": {}, "en-two": {}}
    for folder, calls in {"scripts": made, "rewritten": {"en-two-rewritten-politely": {"of": "en-two"}}}.items():
        (tmp_path / folder).mkdir()
        written = [{"id": n, "label": "genuine", "topic": "x", "turns": turns, **more} for n, more in calls.items()]
        (tmp_path / folder / "en.yaml").write_text(yaml.safe_dump(written))
    sides = known_sides(Sources(tmp_path / "scripts", None))
    assert sides["en-demo-bank"] == "test"
    assert sides["en-one"] == sides["en-both"] == split_of_name("en-both")
    assert sides["en-two-rewritten-politely"] == sides["en-two"] == split_of_name("en-two")


def test_what_a_copy_ties_together_stays_together():
    """The third is a copy of both of the first two, which are none of one another."""
    one, two, three = ([f"{name}{i}" for i in range(num)] for name, num in (("a", 20), ("b", 40), ("c", 20)))
    texts = [" ".join(one + two), " ".join(two + three), " ".join(one[10:] + two + three[:10])]
    calls = [call(f"t{i}", said=text) for i, text in enumerate(texts)]
    dealt = deal([*(call(f"n{i}") for i in range(12)), *calls])
    assert set(dealt.left_out) == {"t2"}
    assert dealt.groups["t0"] == dealt.groups["t1"]
    assert dealt.sides["t0"] == dealt.sides["t1"]
