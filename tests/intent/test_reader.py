"""Each utterance is encoded once: what is remembered is what would be encoded again."""

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from inference.engine.base import Batch, ModelSpec, Tensor, TensorSpec
from inference.intent.context import CONTEXT_UTTERANCES, ContextWindow, RollingContext, Said, WindowTokenizer
from inference.intent.reader import MAX_ROWS, WindowReader
from inference.speech.utterance import Utterance

WORDS = ["caller", "me", *(f"w{letter}" for letter in ascii_lowercase)]  # digits would be read as numbers
WIDTH = 4


class Adding:
    """A model whose mean is a function of the tokens, and whose llr of everything it is given."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def infer(self, model: str, batch: Batch) -> dict[str, Tensor]:
        self.sizes.append(len(batch["input_ids"]))
        ids = batch["input_ids"] * (batch["part"] > 0)
        mean = (ids.sum(1)[:, None] * np.array([0.1, 0.01, 0.3, 1.0])).astype(np.float32)
        place = np.arange(1, 1 + CONTEXT_UTTERANCES)[None, :] * (
            np.arange(CONTEXT_UTTERANCES)[None] < batch["num_before"][:, None]
        )
        llr = mean.sum(1) + (batch["before"].sum(2) * place).sum(1)
        return {"llr": llr.astype(np.float32), "mean": mean}

    def spec(self, model: str) -> ModelSpec:
        return ModelSpec(model, 1, (TensorSpec("before", "float32", (None, CONTEXT_UTTERANCES, WIDTH)),), (), {})

    def close(self) -> None: ...


def reader(engine: Adding, limit: int = 1000) -> WindowReader:
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return WindowReader(engine, "scam_intent", WindowTokenizer(tokenizer), limit)


def windows(texts: Sequence[str]) -> list[ContextWindow]:
    context = RollingContext()
    return [context.add(Utterance("far" if n % 2 else "near", n, n + 1, n + 1, t, "en")) for n, t in enumerate(texts)]


def test_a_call_that_is_followed_asks_about_one_utterance_at_a_time() -> None:
    engine = Adding()
    asked = reader(engine)
    for window in windows(["wa wb", "wc", "wd we", "wf"]):
        asked.read([window])
    assert engine.sizes == [1, 1, 1, 1]


def test_a_whole_call_is_encoded_once() -> None:
    engine = Adding()
    reader(engine).read(windows(["wa wb", "wc", "wd we", "wf"]))
    assert engine.sizes == [1, 1, 1, 1]


def test_calls_side_by_side_are_judged_in_step() -> None:
    engine = Adding()
    one, other = windows(["wa wb", "wc", "wd we"]), windows(["wg", "wh wi", "wj"])
    reader(engine).read([*one, *other])
    assert engine.sizes == [2, 2, 2]


def test_what_was_said_before_the_request_is_encoded_once_though_it_is_said_again() -> None:
    engine = Adding()
    made = windows(["wa", "wb", "wa", "wa", "wc"])
    apart = [float(reader(Adding()).read([window])["llr"][0]) for window in made]
    assert reader(engine).read(made[2:])["llr"] == pytest.approx(apart[2:], rel=1e-6)
    assert sum(engine.sizes) == 3 + len({"near wa", "far wb"})


@given(st.lists(st.lists(st.sampled_from(WORDS[2:]), min_size=1, max_size=9).map(" ".join), min_size=1, max_size=12))
@settings(deadline=None, max_examples=60)
def test_scores_do_not_depend_on_what_is_remembered(texts: list[str]) -> None:
    made = windows(texts)
    followed, forgetful = reader(Adding()), reader(Adding(), 1)
    whole = reader(Adding()).read(made)["llr"]
    for place, window in enumerate(made):
        for other in (followed, forgetful):
            assert other.read([window])["llr"][0] == pytest.approx(whole[place], rel=1e-6)


def test_memory_is_bounded_and_holds_no_words() -> None:
    engine = Adding()
    asked = reader(engine, limit=3)
    for word in WORDS[2:12]:
        asked.read([ContextWindow(Said("far", word))])
    kept = asked._means._kept
    assert len(kept) == 3
    assert all(isinstance(key, bytes) and len(key) == 16 for key in kept)


def test_many_that_are_not_remembered_go_in_requests_of_a_bounded_size() -> None:
    engine = Adding()
    before = [" ".join(["wa"] * n) for n in range(1, CONTEXT_UTTERANCES + 1)]
    many = [
        ContextWindow(Said("far", "wa"), tuple(Said("near", f"{said} {word}") for said in before))
        for word in WORDS[3:23]
    ]
    reader(engine).read(many)
    assert max(engine.sizes[:-1]) == MAX_ROWS
    assert sum(engine.sizes[:-1]) == 20 * CONTEXT_UTTERANCES
