"""Every pass is the same calls, damaged anew, and the same whenever it is asked for."""

import numpy as np
import pytest

pytest.importorskip("torch")

from training.intent.corrupt import Corruptor
from training.intent.data import Call, Piece
from training.intent.encoders import scratch_encoder
from training.intent.passes import Passes, batches
from training.intent.recipe import Share
from training.intent.version import window_tokenizer

WORDS = [
    "the",
    "bank",
    "will",
    "call",
    "you",
    "back",
    "about",
    "the",
    "card",
    "that",
    "you",
    "lost",
    "on",
    "the",
    "train",
    "to",
    "the",
    "coast",
    "on",
    "monday",
]


def calls() -> list[Call]:
    rng = np.random.default_rng(1)
    out = []
    for number in range(40):
        pieces = tuple(Piece("far", " ".join(rng.permutation(WORDS)), turn, (), ()) for turn in range(3))
        out.append(Call(f"c{number}", "scripts", number % 2 == 0, None, "bank", f"c{number}", "train", pieces))
    return out


@pytest.fixture
def passes(tmp_path) -> Passes:
    shares = {("scripts", is_scam): Share(1.0, 100) for is_scam in (True, False)}
    encoder = scratch_encoder(calls(), tmp_path, seed=0)
    tokenizer = window_tokenizer(encoder.tokenizer)
    return Passes(calls(), shares, Corruptor(calls()), 1, None, tokenizer, lambda _done, _total: None)


def test_a_pass_is_damaged_anew_and_stays_as_it_is(passes: Passes) -> None:
    first, second = passes.calls_of(0), passes.calls_of(1)
    assert {call.id for call in first} == {call.id for call in second}
    assert [call.pieces for call in first] != [call.pieces for call in second]
    assert passes.calls_of(1) == second
    clean = {call.id: call.pieces for call in calls()}
    seen_clean = [{c.id for c in made if c.pieces == clean[c.id]} for made in (first, second)]
    assert all(5 < len(ids) < 35 for ids in seen_clean)  # about half
    assert seen_clean[0] != seen_clean[1]


def test_a_pass_is_made_ready_with_weights_that_average_one(passes: Passes) -> None:
    ready = passes(1)
    assert [item.call for item in ready] == passes.calls_of(1)
    assert np.mean([item.weight for item in ready]) == pytest.approx(1.0)


def test_batches_hold_every_call_once_and_not_too_much() -> None:
    sizes = [1, 5, 3, 9, 2, 2, 7]
    packed = batches(sizes, 10, np.random.default_rng(0))
    assert sorted(index for batch in packed for index in batch) == list(range(7))
    assert all(sum(sizes[i] for i in batch) <= 10 for batch in packed)
