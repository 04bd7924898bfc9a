"""How far a candidate goes from the champion."""

import numpy as np
import pytest

from training.retrain.between import Tried, between, furthest


def half(*values: float) -> np.ndarray:
    return np.array(values, np.float16)


def test_a_candidate_lies_between_what_it_was_tuned_to_and_the_champion() -> None:
    tuned = {"head.llr.bias": half(1.0, -2.0), "head.look.age": half(0.5)}
    champion = {"head.llr.bias": half(0.0, 2.0), "head.look.age": half(0.5, 0.5), "gone": half(9.0)}
    found = between(tuned, champion, 0.25)
    assert {name: value.tolist() for name, value in found.items()} == {
        "head.llr.bias": [0.75, -1.0],
        "head.look.age": [0.5],  # of another shape in the champion: learnt anew
    }
    assert {value.dtype for value in found.values()} == {np.dtype(np.float16)}
    assert between(tuned, champion, 0.0)["head.llr.bias"].tolist() == tuned["head.llr.bias"].tolist()


@pytest.mark.parametrize(
    ("warned", "made"),
    [
        ((297, 290, 290), [0.5]),  # three of 364 may be lost
        ((296, 297, 290), [0.5, 0.75]),
        ((280, 290, 296), [0.5, 0.75, 0.875]),  # none is enough: the last one stays, and the gates refuse it
    ],
)
def test_it_goes_no_further_than_old_development_scams_allow(warned, made) -> None:
    after = dict(zip((0.5, 0.75, 0.875), warned, strict=True))
    tried, noted = furthest(tuple(after), lambda kept: (Tried(kept, 300, after[kept], 364), f"kept {kept}"))
    assert [one.kept for one in tried] == made
    assert noted == f"kept {made[-1]}"
    assert [one.is_enough for one in tried][:-1] == [False] * (len(made) - 1)
