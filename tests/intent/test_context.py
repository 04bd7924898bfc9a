"""The rolling transcript and its windows."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from inference.intent.context import CONTEXT_UTTERANCES, ContextWindow, RollingContext, Said, WindowTokenizer
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


def test_window_layout() -> None:
    window = ContextWindow(Said("far", "code"), (Said("far", "bank"), Said("near", "hello")))
    ids, parts = WindowTokenizer(tiny_tokenizer()).window_ids(window)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    read = [words[i] for i in ids]
    assert read == [
        "[CLS]",
        "caller",
        "code",
        "[SEP]",
        "[CLS]",
        "me",
        "hello",
        "[SEP]",
        "[CLS]",
        "caller",
        "bank",
        "[SEP]",
    ]
    assert parts == [1] * 4 + [2] * 4 + [3] * 4


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=80).map(" ".join), min_size=1, max_size=8),
    st.integers(48, 96),
)
@settings(deadline=None, max_examples=60)
def test_windows_keep_the_token_limit_and_the_current_words(texts: list[str], max_tokens: int) -> None:
    context = RollingContext()
    tokenizer = WindowTokenizer(tiny_tokenizer(), max_tokens, 24)
    windows = [context.add(utterance(text)) for text in texts]
    batch = tokenizer.batch(windows)
    assert batch.input_ids.shape == batch.part.shape
    assert batch.input_ids.shape[1] <= max_tokens
    for row, window in zip(batch.part, windows, strict=True):
        num_words = len(window.current.text.split())
        assert (row == 1).sum() == min(num_words + 3, 24)
        assert row.max() <= 1 + CONTEXT_UTTERANCES
        assert set(row[row > 0].tolist()) == set(range(1, row.max() + 1))
    assert ((batch.part == 0) == (batch.input_ids == 0)).all()


def test_padding_does_not_change_a_row() -> None:
    tokenizer = WindowTokenizer(tiny_tokenizer())
    short = ContextWindow(Said("far", "code"))
    long = ContextWindow(Said("far", "code please court bank"), (Said("near", "hello hello"),))
    alone, together = tokenizer.batch([short]), tokenizer.batch([short, long])
    width = alone.input_ids.shape[1]
    assert (together.input_ids[0, :width] == alone.input_ids[0]).all()
    assert not together.part[0, width:].any()


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="CLS"):
        WindowTokenizer(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
