"""How far a candidate goes from the champion."""

import numpy as np
import pytest

from training.retrain.between import Tried, between, furthest
from training.retrain.compare import Gate


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
    ("holds", "made"),
    [
        ((True, False, False), [0.0]),
        ((False, True, False), [0.0, 0.5]),
        ((False, False, False), [0.0, 0.5, 0.75]),  # none is enough: the last one stays, and the gates refuse it
    ],
)
def test_it_goes_no_further_than_old_development_calls_allow(holds, made) -> None:
    passed = dict(zip((0.0, 0.5, 0.75), holds, strict=True))
    tried = furthest(
        passed, lambda kept: Tried(kept, (Gate("old scams", True, ""), Gate("false alarms", passed[kept], "1 more")))
    )
    assert [one.kept for one in tried] == made
    assert [one.is_enough for one in tried] == [passed[kept] for kept in made]
    assert tried[-1].to_json() == {"kept": made[-1], "old scams": "", "false alarms": "1 more"}
