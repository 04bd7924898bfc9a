"""Text as the model reads it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.intent.text import MAX_UTTERANCE_WORDS, is_filler, mask_numbers, normalise, split_utterances


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Four hundred and eighty pounds, please!", "number pounds please"),
        ("480 pounds please", "number pounds please"),
        ("It’s $22.50", "it's dollars number"),
        ("Call 0800-123 456 now", "call number now"),
        ("Press one.", "press one"),
        ("请支付２３００元", "请支付 number 元"),
        ("请支付两千三百元", "请支付 number 元"),
        ("千万不要告诉别人", "千万不要告诉别人"),
    ],
)
def test_sources_that_spell_differently_read_alike(text: str, read: str) -> None:
    assert normalise(text) == read


def test_case_and_punctuation_are_gone_and_words_stay() -> None:
    assert normalise("Don't -- tell 'ANYONE', Mrs. O'Neill?") == "don't tell anyone mrs o'neill"


def test_chinese_text_survives() -> None:
    assert normalise("你好，安全账户。") == "你好 安全账户"


@pytest.mark.parametrize(
    "text", ["", "Yes.", "Mm-hm, okay.", "Oh. Right, yeah", "Hello?", "42", "嗯，好的。", "喂，您好"]
)
def test_fillers_say_nothing(text: str) -> None:
    assert is_filler(text)


@pytest.mark.parametrize(
    "text", ["Read me the code.", "move your savings", "I'm at the bank now", "请转账", "把验证码念给我"]
)
def test_acts_are_no_fillers(text: str) -> None:
    assert not is_filler(text)


def test_sentences_are_packed_and_long_ones_cut() -> None:
    assert split_utterances("Hello there. How are you?") == ["Hello there. How are you?"]
    assert split_utterances("one two three. four five six.", max_words=4) == ["one two three.", "four five six."]
    assert split_utterances("a b c d e", max_words=2) == ["a b", "c d", "e"]
    assert split_utterances("   ") == []


def test_mandarin_is_cut_at_sentences_and_at_the_cap() -> None:
    assert split_utterances("您好，我是快递员。您的包裹到了！") == ["您好，我是快递员。您的包裹到了！"]
    first, second = split_utterances(
        "您好，这里是某某银行的客服中心，打电话是想跟您核实一笔交易。" + "请问是您本人吗？" * 3
    )
    assert first.endswith("本人吗？")
    assert second == "请问是您本人吗？" * 2
    assert [len(piece) for piece in split_utterances("字" * 80)] == [36, 36, 8]


@given(st.text(max_size=400), st.integers(1, 30))
@settings(deadline=None, max_examples=200)
def test_splitting_loses_no_word_and_keeps_the_cap(text: str, max_words: int) -> None:
    pieces = split_utterances(text, max_words)
    assert all(0 < len(piece.split()) <= max_words for piece in pieces)
    letters = "".join(text.split())
    assert "".join("".join(piece.split()) for piece in pieces) == letters


@given(st.text(max_size=200))
@settings(deadline=None, max_examples=200)
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert once == once.strip()
    assert MAX_UTTERANCE_WORDS >= 1


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Call 020 7946-0958, now.", "Call number , now."),
        ("The code is Four, two seven one!", "The code is number !"),
        ("验证码是一二三四五六。", "验证码是 number 。"),
        ("Press 1 for one thing; 千万别说。", "Press 1 for one thing; 千万别说。"),
        ("My code is 4 9 2 9.", "My code is number ."),
        ("It's four, nine. Two, nine", "It's number"),
        ("07700 double 9, four 1 then", "number then"),
        ("Press 1. One of our agents; 统一，一定要去", "Press 1. One of our agents; 统一,一定要去"),
        ("验证码是四 九 二 九。", "验证码是 number 。"),
        ("四，九，二、九，谢谢", "number ,谢谢"),
        ("四 九 二九, 尾号九九 八 七", "number , 尾号 number"),
        ("It's nought 7 treble two", "It's number"),
        ("验证码4、9、2、9元", "验证码 number 元"),
    ],
)
def test_numbers_are_masked_and_all_else_stays(text: str, masked: str) -> None:
    assert mask_numbers(text) == masked


@pytest.mark.parametrize(
    ("text", "read"),
    [("It's 4 9 2 9.", "it's 4 9 2 9"), ("是四 九 二 九", "是四 九 二 九"), ("It's four nine, two", "it's number")],
)
def test_the_model_is_shown_what_it_was_trained_on(text: str, read: str) -> None:
    """Digits read one by one are masked for others; reading them otherwise needs a model trained so."""
    assert normalise(text) == read
