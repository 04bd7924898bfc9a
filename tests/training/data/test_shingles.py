import itertools
import random

import pytest

from training.data.shingles import MAX_COPIES, near_copies, shingles

CALL = (
    "good morning this is the depot your parcel is held at customs because the duty was not paid "
    "so we need you to settle a small fee today or it goes back to the sender and you lose the item"
)
OTHER = "hello gran it is only me i am at the station and my phone is broken could you ring mum and say i am late"
ZH = "您好这里是市公安局户政科请问是王先生吗您名下有一张手机卡涉嫌发送诈骗短信需要您配合调查"


def test_a_clone_with_other_names_is_found():
    clone = CALL.replace("depot", "warehouse").replace("today", "tonight")
    (pair,) = near_copies({"a": CALL, "b": OTHER, "c": clone})
    assert (pair.first, pair.second) == ("a", "c")
    assert 0.4 < pair.similarity < 1


def test_chinese_is_compared_by_characters():
    (pair,) = near_copies({"a": ZH, "b": ZH.replace("王", "李"), "c": "妈我到家了晚上吃什么你别做太多我带了点水果回来"})
    assert (pair.first, pair.second) == ("a", "b")


def test_case_and_punctuation_do_not_count():
    assert shingles("Hello, it's ME again!") == shingles("hello it's me again")


def test_nothing_said_is_no_copy_of_nothing_said():
    assert near_copies({"a": "", "b": "  "}) == []


def test_similarity_is_the_jaccard_index():
    rng = random.Random(3)
    words = [f"w{n}" for n in range(40)]
    for _ in range(50):
        one, two = (" ".join(rng.choices(words, k=30)) for _ in range(2))
        two = one[: len(one) // 2] + two[len(one) // 2 :]
        a, b = shingles(one), shingles(two)
        want = len(a & b) / len(a | b)
        got = near_copies({"x": one, "y": two}, at_least=0.0001)
        assert [p.similarity for p in got] == ([round(want, 3)] if a & b else [])


def tied(pairs, calls):
    """Groups of calls that hang together."""
    group = {call: {call} for call in calls}
    for pair in pairs:
        if (joined := group[pair.first]) is not group[pair.second]:
            joined |= group[pair.second]
            group |= dict.fromkeys(joined, joined)
    return {frozenset(its) for its in group.values()}


@pytest.mark.parametrize("text", ["{} " + CALL, CALL], ids=["with other names", "word for word"])
def test_a_campaign_of_many_copies_hangs_together_and_is_bounded(text):
    copies = {f"c{n}": text.format(f"mister number{n}") for n in range(250)}
    others = {f"o{n}": " ".join(f"o{n}w{m}" for m in range(30)) + " can i speak to you" for n in range(250)}
    pairs = near_copies(copies | others)
    assert max(map(len, tied(pairs, copies | others))) == 250
    assert len(tied(pairs, copies)) == 1
    assert len(pairs) <= 250 * MAX_COPIES


def test_every_pair_is_found_where_no_bound_is_reached():
    rng = random.Random(5)
    bases = [" ".join(rng.choices([f"w{n}" for n in range(30)], k=25)) for _ in range(12)]
    texts = {}
    for number in range(60):
        words = rng.choice(bases).split()
        for _ in range(rng.randrange(1, 6)):
            words[rng.randrange(25)] = f"w{rng.randrange(30)}"
        texts[f"c{number}"] = " ".join(words) + f" own{number}"
    of_call = {call: shingles(text) for call, text in texts.items()}
    for at_least in (0.1, 0.3, 0.5, 0.6):
        want = {
            (a, b) for a, b in itertools.combinations(texts, 2)
            if len(of_call[a] & of_call[b]) >= at_least * len(of_call[a] | of_call[b])
        }  # fmt: skip
        assert {(pair.first, pair.second) for pair in near_copies(texts, at_least)} == want
        assert want
