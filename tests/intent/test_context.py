"""The rolling transcript and its windows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from inference.intent.context import (
    CONTEXT_UTTERANCES,
    ContextWindow,
    RollingContext,
    Said,
    WindowTokenizer,
    pad_rows,
)
from inference.speech.utterance import Utterance

WORDS = ["caller", "me", "hello", "bank", "code", "court", "please"]


def tiny_tokenizer() -> Tokenizer:
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def utterance(text: str, leg: str = "far") -> Utterance:
    return Utterance(leg, 0.0, 1.0, 1.0, text, "en")  # type: ignore[arg-type]


def test_window_holds_what_came_before_and_no_more() -> None:
    context = RollingContext()
    windows = [context.add(utterance(f"word {i}")) for i in range(20)]
    assert windows[0].before == ()
    assert windows[2].before == (Said("far", "word 0"), Said("far", "word 1"))
    assert len(windows[-1].before) == CONTEXT_UTTERANCES
    assert windows[-1].before[-1].text == "word 18"


def test_silence_is_not_remembered() -> None:
    context = RollingContext()
    context.add(utterance("  "))
    assert context.add(utterance("hello")).before == ()


def words_of(ids: list[int]) -> list[str]:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    return [words[i] for i in ids]


def test_a_window_s_utterances_come_the_latest_first_each_behind_its_mark() -> None:
    window = ContextWindow(Said("far", "code"), (Said("far", "bank"), Said("near", "hello")))
    assert [words_of(ids) for ids in WindowTokenizer(tiny_tokenizer()).utterances(window)] == [
        ["[CLS]", "caller", "code", "[SEP]"],
        ["[CLS]", "me", "hello", "[SEP]"],
        ["[CLS]", "caller", "bank", "[SEP]"],
    ]


def test_a_window_as_one_text_says_what_was_before_and_what_is_now() -> None:
    window = ContextWindow(Said("far", "code"), (Said("far", "bank"), Said("near", "hello")))
    ids, parts = WindowTokenizer(tiny_tokenizer(), reading="window").window_ids(window)
    assert words_of(ids) == ["[CLS]", "caller", "bank", "me", "hello", "[SEP]", "caller", "code", "[SEP]"]
    assert parts == [1] * 6 + [2] * 3


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=80).map(" ".join), min_size=1, max_size=8),
    st.integers(48, 96),
)
@settings(deadline=None, max_examples=60)
def test_windows_keep_the_token_limit_and_the_current_words(texts: list[str], max_tokens: int) -> None:
    context = RollingContext()
    tokenizer = WindowTokenizer(tiny_tokenizer(), max_tokens, 24)
    for window in [context.add(utterance(text)) for text in texts]:
        utterances = tokenizer.utterances(window)
        assert sum(map(len, utterances)) <= max_tokens
        assert len(utterances[0]) == min(len(window.current.text.split()) + 3, 24)
        assert 1 <= len(utterances) <= 1 + CONTEXT_UTTERANCES


def test_padding_does_not_change_a_row() -> None:
    short, long = ([2, 5, 3], [1, 1, 1]), ([2, 5, 6, 7, 3], [1, 1, 1, 1, 1])
    alone, together = pad_rows([short]), pad_rows([short, long])
    assert (together.input_ids[0, :3] == alone.input_ids[0]).all()
    assert not together.part[0, 3:].any()


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="CLS"):
        WindowTokenizer(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
