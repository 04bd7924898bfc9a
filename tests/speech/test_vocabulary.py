"""Token ids are read from the tokenizer, and other tokenizers refused."""

import pytest
from tokenizers import Tokenizer, models

from inference.errors import WeightsError
from inference.speech.vocabulary import Vocabulary


def test_ids_of_the_tiny_tokenizer(tiny):
    words = tiny.vocabulary
    tokenizer = Tokenizer.from_file(str(tiny.tokenizer_path))
    assert words.languages == {code: tokenizer.token_to_id(f"<|{code}|>") for code in ("en", "zh", "de")}
    assert words.end == 256
    assert words.prompt("de") == (words.languages["de"], words.transcribe, words.no_timestamps)
    assert words.no_speech == words.no_timestamps - 1
    marks = {tokenizer.encode(mark).ids[0] for mark in "*#[]{}|~"}
    assert marks <= set(words.suppressed)
    assert not {tokenizer.encode(letter).ids[0] for letter in "aZ0.,?'"} & set(words.suppressed)
    assert words.end in words.suppressed_first
    with pytest.raises(KeyError):
        words.prompt("xx")


def test_another_tokenizer_is_refused():
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    with pytest.raises(WeightsError, match="not multilingual Whisper's"):
        Vocabulary.from_tokenizer(tokenizer)
